"""Exercises of lesson 10: how many parameters a config describes, a weight's name in a file, rotary positions as Meta stores them."""

import re
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from minimllm.models.language_model import WEIGHT_NAMES
from minimllm.models.llama_vision.meta import halves
from minimllm.weights.pretrained import file_names

from . import Exercise, Mistake

# ---- parameters from a config -----------------------------------------------------------------------------------------


def config_cases() -> list[tuple[dict[str, Any]]]:
    small = dict(hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, vocab_size=120)
    grouped = dict(num_key_value_heads=2, head_dim=24, tie_word_embeddings=True)
    return [
        (small | grouped,),
        (small | grouped | dict(tie_word_embeddings=False, num_key_value_heads=4),),
        (small | grouped | dict(head_dim=48, num_key_value_heads=1, num_hidden_layers=5),),
    ]


def _count(
    config: dict[str, Any], *, gate: int = 1, grouped: bool = True, norms: int = 2, last: int = 1, tied: bool = True, wide: bool = True
) -> int:
    dim, heads, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    head_dim = config["head_dim"] if wide else dim // heads
    query, key = heads * head_dim, (config["num_key_value_heads"] if grouped else heads) * head_dim
    block = 2 * dim * query + 2 * dim * key + (2 + gate) * dim * config["intermediate_size"] + norms * dim
    embedding = config["vocab_size"] * dim
    return layers * block + last * dim + embedding * (1 if tied and config["tie_word_embeddings"] else 2)


def llama_parameters(config: dict[str, Any]) -> int:
    return _count(config)


def every_head_its_key(config: dict[str, Any]) -> int:
    return _count(config, grouped=False)


def two_matrices_in_the_mlp(config: dict[str, Any]) -> int:
    return _count(config, gate=0)


def tied_counted_twice(config: dict[str, Any]) -> int:
    return _count(config, tied=False)


def no_norms(config: dict[str, Any]) -> int:
    return _count(config, norms=0, last=0)


def last_norm_forgotten(config: dict[str, Any]) -> int:
    return _count(config, last=0)


def one_norm_per_block(config: dict[str, Any]) -> int:
    return _count(config, norms=1)


def four_squares(config: dict[str, Any]) -> int:
    return _count(config, wide=False, grouped=False)


def tie_inverted(config: dict[str, Any]) -> int:
    return _count(config | dict(tie_word_embeddings=not config["tie_word_embeddings"]))


def output_forgotten(config: dict[str, Any]) -> int:
    return _count(config | dict(tie_word_embeddings=True))


def head_dim_computed(config: dict[str, Any]) -> int:
    return _count(config, wide=False)


def one_block(config: dict[str, Any]) -> int:
    return _count(config | dict(num_hidden_layers=1))


LLAMA_PARAMETERS = Exercise(
    reference=llama_parameters,
    cases=config_cases,
    mistakes=(
        Mistake(
            every_head_its_key,
            "Keys and values are counted as many as queries. num_key_value_heads says how many there are: their two matrices map "
            "hidden_size to num_key_value_heads * head_dim.",
        ),
        Mistake(two_matrices_in_the_mlp, "The MLP has three matrices, not two: SwiGLU has a gate (lesson 05)."),
        Mistake(
            tied_counted_twice,
            "With tie_word_embeddings the output layer is the embedding table itself: one matrix, counted once.",
        ),
        Mistake(
            tie_inverted,
            "The tie is read the wrong way round: with tie_word_embeddings there is one table, without it there are two.",
        ),
        Mistake(output_forgotten, "Without tie_word_embeddings the output layer is a matrix of its own, as large as the embedding table."),
        Mistake(
            four_squares,
            "The attention is counted as four square matrices of hidden_size. Query and output are hidden_size by num_attention_heads * "
            "head_dim, key and value hidden_size by num_key_value_heads * head_dim.",
        ),
        Mistake(one_norm_per_block, "A block has two norms, one before the attention and one before the MLP."),
        Mistake(no_norms, "The norms are missing: two in each block and one behind the last, hidden_size numbers each."),
        Mistake(last_norm_forgotten, "Nearly: behind the last block stands one more norm."),
        Mistake(
            head_dim_computed,
            "head_dim is taken as hidden_size / num_attention_heads. Where a config gives head_dim, that counts: the heads together may "
            "be wider than the stream.",
        ),
        Mistake(one_block, "The blocks are counted once; there are num_hidden_layers of them."),
    ),
    afterthought="Something to think of: in which of the parts would you look first, if a model had to become half as large?",
)

# ---- the name of a weight in a file -----------------------------------------------------------------------------------

TABLE = {name: templates[0] for name, templates in WEIGHT_NAMES.items()}


