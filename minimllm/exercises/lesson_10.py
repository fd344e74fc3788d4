"""Exercises of lesson 10: parameters of a config, a block of four bits, the order of rows in llama.cpp, drawing the next token."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from minimllm.inference.generation import next_probabilities
from minimllm.weights.gguf import dequantise_q4_1
from minimllm.weights.gguf_llama import undo_permutation

from . import Exercise, Wrong

# ---- parameters from a config -----------------------------------------------------------------------------------------


def config_cases() -> list[tuple[dict[str, Any]]]:
    small = dict(hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, vocab_size=120)
    grouped = dict(num_key_value_heads=2, head_dim=24, tie_word_embeddings=True)
    return [
        (small | grouped,),
        (small | grouped | dict(tie_word_embeddings=False, num_key_value_heads=4),),
        (small | grouped | dict(head_dim=48, num_key_value_heads=1, num_hidden_layers=5),),
    ]


def llama_parameters(
    config: dict[str, Any], *, gate: int = 1, grouped: bool = True, norms: int = 2, last: int = 1, tied: bool = True, wide: bool = True
) -> int:
    """The parameters of a Llama by its config, with what people get wrong as options; without them it is right."""
    dim, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    head_dim = config["head_dim"] if wide else dim // heads
    query, key = heads * head_dim, (config["num_key_value_heads"] if grouped else heads) * head_dim
    block = 2 * dim * query + 2 * dim * key + (2 + gate) * dim * config["intermediate_size"] + norms * dim
    embedding = config["vocab_size"] * dim
    return layers * block + last * dim + embedding * (1 if tied and config["tie_word_embeddings"] else 2)


LLAMA_PARAMETERS = Exercise(
    reference=llama_parameters,
    cases=config_cases,
    mistakes=dict(
        every_head_its_key=Wrong(partial(llama_parameters, grouped=False)).hint("""
            Keys and values are counted as many as queries. num_key_value_heads says how many there are: their two matrices map hidden_size
            to num_key_value_heads * head_dim."""),
        two_matrices_in_the_mlp=Wrong(partial(llama_parameters, gate=0)).hint("""
            The MLP has three matrices, not two: SwiGLU has a gate (lesson 05)."""),
        tied_counted_twice=Wrong(partial(llama_parameters, tied=False)).hint("""
            With tie_word_embeddings the output layer is the embedding table itself: one matrix, counted once."""),
        tie_inverted=Wrong(lambda config: llama_parameters(config | dict(tie_word_embeddings=not config["tie_word_embeddings"]))).hint("""
            The tie is read the wrong way round: with tie_word_embeddings there is one table, without it there are two."""),
        output_forgotten=Wrong(lambda again, config: again(config=config | dict(tie_word_embeddings=True))).hint("""
            Without tie_word_embeddings the output layer is a matrix of its own, as large as the embedding table."""),
        four_squares=Wrong(partial(llama_parameters, wide=False, grouped=False)).hint("""
            The attention is counted as four square matrices of hidden_size. Query and output are hidden_size by num_attention_heads *
            head_dim, key and value hidden_size by num_key_value_heads * head_dim."""),
        one_norm_per_block=Wrong(partial(llama_parameters, norms=1)).hint("""
            A block has two norms, one before the attention and one before the MLP."""),
        no_norms=Wrong(partial(llama_parameters, norms=0, last=0)).hint("""
            The norms are missing: two in each block and one behind the last, hidden_size numbers each."""),
        last_norm_forgotten=Wrong(partial(llama_parameters, last=0)).hint("Nearly: behind the last block stands one more norm."),
        head_dim_computed=Wrong(partial(llama_parameters, wide=False)).hint("""
            head_dim is taken as hidden_size / num_attention_heads. Where a config gives head_dim, that counts: the heads together may be
            wider than the stream."""),
        one_block=Wrong(lambda again, config: again(config=config | dict(num_hidden_layers=1))).hint("""
            The blocks are counted once; there are num_hidden_layers of them."""),
    ),
    afterthought="Something to think of: in which of the parts would you look first, if a model had to become half as large?",
)

# ---- a block of four bits ---------------------------------------------------------------------------------------------
# dequantise_block(block) -> 32 numbers in float32, of a uint8 tensor of 20 bytes, a block of GGUF's type Q4_1: scale and minimum in
# float16 (the least significant byte first), then 16 bytes with two numbers from 0 to 15 each; scale * number + minimum.


def block_cases() -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(41)

    def case(scale: float, minimum: float) -> tuple[Tensor]:
        head = torch.tensor([scale, minimum], dtype=torch.float16).view(torch.uint8)
        return (torch.cat([head, torch.randint(256, (16,), dtype=torch.uint8, generator=generator)]),)

    return [case(0.0312, -0.245), case(1.5, -11.0), case(0.25, 0.75), case(0.0, -0.5)]


def dequantise_block(block: Tensor) -> Tensor:
    return dequantise_q4_1(bytes(block.tolist()))


def dequantised(
    block: Tensor,
    *,
    head: Callable[[Tensor], Tensor] = lambda four: four.view(torch.float16),
    order: Callable[[Tensor, Tensor], Tensor] = lambda low, high: torch.cat([low, high]),
    number: Callable[[Tensor], Tensor] = lambda number: number.float(),
    put: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda scale, minimum, number: scale * number + minimum,
) -> Tensor:
    """The numbers of a block, with what people get wrong as options."""
    scale, minimum = head(block[:4].clone()).float()
    return put(scale, minimum, number(order(block[4:] & 15, block[4:] >> 4)))


DEQUANTISE_BLOCK = Exercise(
    reference=dequantise_block,
    cases=block_cases,
    mistakes=dict(
        neighbours=Wrong(
            partial(dequantised, order=lambda low, high: torch.stack([low, high], dim=-1).flatten()),
            neighbours_high_first=partial(dequantised, order=lambda low, high: torch.stack([high, low], dim=-1).flatten()),
        ).hint("""You take both halves of a byte one after the other, as neighbours. The lower halves of all 16 bytes are numbers 0 to 15,
            the upper halves numbers 16 to 31: torch.cat([low, high])."""),
        high_first=Wrong(partial(dequantised, order=lambda low, high: torch.cat([high, low]))).hint("""
            The halves of the bytes are exchanged. The lower four bits (byte & 15) are numbers 0 to 15, the upper four (byte >> 4) numbers
            16 to 31."""),
        not_shifted=Wrong(partial(dequantised, order=lambda low, high: torch.cat([low, high * 16]))).hint("""
            The upper four bits are cut out but not moved down, so they count 16 times as much: byte >> 4."""),
        one_number_a_byte=Wrong(partial(dequantised, order=lambda low, high: high * 16 + low)).hint("""
            You take each byte as one number, from 0 to 255. It holds two, of four bits each: byte & 15 and byte >> 4."""),
        signed=Wrong(
            partial(dequantised, number=lambda number: number.float() - 8),
            signed_as_in_c=partial(dequantised, number=lambda number: torch.where(number > 7, number.float() - 16, number.float())),
        ).hint("""You subtract 8, so that the numbers run from -8 to 7. That is type Q4_0, which has a scale alone; here they run from 0 to
            15, and the minimum says where they begin."""),
        minimum_forgotten=Wrong(partial(dequantised, put=lambda scale, minimum, number: scale * number)).hint("""
            The minimum is missing: without it no number of the block is negative. It is added after the scale has multiplied."""),
        minimum_subtracted=Wrong(partial(dequantised, put=lambda scale, minimum, number: scale * number - minimum)).hint("""
            The minimum is subtracted. In Q4_1 it is stored with its own sign, mostly negative, and added."""),
        minimum_scaled=Wrong(partial(dequantised, put=lambda scale, minimum, number: scale * (number + minimum))).hint("""
            The minimum is multiplied by the scale. It is already one of the weights, the smallest: scale * number + minimum."""),
        exchanged=Wrong(partial(dequantised, put=lambda scale, minimum, number: minimum * number + scale)).hint("""
            Scale and minimum are exchanged: the scale is in bytes 0 and 1, the minimum in bytes 2 and 3."""),
        byte_order=Wrong(partial(dequantised, head=lambda four: four.view(2, 2).flip(1).flatten().view(torch.float16))).hint("""
            Scale and minimum are read with the most significant byte first, which makes other numbers of them. GGUF writes the least
            significant first ('<' for struct), which is also how tensor.view(torch.float16) reads on today's machines."""),
        brain_float=Wrong(partial(dequantised, head=lambda four: four.view(torch.bfloat16))).hint("""
            Scale and minimum are read as bfloat16. Both types have two bytes, and share them out otherwise: here it is float16."""),
        bytes_as_numbers=Wrong(partial(dequantised, head=lambda four: four[::2])).hint("""
            block[0] and block[2] are taken as scale and minimum, single bytes from 0 to 255. Two bytes are one float16:
            block[:4].view(torch.float16) makes two numbers of the four."""),
        in_half_precision=Wrong(
            partial(dequantised, put=lambda scale, minimum, number: scale.half() * number.byte() + minimum.half())
        ).hint("""The result is float16. Only scale and minimum are stored so: make them float32 first (.float()), so that nothing is
            rounded."""),
    ),
    afterthought="Something to think of: 20 bytes for 32 weights are how many bits a weight? And if a block had 64?",
)

