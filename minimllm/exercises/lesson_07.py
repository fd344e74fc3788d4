"""Exercises of lesson 07: the gated block, keys and values of pictures kept, what learns beside a frozen decoder."""

from collections.abc import Callable
from functools import cache, partial

import torch
from einops import rearrange
from torch import Tensor, nn

from minimllm.layers.attention import Attention
from minimllm.layers.blocks import GatedCrossAttentionBlock
from minimllm.models.cross_attention import CrossAttentionMLLM
from minimllm.models.cross_attention_config import CrossAttentionConfig

from . import Exercise, Wrong

# ---- the gated block --------------------------------------------------------------------------------------------------

Parts = tuple[Tensor, Tensor, Tensor, nn.Module, Attention, Tensor]


class WrittenOutAttention(Attention):
    """The same attention with its softmax written out, as the textbooks have it.

    The fused kernel that :class:`Attention` calls gives zeros on a CPU for a row of the mask without a True; it does not promise them. The
    formula gives NaN, and that is what must show here, where leaving out such rows is half of the exercise.
    """

    def forward(self, x, context=None, mask=None, rotary=None, cache=None) -> Tensor:
        values = self.project(x, context, rotary)[2].repeat_interleave(self.heads // self.key_value_heads, dim=1)
        mixed = self.weights(x, context, mask, rotary) @ values
        return self.output(rearrange(mixed, "b heads length d -> b length (heads d)"))


def _block(dim: int, heads: int, gate: float, generator: torch.Generator) -> GatedCrossAttentionBlock:
    block = GatedCrossAttentionBlock(dim, heads, None)
    block.attention = WrittenOutAttention(dim, heads, bias=False, normalise_heads=1e-5)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.4, generator=generator)
        for norm in (block.attention_norm, block.attention.query_norm, block.attention.key_norm):
            norm.weight.add_(1)
        block.attention_gate.fill_(gate)
    return block


def block_cases() -> list[Parts]:
    generator = torch.Generator().manual_seed(7)

    def case(batch: int, words: int, keys: int, gate: float, unusual: bool = False) -> Parts:
        block = _block(8, 2, gate, generator)
        x, pictures = torch.randn(batch, words, 8, generator=generator) * 2, torch.randn(batch, keys, 8, generator=generator)
        visible = torch.rand(batch, words, keys, generator=generator) > 0.4
        visible[:, 0] = False  # the start token stands before every picture
        visible[:, 1:, 0] = True
        visible[0, 2] &= not unusual  # another word may see nothing either,
        visible[-1, 0, 0] = unusual  # and a first word that is a picture's own sees it
        return x, pictures, visible, block.attention_norm, block.attention, block.attention_gate

    return [case(2, 5, 5, 0.9), case(1, 4, 6, -1.4), case(2, 3, 7, 0.5, unusual=True)]


def gated_block(words: Tensor, pictures: Tensor, visible: Tensor, norm: nn.Module, attention: Attention, gate: Tensor) -> Tensor:
    block = GatedCrossAttentionBlock(words.shape[-1], attention.heads, None)
    block.attention_norm, block.attention, block.attention_gate = norm, attention, nn.Parameter(gate.detach())
    return block(words, pictures, visible)


def average_for_the_blind(asks: Tensor, shown: Tensor, mask: Tensor, attention: Callable) -> Tensor:
    return attention(asks, shown, (mask | ~mask.any(dim=-1, keepdim=True))[:, None])


def nothing_for_the_blind(asks: Tensor, shown: Tensor, mask: Tensor, attention: Callable) -> Tensor:
    return average_for_the_blind(asks, shown, mask, attention) * mask.any(dim=-1, keepdim=True)


def nan_for_the_blind(asks: Tensor, shown: Tensor, mask: Tensor, attention: Callable) -> Tensor:
    return attention(asks, shown, mask[:, None])


def added(words: Tensor, see: Callable[..., Tensor], gate: Tensor, **_) -> Tensor:
    return words + gate.tanh() * see()


def by_hand(words, pictures, visible, norm, attention, gate, *, look=nothing_for_the_blind, put=added) -> Tensor:
    """The block by hand, with what people get wrong as options.

    ``look(asks, shown, mask, attention)`` is what words see, blind ones among them; ``put`` puts the block together of what it needs of the
    arguments, and of ``see(asks=norm(words), shown=pictures, mask=visible)``.
    """

    def see(asks: Tensor | None = None, shown: Tensor = pictures, mask: Tensor = visible) -> Tensor:
        return look(norm(words) if asks is None else asks, shown, mask, attention)

    return put(words=words, pictures=pictures, visible=visible, norm=norm, gate=gate, see=see)


