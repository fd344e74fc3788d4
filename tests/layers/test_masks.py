"""Which tiles each token sees: the rule of Llama 3.2, token for token as transformers' processor builds it."""

import itertools

import pytest
import torch
from support import unchecked
from transformers.models.mllama.processing_mllama import convert_sparse_cross_attention_mask_to_dense, get_cross_attention_token_mask

from minimllm.layers.masks import cross_attention_mask

IMAGE = 99


def theirs(ids, num_tiles, max_tiles=4):
    spans = [get_cross_attention_token_mask(row, IMAGE) for row in ids.tolist()]
    return torch.from_numpy(convert_sparse_cross_attention_mask_to_dense(spans, num_tiles, max_tiles, ids.shape[1])).bool()


def texts(*rows):
    """Ids from strings of I (an image token) and t (text)."""
    return torch.tensor([[IMAGE if letter == "I" else 5 for letter in row.replace(" ", "")] for row in rows])


def seen(row):
    """The pictures that each token of a text sees, as transformers' documentation writes them."""
    mask = cross_attention_mask(texts(row), [[1] * row.count("I")], IMAGE)[0, :, :, 0]
    return [str([number for number, sees in enumerate(token) if sees]) for token in mask.tolist()]


@pytest.mark.parametrize("length", range(1, 9))
def test_every_text_of_up_to_eight_tokens(length):
    rows = ["".join(letters) for letters in itertools.product("It", repeat=length)]
    ids = texts(*rows)
    num_tiles = [[(1, 2, 4, 3)[(number + place) % 4] for place in range(row.count("I"))] for number, row in enumerate(rows)]
    together = cross_attention_mask(ids, num_tiles, IMAGE)
    assert torch.equal(together, theirs(ids, num_tiles))
    for number, row in enumerate(rows):
        images = row.count("I")
        alone = cross_attention_mask(ids[number : number + 1], [num_tiles[number]], IMAGE)
        assert alone.shape == (1, length, images, 4)
        assert torch.equal(alone[0], together[number, :, :images]) and not together[number, :, images:].any()


@pytest.mark.parametrize(
    "text, pictures",
    [
        ("t I t", [[], [0], [0]]),
        ("I I t", [[0], [0, 1], [0, 1]]),
        ("I t I t", [[0], [0], [1], [1]]),
        ("I t I I", [[0], [0], [1], [1, 2]]),
        ("I I I t I t", [[0], [0, 1], [0, 1, 2], [0, 1, 2], [3], [3]]),
        ("t I I t I t", [[], [0], [0, 1], [0, 1], [2], [2]]),
    ],
)
def test_examples_by_hand(text, pictures):
    assert seen(text) == [str(expected) for expected in pictures]


def test_padding_on_either_side_is_text_like_any_other():
    ids = texts("tttItIt", "ItItttt", "ttttttt", "IIttttt")
    num_tiles = [[4, 1], [2, 2], [], [1, 3]]
    assert torch.equal(cross_attention_mask(ids, num_tiles, IMAGE), theirs(ids, num_tiles))


def test_what_a_token_sees_does_not_depend_on_later_tokens():
    whole, tiles = "tItIItItt", [1, 2, 3, 4]
    mask = cross_attention_mask(texts(whole), [tiles], IMAGE)
    for length in range(1, 9):
        images = whole[:length].count("I")
        part = cross_attention_mask(texts(whole[:length]), [tiles[:images]], IMAGE)
        assert torch.equal(part, mask[:, :length, :images])


def test_fewer_tiles_at_most_and_no_picture_at_all():
    ids = texts("tIt")
    assert torch.equal(cross_attention_mask(ids, [[2]], IMAGE, max_tiles=2), theirs(ids, [[2]], 2))
    assert cross_attention_mask(texts("ttt", "ttt"), [[], []], IMAGE).shape == (2, 3, 0, 4)


@pytest.mark.parametrize(
    "rows, num_tiles, words",
    [
        (["tIt"], [[1, 1]], "row 0 has 1 image tokens (id 99) and 2 images"),
        (["ttt"], [[1]], "0 image tokens (id 99) and 1 images"),
        (["tIt", "IIt"], [[1], [1]], "row 1 has 2 image tokens (id 99) and 1 images"),
        (["tIt", "ttt"], [[], [1]], "row 0 has 1 image tokens (id 99) and 0 images"),
        (["tIt"], [], "1 rows, and num_tiles has 0"),
        (["tIt"], [[1], [1]], "1 rows, and num_tiles has 2"),
        (["tIt"], [[5]], "[5] tiles; each has 1 to 4"),
        (["tIt"], [[0]], "[0] tiles; each has 1 to 4"),
    ],
)
def test_counts_that_do_not_match_are_refused_with_both_numbers(rows, num_tiles, words):
    with unchecked(), pytest.raises(ValueError) as error:
        cross_attention_mask(texts(*rows), num_tiles, IMAGE)
    assert words in str(error.value)
