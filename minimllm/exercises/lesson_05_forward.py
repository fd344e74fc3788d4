"""Lesson 05's model, to be built by oneself: the decoder's forward pass from its layers, and the loop that writes with a cache."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimllm.layers.attention import rotate
from minimllm.layers.blocks import DecoderBlock
from minimllm.layers.masks import causal_mask
from minimllm.layers.rotary import rotary_angles, rotary_frequencies
from minimllm.models.language_model import Cache, LanguageModel
from minimllm.models.language_model_config import LanguageModelConfig
from minimllm.models.shipped import load

from . import Exercise, Wrong
from .places import Place, first_difference, noted

# ---- the decoder ------------------------------------------------------------------------------------------------------


def small_model(seed: int, config: LanguageModelConfig) -> LanguageModel:
    """A small random model in which nothing hides: its norms' weights are none of them 1, and its logits differ widely."""
    model, generator = LanguageModel(config, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float("norm" in name), 0.4, generator=generator)
    return model.eval()


SMALL = LanguageModelConfig(30, 12, 2, 6, 20, key_value_heads=2, head_dim=4, rotary_base=100.0, normalise_heads=1e-5)


def decoder_cases() -> list[tuple[Tensor, LanguageModel]]:
    """Two small random models, the second as Llama has it, without norms on heads; and the one that ships."""
    llama = replace(SMALL, layers=3, heads=4, head_dim=6, normalise_heads=None)
    shipped, tokenizer = load("language_model")
    texts = ["a large red star at the top left <end> what colour is the star ?", "a small blue ring"]
    return [
        (torch.tensor([[1, 9, 0, 7, 8, 9], [1, 4, 21, 2, 2, 6]]), small_model(1, SMALL)),
        (torch.tensor([[4, 29, 0, 11, 2, 5, 4]]), small_model(2, llama)),
        (tokenizer(texts, end=False)[0], shipped),
    ]


def split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def turned(x: Tensor, base: float) -> Tensor:
    return rotate(x, rotary_angles(torch.arange(x.shape[2]), rotary_frequencies(x.shape[3], base)))