# ---- llama.cpp's order of rows ----------------------------------------------------------------------------------------
# undo_permutation(rows, heads) -> the rows (heads * head_dim, width) of a query or key projection, in the order of transformers.
# llama.cpp has neighbours paired, rows 2i and 2i + 1 of a head; transformers the first half of a head with its second half.


def permuted_rows() -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(42)
    return [
        (torch.randn(heads * head_dim, width, generator=generator), heads) for heads, head_dim, width in ((3, 8, 6), (2, 6, 9), (1, 10, 4))
    ]


UNDO_PERMUTATION = Exercise(
    reference=undo_permutation,
    cases=permuted_rows,
    mistakes=dict(
        not_moved=Wrong(lambda rows: rows.clone()).hint("""
            The rows are as before: the model would turn a number together with the wrong partner. (A reshape there and back moves nothing;
            between them, two axes change places.)"""),
        permuted_once_more=Wrong(
            lambda rows, heads: rearrange(rows, "(heads two pairs) width -> (heads pairs two) width", heads=heads, two=2)
        ).hint("""
            You permute once more instead of undoing it: this makes neighbours of halves, as llama.cpp's converter did. Here neighbours come
            in: view(heads, head_dim // 2, 2, width), and exchange the two axes in the middle."""),
        heads_ignored=Wrong(lambda again, rows: again(heads=1)).hint("""
            The rows are sorted over all heads at once, so that heads get mixed. Sort inside each head."""),
        heads_behind=Wrong(
            lambda rows, heads: rearrange(rows, "(pairs two heads) width -> (two pairs heads) width", heads=heads, two=2)
        ).hint("The heads are blocks of rows, one after another: in the reshape, heads comes first."),
        second_first=Wrong(
            lambda rows, heads: rearrange(rows.view(-1, 2, rows.shape[1]).flip(1), "(h p) two w -> (h two p) w", h=heads)
        ).hint("The odd rows come first. A pair keeps its order, even before odd, or the angle changes its sign."),
        columns_moved=Wrong(lambda rows: torch.cat([rows[:, 0::2], rows[:, 1::2]], dim=1)).hint("""
            The columns are moved. They are what comes in; the rows are the numbers of queries and keys, which are turned."""),
    ),
    afterthought="Something to think of: why do the rows of the values, and the columns of the output, stay where they are?",
)