def gated(put: Callable[..., Tensor]) -> Wrong:
    """The block put together otherwise, and the same hint whatever blind words get."""
    return Wrong(
        partial(by_hand, put=put),
        _and_an_average_for_the_blind=partial(by_hand, put=put, look=average_for_the_blind),
        _and_nan_for_the_blind=partial(by_hand, put=put, look=nan_for_the_blind),
    )


def first_word_blind(asks, shown, mask, attention):
    return torch.cat([torch.zeros_like(asks[:, :1]), nan_for_the_blind(asks[:, 1:], shown, mask[:, 1:], attention)], dim=1)


def without_heads(look: Callable) -> Callable:
    """The same by a mask that lacks the axis of the heads."""
    return lambda asks, shown, mask, attention: look(asks, shown, mask, lambda asks, shown, mask: attention(asks, shown, mask[:, 0]))


GATED_BLOCK = Exercise(
    reference=gated_block,
    cases=block_cases,
    batched=(0, 1, 2),
    learning=(0, 1),
    mistakes=dict(
        no_tanh=gated(lambda words, see, gate, **_: words + gate * see()).hint("""
            The gate goes through tanh: gate.tanh() * look. Near 0 the two are the same; tanh keeps a gate that has grown between -1 and 1,
            whatever the optimizer does."""),
        gate_after_the_sum=gated(lambda words, see, gate, **_: gate.tanh() * (words + see())).hint("""
            The gate multiplies the sum, and so the words as well: with the gate at 0 nothing at all would come out, and the trained decoder
            behind would get zeros. Gate what is added, not what is there already."""),
        gate_at_one=gated(lambda words, see, **_: words + see()).hint("""
            The gate is not used: the block adds all that it sees from the first step on. While its weights are still random, that is noise
            in the middle of a trained decoder."""),
        sigmoid_gate=gated(lambda words, see, gate, **_: words + gate.sigmoid() * see()).hint("""
            A sigmoid of 0 is one half: the block would begin half open. tanh of 0 is 0."""),
        blended=gated(lambda words, see, gate, **_: (1 - gate.tanh()) * words + gate.tanh() * see()).hint("""
            You take away from the words what you give to the pictures. The words stay as they are, and what was seen is added to them."""),
        no_residual=gated(lambda see, gate, **_: gate.tanh() * see()).hint("The words themselves are missing: add what was seen to them."),
        tanh_of_the_product=gated(lambda words, see, gate, **_: words + (gate * see()).tanh()).hint("""
            tanh is around the whole product. It belongs to the gate alone, one number; what was seen is not squeezed."""),
        mask_transposed=gated(lambda words, see, gate, visible, **_: words + gate.tanh() * see(mask=visible.mT)).hint("""
            The mask is transposed. Its rows are words, which ask, and its columns are the tokens of pictures, which are looked at. With as
            many of one as of the other nothing complains."""),
        mask_inverted=gated(lambda words, see, gate, visible, **_: words + gate.tanh() * see(mask=~visible)).hint("""
            The mask is the wrong way round: visible is True where a word may look."""),
        mask_ignored=Wrong(
            partial(by_hand, look=lambda asks, shown, mask, attention: attention(asks, shown)),
            mask_ignored_but_for_the_blind=partial(
                by_hand, look=lambda asks, shown, mask, attention: attention(asks, shown) * mask.any(dim=-1, keepdim=True)
            ),
        ).hint("The mask is not used: every word sees every picture, those of later sentences among them."),
        mask_without_heads=Wrong(
            partial(by_hand, look=without_heads(nothing_for_the_blind)),
            mask_without_heads_average=partial(by_hand, look=without_heads(average_for_the_blind)),
            mask_without_heads_nan=partial(by_hand, look=without_heads(nan_for_the_blind)),
        ).hint("""
            The mask lacks the axis of the heads. (batch, words, keys) is read as (heads, words, keys): the first head gets the mask of the
            first sample, the second head that of the second one. Insert the axis: visible[:, None]."""),
        row_without_a_true=Wrong(partial(by_hand, look=nan_for_the_blind)).hint("""
            A row of the mask has no True: its softmax divides nothing by nothing, and gives NaN (NaN times 0 is still NaN). Let a word that
            sees nothing look at everything, visible | ~sees with sees = visible.any(dim=-1, keepdim=True), and multiply what it saw by 0: *
            sees."""),
        nan_made_zero=Wrong(partial(by_hand, look=lambda *given: nan_for_the_blind(*given).nan_to_num())).hint("""
            The result is right, but no training survives it: a row of the mask has no True, its softmax gives NaN, and nan_to_num (or
            torch.where) afterwards mends the result alone. In the backward pass the gradient goes through that softmax, and is NaN. Let
            such a row look at everything, visible | ~sees, and multiply what it saw by 0."""),
        first_word_blind=Wrong(partial(by_hand, look=first_word_blind)).hint("""
            You take it that the first word, and it alone, sees nothing. The mask says which words do: sees = visible.any(dim=-1,
            keepdim=True)."""),
        blind_words_see_all=Wrong(partial(by_hand, look=average_for_the_blind)).hint("""
            A word that may see nothing gets the average over all there is. It must get nothing: multiply what was seen by
            visible.any(dim=-1, keepdim=True). (transformers 5 has just this mistake in its Llama 3.2, Meta's code does not.)"""),
        not_normalised=gated(lambda words, see, gate, **_: words + gate.tanh() * see(words)).hint("""
            The norm is missing: attention(norm(words), ...). The residual stream grows from block to block, and the queries with it."""),
        pictures_normalised=gated(lambda words, see, gate, norm, pictures, **_: words + gate.tanh() * see(shown=norm(pictures))).hint("""
            The pictures went through the norm of the words. It is for the words alone; pictures come ready from the projector."""),
        residual_normalised=gated(lambda words, see, gate, norm, **_: norm(words) + gate.tanh() * see()).hint("""
            The normalised words are what you add to. The norm is for the questions only; the residual stream itself passes untouched."""),
        words_at_words=gated(lambda words, see, gate, norm, **_: words + gate.tanh() * see(shown=norm(words))).hint("""
            The words look at words: that is self-attention. Keys and values come from the pictures, the second argument of attention."""),
        result_normalised=gated(lambda words, see, gate, norm, **_: words + gate.tanh() * norm(see(words))).hint("""
            The norm is on what attention gives. It belongs on the words before they ask: attention(norm(words), ...)."""),
        result_normalised_as_well=gated(lambda words, see, gate, norm, **_: words + gate.tanh() * norm(see())).hint("""
            The norm is used twice: what attention gives is not normalised again. The gate alone says how much of it passes."""),
        sum_normalised=gated(lambda words, see, gate, norm, **_: norm(words + gate.tanh() * see(words))).hint("""
            The norm is around the sum, as in the transformer of 2017. Here the residual stream passes untouched, and the norm is for the
            questions only: words + gate.tanh() * attention(norm(words), ...)."""),
        sum_normalised_as_well=gated(lambda words, see, gate, norm, **_: norm(words + gate.tanh() * see())).hint("""
            The norm is used twice: around the sum it changes the residual stream, even with the gate at 0. Return the sum as it is."""),
        pictures_ask=gated(lambda words, see, gate, norm, pictures, **_: words + gate.tanh() * see(pictures, norm(words))).hint("""
            The pictures ask, and the words are looked at: the two are exchanged. Who asks comes first, attention(norm(words), pictures,
            mask); the result has as many tokens as the first."""),
        pictures_ask_with_the_mask_transposed=gated(
            lambda words, see, gate, norm, pictures, visible, **_: words + gate.tanh() * see(pictures, norm(words), visible.mT)
        ).hint("""The pictures ask, and the mask is turned to fit. Exchange the two instead: the words ask, attention(norm(words), pictures,
            mask), and the mask stays as it came."""),
    ),
    afterthought="Something to think of: with the gate at 0, which of the block's weights receive a gradient, and which do not yet?",
)

