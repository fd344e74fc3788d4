"""The drawn things: their ground truth is a pure function of a seed, and what it says arrives in the pixels."""

import dataclasses
import math
from functools import lru_cache

import numpy as np
import pytest
import torch

from minimllm import THINGS, Things, render_things, things
from minimllm.data.things import COLOURS, GROUNDS, HANDS, SPLITS, STYLES, pairs_of
from minimllm.data.things.catalogue import KINDS, VARIANTS
from minimllm.data.things.coverage import coverage
from minimllm.data.things.sketch import Sketch

FIELDS = [field.name for field in dataclasses.fields(Things)]
TENSORS = [name for name in FIELDS if name not in ("hand", "split")]


def same(one: Things, other: Things) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in TENSORS)


def changed(shown: Things, **values) -> Things:
    """The same things with other values for all of them."""
    fields = {}
    for name, value in values.items():
        old = getattr(shown, name)
        fields[name] = torch.as_tensor(value, dtype=old.dtype).expand(old.shape).clone()
    return dataclasses.replace(shown, **fields)


@lru_cache
def one_of_each(hand: str = "first") -> Things:
    """Every drawing of every thing once, on white, in the style ``flat``, in the middle, upright."""
    pool = things(4000, 3, "train", hand)
    which = (pool.thing * 8 + pool.drawing).tolist()
    rows = [which.index(8 * thing + drawing) for thing in range(len(THINGS)) for drawing in range(VARIANTS[thing])]
    return changed(pool[rows], ground=0, style=0, size=0.8, place=0.5, turn=0.0, mirrored=False)


@lru_cache
def pictures_of_each() -> torch.Tensor:
    return render_things(one_of_each(), 64)