# ---- what the next token is drawn from --------------------------------------------------------------------------------
# sample(logits, temperature, top_p) -> probabilities (vocab,) of logits (vocab,): the softmax of logits / temperature; of these, from
# the likeliest down, the fewest that hold top_p together (the one that crosses it included); the others 0, and all scaled to a sum of 1.


def logit_cases() -> list[tuple[Tensor, float, float]]:
    generator = torch.Generator().manual_seed(43)
    settings = (12, 0.6, 0.9), (30, 1.7, 0.75), (20, 1.0, 0.5), (8, 2.5, 1.0), (6, 0.2, 0.3)
    return [(2 * torch.randn(size, generator=generator) - 1, temperature, top_p) for size, temperature, top_p in settings]


def sample(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    return next_probabilities(logits[None], temperature, top_p=top_p)[0]


def nucleus(
    probabilities: Tensor,
    top_p: float,
    *,
    keep: Callable[[Tensor, Tensor, float], Tensor] = lambda up_to, own, top_p: up_to - own < top_p,
    back: Callable[[Tensor, Tensor], Tensor] = lambda kept, order: torch.zeros_like(kept).scatter(0, order, kept),
    total: float | None = None,
    descending: bool = True,
) -> Tensor:
    """The nucleus of a distribution, with what people get wrong as options."""
    own, order = probabilities.sort(descending=descending)
    kept = own * keep(own.cumsum(0), own, top_p)
    return back(kept / (total or kept.sum()), order)


def unsorted_nucleus(probabilities: Tensor, top_p: float, crossing: float = 1.0) -> Tensor:
    """The nucleus summed in the order of the vocabulary; ``crossing`` 1 keeps the token that crosses ``top_p``, 0 does not."""
    kept = probabilities * (probabilities.cumsum(0) - crossing * probabilities < top_p)
    return kept / kept.sum()


def _sampled(**options) -> Callable:
    return lambda logits, temperature, top_p: nucleus((logits / temperature).softmax(0), top_p, **options)


SAMPLE = Exercise(
    reference=sample,
    cases=logit_cases,
    mistakes=dict(
        temperature_multiplies=Wrong(lambda again, temperature: again(temperature=1 / temperature)).hint("""
            The temperature multiplies, so that a high one makes the model surer. It divides the logits: a low temperature sharpens."""),
        temperature_forgotten=Wrong(lambda again: again(temperature=1.0)).hint("""
            The temperature is not used: divide the logits by it before the softmax."""),
        probabilities_divided=Wrong(lambda logits, temperature, top_p: nucleus(logits.softmax(0) / temperature, top_p)).hint("""
            The temperature divides the probabilities, which scales all alike. It belongs to the logits, before the softmax."""),
        nucleus_forgotten=Wrong(lambda again: again(top_p=1.0)).hint("top_p is not used: every token keeps its share, however unlikely."),
        cut_too_early=Wrong(
            _sampled(keep=lambda up_to, own, top_p: up_to <= top_p),
            cut_too_early_but_for_the_first=_sampled(
                keep=lambda up_to, own, top_p: (up_to <= top_p) | (torch.arange(len(own)) == 0),
            ),
        ).hint("""
            The token that crosses top_p is cut off, so what is left holds less than top_p, and where the likeliest alone holds more,
            nothing is left at all. A token stays while those *before* it hold less: cumsum - probability < top_p."""),
        each_against_the_border=Wrong(_sampled(keep=lambda up_to, own, top_p: own >= top_p)).hint("""
            Each probability is compared with top_p by itself. It is their sum, from the likeliest down, that must reach top_p: cumsum."""),
        not_sorted=Wrong(
            lambda logits, temperature, top_p: unsorted_nucleus((logits / temperature).softmax(0), top_p),
            not_sorted_and_cut_too_early=lambda logits, temperature, top_p: unsorted_nucleus((logits / temperature).softmax(0), top_p, 0.0),
        ).hint("""
            The sum runs over the tokens in the order of their numbers, not from the likeliest down: sort with descending=True before the
            cumsum, and put the probabilities back afterwards."""),
        unlikely_kept=Wrong(_sampled(descending=False)).hint("""
            You begin with the least likely tokens, and cut off the likeliest: sort with descending=True."""),
        still_sorted=Wrong(_sampled(back=lambda kept, order: kept)).hint("""
            The probabilities are right, and sorted: number i is no longer that of token i. Put each back where it came from: result[order]
            = kept, or scatter."""),
        sorted_backwards=Wrong(_sampled(back=lambda kept, order: kept[order])).hint("""
            The probabilities are put back by kept[order], which sorts once more. order[i] says where the i-th came from: result[order] =
            kept."""),
        not_renormalised=Wrong(_sampled(total=1.0)).hint("""
            What is left does not sum to 1: divide by its sum (or take the softmax of the logits that are left)."""),
        nucleus_before_temperature=Wrong(
            lambda logits, temperature, top_p: (nucleus(logits.softmax(0), top_p).log() / temperature).softmax(0)
        ).hint("""The nucleus is chosen before the temperature has acted. First logits / temperature and the softmax; top_p counts those
            probabilities."""),
        zero_for_minus_infinity=Wrong(
            lambda logits, temperature, right: (logits / temperature).masked_fill(right == 0, 0.0).softmax(0)
        ).hint("The logits of the others are set to 0, a logit like any other. Set them to float('-inf'), or their probabilities to 0."),
    ),
    afterthought="Something to think of: which of the two, temperature or top_p, can keep the model from ever saying a certain word?",
)

EXERCISES = {
    "llama_parameters": LLAMA_PARAMETERS,
    "dequantise_block": DEQUANTISE_BLOCK,
    "undo_permutation": UNDO_PERMUTATION,
    "sample": SAMPLE,
}
