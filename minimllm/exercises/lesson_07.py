"""Exercises of lesson 07: the gated block, keys and values of pictures kept, what learns beside a frozen decoder."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from minimllm.layers.attention import Attention
from minimllm.layers.blocks import GatedCrossAttentionBlock
from minimllm.models.cross_attention import CrossAttentionMLLM
from minimllm.models.cross_attention_config import CrossAttentionConfig

from . import Exercise, Mistake

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

    def case(batch: int, words: int, keys: int, gate: float) -> Parts:
        block = _block(8, 2, gate, generator)
        x, pictures = torch.randn(batch, words, 8, generator=generator) * 2, torch.randn(batch, keys, 8, generator=generator)
        visible = torch.rand(batch, words, keys, generator=generator) > 0.4
        visible[:, 0] = False  # the start token stands before every picture
        visible[:, 1:, 0] = True
        return x, pictures, visible, block.attention_norm, block.attention, block.attention_gate

    return [case(2, 5, 5, 0.9), case(1, 4, 6, -1.4), case(2, 3, 7, 0.5)]


def gated_block(words: Tensor, pictures: Tensor, visible: Tensor, norm: nn.Module, attention: Attention, gate: Tensor) -> Tensor:
    block = GatedCrossAttentionBlock(words.shape[-1], attention.heads, None)
    block.attention_norm, block.attention, block.attention_gate = norm, attention, nn.Parameter(gate.detach())
    return block(words, pictures, visible)


Look = Callable[[Tensor, Tensor, Tensor, Attention], Tensor]


def _look(words: Tensor, pictures: Tensor, visible: Tensor, attention: Attention) -> Tensor:
    sees = visible.any(dim=-1, keepdim=True)
    return attention(words, pictures, (visible | ~sees)[:, None]) * sees


def _average_for_the_blind(words: Tensor, pictures: Tensor, visible: Tensor, attention: Attention) -> Tensor:
    return attention(words, pictures, (visible | ~visible.any(dim=-1, keepdim=True))[:, None])


def _nan_for_the_blind(words: Tensor, pictures: Tensor, visible: Tensor, attention: Attention) -> Tensor:
    return attention(words, pictures, visible[:, None])


def _named(function: Callable, name: str) -> Callable:
    function.__name__ = name
    return function


def _mistake(name: str, write: Callable[..., Tensor], hint: str) -> Mistake:
    """``write(words, pictures, visible, norm, attention, gate, look)``, and the same hint whatever blind words get."""

    def function(look: Look, suffix: str = "") -> Callable[..., Tensor]:
        def block(words: Tensor, pictures: Tensor, visible: Tensor, norm: nn.Module, attention: Attention, gate: Tensor) -> Tensor:
            return write(words, pictures, visible, norm, attention, gate, look)

        return _named(block, name + suffix)

    also = function(_average_for_the_blind, "_and_an_average_for_the_blind"), function(_nan_for_the_blind, "_and_nan_for_the_blind")
    return Mistake(function(_look), hint, also)


def _combined(name: str, combine: Callable[[Tensor, Tensor, Tensor], Tensor], hint: str) -> Mistake:
    """The block with another way of putting the words, what they saw, and the gate together."""

    def write(words, pictures, visible, norm, attention, gate, look):
        return combine(words, look(norm(words), pictures, visible, attention), gate)

    return _mistake(name, write, hint)


def mask_ignored(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * attention(norm(words), pictures)


def mask_ignored_but_for_the_blind(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * attention(norm(words), pictures) * visible.any(dim=-1, keepdim=True)


def mask_without_heads(words, pictures, visible, norm, attention, gate):
    sees = visible.any(dim=-1, keepdim=True)
    return words + gate.tanh() * attention(norm(words), pictures, visible | ~sees) * sees


def mask_without_heads_average(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * attention(norm(words), pictures, visible | ~visible.any(dim=-1, keepdim=True))


def mask_without_heads_nan(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * attention(norm(words), pictures, visible)


def blind_words_see_all(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * _average_for_the_blind(norm(words), pictures, visible, attention)


def row_without_a_true(words, pictures, visible, norm, attention, gate):
    return words + gate.tanh() * attention(norm(words), pictures, visible[:, None])


GATED_BLOCK = Exercise(
    reference=gated_block,
    cases=block_cases,
    batched=(0, 1, 2),
    mistakes=(
        _combined(
            "no_tanh",
            lambda words, look, gate: words + gate * look,
            "The gate goes through tanh: gate.tanh() * look. Near 0 the two are the same; tanh keeps a gate that has grown between -1 "
            "and 1, whatever the optimizer does.",
        ),
        _combined(
            "gate_after_the_sum",
            lambda words, look, gate: gate.tanh() * (words + look),
            "The gate multiplies the sum, and so the words as well: with the gate at 0 nothing at all would come out, and the trained "
            "decoder behind would get zeros. Gate what is added, not what is there already.",
        ),
        _combined(
            "gate_at_one",
            lambda words, look, gate: words + look,
            "The gate is not used: the block adds all that it sees from the first step on. While its weights are still random, that is "
            "noise in the middle of a trained decoder.",
        ),
        _combined(
            "sigmoid_gate",
            lambda words, look, gate: words + gate.sigmoid() * look,
            "A sigmoid of 0 is one half: the block would begin half open. tanh of 0 is 0.",
        ),
        _combined(
            "blended",
            lambda words, look, gate: (1 - gate.tanh()) * words + gate.tanh() * look,
            "You take away from the words what you give to the pictures. The words stay as they are, and what was seen is added to them.",
        ),
        _combined(
            "no_residual", lambda words, look, gate: gate.tanh() * look, "The words themselves are missing: add what was seen to them."
        ),
        _combined(
            "tanh_of_the_product",
            lambda words, look, gate: words + (gate * look).tanh(),
            "tanh is around the whole product. It belongs to the gate alone, one number; what was seen is not squeezed.",
        ),
        _mistake(
            "mask_transposed",
            lambda words, pictures, visible, norm, attention, gate, look: (
                words + gate.tanh() * look(norm(words), pictures, visible.transpose(1, 2), attention)
            ),
            "The mask is transposed. Its rows are words, which ask, and its columns are the tokens of pictures, which are looked at. With "
            "as many of one as of the other nothing complains.",
        ),
        _mistake(
            "mask_inverted",
            lambda words, pictures, visible, norm, attention, gate, look: (
                words + gate.tanh() * look(norm(words), pictures, ~visible, attention)
            ),
            "The mask is the wrong way round: visible is True where a word may look.",
        ),
        Mistake(
            mask_ignored,
            "The mask is not used: every word sees every picture, those of later sentences among them.",
            also=(mask_ignored_but_for_the_blind,),
        ),
        Mistake(
            mask_without_heads,
            "The mask lacks the axis of the heads. (batch, words, keys) is read as (heads, words, keys): the first head gets the mask of "
            "the first sample, the second head that of the second one. Insert the axis: visible[:, None].",
            also=(mask_without_heads_average, mask_without_heads_nan),
        ),
        Mistake(
            row_without_a_true,
            "A row of the mask has no True: its softmax divides nothing by nothing, and gives NaN (NaN times 0 is still NaN). Let a word "
            "that sees nothing look at everything, visible | ~sees with sees = visible.any(dim=-1, keepdim=True), and multiply what it saw "
            "by 0: * sees.",
        ),
        Mistake(
            blind_words_see_all,
            "A word that may see nothing gets the average over all there is. It must get nothing: multiply what was seen by "
            "visible.any(dim=-1, keepdim=True). (transformers 5 has just this mistake in its Llama 3.2, Meta's code does not.)",
        ),
        _mistake(
            "not_normalised",
            lambda words, pictures, visible, norm, attention, gate, look: words + gate.tanh() * look(words, pictures, visible, attention),
            "The norm is missing: attention(norm(words), ...). The residual stream grows from block to block, and the queries with it.",
        ),
        _mistake(
            "pictures_normalised",
            lambda words, pictures, visible, norm, attention, gate, look: (
                words + gate.tanh() * look(norm(words), norm(pictures), visible, attention)
            ),
            "The pictures went through the norm of the words. It is for the words alone; pictures come ready from the projector.",
        ),
        _mistake(
            "residual_normalised",
            lambda words, pictures, visible, norm, attention, gate, look: (
                norm(words) + gate.tanh() * look(norm(words), pictures, visible, attention)
            ),
            "The normalised words are what you add to. The norm is for the questions only; the residual stream itself passes untouched.",
        ),
        _mistake(
            "words_at_words",
            lambda words, pictures, visible, norm, attention, gate, look: (
                words + gate.tanh() * look(norm(words), norm(words), visible, attention)
            ),
            "The words look at words: that is self-attention. Keys and values come from the pictures, the second argument of attention.",
        ),
        _mistake(
            "result_normalised",
            lambda words, pictures, visible, norm, attention, gate, look: (
                words + gate.tanh() * norm(look(words, pictures, visible, attention))
            ),
            "The norm is on what attention gives. It belongs on the words before they ask: attention(norm(words), ...).",
        ),
        _mistake(
            "result_normalised_as_well",
            lambda words, pictures, visible, norm, attention, gate, look: (
                words + gate.tanh() * norm(look(norm(words), pictures, visible, attention))
            ),
            "The norm is used twice: what attention gives is not normalised again. The gate alone says how much of it passes.",
        ),
        _mistake(
            "sum_normalised",
            lambda words, pictures, visible, norm, attention, gate, look: norm(
                words + gate.tanh() * look(words, pictures, visible, attention)
            ),
            "The norm is around the sum, as in the transformer of 2017. Here the residual stream passes untouched, and the norm is for the "
            "questions only: words + gate.tanh() * attention(norm(words), ...).",
        ),
        _mistake(
            "sum_normalised_as_well",
            lambda words, pictures, visible, norm, attention, gate, look: norm(
                words + gate.tanh() * look(norm(words), pictures, visible, attention)
            ),
            "The norm is used twice: around the sum it changes the residual stream, even with the gate at 0. Return the sum as it is.",
        ),
        _mistake(
            "pictures_ask",
            lambda words, pictures, visible, norm, attention, gate, look: (
                words + gate.tanh() * look(pictures, norm(words), visible, attention)
            ),
            "The pictures ask, and the words are looked at: the two are exchanged. Who asks comes first, attention(norm(words), pictures, "
            "mask); the result has as many tokens as the first.",
        ),
        _mistake(
            "pictures_ask_with_the_mask_transposed",
            lambda words, pictures, visible, norm, attention, gate, look: (
                words + gate.tanh() * look(pictures, norm(words), visible.transpose(1, 2), attention)
            ),
            "The pictures ask, and the mask is turned to fit. Exchange the two instead: the words ask, attention(norm(words), pictures, "
            "mask), and the mask stays as it came.",
        ),
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


def old_forgotten(cache, pictures, key_weight, value_weight):
    return keep(None if pictures is not None else cache, pictures, key_weight, value_weight)


def new_ignored(cache, pictures, key_weight, value_weight):
    return keep(cache, None if cache is not None else pictures, key_weight, value_weight)


def nothing_without_new(cache, pictures, key_weight, value_weight):
    return None if pictures is None else keep(cache, pictures, key_weight, value_weight)


def doubled(cache, pictures, key_weight, value_weight):
    if pictures is None:
        return torch.cat([cache[0], cache[0]], dim=1), torch.cat([cache[1], cache[1]], dim=1)
    return keep(cache, pictures, key_weight, value_weight)


def new_first(cache, pictures, key_weight, value_weight):
    if cache is None or pictures is None:
        return keep(cache, pictures, key_weight, value_weight)
    keys, values = keep(None, pictures, key_weight, value_weight)
    return torch.cat([keys, cache[0]], dim=1), torch.cat([values, cache[1]], dim=1)


def along_the_batch(cache, pictures, key_weight, value_weight):
    if cache is None or pictures is None:
        return keep(cache, pictures, key_weight, value_weight)
    keys, values = keep(None, pictures, key_weight, value_weight)
    return torch.cat([cache[0], keys], dim=0), torch.cat([cache[1], values], dim=0)


def along_the_width(cache, pictures, key_weight, value_weight):
    if cache is None or pictures is None:
        return keep(cache, pictures, key_weight, value_weight)
    keys, values = keep(None, pictures, key_weight, value_weight)
    return torch.cat([cache[0], keys], dim=2), torch.cat([cache[1], values], dim=2)


def values_are_keys(cache, pictures, key_weight, value_weight):
    return keep(cache, pictures, key_weight, key_weight)


def exchanged(cache, pictures, key_weight, value_weight):
    return keep(cache, pictures, value_weight, key_weight)


def pictures_kept(cache, pictures, key_weight, value_weight):
    if pictures is None:
        return cache
    return (pictures, pictures) if cache is None else keep(cache, pictures, key_weight, value_weight)


def pictures_always(cache, pictures, key_weight, value_weight):
    keys, values = pictures @ key_weight, pictures @ value_weight
    return (keys, values) if cache is None else (torch.cat([cache[0], keys], dim=1), torch.cat([cache[1], values], dim=1))


def pictures_always_by_method(cache, pictures, key_weight, value_weight):
    return keep(cache, pictures.matmul(torch.eye(pictures.shape[-1])), key_weight, value_weight)


def cache_always(cache, pictures, key_weight, value_weight):
    return cache if pictures is None else keep((cache[0], cache[1]), pictures, key_weight, value_weight)


def both_always(cache, pictures, key_weight, value_weight):
    return pictures_always((cache[0], cache[1]), pictures, key_weight, value_weight)


def first_not_kept(cache, pictures, key_weight, value_weight):
    return None if cache is None else keep(cache, pictures, key_weight, value_weight)


def values_before_keys(cache, pictures, key_weight, value_weight):
    keys, values = keep(cache, pictures, key_weight, value_weight)
    return values, keys


def values_before_keys_if_new(cache, pictures, key_weight, value_weight):
    keys, values = keep(cache, pictures, key_weight, value_weight)
    return (keys, values) if pictures is None else (values, keys)


def values_before_keys_at_first(cache, pictures, key_weight, value_weight):
    keys, values = keep(cache, pictures, key_weight, value_weight)
    return (values, keys) if cache is None else (keys, values)


KEEP_PICTURES = Exercise(
    reference=keep,
    cases=keeping_cases,
    mistakes=(
        Mistake(
            old_forgotten,
            "A new picture replaces the earlier ones. They may still be asked about: append the new keys and values behind those kept.",
        ),
        Mistake(
            new_ignored,
            "Once something is kept, new pictures are not looked at any more. Project them, and append.",
        ),
        Mistake(
            nothing_without_new,
            "Without a new picture you give nothing back. That is the case at every word that is written: the words still look at the "
            "pictures kept.",
        ),
        Mistake(
            doubled,
            "Without a new picture you append the old ones once more. The words would write the same (a softmax over two copies of "
            "everything mixes the same), so nobody notices, while the memory grows with every word.",
        ),
        Mistake(
            new_first,
            "The new pictures stand before the earlier ones. The mask counts pictures in the order in which they came: append behind.",
        ),
        Mistake(
            along_the_batch,
            "You append along the first axis, the batch: the new pictures become samples of their own. Tokens are the second axis, dim=1.",
        ),
        Mistake(
            along_the_width,
            "You append along the last axis: each key gets wider instead of there being more of them. Tokens are the second axis, dim=1.",
        ),
        Mistake(values_are_keys, "The values are computed with the weights of the keys. They have weights of their own."),
        Mistake(exchanged, "Keys and values have exchanged their weights."),
        Mistake(
            values_before_keys,
            "The values stand before the keys. What is given back is the cache of the next call, where cache[0] are the keys: keys first.",
            also=(values_before_keys_if_new, values_before_keys_at_first),
        ),
        Mistake(
            pictures_always,
            "Where no picture is new, pictures is None, and None times a matrix is a TypeError. Begin with that case: if pictures is None, "
            "give back what is kept.",
            also=(pictures_always_by_method,),
        ),
        Mistake(
            cache_always,
            "At the first call nothing is kept yet: cache is None, and has no cache[0]. That case needs a branch of its own: the new keys "
            "and values are then all there is.",
        ),
        Mistake(
            both_always,
            "Both may be None, and you count on neither being so: cache at the first call (give back the new keys and values), pictures "
            "where only words are new (give back what is kept). Ask `if ... is None` first.",
        ),
        Mistake(
            first_not_kept,
            "At the first call, where cache is None, you give nothing back, and the first picture is lost. Its keys and values are all "
            "that is kept then.",
        ),
        Mistake(
            pictures_kept,
            "At the first call you keep the pictures themselves. Keep what the attention needs of them, the keys and the values: the cache "
            "is to save projecting them anew at every word.",
        ),
    ),
    afterthought="Something to think of: keys and values of the words grow with the text. Why do these not, and when would they?",
)

# ---- what learns ------------------------------------------------------------------------------------------------------


def name_cases() -> list[tuple[str]]:
    with torch.device("meta"):
        model = CrossAttentionMLLM(CrossAttentionConfig.tiny())
    return [(name,) for name, _ in model.named_parameters()]


def learns(name: str) -> bool:
    return name.startswith(("projector.", "cross_blocks."))


def everything(name: str) -> bool:
    return True


def nothing(name: str) -> bool:
    return False


def gates_only(name: str) -> bool:
    return name.startswith("cross_blocks.") and name.endswith("_gate")


def all_that_says_gate(name: str) -> bool:
    return "gate" in name


def _without(ending: Callable[[str], bool], name: str, projector: bool = True) -> Callable[[str], bool]:
    """The right answer but for those names in the gated blocks of which ``ending`` is true, and perhaps the projector's."""

    def function(name: str) -> bool:
        return learns(name) and not (ending(name) if name.startswith("cross_blocks.") else not projector)

    return _named(function, name)