def name_cases() -> list[tuple[str, dict[str, str]]]:
    names = ["tokens.weight", "blocks.0.attention.query.weight", "blocks.12.mlp_norm.weight", "blocks.7.mlp.up.weight", "norm.weight"]
    other = {"blocks.{i}.mlp.up": "h.{i}.c_fc", "norm": "ln_f"}
    return [(name, TABLE) for name in names] + [("blocks.12.mlp.up.bias", other), ("norm.bias", other)]


def name_in_file(name: str, table: dict[str, str]) -> str:
    return file_names(name, {ours: (theirs,) for ours, theirs in table.items()})[0]


def _look_up(name: str, table: dict[str, str], number: str, suffix: str) -> str:
    stem = re.sub(r"\.\d+\.", ".{i}.", name.rpartition(".")[0])
    return table[stem].replace("{i}", number) + suffix


def _number(name: str) -> str:
    return next(iter(re.findall(r"\.(\d+)\.", name)), "")


def suffix_forgotten(name: str, table: dict[str, str]) -> str:
    return _look_up(name, table, _number(name), "")


def always_weight(name: str, table: dict[str, str]) -> str:
    return _look_up(name, table, _number(name), ".weight")


def number_not_filled_in(name: str, table: dict[str, str]) -> str:
    return _look_up(name, table, "{i}", name[name.rindex(".") :])


def one_digit(name: str, table: dict[str, str]) -> str:
    return _look_up(name, table, _number(name)[-1:], name[name.rindex(".") :])


def replaced_anywhere(name: str, table: dict[str, str]) -> str:
    number = _number(name)
    result = re.sub(r"\.\d+\.", ".{i}.", name)
    for ours, theirs in sorted(table.items(), key=lambda pair: len(pair[0])):
        result = result.replace(ours, theirs)
    return result.replace("{i}", number)


NAME_IN_FILE = Exercise(
    reference=name_in_file,
    cases=name_cases,
    mistakes=(
        Mistake(suffix_forgotten, "The table names modules; a file names their tensors. What stands behind the last dot comes along."),
        Mistake(always_weight, "Not every tensor is a .weight: there are biases. What stands behind the last dot comes along as it is."),
        Mistake(number_not_filled_in, "The number of the layer still stands as {i}: put the one that the name had there."),
        Mistake(one_digit, "A layer's number may have two digits: block 12 became another block."),
        Mistake(
            replaced_anywhere,
            "Short entries are replaced inside longer names: 'norm' is also the end of 'attention_norm'. Look the whole module up, with "
            "{i} for the number, instead of replacing pieces.",
        ),
    ),
    afterthought=(
        "Something to think of: the same table, read from right to left, writes the file. What must hold of a table so that this works?"
    ),
)

# ---- rotary positions as Meta stores them -----------------------------------------------------------------------------


def rotary_cases() -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(10)
    return [(torch.randn(heads * head_dim, dim, generator=generator), heads) for heads, head_dim, dim in ((2, 8, 6), (3, 4, 12), (1, 6, 5))]


def not_moved(weight: Tensor, heads: int) -> Tensor:
    return weight.clone()


def back_to_meta(weight: Tensor, heads: int) -> Tensor:
    return rearrange(weight, "(heads two pair) dim -> (heads pair two) dim", heads=heads, two=2)


def heads_forgotten(weight: Tensor, heads: int) -> Tensor:
    return rearrange(weight, "(pair two) dim -> (two pair) dim", two=2)


def heads_behind(weight: Tensor, heads: int) -> Tensor:
    return rearrange(weight, "(pair two heads) dim -> (two pair heads) dim", heads=heads, two=2)


def columns_moved(weight: Tensor, heads: int) -> Tensor:
    pairs = torch.arange(weight.shape[1])
    return weight[:, torch.cat([pairs[0::2], pairs[1::2]])]


def second_first(weight: Tensor, heads: int) -> Tensor:
    return halves(rearrange(weight, "(n two) dim -> n two dim", two=2).flip(1).flatten(0, 1), heads)


ROTARY_ROWS = Exercise(
    reference=halves,
    cases=rotary_cases,
    mistakes=(
        Mistake(not_moved, "The rows are as before: the model would turn number 0 together with the wrong partner."),
        Mistake(back_to_meta, "This is the way back, from halves to neighbours. Of each head: first all even rows, then all odd ones."),
        Mistake(heads_forgotten, "The rows are sorted over all heads at once, so that heads get mixed. Sort inside each head."),
        Mistake(heads_behind, "The heads are blocks of rows, one after another: in the pattern, heads comes first."),
        Mistake(columns_moved, "The columns are moved. They are what comes in; the rows are the numbers of the query, which are turned."),
        Mistake(second_first, "The odd rows come first. A pair keeps its order: even before odd, or the angle changes its sign."),
    ),
    afterthought="Something to think of: why need the rows of the values, and those of the output's columns, not be moved?",
)

EXERCISES = {"llama_parameters": LLAMA_PARAMETERS, "name_in_file": NAME_IN_FILE, "rotary_rows": ROTARY_ROWS}
