"""Batches for contrastive learning: hard negatives differ in one thing, keep to their split, and the table of what is true is true."""

import pytest
import torch

from minimllm.data.captioning import DETAILS, captions
from minimllm.data.composing import join
from minimllm.data.pairing import described, look_alikes, rearranged
from minimllm.data.words import COLOURS, SHAPES, SIZES, places
from minimllm.data.world import pairs_of

ATTRIBUTES = ("shape", "colour", "size", "cell")


def differences(a, b):
    return sum((getattr(a, name) != getattr(b, name)).any(1).int() for name in ATTRIBUTES)


def test_look_alikes_differ_in_one_thing():
    world = look_alikes(20, seed=1, step=0)
    assert len(world) == 20 * 7 and (world.count == 1).all()
    base, variants = world[:20], [world[20 * k : 20 * (k + 1)] for k in range(1, 7)]
    assert all((differences(base, variant) == 1).all() for variant in variants)
    shapes = torch.cat([base.shape, *(variant.shape for variant in variants[:4])], dim=1)
    assert all(len(set(row)) == 5 for row in shapes.tolist()), "five different shapes"
    assert (variants[4].colour != base.colour).all()
    assert (variants[5].size != base.size).sum() == 10 and (variants[5].cell != base.cell).sum() == 10
    for variant in variants:
        assert torch.equal(variant.jitter, base.jitter) and torch.equal(variant.key, base.key), "noise and jitter give nothing away"


@pytest.mark.parametrize("split", ["train", "validation", "held_out"])
def test_negatives_keep_to_their_split(split):
    parts = [look_alikes(30, 1, 0, split, shapes=1), *([] if split == "held_out" else [rearranged(30, 1, 0, split)])]
    world = join(parts)
    seen = world.pair[world.present]
    assert pairs_of(split).flatten()[seen].all()


def test_rearranged_scenes_say_the_same_words():
    world = rearranged(40, seed=1, step=0)
    base, reshaped, exchanged = world[:40], world[40:80], world[80:]
    assert (differences(base, reshaped) == 1).all() and ((base.shape != reshaped.shape).sum(1) == 1).all()
    assert 10 < len(exchanged) < 40
    words = {int(key): sorted(text.split()) for key, text in zip(base.key, captions(base, "full"), strict=True)}
    texts = {int(key): text for key, text in zip(base.key, captions(base, "full"), strict=True)}
    for key, text in zip(exchanged.key.tolist(), captions(exchanged, "full"), strict=True):
        assert sorted(text.split()) == words[key] and text != texts[key]


def test_steps_go_on_and_are_reproducible():
    for make in (look_alikes, rearranged):
        first, again, next_one, other = make(8, 1, 0), make(8, 1, 0), make(8, 1, 1), make(8, 2, 0)
        assert torch.equal(first.shape, again.shape) and torch.equal(first.colour, again.colour)
        assert not set(first.key.tolist()) & set(next_one.key.tolist())
        assert not set(first.key.tolist()) & set(other.key.tolist())


def test_more_shapes_than_there_are():
    with pytest.raises(ValueError, match="has 5 other shapes; 6 were asked for"):
        look_alikes(4, 1, 0, shapes=6)
    assert len(look_alikes(4, 1, 0, shapes=5)) == 32


def says(text, world, row):
    """Whether a caption of a single object is true of a scene with a single object, read word by word."""
    words = text.split()
    claims = {
        SHAPES: SHAPES[world.shape[row, 0]],
        COLOURS: COLOURS[world.colour[row, 0]],
        SIZES: SIZES[world.size[row, 0]],
    }
    true = all(not set(words) & set(names) or value in words for names, value in claims.items())
    place = places(world.grid)[world.cell[row, 0]]
    return true and ("at" not in words or text.endswith(place))


def test_the_table_of_what_is_true():
    world = look_alikes(9, 3, 0)
    texts, fits = described(world, seed=0)
    assert fits.diag().all()
    assert [[says(text, world, row) for text in texts] for row in range(len(world))] == fits.tolist()
    assert fits.sum() > 3 * len(world) and not torch.equal(fits, fits.T), "what is true of many is not said of all of them"


def test_descriptions():
    world = join([look_alikes(9, 3, 0), rearranged(20, 4, 0)])
    texts, fits = described(world, seed=5)
    assert texts == described(world, seed=5)[0] != described(world, seed=6)[0]
    by_detail = {detail: captions(world, detail) for detail in DETAILS}
    used = {detail for row, text in enumerate(texts) for detail in DETAILS if by_detail[detail][row] == text}
    assert used == set(DETAILS)
    full, table = described(world, seed=0, details=("full",))
    assert full == by_detail["full"]
    assert torch.equal(table, torch.tensor([[a == b for b in full] for a in full]))
    mixed, _ = described(world, seed=5, details=("plain",), several="full")
    assert mixed == by_detail["plain"][:63] + by_detail["full"][63:]
    single, several = table[:63, 63:], fits[63:, :63]
    assert not single.any() and not several.any(), "a caption of one object is not the caption of several"