# ---- keys and values, kept --------------------------------------------------------------------------------------------

Kept = tuple[Tensor, Tensor]


def keeping_cases() -> list[tuple[Kept | None, Tensor | None, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(8)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def case(kept: int, new: int, batch: int = 2, dim: int = 4) -> tuple[Kept | None, Tensor | None, Tensor, Tensor]:
        cache = (random(batch, kept, 3), random(batch, kept, 3)) if kept else None
        return cache, random(batch, new, dim) if new else None, random(dim, 3), random(dim, 3)

    return [case(0, 4), case(4, 0), case(4, 4), case(6, 2, batch=1), case(5, 5, batch=3)]


def keep(cache: Kept | None, pictures: Tensor | None, key_weight: Tensor, value_weight: Tensor) -> Kept:
    if pictures is None:
        return cache
    keys, values = pictures @ key_weight, pictures @ value_weight
    return (keys, values) if cache is None else (torch.cat([cache[0], keys], dim=1), torch.cat([cache[1], values], dim=1))


def joined(first: Kept, second: Kept, dim: int = 1) -> Kept:
    return torch.cat([first[0], second[0]], dim), torch.cat([first[1], second[1]], dim)


def appending(append: Callable[[Kept, Kept], Kept]) -> Callable:
    """Right, but for how the new is put to the old where there are both."""
    return lambda again, cache, pictures: again() if cache is None or pictures is None else append(cache, again(cache=None))


KEEP_PICTURES = Exercise(
    reference=keep,
    cases=keeping_cases,
    mistakes=dict(
        old_forgotten=Wrong(lambda again, cache, pictures: cache if pictures is None else again(cache=None)).hint("""
            A new picture replaces the earlier ones. They may still be asked about: append the new keys and values behind those kept."""),
        new_ignored=Wrong(lambda again, cache: again() if cache is None else cache).hint("""
            Once something is kept, new pictures are not looked at any more. Project them, and append."""),
        nothing_without_new=Wrong(lambda right, pictures: None if pictures is None else right).hint("""
            Without a new picture you give nothing back. That is the case at every word that is written: the words still look at the
            pictures kept."""),
        doubled=Wrong(lambda right, pictures: joined(right, right) if pictures is None else right).hint("""
            Without a new picture you append the old ones once more. The words would write the same (a softmax over two copies of everything
            mixes the same), so nobody notices, while the memory grows with every word."""),
        new_first=Wrong(appending(lambda old, new: joined(new, old))).hint("""
            The new pictures stand before the earlier ones. The mask counts pictures in the order in which they came: append behind."""),
        along_the_batch=Wrong(appending(lambda old, new: joined(old, new, dim=0))).hint("""
            You append along the first axis, the batch: the new pictures become samples of their own. Tokens are the second axis,
            dim=1."""),
        along_the_width=Wrong(appending(lambda old, new: joined(old, new, dim=2))).hint("""
            You append along the last axis: each key gets wider instead of there being more of them. Tokens are the second axis, dim=1."""),
        values_are_keys=Wrong(lambda again, key_weight: again(value_weight=key_weight)).hint("""
            The values are computed with the weights of the keys. They have weights of their own."""),
        exchanged=Wrong(lambda again, key_weight, value_weight: again(key_weight=value_weight, value_weight=key_weight)).hint("""
            Keys and values have exchanged their weights."""),
        values_before_keys=Wrong(
            lambda right: right[::-1],
            values_before_keys_if_new=lambda right, pictures: right if pictures is None else right[::-1],
            values_before_keys_at_first=lambda right, cache: right[::-1] if cache is None else right,
        ).hint("""The values stand before the keys. What is given back is the cache of the next call, where cache[0] are the keys: keys
            first."""),
        pictures_always=Wrong(
            lambda right, pictures, key_weight: (pictures @ key_weight, right)[1],
            pictures_always_by_method=lambda right, pictures, key_weight: (pictures.matmul(key_weight), right)[1],
        ).hint("""Where no picture is new, pictures is None, and None times a matrix is a TypeError. Begin with that case: if pictures is
            None, give back what is kept."""),
        cache_always=Wrong(lambda right, cache, pictures: cache if pictures is None else (cache[0], right)[1]).hint("""
            At the first call nothing is kept yet: cache is None, and has no cache[0]. That case needs a branch of its own: the new keys and
            values are then all there is."""),
        both_always=Wrong(lambda right, cache, pictures, key_weight: (cache[0], pictures @ key_weight, right)[2]).hint("""
            Both may be None, and you count on neither being so: cache at the first call (give back the new keys and values), pictures where
            only words are new (give back what is kept). Ask `if ... is None` first."""),
        first_not_kept=Wrong(lambda right, cache: None if cache is None else right).hint("""
            At the first call, where cache is None, you give nothing back, and the first picture is lost. Its keys and values are all that
            is kept then."""),
        pictures_kept=Wrong(lambda right, cache, pictures: (pictures, pictures) if cache is None else right).hint("""
            At the first call you keep the pictures themselves. Keep what the attention needs of them, the keys and the values: the cache is
            to save projecting them anew at every word."""),
    ),
    afterthought="Something to think of: keys and values of the words grow with the text. Why do these not, and when would they?",
)

# ---- what learns ------------------------------------------------------------------------------------------------------


@cache
def name_cases() -> list[tuple[str]]:
    with torch.device("meta"):
        model = CrossAttentionMLLM(CrossAttentionConfig.tiny())
    return [(name,) for name, _ in model.named_parameters()]


def learns(name: str) -> bool:
    return name.startswith(("projector.", "cross_blocks."))


def without(parts: Callable[[str], bool], projector: bool = True) -> Callable[[str], bool]:
    """The right answer but for those names in the gated blocks of which ``parts`` is true, and perhaps the projector's."""
    return lambda name: learns(name) and not (parts(name) if name.startswith("cross_blocks.") else not projector)


def is_gate(name: str) -> bool:
    return name.endswith("_gate")


def is_norm(name: str) -> bool:
    return "norm" in name


WHAT_LEARNS = Exercise(
    reference=learns,
    cases=name_cases,
    mistakes=dict(
        everything=Wrong(lambda: True).hint("""
            Everything learns. Then the decoder changes too, and with it what it answers where there is no picture."""),
        nothing=Wrong(lambda: False).hint("Nothing learns: the gates stay at 0, and the pictures are never seen."),
        gates_only=Wrong(lambda name: name.startswith("cross_blocks.") and is_gate(name)).hint("""
            The gates alone learn. What they let through would stay random: the weights behind them must learn as well."""),
        gates_and_projector=Wrong(without(lambda name: not is_gate(name))).hint("""
            The gates and the projector learn, but not what is behind the gates: the attention of the gated blocks is new, and would stay
            random. The whole of cross_blocks learns."""),
        blocks_without_gates=Wrong(
            without(is_gate),
            blocks_without_all_gates=without(lambda name: "gate" in name),
            blocks_without_gates_or_projector=without(is_gate, projector=False),
            matrices_alone=without(lambda name: is_gate(name) or is_norm(name)),
            attention_gates_forgotten=without(lambda name: name.endswith("attention_gate")),
            mlp_gates_forgotten=without(lambda name: name.endswith("mlp_gate")),
        ).hint("""The gates are missing. They begin at 0, and there they would stay: whatever the rest of the blocks learned, nothing would
            ever be seen, and nothing would pull at it either."""),
        blocks_without_norms=Wrong(
            without(is_norm),
            blocks_without_norms_or_projector=without(is_norm, projector=False),
            blocks_without_two_norms=without(lambda name: name.endswith(("attention_norm.weight", "mlp_norm.weight"))),
            blocks_without_head_norms=without(lambda name: "query_norm" in name or "key_norm" in name),
        ).hint("The norms of the gated blocks are missing. They are as new as the rest of them: the whole of cross_blocks learns."),
        all_that_says_gate=Wrong(lambda name: "gate" in name).hint("""
            'gate' is also what one of the three layers of every SwiGLU is called, those of the decoder among them. Go by what the name
            begins with."""),
        without_the_projector=Wrong(lambda name: name.startswith("cross_blocks.")).hint("""
            The projector is missing. It is new and random, like the gated blocks, and what they look at comes from it."""),
        without_the_blocks=Wrong(lambda name: name.startswith("projector.")).hint("""
            Only the projector learns. Behind gates that stay at 0, nothing of it would be seen."""),
        all_blocks=Wrong(lambda name: "blocks" in name or name.startswith("projector.")).hint("""
            'blocks' is in the names of the encoder and of the decoder as well: vision.blocks, language_model.blocks. Yours are
            cross_blocks."""),
        all_attention=Wrong(lambda name: "attention" in name or name.startswith("projector.")).hint("""
            'attention' is in the names of the encoder and of the decoder as well. Go by what the name begins with."""),
        encoder_too=Wrong(lambda name: not name.startswith("language_model.")).hint("""
            The image encoder learns too. (Llama 3.2 did so; here it has been trained as a part of CLIP and stays as it is.)"""),
        decoder_too=Wrong(lambda name: not name.startswith("vision.")).hint("""
            The decoder learns too: what it answers without pictures then changes, and a later training on pictures can spoil it."""),
        the_other_way_round=Wrong(lambda right: not right).hint("""
            The wrong way round: you let what was trained learn, and freeze what is new."""),
    ),
    afterthought="Something to think of: why do text-only answers stay the same to the last bit, although the gates have opened?",
)

EXERCISES = {"gated_block": GATED_BLOCK, "keep_pictures": KEEP_PICTURES, "what_learns": WHAT_LEARNS}