def box(picture: torch.Tensor) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is not white."""
    drawn = (picture < 0.96).any(0)
    columns, rows = drawn.any(0).nonzero().flatten(), drawn.any(1).nonzero().flatten()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# ---- the ground truth --------------------------------------------------------------------------------------------------


def test_names():
    assert len(THINGS) == len(set(THINGS)) == 56
    assert all(name == name.lower().strip() for name in THINGS)
    assert THINGS[0] == "cat" and "ice cream" in THINGS and "guitar" in THINGS


def test_pure_function_of_the_seed():
    shown = things(40, 5, "train")
    assert same(shown, things(40, 5, "train"))
    assert same(shown[:7], things(7, 5, "train")) and same(shown[30:], things(10, 5, "train", start=30))
    assert not same(shown, things(40, 6, "train"))
    assert len(things(0, 5, "train")) == 0 and render_things(things(0, 5, "train")).shape == (0, 3, 64, 64)


def test_no_two_splits_or_hands_share_a_picture():
    keys = [things(500, seed, split, hand).key for seed in (0, 1) for split in SPLITS for hand in HANDS]
    assert len(torch.cat(keys).unique()) == 500 * len(keys)


def test_held_out_pairs_are_seen_nowhere_else():
    shown = {split: things(8000, 2, split) for split in SPLITS}
    pairs = {split: set(zip(some.thing.tolist(), some.colour.tolist(), strict=True)) for split, some in shown.items()}
    assert pairs["train"] == pairs["validation"] == pairs["test"] == {tuple(pair) for pair in pairs_of("train").nonzero().tolist()}
    assert pairs["held_out"] == {tuple(pair) for pair in pairs_of("held_out").nonzero().tolist()}
    assert not pairs["train"] & pairs["held_out"] and len(pairs["held_out"]) >= 40
    for name, kind in KINDS.items():
        number = THINGS.index(name)
        mine = [COLOURS[colour] for thing, colour in pairs["train"] | pairs["held_out"] if thing == number]
        assert sorted(mine) == sorted(kind.colours)
        assert sum(thing == number for thing, _ in pairs["train"]) > sum(thing == number for thing, _ in pairs["held_out"])
    assert set(shown["held_out"].style.tolist()) == {STYLES.index("flat"), STYLES.index("outlined")}


def test_everything_occurs_and_nothing_beyond_its_range():
    shown = things(20_000, 4, "train")
    counts = torch.bincount(shown.thing, minlength=len(THINGS)).double()
    assert (counts / len(shown) * len(THINGS) - 1).abs().max() < 0.25
    assert set(shown.style.tolist()) == set(range(len(STYLES))) and set(shown.ground.tolist()) == set(range(len(GROUNDS)))
    assert (shown.ground == 0).double().mean() > 0.25
    assert shown.size.min() >= 1 / 3 and shown.size.max() <= 1 and shown.size.max() - shown.size.min() > 0.66
    assert shown.place.min() >= 0 and shown.place.max() <= 1 and shown.mirrored.double().mean().sub(0.5).abs() < 0.02
    limits = torch.tensor([math.radians(kind.turn) for kind in KINDS.values()])[shown.thing]
    assert (shown.turn.abs() <= limits + 1e-6).all() and (shown.turn.abs() / limits).max() > 0.99
    assert (shown.drawing < torch.from_numpy(VARIANTS)[shown.thing]).all() and shown.drawing.max() == VARIANTS.max() - 1


def test_rows_are_picked_as_a_batch():
    shown = things(9, 1, "test", "pen")
    assert shown[3].names == [shown.names[3]] and shown[-1].names == [shown.names[8]]
    assert shown[[2, 5]].key.tolist() == shown.key[[2, 5]].tolist() and len(shown[shown.size > 2]) == 0
    assert (shown[1:3].hand, shown[1:3].split) == ("pen", "test")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((4, 0, "trian"), ValueError, "'trian'.*train, validation, test, held_out"),
        ((4, 0, "train", "third"), ValueError, "'third'.*first, pen, paper"),
        ((-1, 0, "train"), ValueError, "the number of things"),
        ((4, -2, "train"), ValueError, "-2"),
        ((4, 0.5, "train"), TypeError, "0.5"),
        ((True, 0, "train"), TypeError, "True"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        things(*arguments)


def test_refused_sizes():
    shown = things(1, 0, "train")
    with pytest.raises(ValueError, match="15 pixels.*at least 16"):
        render_things(shown, 15)
    with pytest.raises(TypeError, match="size"):
        render_things(shown, 64.0)


# ---- the pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("size", [16, 37, 64])
def test_pictures_are_of_their_size_and_range(hand, size):
    pictures = render_things(things(60, 8, "train", hand), size)
    assert pictures.shape == (60, 3, size, size) and pictures.dtype == torch.float32
    assert pictures.min() >= 0 and pictures.max() <= 1 and pictures.flatten(1).std(1).min() > 0.01


@pytest.mark.parametrize("hand", HANDS)
def test_a_batch_equals_its_rows(hand):
    shown = things(70, 9, "validation", hand)
    pictures = render_things(shown, 48)
    assert torch.equal(pictures, render_things(things(70, 9, "validation", hand), 48))
    assert torch.allclose(pictures[[4, 66, 0]], render_things(shown[[4, 66, 0]], 48), rtol=0, atol=1e-6)
    for row in range(0, 70, 9):
        assert torch.allclose(pictures[row : row + 1], render_things(shown[row], 48), rtol=0, atol=1e-6)


@pytest.mark.parametrize("hand", HANDS)
def test_place_and_size_arrive_in_the_pixels(hand):
    """The box around all that is drawn, whose edges are seen on white; an outline wider where a part without one sticks out."""
    shown = one_of_each(hand)
    for size, place in ((0.5, (0.0, 1.0)), (0.9, (1.0, 0.25))):
        placed = changed(shown, size=size)
        placed = dataclasses.replace(placed, place=torch.tensor(place).expand(len(shown), 2))
        for picture, name in zip(render_things(placed, 128), placed.names, strict=True):
            left, top, right, bottom = box(picture)
            assert abs(max(right - left, bottom - top) - 128 * size) <= 7, name
            assert abs(left - place[0] * (128 - (right - left))) <= 4 and abs(top - place[1] * (128 - (bottom - top))) <= 4, name


def test_half_the_size_is_half_the_box():
    for one, other in zip(pictures_of_each(), render_things(changed(one_of_each(), size=0.4), 64), strict=True):
        boxes = [[right - left, bottom - top] for left, top, right, bottom in (box(one), box(other))]
        assert np.abs(np.array(boxes[0]) - 2 * np.array(boxes[1])).max() <= 5


def test_a_quarter_turn_turns_the_picture():
    upright, turned = pictures_of_each(), render_things(changed(one_of_each(), turn=math.pi / 2), 64)
    assert (turned - upright.rot90(-1, (2, 3))).abs().mean((1, 2, 3)).max() < 0.004
    assert (turned - upright).abs().mean((1, 2, 3)).min() > 0.01


def test_mirrored_things_are_mirror_images():
    shown = changed(one_of_each()[::3], turn=0.3)
    mirrored = changed(shown, mirrored=True, turn=-0.3)
    assert (render_things(mirrored, 64) - render_things(shown, 64).flip(3)).abs().max() < 2e-3


def test_a_finer_picture_is_the_same_picture():
    shown = things(50, 11, "train")
    coarse = torch.nn.functional.avg_pool2d(render_things(shown, 128), 2)
    assert (coarse - render_things(shown, 64)).abs().mean((1, 2, 3)).max() < 0.03


def test_every_drawing_in_every_hand_differs_from_every_other():
    pictures = torch.cat([render_things(one_of_each(hand), 32) for hand in HANDS]).flatten(1)
    distance = torch.cdist(pictures, pictures, p=1) / pictures.shape[1]
    assert distance.fill_diagonal_(1).min() > 0.015


def test_proportions_differ_from_picture_to_picture():
    """Of the same drawing in one colour, at one place."""
    one = one_of_each()
    other = dataclasses.replace(one, key=things(len(one), 12, "train").key)
    assert (render_things(other, 64) - pictures_of_each()).abs().mean((1, 2, 3)).min() > 0.01


def test_the_thing_s_colour_arrives_where_its_style_shows_one():
    shown = changed(things(3000, 13, "train"), thing=THINGS.index("car"), drawing=0, ground=0, size=1.0, style=0)
    for name, strong, weak in (("red", 0, 2), ("blue", 2, 0), ("green", 1, 0)):
        some = changed(shown[:8], colour=COLOURS.index(name))
        pictures = render_things(some, 32)
        assert (pictures[:, weak] < pictures[:, strong] - 0.05).double().mean((1, 2)).min() > 0.08
    in_ink = {style: render_things(changed(shown[:1], style=STYLES.index(style)), 64)[0] for style in ("line", "glyph")}
    assert all(len(picture.flatten(1).T.mul(8).round().unique(dim=0)) < 12 for picture in in_ink.values())


def test_grounds():
    shown = changed(things(600, 14, "train"), size=1 / 3, place=0.5, turn=0.0)
    corners = {name: [] for name in GROUNDS}
    for picture, ground in zip(render_things(shown, 48), shown.ground.tolist(), strict=True):
        corners[GROUNDS[ground]].append(torch.cat([picture[:, :12, :].flatten(1), picture[:, -12:, :].flatten(1)], dim=1))
    varies = {name: torch.stack(found).std(2).mean() for name, found in corners.items()}
    assert torch.stack(corners["white"]).min() == 1 and varies["plain"] < 1e-6
    assert all(varies[name] > 0.01 for name in ("slanted", "blotched", "halves", "striped"))
    plain = torch.stack(corners["plain"])[:, :, 0]
    assert len(plain.mul(20).round().unique(dim=0)) > 100 and plain.min() < 0.1 and plain.max() > 0.9


# ---- how they are drawn ------------------------------------------------------------------------------------------------


def fill(*polygons, size=8, corner=(0, 0), layer=None):
    sides = [np.concatenate([p, np.roll(p, -1, 0)], 1) for p in (np.array(polygon, float) for polygon in polygons)]
    of_layer = np.repeat(layer or [0] * len(sides), [len(s) for s in sides])
    corners = np.tile(np.array(corner), (int(of_layer.max()) + 1, 1))
    return coverage(np.concatenate(sides), np.ones(len(of_layer)), of_layer, corners, size)


def test_coverage_of_a_rectangle_is_its_area():
    covered = fill([(1.25, 2.0), (4.5, 2.0), (4.5, 3.5), (1.25, 3.5)])
    expected = torch.zeros(1, 8, 8)
    expected[0, 2, 1:5] = torch.tensor([0.75, 1, 1, 0.5])
    expected[0, 3] = expected[0, 2] / 2
    assert torch.allclose(covered, expected)


def test_coverage_beyond_the_edges_and_in_a_window():
    large = [(-3.0, -2.0), (20.0, -1.0), (20.0, 5.5), (-4.0, 5.5)]
    covered = fill(large)
    assert (covered[0, :5] == 1).all() and (covered[0, 6:] == 0).all() and torch.allclose(covered[0, 5], torch.tensor(0.5))
    slanted = [(1.3, 0.2), (6.7, 3.1), (5.0, 7.9), (0.4, 5.5)]
    assert torch.equal(fill(slanted, size=4, corner=(2, 3)), fill(slanted)[:, 3:7, 2:6])
    assert fill(slanted).sum() == pytest.approx(28.695, abs=0.05)


def test_coverage_of_a_union_and_of_layers():
    one, other = [(1, 1), (5, 1), (5, 5), (1, 5)], [(3, 3), (7, 3), (7, 7), (3, 7)]
    union = fill(one, other)
    assert union.max() == 1 and union.sum() == 16 + 16 - 4
    apart = fill(one, other, layer=[1, 0])
    assert torch.equal(apart[1], fill(one)[0]) and torch.equal(apart[0], fill(other)[0])


def sketch(count: int = 3, **options) -> Sketch:
    luck = np.linspace(0, 0.999, count * 8).reshape(count, 8)
    return Sketch(luck, np.full((count, 3), 0.5), **({"fine": 1.0} | options))


def test_shapes():
    drawn = sketch()
    radius = np.array([1.0, 2.0, 3.0])
    circle = drawn.ellipse(1.0, -1.0, radius)
    assert np.allclose(np.linalg.norm(circle - [1.0, -1.0], axis=-1), radius[:, None])
    square = [(0, 0), (4, 0), (4, 4), (0, 4)]
    curve = drawn.curve(*square)
    assert all(np.isclose(curve, corner).all(-1).any(1).all() for corner in square), "a curve goes through its corners"
    stroke = drawn.stroke((0, 0), (4, 0), width=radius)
    assert np.allclose(np.abs(stroke[..., 1]).max(1), radius / 2) and np.allclose(stroke[..., 0].max(1), 4 + radius / 2, atol=0.1)
    assert drawn.ellipse(0, 0, 1).shape[1] > 2 * sketch(fine=0.3).ellipse(0, 0, 1).shape[1]
    assert np.allclose(drawn.mirrored(circle)[..., 0], -circle[..., 0])


def test_proportions_lie_between_their_limits_or_beyond():
    within, beyond = sketch(200).between(2, 4), sketch(200, reach=0.5).between(2, 4)
    assert within.min() >= 2 and within.max() <= 4 and np.ptp(within) > 1.5
    assert ((beyond <= 2) | (beyond >= 4)).all() and beyond.min() >= 1 and beyond.max() <= 5
    assert (beyond < 2).any() and (beyond > 4).any()
