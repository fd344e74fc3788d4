"""Exercises of lesson 08: what reading costs in both designs, what is kept, and the weights of a gated block."""

from ..costs import Design
from ..language_model_config import LanguageModelConfig
from . import Exercise, Mistake


def _designs(dim: int, kv_dim: int, mlp_dim: int, layers: int, cross_layers: int) -> tuple[Design, Design]:
    """Both designs of these widths; into how many heads they are divided makes no difference here."""
    language = LanguageModelConfig(1, dim, layers, dim // 2, mlp_dim, key_value_heads=kv_dim // 2, head_dim=2)
    return Design(language), Design(language, cross_layers)


# ---- reading a picture and a text --------------------------------------------------------------------------------------

Costs = tuple[int, int]


def reading_cases() -> list[tuple[int, ...]]:
    return [(16, 9, 8, 4, 20, 3, 2), (3, 40, 12, 12, 32, 4, 1), (256, 30, 64, 16, 160, 8, 2)]


def reading(image: int, text: int, dim: int, kv_dim: int, mlp_dim: int, layers: int, cross_layers: int) -> Costs:
    unified, cross = _designs(dim, kv_dim, mlp_dim, layers, cross_layers)
    return unified.multiply_adds(image, text).total, cross.multiply_adds(image, text).total


def _reading(
    image: int,
    text: int,
    dim: int,
    kv_dim: int,
    mlp_dim: int,
    layers: int,
    cross_layers: int,
    *,
    products: int = 2,
    matrices: int = 3,
    place: int = 1,
    projected: int = 1,
) -> Costs:
    """The same by hand, with what people get wrong as options: products in attention, matrices of the MLP, the place of the picture."""
    block, square = dim * (2 * dim + 2 * kv_dim + matrices * mlp_dim), products * dim
    whole, words = image + text, text + place
    unified = layers * (whole * block + square * whole**2)
    gated = words * dim * (2 * dim + matrices * mlp_dim) + projected * image * 2 * dim * kv_dim + square * words * image
    return unified, layers * (words * block + square * words**2) + cross_layers * gated


def scores_alone(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    return _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers, products=1)


def two_matrices(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    return _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers, matrices=2)


def no_place(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    return _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers, place=0)


def not_projected(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    return _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers, projected=0)


def projected_for_each_word(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    return _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers, projected=text + 1)


def all_heads(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    return _reading(image, text, dim, dim, mlp_dim, layers, cross_layers)


def at_every_block(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    return _reading(image, text, dim, kv_dim, mlp_dim, layers, layers)


def not_squared(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    unified, cross = _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers)
    whole, words = image + text, text + 1
    return unified - layers * 2 * dim * (whole**2 - whole), cross - layers * 2 * dim * (words**2 - words)


def pictures_asked_too(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    unified, cross = _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers)
    return unified, cross + cross_layers * image * dim * (2 * dim + 3 * mlp_dim)


def in_the_text_as_well(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    unified, cross = _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers)
    gated = cross - _reading(image, text, dim, kv_dim, mlp_dim, layers, 0)[1]
    return unified, unified + gated


def words_through_the_blocks(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    unified, cross = _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers)
    return unified - layers * image * dim * (2 * dim + 2 * kv_dim + 3 * mlp_dim), cross


def operations(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    unified, cross = _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers)
    return 2 * unified, 2 * cross


def exchanged(image, text, dim, kv_dim, mlp_dim, layers, cross_layers):
    return _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers)[::-1]


READING = Exercise(
    reference=reading,
    cases=reading_cases,
    mistakes=(
        Mistake(scores_alone, "Each pair of a query and a key is multiplied twice: for its score, and for its share of the result."),
        Mistake(two_matrices, "The MLP of Llama, SwiGLU, has three matrices: gate, up and down."),
        Mistake(
            no_place, "With cross-attention, text + 1 tokens stand in the text: one of them stands for the picture and is read like a word."
        ),
        Mistake(
            not_projected,
            "In every gated block, each image token becomes a key and a value: two matrices of dim × kv_dim. That is missing.",
        ),
        Mistake(
            projected_for_each_word,
            "Keys and values of the picture are computed once in a gated block, not once for each word that looks at them.",
        ),
        Mistake(all_heads, "Keys and values are kv_dim wide, not dim: heads share them. So two of the four matrices are narrower."),
        Mistake(at_every_block, "There are cross_layers gated blocks, not one for each of the decoder's blocks."),
        Mistake(not_squared, "In self-attention every token looks at every token: tokens² pairs. You counted each token once."),
        Mistake(
            pictures_asked_too,
            "In a gated block the image tokens are only looked at. They ask nothing, and do not go through its MLP: no query, no output, "
            "no SwiGLU for them.",
        ),
        Mistake(
            in_the_text_as_well,
            "With cross-attention, the decoder's own blocks never see the image tokens. They read text + 1 tokens.",
        ),
        Mistake(
            words_through_the_blocks,
            "In the unified design the image tokens go through everything that words go through, all matrices of all blocks.",
        ),
        Mistake(operations, "Asked for are multiply-adds. Counted as two floating-point operations each, it would be twice as many."),
        Mistake(exchanged, "The two results are in the wrong order: the unified design comes first."),
    ),
    afterthought="Something to think of: at how many image tokens does the picture cost the unified design more than the words?",
)

# ---- what is kept ------------------------------------------------------------------------------------------------------


def keeping_cases() -> list[tuple[int, ...]]:
    return [(16, 9, 8, 3, 2, 4), (576, 64, 1024, 32, 8, 2)]


def kept(image: int, text: int, kv_dim: int, layers: int, cross_layers: int, size: int) -> Costs:
    unified, cross = _designs(kv_dim, kv_dim, 1, layers, cross_layers)
    return unified.cache_bytes(image, text, size), cross.cache_bytes(image, text, size)


def keys_alone(image, text, kv_dim, layers, cross_layers, size):
    unified, cross = kept(image, text, kv_dim, layers, cross_layers, size)
    return unified // 2, cross // 2


def numbers(image, text, kv_dim, layers, cross_layers, size):
    return kept(image, text, kv_dim, layers, cross_layers, 1)


def kept_in_all_blocks(image, text, kv_dim, layers, cross_layers, size):
    return kept(image, text, kv_dim, layers, layers, size)


def text_alone(image, text, kv_dim, layers, cross_layers, size):
    return kept(image, text, kv_dim, layers, cross_layers, size)[0], 2 * layers * (text + 1) * kv_dim * size


def words_in_gated_blocks(image, text, kv_dim, layers, cross_layers, size):
    unified, cross = kept(image, text, kv_dim, layers, cross_layers, size)
    return unified, cross + 2 * cross_layers * (text + 1) * kv_dim * size


def kept_without_place(image, text, kv_dim, layers, cross_layers, size):
    unified, cross = kept(image, text, kv_dim, layers, cross_layers, size)
    return unified, cross - 2 * layers * kv_dim * size


def for_each_word(image, text, kv_dim, layers, cross_layers, size):
    return kept(image, text, kv_dim, layers, cross_layers, size)[0], kept(image, text, kv_dim, layers, cross_layers * (text + 1), size)[1]


def kept_exchanged(image, text, kv_dim, layers, cross_layers, size):
    return kept(image, text, kv_dim, layers, cross_layers, size)[::-1]


KEPT = Exercise(
    reference=kept,
    cases=keeping_cases,
    mistakes=(
        Mistake(keys_alone, "Half of it: of every token a key *and* a value are kept."),
        Mistake(numbers, "These are numbers, not bytes: each takes `size` bytes."),
        Mistake(kept_in_all_blocks, "With cross-attention, only the gated blocks keep the picture: cross_layers of them, not layers."),
        Mistake(
            text_alone,
            "With cross-attention the picture is kept, too: its keys and values in every gated block. Without them each word would have to "
            "project it again.",
        ),
        Mistake(
            words_in_gated_blocks,
            "In the gated blocks the words only ask. Nothing of them is kept there, since nobody looks at them there.",
        ),
        Mistake(kept_without_place, "With cross-attention the picture has a token in the text, whose key and value are kept: text + 1."),
        Mistake(for_each_word, "The picture's keys and values are kept once, whatever the number of words."),
        Mistake(kept_exchanged, "The two results are in the wrong order: the unified design comes first."),
    ),
    afterthought="Something to think of: what happens to both numbers if every block has one key/value head alone?",
)

# ---- the weights of a gated block --------------------------------------------------------------------------------------


def parameter_cases() -> list[tuple[int, ...]]:
    return [(8, 4, 2, 20), (96, 48, 24, 256), (4096, 1024, 128, 14_336)]


def gated_parameters(dim: int, kv_dim: int, head_dim: int, mlp_dim: int) -> int:
    attention = 2 * dim * dim + 2 * dim * kv_dim + 2 * head_dim
    return attention + 3 * dim * mlp_dim + 2 * dim + 2


def without_gates(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - 2


def one_gate(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - 1


def gates_of_vectors(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) + 2 * dim - 2


def without_norms(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - 2 * dim


def without_head_norms(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - 2 * head_dim


def norms_of_all_heads(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) + dim + kv_dim - 2 * head_dim


def wide_keys(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, dim, head_dim, mlp_dim)


def plain_mlp(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - dim * mlp_dim


def with_biases(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) + 3 * dim + 2 * kv_dim + 2 * mlp_dim


def no_output(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - dim * dim


PARAMETERS = Exercise(
    reference=gated_parameters,
    cases=parameter_cases,
    mistakes=(
        Mistake(without_gates, "Two are missing: the gates. Each is a single number."),
        Mistake(one_gate, "One is missing: attention and MLP have a gate each."),
        Mistake(gates_of_vectors, "A gate is one number for the whole token, not one for each of its dim numbers."),
        Mistake(without_norms, "The two RMS norms before attention and MLP have a scale each, of dim numbers."),
        Mistake(
            without_head_norms, "Queries and keys are normalised, and each of these two norms has a learned scale, of head_dim numbers."
        ),
        Mistake(norms_of_all_heads, "The norms of queries and keys are shared by all heads: head_dim numbers each."),
        Mistake(wide_keys, "Keys and values are kv_dim wide, so two of the four matrices are dim × kv_dim."),
        Mistake(plain_mlp, "The MLP of Llama, SwiGLU, has three matrices: gate, up and down."),
        Mistake(with_biases, "These layers have no biases."),
        Mistake(no_output, "Attention has four matrices; the one behind the heads, the output's, is missing."),
    ),
    afterthought="Something to think of: how many gated blocks make as many weights as a linear projector from 1024 to 4096?",
)

EXERCISES = {"reading_cost": READING, "kept_bytes": KEPT, "gated_parameters": PARAMETERS}
