"""Exercises of lesson 08: what reading costs in both designs, what is kept, and the weights of a gated block."""

from collections.abc import Callable
from functools import partial
from itertools import product

from minimllm.inspection.costs import Design
from minimllm.models.language_model_config import LanguageModelConfig

from . import Exercise, Mistake, Wrong

Costs = tuple[int, int]


def designs(dim: int, kv_dim: int, mlp_dim: int, layers: int, cross_layers: int) -> tuple[Design, Design]:
    """Both designs of these widths; into how many heads they are divided makes no difference here."""
    language = LanguageModelConfig(1, dim, layers, dim // 2, mlp_dim, key_value_heads=kv_dim // 2, head_dim=2)
    return Design(language), Design(language, cross_layers)


def plus(costs: Costs, unified: int = 0, cross: int = 0) -> Costs:
    return costs[0] + unified, costs[1] + cross


# ---- reading a picture and a text --------------------------------------------------------------------------------------


def reading(image: int, text: int, dim: int, kv_dim: int, mlp_dim: int, layers: int, cross_layers: int) -> Costs:
    unified, cross = designs(dim, kv_dim, mlp_dim, layers, cross_layers)
    return unified.multiply_adds(image, text).total, cross.multiply_adds(image, text).total


def by_hand(
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
    pairs: Callable[[int], float] = lambda tokens: tokens**2,
    projected: int | None = 1,
    blocks_projected: int | None = None,
    asked: int = 2,
    thought: int = 3,
    word_keys: int = 0,
    looked: int = 2,
    looked_at_words: bool = False,
) -> Costs:
    """The same by hand, with what people get wrong as options.

    Products in attention, matrices of the MLP, the picture's places in the text of both designs, pairs of self-attention; and of the gated
    blocks: how often each projects the picture (``None``: for every word), how many do (``None``: all), the words' matrices of attention,
    of the MLP, and for keys and values, the products of looking, and whether the words are looked at as well.
    """
    block = dim * (2 * dim + 2 * kv_dim + matrices * mlp_dim)
    whole, words = image + text + unified_place, text + place
    unified = layers * (whole * block + products * dim * pairs(whole))
    gated = words * dim * (asked * dim + word_keys * kv_dim + min(thought, matrices) * mlp_dim)
    gated += min(looked, products) * dim * words * (image + looked_at_words * words)
    picture = (words if projected is None else projected) * image * 2 * dim * kv_dim
    cross = layers * (words * block + products * dim * pairs(words)) + cross_layers * gated
    return int(unified), int(cross + (cross_layers if blocks_projected is None else blocks_projected) * picture)


READING = Exercise(
    reference=reading,
    cases=lambda: [(16, 9, 8, 4, 20, 3, 2), (3, 40, 12, 12, 32, 4, 1), (256, 30, 64, 16, 160, 8, 2)],
    mistakes=dict(
        scores_alone=Wrong(partial(by_hand, products=1)).hint("""
            Each pair of a query and a key is multiplied twice: for its score, and for its share of the result."""),
        two_matrices=Wrong(partial(by_hand, matrices=2)).hint("The MLP of Llama, SwiGLU, has three matrices: gate, up and down."),
        no_place=Wrong(partial(by_hand, place=0)).hint("""
            With cross-attention, text + 1 tokens stand in the text: one of them stands for the picture and is read like a word."""),
        not_projected=Wrong(partial(by_hand, projected=0)).hint("""
            In every gated block, each image token becomes a key and a value: two matrices of dim × kv_dim. That is missing."""),
        projected_for_each_word=Wrong(partial(by_hand, projected=None)).hint("""
            Keys and values of the picture are computed once in a gated block, not once for each word that looks at them."""),
        all_heads=Wrong(lambda again, dim: again(kv_dim=dim)).hint("""
            Keys and values are kv_dim wide, not dim: heads share them. So two of the four matrices are narrower."""),
        at_every_block=Wrong(lambda again, layers: again(cross_layers=layers)).hint("""
            There are cross_layers gated blocks, not one for each of the decoder's blocks."""),
        not_squared=Wrong(partial(by_hand, pairs=lambda tokens: tokens)).hint("""
            In self-attention every token looks at every token: tokens² pairs. You counted each token once."""),
        pictures_asked_too=Wrong(
            lambda right, image, dim, mlp_dim, cross_layers: plus(right, cross=cross_layers * image * dim * (2 * dim + 3 * mlp_dim))
        ).hint("""In a gated block the image tokens are only looked at. They ask nothing, and do not go through its MLP: no query, no
            output, no SwiGLU for them."""),
        in_the_text_as_well=Wrong(lambda right, again: (right[0], right[0] + right[1] - again(image=1)[0])).hint("""
            With cross-attention, the decoder's own blocks never see the image tokens. They read text + 1 tokens."""),
        words_through_the_blocks=Wrong(
            lambda right, image, dim, kv_dim, mlp_dim, layers: plus(right, -layers * image * dim * (2 * dim + 2 * kv_dim + 3 * mlp_dim))
        ).hint("In the unified design the image tokens go through everything that words go through, all matrices of all blocks."),
        causal_half=Wrong(
            partial(by_hand, pairs=lambda tokens: tokens**2 / 2),
            causal_triangle=partial(by_hand, pairs=lambda tokens: tokens * (tokens + 1) / 2),
            causal_below=partial(by_hand, pairs=lambda tokens: tokens * (tokens - 1) / 2),
            causal_half_rounded=partial(by_hand, pairs=lambda tokens: tokens**2 // 2),
        ).hint("""You counted half of the pairs in self-attention, as the causal mask allows. As we compute it, the other half is computed
            and thrown away: tokens² pairs."""),
        gated_words_forgotten=Wrong(partial(by_hand, asked=0, thought=0)).hint("""
            What the words cost in the gated blocks is missing: each of the text + 1 tokens goes through the query's matrix and the output's
            there, and through SwiGLU."""),
        gated_words_ask_only=Wrong(partial(by_hand, thought=0)).hint("""
            In the gated blocks the words go through SwiGLU as well: three matrices of dim × mlp_dim. That is missing."""),
        gated_words_think_only=Wrong(partial(by_hand, asked=0)).hint("""
            In the gated blocks the words ask: the query's matrix and the output's, dim × dim each, are missing."""),
        gated_words_without_output=Wrong(partial(by_hand, asked=1)).hint("""
            In the gated blocks the words go through two matrices of dim × dim: the query's, and the output's behind the heads. You counted
            one."""),
        looking_forgotten=Wrong(partial(by_hand, looked=0)).hint("""
            The looking is missing: in every gated block each of the text + 1 tokens meets each image token, 2 · dim for every pair."""),
        looked_once=Wrong(partial(by_hand, looked=1)).hint("""
            In the gated blocks, too, each pair of a word and an image token is multiplied twice: for its score, and for its share of the
            result. You counted it once."""),
        words_given_keys=Wrong(partial(by_hand, word_keys=2)).hint("""
            In the gated blocks the words get no keys and values: they only ask, and nobody looks at them there. These two matrices are for
            the image tokens."""),
        words_looked_at=Wrong(
            partial(by_hand, looked_at_words=True),
            words_given_keys_and_looked_at=partial(by_hand, word_keys=2, looked_at_words=True),
        ).hint("In the gated blocks the words look at the image tokens alone, not at each other: (text + 1) · image pairs."),
        place_in_both=Wrong(partial(by_hand, unified_place=1)).hint("""
            The unified design reads image + text tokens. The one token more, which stands for the picture, is in the text of the design
            with cross-attention alone."""),
        place_exchanged=Wrong(partial(by_hand, unified_place=1, place=0)).hint("""
            The token that stands for the picture is on the wrong side: image + text tokens in the unified design, text + 1 in the text with
            cross-attention."""),
        operations=Wrong(lambda right: (2 * right[0], 2 * right[1])).hint("""
            Asked for are multiply-adds. Counted as two floating-point operations each, it would be twice as many."""),
        exchanged=Wrong(lambda right: right[::-1]).hint("The two results are in the wrong order: the unified design comes first."),
        gated_among_the_layers=Wrong(
            lambda right, again, layers, cross_layers: (right[0], right[1] - again(image=1, layers=cross_layers)[0])
        ).hint("""With cross-attention you take cross_layers of the layers away. All layers of the decoder stay; the gated blocks stand
            between them, in addition: layers + cross_layers in all."""),
        gated_read_like_the_others=Wrong(
            lambda right, again, cross_layers: (right[0], right[1] + again(image=1, layers=cross_layers)[0])
        ).hint("""
            With cross-attention you let the words go through layers + cross_layers of the decoder's own blocks. There are `layers` of
            these; the gated blocks are counted apart, with what a gated block costs."""),
        projected_once=Wrong(partial(by_hand, blocks_projected=1)).hint("""
            You count the picture's keys and values once. Every gated block has matrices of its own, so they are computed anew in each:
            cross_layers times."""),
    ),
    afterthought="Something to think of: at how many image tokens does the picture cost the unified design more than the words?",
)

# ---- what is kept ------------------------------------------------------------------------------------------------------


def kept(image: int, text: int, kv_dim: int, layers: int, cross_layers: int, size: int) -> Costs:
    unified, cross = designs(kv_dim, kv_dim, 1, layers, cross_layers)
    return unified.cache_bytes(image, text, size), cross.cache_bytes(image, text, size)


KEPT = Exercise(
    reference=kept,
    cases=lambda: [(16, 9, 8, 3, 2, 4), (576, 64, 1024, 32, 8, 2)],
    mistakes=dict(
        keys_alone=Wrong(lambda right: (right[0] // 2, right[1] // 2)).hint("Half of it: of every token a key *and* a value are kept."),
        numbers=Wrong(lambda again: again(size=1)).hint("These are numbers, not bytes: each takes `size` bytes."),
        kept_in_all_blocks=Wrong(lambda again, layers: again(cross_layers=layers)).hint("""
            With cross-attention, only the gated blocks keep the picture: cross_layers of them, not layers."""),
        text_alone=Wrong(lambda again: (again()[0], again(image=1)[0])).hint("""
            With cross-attention the picture is kept, too: its keys and values in every gated block. Without them each word would have to
            project it again."""),
        words_in_gated_blocks=Wrong(
            lambda right, text, kv_dim, cross_layers, size: plus(right, cross=2 * cross_layers * (text + 1) * kv_dim * size)
        ).hint("In the gated blocks the words only ask. Nothing of them is kept there, since nobody looks at them there."),
        kept_without_place=Wrong(lambda right, kv_dim, layers, size: plus(right, cross=-2 * layers * kv_dim * size)).hint("""
            With cross-attention the picture has a token in the text, whose key and value are kept: text + 1."""),
        for_each_word=Wrong(lambda again, text, cross_layers: again(cross_layers=cross_layers * (text + 1))).hint("""
            The picture's keys and values are kept once, whatever the number of words."""),
        everything_everywhere=Wrong(
            lambda right, again, text, layers, cross_layers: (right[0], again(text=text + 1, layers=layers + cross_layers)[0]),
            everything_everywhere_without_place=lambda right, again, layers, cross_layers: (
                right[0],
                again(layers=layers + cross_layers)[0],
            ),
            everything_everywhere_in_both=lambda again, text, layers, cross_layers: tuple(
                again(text=text + more, layers=layers + cross_layers)[0] for more in (0, 1)
            ),
        ).hint("""
            You keep all tokens in all layers + cross_layers blocks. With cross-attention each kind is kept where it is looked at: the text
            + 1 tokens in the decoder's layers, the image tokens in the cross_layers gated blocks."""),
        kept_in_the_text_as_well=Wrong(
            lambda right, image, kv_dim, layers, size: plus(right, cross=2 * layers * image * kv_dim * size),
            kept_in_the_text_without_place=lambda right, image, kv_dim, layers, size: plus(
                right, cross=2 * layers * (image - 1) * kv_dim * size
            ),
        ).hint("""
            With cross-attention, the decoder's own blocks never see the image tokens, and keep nothing of them: text + 1 tokens there."""),
        kept_place_in_both=Wrong(lambda again, text: (again(text=text + 1)[0], again()[1])).hint("""
            The unified design keeps image + text tokens. The one token more, which stands for the picture, is in the text of the design
            with cross-attention alone."""),
        kept_place_exchanged=Wrong(lambda again, text: (again(text=text + 1)[0], again(text=text - 1)[1])).hint("""
            The token that stands for the picture is on the wrong side: image + text tokens in the unified design, text + 1 in the text with
            cross-attention."""),
        kept_exchanged=Wrong(lambda right: right[::-1]).hint("The two results are in the wrong order: the unified design comes first."),
        kept_in_one_block=Wrong(
            lambda again: again(layers=1, cross_layers=1),
            picture_kept_in_one_block=lambda again: again(cross_layers=1),
        ).hint("""You count one block. Every block has keys and values of its own: those of the text are kept in each of the `layers`, those
            of the picture in each of the cross_layers."""),
        gated_among_the_layers_kept=Wrong(
            lambda right, again, layers, cross_layers: (right[0], again(layers=layers - cross_layers, cross_layers=cross_layers)[1])
        ).hint("""With cross-attention you take cross_layers of the layers away. All layers of the decoder stay, and keep the words; the
            gated blocks come in addition."""),
    ),
    afterthought="Something to think of: what happens to both numbers if every block has one key/value head alone?",
)

# ---- the weights of a gated block --------------------------------------------------------------------------------------


def gated_parameters(dim: int, kv_dim: int, head_dim: int, mlp_dim: int) -> int:
    attention = 2 * dim * dim + 2 * dim * kv_dim + 2 * head_dim
    return attention + 3 * dim * mlp_dim + 2 * dim + 2


SMALL_PARTS = (
    ("", "one of the two gates, a single number", "the two gates, a single number each"),
    ("", "one of the two RMS norms before attention and MLP, dim numbers", "the two RMS norms before attention and MLP, dim each"),
    ("", "one of the norms on queries and keys, head_dim numbers", "the norms on queries and keys, head_dim numbers each"),
)


def without(gates: int, norms: int, head_norms: int) -> Mistake:
    """Several of the small parts left out at once: so many gates, norms, norms of the heads. One hint each, put together."""
    hints = [part[missing] for part, missing in zip(SMALL_PARTS, (gates, norms, head_norms), strict=True) if missing]
    wrong = Wrong(lambda right, dim, head_dim: right - gates - norms * dim - head_norms * head_dim)
    return wrong.hint(f"Small parts are missing: {'; and '.join(hints)}.")


SEVERAL = {
    "without_{}_gates_{}_norms_{}_head_norms".format(*missing): without(*missing)
    for missing in product(range(3), repeat=3)
    if sum(map(bool, missing)) > 1
}

PARAMETERS = Exercise(
    reference=gated_parameters,
    cases=lambda: [(8, 4, 2, 20), (96, 48, 24, 256), (4096, 1024, 128, 14_336)],
    mistakes=dict(
        without_gates=Wrong(lambda right: right - 2).hint("Two are missing: the gates. Each is a single number."),
        one_gate=Wrong(lambda right: right - 1).hint("One is missing: attention and MLP have a gate each."),
        gates_of_vectors=Wrong(lambda right, dim: right + 2 * dim - 2).hint("""
            A gate is one number for the whole token, not one for each of its dim numbers."""),
        without_norms=Wrong(lambda right, dim: right - 2 * dim).hint("""
            The two RMS norms before attention and MLP have a scale each, of dim numbers."""),
        without_head_norms=Wrong(lambda right, head_dim: right - 2 * head_dim).hint("""
            Queries and keys are normalised, and each of these two norms has a learned scale, of head_dim numbers."""),
        one_norm=Wrong(lambda right, dim: right - dim).hint("""
            An RMS norm is missing: there are two, before attention and before the MLP, of dim numbers each."""),
        one_head_norm=Wrong(lambda right, head_dim: right - head_dim).hint("""
            A norm is missing: queries have one and keys have one, of head_dim numbers each."""),
        **SEVERAL,
        attention_half=Wrong(
            lambda dim, kv_dim, head_dim: 2 * dim * (dim + kv_dim) + 2 * head_dim + dim + 1,
            attention_matrices=lambda dim, kv_dim: 2 * dim * (dim + kv_dim),
            attention_and_head_norms=lambda dim, kv_dim, head_dim: 2 * dim * (dim + kv_dim) + 2 * head_dim,
            attention_and_norm=lambda dim, kv_dim: 2 * dim * (dim + kv_dim) + dim,
            attention_norm_and_gate=lambda dim, kv_dim: 2 * dim * (dim + kv_dim) + dim + 1,
            attention_with_all_norms=lambda dim, kv_dim, head_dim: 2 * dim * (dim + kv_dim) + 2 * head_dim + dim,
        ).hint("""That is the attention alone. In this block, as in Llama 3.2 Vision, a second half follows: an RMS norm, SwiGLU, and its
            gate."""),
        no_mlp=Wrong(lambda right, dim, mlp_dim: right - 3 * dim * mlp_dim).hint("""
            The three matrices of SwiGLU are missing: gate, up and down, dim × mlp_dim each."""),
        norms_of_all_heads=Wrong(lambda right, dim, kv_dim, head_dim: right + dim + kv_dim - 2 * head_dim).hint("""
            The norms of queries and keys are shared by all heads: head_dim numbers each."""),
        wide_keys=Wrong(lambda again, dim: again(kv_dim=dim)).hint("""
            Keys and values are kv_dim wide, so two of the four matrices are dim × kv_dim."""),
        plain_mlp=Wrong(lambda right, dim, mlp_dim: right - dim * mlp_dim).hint("""
            The MLP of Llama, SwiGLU, has three matrices: gate, up and down."""),
        with_biases=Wrong(lambda right, dim, kv_dim, mlp_dim: right + 3 * dim + 2 * kv_dim + 2 * mlp_dim).hint("""
            These layers have no biases."""),
        no_output=Wrong(lambda right, dim: right - dim * dim).hint("""
            Attention has four matrices; the one behind the heads, the output's, is missing."""),
    ),
    afterthought="Something to think of: how many gated blocks make as many weights as a linear projector from 1024 to 4096?",
)

EXERCISES = {"reading_cost": READING, "kept_bytes": KEPT, "gated_parameters": PARAMETERS}