gates_and_projector = _without(lambda name: not name.endswith("_gate"), "gates_and_projector")
blocks_without_norms = _without(lambda name: "norm" in name, "blocks_without_norms")
blocks_without_norms_or_projector = _without(lambda name: "norm" in name, "blocks_without_norms_or_projector", projector=False)
blocks_without_two_norms = _without(lambda name: name.endswith(("attention_norm.weight", "mlp_norm.weight")), "blocks_without_two_norms")
blocks_without_head_norms = _without(lambda name: "query_norm" in name or "key_norm" in name, "blocks_without_head_norms")
blocks_without_gates = _without(lambda name: name.endswith("_gate"), "blocks_without_gates")
blocks_without_all_gates = _without(lambda name: "gate" in name, "blocks_without_all_gates")
blocks_without_gates_or_projector = _without(lambda name: name.endswith("_gate"), "blocks_without_gates_or_projector", projector=False)
matrices_alone = _without(lambda name: name.endswith("_gate") or "norm" in name, "matrices_alone")
attention_gates_forgotten = _without(lambda name: name.endswith("attention_gate"), "attention_gates_forgotten")
mlp_gates_forgotten = _without(lambda name: name.endswith("mlp_gate"), "mlp_gates_forgotten")


def without_the_projector(name: str) -> bool:
    return name.startswith("cross_blocks.")