def attended(
    x: Tensor,
    block: DecoderBlock,
    base: float,
    *,
    cut: Callable[[Tensor, int], Tensor] = split,
    norm: Callable[[nn.Module, Tensor], Tensor] = lambda norm, x: norm(x),
    turn_query: Callable[[Tensor, float], Tensor] = turned,
    turn_key: Callable[[Tensor, float], Tensor] = turned,
    turn_value: Callable[[Tensor, float], Tensor] = lambda x, base: x,
    shared: Callable[[Tensor, int], Tensor] = lambda x, group: x.repeat_interleave(group, dim=1),
    scale: Callable[[int], float] = lambda width: width**-0.5,
    mask: Callable[[int], Tensor] = causal_mask,
    joined: Callable[[Tensor], Tensor] = lambda x: x.transpose(1, 2).flatten(2),
) -> Tensor:
    """What the attention of a block gives, by hand, with what people get wrong as options."""
    attention = block.attention
    query = turn_query(norm(attention.query_norm, cut(attention.query(x), attention.heads)), base)
    key = turn_key(norm(attention.key_norm, cut(attention.key(x), attention.key_value_heads)), base)
    value = turn_value(cut(attention.value(x), attention.key_value_heads), base)
    key, value = (shared(each, attention.heads // attention.key_value_heads) for each in (key, value))
    scores = query @ key.mT * scale(query.shape[-1])
    return attention.output(joined(scores.masked_fill(~mask(x.shape[1]), float("-inf")).softmax(dim=-1) @ value))


def gated(x: Tensor, block: DecoderBlock) -> Tensor:
    return block.mlp.down(F.silu(block.mlp.gate(x)) * block.mlp.up(x))


def decoder(
    ids: Tensor,
    model: LanguageModel,
    *,
    attend: Callable[..., Tensor] = attended,
    mlp: Callable[[Tensor, DecoderBlock], Tensor] = gated,
    add: Callable[[Tensor, Tensor], Tensor] = torch.add,
    before: Callable[[nn.Module, Tensor], Tensor] = lambda norm, x: norm(x),
    layers: slice = slice(None),
    last: Callable[[nn.Module, Tensor], Tensor] = lambda norm, x: norm(x),
) -> Tensor:
    """The forward pass of a decoder from its layers, with what people get wrong as options."""
    x = model.tokens(ids)
    for block in list(model.blocks)[layers]:
        x = add(x, attend(before(block.attention_norm, x), block, model.config.rotary_base))
        x = add(x, mlp(before(block.mlp_norm, x), block))
    return model.head(last(model.norm, x))


def places_of(model: LanguageModel) -> list[Place]:
    """The places on the way through a decoder, layer by layer."""
    found = [Place("the words' embeddings", lambda model: model.tokens, 1, "They are model.tokens(ids).")]
    for number in range(len(model.blocks)):
        found += [
            Place(
                f"{words} in layer {number + 1}",
                lambda model, number=number, module=module: model.blocks[number].get_submodule(module),
                0,
                advice,
            )
            for words, module, advice in (
                ("what the queries are made of", "attention.query", "It is block.attention_norm of the stream."),
                (
                    "what goes into attention.output",
                    "attention.output",
                    "In this order: split into heads (batch, heads, length, head_dim), query_norm and key_norm, turn both by their places, "
                    "each key/value head for its group of queries, scores times head_dim ** -0.5, the causal mask, softmax, values, and "
                    "the heads side by side again.",
                ),
                ("what goes into the MLP", "mlp.gate", "The stream is x plus what attention gave; it is block.mlp_norm of that."),
                ("what goes into mlp.down", "mlp.down", "It is silu(gate(x)) * up(x)."),
            )
        ]
    return [*found, Place("what goes into the head", lambda model: model.head, 0, "After the last layer stands model.norm, once.")]


def compare_decoder(forward: Callable[[Tensor, LanguageModel], Tensor], ids: Tensor, model: LanguageModel) -> str | None:
    """The first place at which a learner's forward pass differs from the model's own, in words; ``None`` where the logits are equal."""
    places = places_of(model)
    with torch.no_grad():
        with noted(model, places) as theirs:
            expected = model(ids)
        with noted(model, places) as mine:
            result = forward(ids.clone(), model)
    return first_difference(result, expected, mine, theirs, places, "They are model.head of what model.norm gives.")


def as_it_is(x: Tensor, *_: Any) -> Tensor:
    return x


def attending(**options: Callable) -> Callable[..., Tensor]:
    return partial(decoder, attend=partial(attended, **options))


def norm_kept(ids: Tensor, model: LanguageModel) -> Tensor:
    x = model.tokens(ids)
    for block in model.blocks:
        x = block.attention_norm(x)
        x = x + attended(x, block, model.config.rotary_base)
        x = block.mlp_norm(x)
        x = x + gated(x, block)
    return model.head(model.norm(x))


BUILD_DECODER = Exercise(
    reference=decoder,
    cases=decoder_cases,
    batched=(0,),
    told=lambda function, case: compare_decoder(function, *case),
    mistakes=dict(
        no_mask=Wrong(attending(mask=lambda length: torch.ones(length, length, dtype=torch.bool))).hint("""
            Words see what comes after them: the causal mask is missing."""),
        no_positions=Wrong(attending(turn_query=as_it_is, turn_key=as_it_is)).hint("""
            No word knows where it stands: queries and keys must be turned by their places."""),
        key_not_turned=Wrong(attending(turn_key=as_it_is), query_not_turned=attending(turn_query=as_it_is)).hint(
            "Queries or keys are turned and the others are not. Both must be, or the angle between them says nothing."
        ),
        value_turned=Wrong(attending(turn_value=turned)).hint("""
            Values are not turned: positions decide who is looked at, not what is seen there."""),
        heads_not_normalised=Wrong(attending(norm=lambda norm, x: x)).hint("""
            The heads' norms are missing: attention.query_norm and attention.key_norm, after the split into heads and before turning. (Llama
            has none; there they do nothing. This course's small models have them.)"""),
        not_scaled=Wrong(attending(scale=lambda width: 1.0)).hint("""
            The scores are not scaled: divide them by the square root of head_dim."""),
        scaled_without_root=Wrong(attending(scale=lambda width: 1 / width)).hint("""
            The scores are divided by head_dim itself. Divide by its square root."""),
        groups_by_turns=Wrong(attending(shared=lambda x, group: x.repeat(1, group, 1, 1))).hint("""
            Keys and values are shared by turns. Queries of one group are neighbours: repeat_interleave along the heads, not repeat."""),
        heads_not_put_back=Wrong(attending(joined=lambda x: x.reshape(len(x), x.shape[2], -1))).hint("""
            The heads are joined by a reshape alone, which mixes words. First .transpose(1, 2), so that a word's heads are neighbours."""),
        split_without_transpose=Wrong(
            attending(cut=lambda x, heads: x.reshape(len(x), heads, x.shape[1], -1)),
            _nor_back=attending(
                cut=lambda x, heads: x.reshape(len(x), heads, x.shape[1], -1), joined=lambda x: x.reshape(len(x), x.shape[2], -1)
            ),
        ).hint("""
            Words and heads are mixed: view as (batch, length, heads, head_dim) first, and then .transpose(1, 2)."""),
        nothing_added=Wrong(partial(decoder, add=lambda x, new: new)).hint("""
            The residual connections are missing: both halves of a block are *added* to the stream."""),
        not_normalised=Wrong(partial(decoder, before=lambda norm, x: x)).hint("""
            The norms before the two halves of a block are missing: block.attention_norm and block.mlp_norm."""),
        norm_kept=Wrong(norm_kept).hint("""
            What is added to is the normalised copy. The stream itself goes on: x + attention(norm(x))."""),
        gate_not_activated=Wrong(partial(decoder, mlp=lambda x, block: block.mlp.down(block.mlp.gate(x) * block.mlp.up(x)))).hint("""
            The gate is missing its silu: down(silu(gate(x)) * up(x))."""),
        gate_and_up_exchanged=Wrong(
            partial(decoder, mlp=lambda x, block: block.mlp.down(block.mlp.gate(x) * F.silu(block.mlp.up(x))))
        ).hint("Gate and up are exchanged: it is the gate that goes through silu."),
        last_layer_left_out=Wrong(partial(decoder, layers=slice(None, -1))).hint("The last block is left out."),
        without_the_last_norm=Wrong(partial(decoder, last=lambda norm, x: x)).hint("""
            The last norm is missing: model.norm stands between the last block and the head."""),
        last_place_only=Wrong(lambda right: right[:, -1]).hint("""
            Logits of the last place alone. Asked for are those of every place, (batch, length, vocab): training needs them all."""),
        probabilities=Wrong(lambda right: right.softmax(dim=-1)).hint("These are probabilities. Asked for are the logits, as they are."),
    ),
    afterthought="Something to think of: which of these lines does a step with a cache leave out?",
)

# ---- the loop that writes ---------------------------------------------------------------------------------------------


class Writer:
    """A small language model that insists on its cache, so that a loop that reads everything again is told so."""

    def __init__(self, model: LanguageModel):
        self.model = model

    def __repr__(self) -> str:
        return "a small language model"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Writer)  # it has nothing that a loop could change

    def new_cache(self) -> Cache:
        """As of the model."""
        return self.model.new_cache()

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """As of the model; a ``ValueError`` without a cache."""
        if cache is None:
            raise ValueError("this exercise is about the cache: make one by cache = model.new_cache(), and call model(ids, cache=cache)")
        return self.model(ids, mask, cache)


@dataclass(frozen=True)
class Luck:
    """Draws a token a row, ``(batch, 1)``, always with the same luck: the one that reaches the row's share of all probability."""

    shares: tuple[float, ...] = (0.5, 0.9)

    def __call__(self, probabilities: Tensor) -> Tensor:
        luck = torch.tensor(self.shares)[: len(probabilities), None]
        return (probabilities.cumsum(dim=-1) < luck).sum(dim=-1, keepdim=True).clamp(max=probabilities.shape[-1] - 1)


def writer_cases() -> list[tuple]:
    model = Writer(small_model(3, replace(SMALL, layers=3)))
    prompts = ([[1, 9, 5, 7], [1, 4, 21, 6]], 6, 1.0), ([[8, 2]], 5, 0.3), ([[3], [4]], 1, 2.0), ([[7], [5]], 7, 3.0)
    return [(model, torch.tensor(ids), count, temperature, Luck()) for ids, count, temperature in prompts]


def writer(
    model: Writer,
    ids: Tensor,
    count: int,
    temperature: float,
    draw: Callable[[Tensor], Tensor],
    *,
    place: Callable[[Tensor], Tensor] = lambda logits: logits[:, -1],
    probabilities: Callable[[Tensor, float], Tensor] = lambda logits, temperature: (logits / temperature).softmax(dim=-1),
    following: Callable[[Tensor, Tensor], Tensor] = lambda text, token: token,
    forgetful: bool = False,
) -> Tensor:
    """The loop, with what people get wrong as options."""
    cache, text, new = model.new_cache(), ids, ids
    for _ in range(count):
        token = draw(probabilities(place(model(new, cache=cache)), temperature))
        text = torch.cat([text, token], dim=1)
        new, cache = following(text, token), model.new_cache() if forgetful else cache
    return text


def logits_only(logits: Tensor, temperature: float) -> Tensor:
    return logits / temperature


BUILD_WRITER = Exercise(
    reference=writer,
    cases=writer_cases,
    mistakes=dict(
        everything_again=Wrong(partial(writer, following=lambda text, token: text)).hint("""
            The whole text goes in at every step, and the cache holds it already: the model reads everything twice, one behind the other.
            After the prompt, give it the new token alone."""),
        prompt_again=Wrong(lambda again, ids: again(following=lambda text, token: ids)).hint("""
            The prompt goes in at every step. After the first one give the token that was just drawn."""),
        forgetful=Wrong(partial(writer, forgetful=True)).hint("""
            A new cache at every step: the model sees the newest token and nothing before it. Make one cache, before the loop."""),
        first_place=Wrong(partial(writer, place=lambda logits: logits[:, 0])).hint("""
            You take the logits of the first place. What comes next is told by the last one: logits[:, -1]."""),
        no_temperature=Wrong(lambda again: again(temperature=1.0)).hint("""
            The temperature is not used: divide the logits by it before the softmax."""),
        times_temperature=Wrong(lambda again, temperature: again(temperature=1 / temperature)).hint("""
            You multiply by the temperature. Divide: above 1 the unlikely words gain."""),
        after_the_softmax=Wrong(partial(writer, probabilities=lambda logits, temperature: logits.softmax(dim=-1) / temperature)).hint(
            """The temperature divides the probabilities, which no longer add up to 1. It divides the logits, before the softmax."""
        ),
        logits_drawn_from=Wrong(partial(writer, probabilities=logits_only)).hint("""
            draw is given logits. It wants probabilities: their softmax."""),
        greedy=Wrong(lambda again: again(draw=lambda probabilities: probabilities.argmax(dim=-1, keepdim=True))).hint("""
            Always the likeliest token: that is greedy. Give the probabilities to draw."""),
        prompt_left_out=Wrong(lambda right, ids: right[:, ids.shape[1] :]).hint("""
            The new tokens alone came back. Asked for is the prompt with them behind it."""),
        one_too_few=Wrong(lambda again, count: again(count=count - 1)).hint("""
            One token is missing: the first one is drawn after the prompt, from the same pass that fills the cache."""),
        one_too_many=Wrong(lambda again, count: again(count=count + 1)).hint("One token too many: count new ones were asked for."),
    ),
    afterthought="Something to think of: the last call of the model fills the cache for a token that nobody reads. Is it in your loop?",
)

EXERCISES = {"build_decoder": BUILD_DECODER, "build_writer": BUILD_WRITER}
