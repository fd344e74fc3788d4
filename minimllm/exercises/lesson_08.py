"""Exercises of lesson 08: what reading costs in both designs, what is kept, and the weights of a gated block."""

from collections.abc import Callable
from itertools import product

from minimllm.inspection.costs import Design
from minimllm.models.language_model_config import LanguageModelConfig

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
    unified_place: int = 0,
    projected: int = 1,
    twice_pairs: Callable[[int], int] = lambda tokens: 2 * tokens**2,
    asked: int = 2,
    thought: int = 3,
    word_keys: int = 0,
    looked: int = 2,
    looked_at_words: bool = False,
) -> Costs:
    """The same by hand, with what people get wrong as options.

    Products in attention, matrices of the MLP, the place of the picture in the text, how often it is projected, twice the
    pairs of self-attention; and in the gated blocks: the words' matrices of attention, of the MLP, and for keys and values, the products of
    looking, and whether the words are looked at as well.
    """
    block = dim * (2 * dim + 2 * kv_dim + matrices * mlp_dim)
    whole, words = image + text + unified_place, text + place
    unified = layers * (whole * block + products * dim * twice_pairs(whole) // 2)
    gated = words * dim * (asked * dim + word_keys * kv_dim + min(thought, matrices) * mlp_dim) + projected * image * 2 * dim * kv_dim
    gated += min(looked, products) * dim * words * (image + looked_at_words * words)
    return unified, layers * (words * block + products * dim * twice_pairs(words) // 2) + cross_layers * gated


def _misread(name: str, **options) -> Callable[..., Costs]:
    def function(image: int, text: int, dim: int, kv_dim: int, mlp_dim: int, layers: int, cross_layers: int) -> Costs:
        return _reading(image, text, dim, kv_dim, mlp_dim, layers, cross_layers, **options)

    function.__name__ = name
    return function


causal_half = _misread("causal_half", twice_pairs=lambda tokens: tokens**2)
causal_triangle = _misread("causal_triangle", twice_pairs=lambda tokens: tokens * (tokens + 1))
causal_below = _misread("causal_below", twice_pairs=lambda tokens: tokens * (tokens - 1))
causal_half_rounded = _misread("causal_half_rounded", twice_pairs=lambda tokens: tokens**2 // 2 * 2)
gated_words_forgotten = _misread("gated_words_forgotten", asked=0, thought=0)
gated_words_ask_only = _misread("gated_words_ask_only", thought=0)
gated_words_think_only = _misread("gated_words_think_only", asked=0)
gated_words_without_output = _misread("gated_words_without_output", asked=1)
looking_forgotten = _misread("looking_forgotten", looked=0)
looked_once = _misread("looked_once", looked=1)
words_given_keys = _misread("words_given_keys", word_keys=2)
words_given_keys_and_looked_at = _misread("words_given_keys_and_looked_at", word_keys=2, looked_at_words=True)
words_looked_at = _misread("words_looked_at", looked_at_words=True)
place_in_both = _misread("place_in_both", unified_place=1)
place_exchanged = _misread("place_exchanged", unified_place=1, place=0)


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
        Mistake(
            causal_half,
            "You counted half of the pairs in self-attention, as the causal mask allows. As we compute it, the other half is computed and "
            "thrown away: tokens² pairs.",
            also=(causal_triangle, causal_below, causal_half_rounded),
        ),
        Mistake(
            gated_words_forgotten,
            "What the words cost in the gated blocks is missing: each of the text + 1 tokens goes through the query's matrix and the "
            "output's there, and through SwiGLU.",
        ),
        Mistake(
            gated_words_ask_only,
            "In the gated blocks the words go through SwiGLU as well: three matrices of dim × mlp_dim. That is missing.",
        ),
        Mistake(
            gated_words_think_only,
            "In the gated blocks the words ask: the query's matrix and the output's, dim × dim each, are missing.",
        ),
        Mistake(
            gated_words_without_output,
            "In the gated blocks the words go through two matrices of dim × dim: the query's, and the output's behind the heads. You "
            "counted one.",
        ),
        Mistake(
            looking_forgotten,
            "The looking is missing: in every gated block each of the text + 1 tokens meets each image token, 2 · dim for every pair.",
        ),
        Mistake(
            looked_once,
            "In the gated blocks, too, each pair of a word and an image token is multiplied twice: for its score, and for its share of the "
            "result. You counted it once.",
        ),
        Mistake(
            words_given_keys,
            "In the gated blocks the words get no keys and values: they only ask, and nobody looks at them there. These two matrices are "
            "for the image tokens.",
        ),
        Mistake(
            words_looked_at,
            "In the gated blocks the words look at the image tokens alone, not at each other: (text + 1) · image pairs.",
            also=(words_given_keys_and_looked_at,),
        ),
        Mistake(
            place_in_both,
            "The unified design reads image + text tokens. The one token more, which stands for the picture, is in the text of the design "
            "with cross-attention alone.",
        ),
        Mistake(
            place_exchanged,
            "The token that stands for the picture is on the wrong side: image + text tokens in the unified design, text + 1 in the text "
            "with cross-attention.",
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


def everything_everywhere(image, text, kv_dim, layers, cross_layers, size):
    return kept(image, text, kv_dim, layers, cross_layers, size)[0], 2 * (layers + cross_layers) * (image + text + 1) * kv_dim * size


def everything_everywhere_without_place(image, text, kv_dim, layers, cross_layers, size):
    return kept(image, text, kv_dim, layers, cross_layers, size)[0], 2 * (layers + cross_layers) * (image + text) * kv_dim * size


def everything_everywhere_in_both(image, text, kv_dim, layers, cross_layers, size):
    both = 2 * (layers + cross_layers) * kv_dim * size
    return both * (image + text), both * (image + text + 1)


def kept_in_the_text_as_well(image, text, kv_dim, layers, cross_layers, size):
    unified, cross = kept(image, text, kv_dim, layers, cross_layers, size)
    return unified, cross + 2 * layers * image * kv_dim * size


def kept_in_the_text_without_place(image, text, kv_dim, layers, cross_layers, size):
    unified, cross = kept(image, text, kv_dim, layers, cross_layers, size)
    return unified, cross + 2 * layers * (image - 1) * kv_dim * size


def kept_place_in_both(image, text, kv_dim, layers, cross_layers, size):
    unified, cross = kept(image, text, kv_dim, layers, cross_layers, size)
    return unified + 2 * layers * kv_dim * size, cross


def kept_place_exchanged(image, text, kv_dim, layers, cross_layers, size):
    unified, cross = kept(image, text, kv_dim, layers, cross_layers, size)
    return unified + 2 * layers * kv_dim * size, cross - 2 * layers * kv_dim * size


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
        Mistake(
            everything_everywhere,
            "You keep all tokens in all layers + cross_layers blocks. With cross-attention each kind is kept where it is looked at: the "
            "text + 1 tokens in the decoder's layers, the image tokens in the cross_layers gated blocks.",
            also=(everything_everywhere_without_place, everything_everywhere_in_both),
        ),
        Mistake(
            kept_in_the_text_as_well,
            "With cross-attention, the decoder's own blocks never see the image tokens, and keep nothing of them: text + 1 tokens there.",
            also=(kept_in_the_text_without_place,),
        ),
        Mistake(
            kept_place_in_both,
            "The unified design keeps image + text tokens. The one token more, which stands for the picture, is in the text of the design "
            "with cross-attention alone.",
        ),
        Mistake(
            kept_place_exchanged,
            "The token that stands for the picture is on the wrong side: image + text tokens in the unified design, text + 1 in the text "
            "with cross-attention.",
        ),
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


def one_norm(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - dim


def one_head_norm(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - head_dim


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


def attention_half(dim, kv_dim, head_dim, mlp_dim):
    return 2 * dim * dim + 2 * dim * kv_dim + 2 * head_dim + dim + 1


def attention_matrices(dim, kv_dim, head_dim, mlp_dim):
    return 2 * dim * dim + 2 * dim * kv_dim


def attention_and_head_norms(dim, kv_dim, head_dim, mlp_dim):
    return attention_matrices(dim, kv_dim, head_dim, mlp_dim) + 2 * head_dim


def attention_and_norm(dim, kv_dim, head_dim, mlp_dim):
    return attention_matrices(dim, kv_dim, head_dim, mlp_dim) + dim


def attention_norm_and_gate(dim, kv_dim, head_dim, mlp_dim):
    return attention_matrices(dim, kv_dim, head_dim, mlp_dim) + dim + 1


def attention_with_all_norms(dim, kv_dim, head_dim, mlp_dim):
    return attention_matrices(dim, kv_dim, head_dim, mlp_dim) + 2 * head_dim + dim


def no_mlp(dim, kv_dim, head_dim, mlp_dim):
    return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - 3 * dim * mlp_dim


def _several_missing() -> list[Mistake]:
    """Of the small parts, several left out at once: gates, norms, norms of the heads. One hint each, put together."""
    gate_hints = "", "one of the two gates, a single number", "the two gates, a single number each"
    norm_hints = (
        "",
        "one of the two RMS norms before attention and MLP, dim numbers",
        "the two RMS norms before attention and MLP, dim each",
    )
    head_hints = "", "one of the norms on queries and keys, head_dim numbers", "the norms on queries and keys, head_dim numbers each"

    def mistake(gates: int, norms: int, head_norms: int) -> Mistake:
        def function(dim: int, kv_dim: int, head_dim: int, mlp_dim: int) -> int:
            return gated_parameters(dim, kv_dim, head_dim, mlp_dim) - gates - norms * dim - head_norms * head_dim

        function.__name__ = f"without_{gates}_gates_{norms}_norms_{head_norms}_head_norms"
        hints = [hint for hint in (gate_hints[gates], norm_hints[norms], head_hints[head_norms]) if hint]
        return Mistake(function, f"Small parts are missing: {'; and '.join(hints)}.")

    return [mistake(*missing) for missing in product(range(3), repeat=3) if sum(map(bool, missing)) > 1]


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
        Mistake(one_norm, "An RMS norm is missing: there are two, before attention and before the MLP, of dim numbers each."),
        Mistake(one_head_norm, "A norm is missing: queries have one and keys have one, of head_dim numbers each."),
        *_several_missing(),
        Mistake(
            attention_half,
            "That is the attention alone. In this block, as in Llama 3.2 Vision, a second half follows: an RMS norm, SwiGLU, and its gate.",
            also=(attention_matrices, attention_and_head_norms, attention_and_norm, attention_norm_and_gate, attention_with_all_norms),
        ),
        Mistake(no_mlp, "The three matrices of SwiGLU are missing: gate, up and down, dim × mlp_dim each."),
        Mistake(norms_of_all_heads, "The norms of queries and keys are shared by all heads: head_dim numbers each."),
        Mistake(wide_keys, "Keys and values are kv_dim wide, so two of the four matrices are dim × kv_dim."),
        Mistake(plain_mlp, "The MLP of Llama, SwiGLU, has three matrices: gate, up and down."),
        Mistake(with_biases, "These layers have no biases."),
        Mistake(no_output, "Attention has four matrices; the one behind the heads, the output's, is missing."),
    ),
    afterthought="Something to think of: how many gated blocks make as many weights as a linear projector from 1024 to 4096?",
)

EXERCISES = {"reading_cost": READING, "kept_bytes": KEPT, "gated_parameters": PARAMETERS}