def without_the_blocks(name: str) -> bool:
    return name.startswith("projector.")


def all_blocks(name: str) -> bool:
    return "blocks" in name or name.startswith("projector.")


def all_attention(name: str) -> bool:
    return "attention" in name or name.startswith("projector.")


def encoder_too(name: str) -> bool:
    return not name.startswith("language_model.")


def decoder_too(name: str) -> bool:
    return not name.startswith("vision.")


def the_other_way_round(name: str) -> bool:
    return not learns(name)


WHAT_LEARNS = Exercise(
    reference=learns,
    cases=name_cases,
    mistakes=(
        Mistake(
            everything,
            "Everything learns. Then the decoder changes too, and with it what it answers where there is no picture.",
        ),
        Mistake(nothing, "Nothing learns: the gates stay at 0, and the pictures are never seen."),
        Mistake(
            gates_only,
            "The gates alone learn. What they let through would stay random: the weights behind them must learn as well.",
        ),
        Mistake(
            gates_and_projector,
            "The gates and the projector learn, but not what is behind the gates: the attention of the gated blocks is new, and would stay "
            "random. The whole of cross_blocks learns.",
        ),
        Mistake(
            blocks_without_gates,
            "The gates are missing. They begin at 0, and there they would stay: whatever the rest of the blocks learned, nothing would "
            "ever be seen, and nothing would pull at it either.",
            also=(
                blocks_without_all_gates,
                blocks_without_gates_or_projector,
                matrices_alone,
                attention_gates_forgotten,
                mlp_gates_forgotten,
            ),
        ),
        Mistake(
            blocks_without_norms,
            "The norms of the gated blocks are missing. They are as new as the rest of them: the whole of cross_blocks learns.",
            also=(blocks_without_norms_or_projector, blocks_without_two_norms, blocks_without_head_norms),
        ),
        Mistake(
            all_that_says_gate,
            "'gate' is also what one of the three layers of every SwiGLU is called, those of the decoder among them. Go by what the name "
            "begins with.",
        ),
        Mistake(
            without_the_projector,
            "The projector is missing. It is new and random, like the gated blocks, and what they look at comes from it.",
        ),
        Mistake(
            without_the_blocks,
            "Only the projector learns. Behind gates that stay at 0, nothing of it would be seen.",
        ),
        Mistake(
            all_blocks,
            "'blocks' is in the names of the encoder and of the decoder as well: vision.blocks, language_model.blocks. Yours are "
            "cross_blocks.",
        ),
        Mistake(
            all_attention,
            "'attention' is in the names of the encoder and of the decoder as well. Go by what the name begins with.",
        ),
        Mistake(
            encoder_too,
            "The image encoder learns too. (Llama 3.2 did so; here it has been trained as a part of CLIP and stays as it is.)",
        ),
        Mistake(
            decoder_too,
            "The decoder learns too: what it answers without pictures then changes, and a later training on pictures can spoil it.",
        ),
        Mistake(the_other_way_round, "The wrong way round: you let what was trained learn, and freeze what is new."),
    ),
    afterthought="Something to think of: why do text-only answers stay the same to the last bit, although the gates have opened?",
)

EXERCISES = {"gated_block": GATED_BLOCK, "keep_pictures": KEEP_PICTURES, "what_learns": WHAT_LEARNS}
