"""The generated world: a pure function of its seed, balanced, and the pictures show what the ground truth says."""

import dataclasses
import hashlib
import math

import numpy as np
import pytest
import torch
from support import unchecked

from minimllm import captions, questions, render, scenes
from minimllm.data.captioning import DETAILS
from minimllm.data.composing import changed, compose, in_reading_order, join, spread
from minimllm.data.other_rendering import render_differently
from minimllm.data.rendering import GROUND, NOISE, PALETTE, SMALLEST_CELL, outline_distance, render_canvas
from minimllm.data.words import COLOURS, SHAPES, WORDS, number, places
from minimllm.data.world import JITTER, RADII, ROTATION, SPLITS, held_out_pairs, pair_names, pairs_of

WORLDS = [dict(objects=1), dict(), dict(objects=1, grid=1), dict(objects=(2, 8), grid=3), dict(objects=(1, 30), grid=(6, 8))]


def same(a, b) -> bool:
    values = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in values)


@pytest.mark.parametrize("world", WORLDS)
def test_a_scene_depends_on_its_seed_and_its_number_alone(world):
    batch = scenes(40, 7, "train", **world)
    assert same(batch, scenes(40, 7, "train", **world))
    assert same(batch[:10], scenes(10, 7, "train", **world)), "a longer batch begins with the shorter one"
    assert same(batch[25:], scenes(15, 7, "train", start=25, **world)), "start walks along the stream"
    assert same(batch[[3]], batch[3]) and same(batch[-1], batch[39]) and len(scenes(0, 7, "train", **world)) == 0
    for other in (scenes(40, 8, "train", **world), scenes(40, 7, "test", **world)):
        assert not torch.equal(batch.key, other.key) and (batch.shape != other.shape).any()


def test_the_world_is_the_same_on_every_machine():
    batch = scenes(200, 0, "train")
    facts = hashlib.sha256()
    for name in ("shape", "colour", "size", "cell", "jitter", "rotation", "key"):
        facts.update(getattr(batch, name).numpy().tobytes())
    texts = hashlib.sha256(repr((captions(batch), questions(batch))).encode())
    assert facts.hexdigest()[:16] == "913149abd2b21f9f"
    assert texts.hexdigest()[:16] == "5e8dc3ef82267120"
    assert render(batch).double().mean().item() == pytest.approx(0.179111753732671, abs=1e-7)


def test_nothing_of_a_scene_depends_on_its_batch_or_on_the_threads():
    batch = scenes(600, 1, "train")
    threads = torch.get_num_threads()
    pictures = render(batch)
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(pictures, render(batch))
    finally:
        torch.set_num_threads(threads)
    order = torch.tensor([5, 99, 300, 300, 0])
    assert torch.equal(render(batch[order]), pictures[order])
    for row in (0, 17, 599):
        assert torch.equal(render(batch[row]), pictures[row : row + 1])
        assert questions(batch[row]) == questions(batch)[row : row + 1]
        assert captions(batch[row]) == captions(batch)[row : row + 1]


def test_splits_share_neither_scenes_nor_pairs():
    keys = torch.cat([scenes(2000, seed, split).key for split in SPLITS for seed in (0, 1, 2, 2**63 - 1)])
    assert len(keys.unique()) == len(keys), "no scene comes twice, within or between splits and seeds"
    for split in SPLITS:
        for world in WORLDS[:4]:
            pair = scenes(500, 3, split, **world).pair
            held_out = torch.isin(pair[pair >= 0], torch.tensor(held_out_pairs))
            assert held_out.all() if split == "held_out" else not held_out.any()


def test_held_out_pairs_give_nothing_away_beyond_what_they_must():
    """Every way to hold out two colours per shape costs log2(8/6) bits; this one treats all shapes, all colours and all splits alike."""
    allowed = pairs_of("train")
    assert torch.equal(pairs_of("held_out"), ~allowed) and pairs_of("any").all()
    assert allowed.sum(0).tolist() == allowed.sum(1).tolist() == [6] * 8
    lacking = [frozenset((~row).nonzero()[:, 0].tolist()) for row in allowed]
    assert len(set(lacking)) == 8 and {len(a & b) for a in lacking for b in lacking if a != b} == {0, 1}
    reached, frontier = {0}, [0]
    while frontier:  # shapes linked by a colour that both lack: one ring, no group apart
        shape = frontier.pop()
        near = {other for other in range(8) if lacking[shape] & lacking[other]} - reached
        reached |= near
        frontier += near
    assert reached == set(range(8))

    def entropy(p):
        p = p[p > 0]
        return -(p * p.log2()).sum().item()

    for objects in (1, (1, 4)):
        pair = scenes(20_000, 5, "train", objects=objects).pair
        joint = pair[pair >= 0].bincount(minlength=64).double().reshape(8, 8)
        joint /= joint.sum()
        information = entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.flatten())
        assert information == pytest.approx(math.log2(8 / 6), abs=0.005)
        assert joint[allowed].min() > 0.85 / 48 and joint[allowed].max() < 1.15 / 48
    assert len(pair_names) == len(set(pair_names)) == 64 and pair_names[8 * SHAPES.index("star") + COLOURS.index("red")] == "red star"


def test_objects_are_uniform_and_independent():
    batch = scenes(20_000, 6, "train")
    assert (batch.count.bincount(minlength=5)[1:] / 20_000 - 0.25).abs().max() < 0.012
    here = batch.present
    assert (batch.cell[here].bincount() / here.sum() - 0.25).abs().max() < 0.01
    assert abs(batch.size[here].float().mean() - 0.5) < 0.01
    facts = torch.stack([batch.shape, batch.colour, batch.size, batch.cell, *batch.jitter.unbind(-1), batch.rotation], 0)[:, here].double()
    correlation = torch.corrcoef(facts) - torch.eye(7)
    correlation[0, 1] = correlation[1, 0] = 0  # shape and colour are not independent: pairs are held out
    assert correlation.abs().max() < 0.02
    assert batch.jitter.abs().max() <= JITTER and batch.rotation.abs().max() <= ROTATION and batch.jitter.abs().max() > 0.99 * JITTER
    for count, expected in ((2, 0.5), (3, 0.25), (4, 0.25)):
        colours = batch.colour[batch.count == count][:, :count].sort(1).values
        assert (colours[:, 1:] == colours[:, :-1]).any(1).double().mean() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_objects_of_a_scene_can_be_told_apart(world, split):
    if split == "held_out" and world.get("objects") == (1, 30):
        world = dict(world, objects=(1, 16))
    batch = scenes(300, 2, split, **world)
    fewest, most = (world.get("objects", (1, 4)),) * 2 if isinstance(world.get("objects", (1, 4)), int) else world.get("objects", (1, 4))
    assert batch.count.min() == fewest and batch.count.max() == most
    for shape, pair, cell, count in zip(batch.shape, batch.pair, batch.cell, batch.count.tolist(), strict=True):
        assert (shape[count:] == -1).all() and (cell[count:] == -1).all() and (shape[:count] >= 0).all()
        assert cell[:count].tolist() == sorted(set(cell[:count].tolist())) and cell.max() < batch.grid[0] * batch.grid[1]
        assert len(set(pair[:count].tolist())) == count
        assert count > 8 or len(set(shape[:count].tolist())) == count


# --- pictures ---


def pixel_positions(size):
    middle = (torch.arange(size) + 0.5) / size
    return torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1)


CANVASES = [
    ({}, 32),
    ({}, 47),
    (dict(grid=1, objects=1), 16),
    (dict(grid=3, objects=(2, 8)), 100),
    (dict(grid=(6, 8), objects=(1, 30)), 150),
    (dict(grid=(1, 3), objects=(1, 3)), 64),
]


@pytest.mark.parametrize(("world", "size"), CANVASES)
def test_pictures_show_the_ground_truth_and_nothing_else(world, size):
    batch = scenes(60, 3, "train", **world)
    pictures = render(batch, size)
    assert pictures.shape == (60, 3, size, size) and pictures.dtype == torch.float32 and pictures.is_contiguous()
    assert 0 <= pictures.min() and pictures.max() <= 1
    positions = pixel_positions(size)
    distance = (positions - batch.centre[:, :, None, None]).norm(dim=-1) - (batch.radius * batch.present)[:, :, None, None]
    distance[~batch.present] = math.inf
    outside = (distance > 1.25 / size).all(1)  # beyond a sharp corner the blend reaches a little further than half a pixel
    assert outside.any() and pictures.permute(0, 2, 3, 1)[outside].max() <= GROUND + 3.5 * NOISE, "objects stay in their circle"
    corner = torch.stack([batch.cell % batch.grid[1], batch.cell // batch.grid[1]], -1) / torch.tensor(batch.grid[::-1])
    beyond = torch.maximum(
        corner - (batch.centre - batch.radius[..., None]),
        batch.centre + batch.radius[..., None] - corner - 1 / torch.tensor(batch.grid[::-1]),
    )
    assert beyond[batch.present].max() < 1e-6, "and in their cell"
    palette = torch.tensor(PALETTE)
    for row in range(60):
        for slot in range(int(batch.count[row])):
            inside = distance[row, slot] < 0
            seen = pictures[row][:, inside].T
            solid = seen[seen.max(1).values > 0.7 * max(PALETTE[batch.colour[row, slot]])]
            assert len(solid), "every object is to be seen"
            nearest = torch.cdist(solid.median(0).values[None], palette).argmin().item()
            assert nearest == batch.colour[row, slot]
            if size >= 32 * max(batch.grid) / 2:
                core = seen[(seen - palette[batch.colour[row, slot]]).abs().max(1).values < 1e-5]
                assert len(core) > 4, "pixels inside have exactly the object's colour"


def test_outlines_lie_within_their_circle_and_fill_it_fairly():
    x, y = ((2 * pixel_positions(400) - 1) * 1.25).numpy().transpose(2, 0, 1)
    distance = np.stack([outline_distance(shape, x, y) for shape in range(8)])
    assert distance.dtype == np.float32
    covered = distance <= 0
    assert not covered[:, np.hypot(x, y) > 1.003].any()
    area = covered.mean((1, 2)) * 2.5**2
    assert area.min() > 0.9 and area.max() < 2.7
    for d in distance:  # near the outline the distance grows by one a unit, so that edges are equally sharp
        slope = np.hypot(*np.gradient(d, 2.5 / 400))
        assert np.median(slope[np.abs(d) < 0.05]) == pytest.approx(1, abs=0.01)
    upright = covered[SHAPES.index("triangle")]
    assert upright[:150].sum() < upright[200:].sum(), "y points down, and the triangle stands on its base"


def test_objects_stand_where_and_as_the_ground_truth_says():
    """To a fraction of a pixel: the middle of what is drawn, and the five points of stars under rotation."""
    batch = scenes(400, 13, "train", objects=1)
    positions = pixel_positions(128)
    light = (render(batch, 128).max(1).values - GROUND - 4 * NOISE).clamp(min=0)
    middle = (light[..., None] * positions).sum((1, 2)) / light.sum((1, 2))[:, None]
    symmetric = torch.isin(batch.shape[:, 0], torch.tensor([SHAPES.index(s) for s in ("circle", "ring", "square", "diamond", "cross")]))
    cell = batch.cell[:, 0]
    expected = (torch.stack([cell % 2, cell // 2], dim=1) + 0.5 + batch.jitter[:, 0]) / 2
    assert (middle - expected)[symmetric].abs().max() * 128 < 0.3 and torch.allclose(batch.centre[:, 0], expected)
    widest = ((light > 0.3).any(1).sum(1) / 128)[batch.shape[:, 0] == SHAPES.index("cross")]
    size = batch.size[batch.shape[:, 0] == SHAPES.index("cross"), 0]
    assert (widest[size == 0] - 2 * 0.2875 / 2).abs().max() < 0.04 and (widest[size == 1] - 2 * 0.4375 / 2).abs().max() < 0.04

    stars = scenes(600, 13, "train", objects=1, grid=1)
    stars = stars[stars.shape[:, 0] == SHAPES.index("star")]
    brightness = render(stars, 256).max(1).values
    for turns, lit in ((0.0, True), (0.5, False)):
        for point in range(5):
            angle = stars.rotation + 2 * math.pi * (point + turns) / 5 - math.pi / 2
            tip = stars.centre[:, 0] + 0.9 * stars.radius * torch.cat([angle.cos(), angle.sin()], dim=1)
            x, y = (tip * 256).long().unbind(1)
            assert ((brightness[torch.arange(len(stars)), y, x] > 0.6) == lit).all()
    assert stars.rotation.abs().max() > 0.15 and len(stars) > 50


def test_shapes_can_be_told_apart_at_course_size():
    """The nearest of eight templates names the shape, whatever its place, jitter and rotation within their limits."""
    for size in ("small", "large"):
        templates = render(compose([[(size, "white", shape, "")] for shape in SHAPES], grid=1), 64)
        batch = scenes(400, 4, "train", objects=1, grid=1)
        batch = dataclasses.replace(batch, size=torch.full_like(batch.size, int(size == "large")), jitter=batch.jitter * 0.2)
        brightness = render(batch, 64).max(1).values.gt(0.4).flatten(1).double()
        ideal = templates.max(1).values.gt(0.4).flatten(1).double()
        overlap = brightness @ ideal.T / (brightness.sum(1)[:, None] + ideal.sum(1) - brightness @ ideal.T)
        assert (overlap.argmax(1) == batch.shape[:, 0]).double().mean() > 0.97


def test_a_picture_at_another_size_is_the_same_picture():
    batch = scenes(30, 8, "test")
    small, large = render(batch, 32), render(batch, 256)
    reduced = torch.nn.functional.avg_pool2d(large, 8)
    difference = (small - reduced).abs().flatten()
    assert difference.mean() < NOISE and difference.kthvalue(int(0.999 * len(difference))).values < 0.2 and difference.max() < 0.5


@pytest.mark.parametrize("grid", [(2, 2), (2, 4), (4, 2), (1, 3)])
def test_a_canvas_has_square_cells(grid):
    world = scenes(40, 5, "train", objects=(1, 2), grid=grid)
    pictures = render_canvas(world, 16)
    assert pictures.shape == (40, 3, 16 * grid[0], 16 * grid[1])
    if grid == (2, 2):
        assert torch.equal(pictures, render(world, 32))
    cells = pictures.unflatten(2, (grid[0], 16)).unflatten(4, (grid[1], 16)).amax(dim=(1, 3, 5)).flatten(1)  # the brightest of each cell
    bright = (world.cell[..., None] == torch.arange(grid[0] * grid[1])).any(dim=1)
    assert torch.equal(cells > 0.5, bright), "an object in each cell that has one, nothing in the others"
    circles = dataclasses.replace(world, shape=torch.zeros_like(world.shape).masked_fill(~world.present, -1))
    for picture, scene in zip(render_canvas(circles, 16), range(40), strict=True):
        if world.count[scene] == 1:
            shown = picture.amax(dim=0) > 0.5
            assert abs(int(shown.any(dim=0).sum()) - int(shown.any(dim=1).sum())) <= 1, "as wide as high"


def test_a_canvas_needs_cells_of_some_size():
    with pytest.raises(ValueError, match="too few to draw"):
        render_canvas(scenes(1, 0, "train", grid=(2, 4)), 7)
    with unchecked(), pytest.raises(TypeError, match="cell must be an integer"):
        render_canvas(scenes(1, 0, "train", grid=(2, 4)), 16.0)


def test_spread_out_every_object_stays_in_its_quarter():
    world = scenes(200, 3, "train", grid=(1, 2), objects=(1, 2))
    finer = spread(world)
    assert finer.grid == (2, 4) and (finer.cell.diff(dim=1)[world.count == 2] > 0).all(), "in reading order"
    for name in ("shape", "colour", "size"):
        assert torch.equal(getattr(finer, name).sort(dim=1).values, getattr(world, name).sort(dim=1).values)
    for before, after in ((world[row], finer[row]) for row in range(40)):
        halves = dict(zip(before.shape[0].tolist(), before.cell[0].tolist(), strict=True)) | {-1: -1}
        found = dict(zip(after.shape[0].tolist(), (after.cell[0] % 4 // 2).tolist(), strict=True)) | {-1: -1}
        assert halves == found, "every shape in the half where it was"
    assert len(finer.cell[finer.present].unique()) == 8 and torch.equal(spread(world[7]).cell, finer[7].cell)
    with pytest.raises(ValueError, match="1 to 8 rows and columns"):
        spread(scenes(1, 0, "train", grid=5))


def test_the_ground_is_noise_of_its_own_in_every_picture():
    batch = compose([[("small", "red", "star", "top left")]] * 40)
    corner = render(batch, 64)[:, :, 32:, 32:]
    assert corner.mean() == pytest.approx(GROUND, abs=0.002) and corner.std() == pytest.approx(NOISE, abs=0.002)
    similarity = torch.corrcoef(corner.flatten(1)) - torch.eye(40)
    assert similarity.abs().max() < 0.12


def test_the_other_renderer_draws_the_same_things_another_way():
    batch = scenes(40, 9, "test")
    pictures, ours = render_differently(batch, 64), render(batch, 64)
    assert pictures.shape == ours.shape and pictures.dtype == torch.float32 and 0 <= pictures.min() and pictures.max() <= 1
    assert torch.equal(render_differently(batch[[7]], 64), pictures[7:8]) and torch.equal(pictures, render_differently(batch, 64))
    assert not torch.equal(pictures, render_differently(batch, 64, seed=1))
    palette, positions = torch.tensor(PALETTE), pixel_positions(64)
    for row in range(40):
        for slot in range(int(batch.count[row])):
            near = (positions - batch.centre[row, slot]).norm(dim=-1) < 0.9 * batch.radius[row, slot]
            mine, theirs = ours[row][:, near].T, pictures[row][:, near].T
            lit, theirs_lit = (mine.max(1).values > 0.6), (theirs.max(1).values > 0.45)
            assert (lit & theirs_lit).sum() / (lit | theirs_lit).sum() > 0.55
            seen = theirs[theirs_lit].median(0).values
            hue = torch.nn.functional.normalize(palette - palette.mean(1, keepdim=True) + 1e-3, dim=1)
            guess = (hue @ torch.nn.functional.normalize(seen - seen.mean(), dim=0)).argmax().item()
            colour = batch.colour[row, slot].item()
            assert guess == colour or (COLOURS[colour] == "white" and seen.max() - seen.min() < 0.15)
    assert (ours - pictures).abs().mean() > 0.03


# --- captions ---


def objects_of(batch, row):
    names = places(batch.grid)
    fields = zip(*(getattr(batch, f)[row].tolist() for f in ("size", "colour", "shape", "cell")), strict=True)
    return [(("small", "large")[z], COLOURS[c], SHAPES[s], names[cell]) for z, c, s, cell in fields if s >= 0]


@pytest.mark.parametrize("world", WORLDS)
def test_captions_say_what_is_there(world):
    batch = scenes(150, 10, "train", **world)
    said, mixed = {detail: captions(batch, detail) for detail in DETAILS}, captions(batch)
    at = "at " if max(batch.grid) > 3 else "at the "
    for row in range(len(batch)):
        objects = objects_of(batch, row)
        for detail in DETAILS:
            phrases = []
            for size, colour, shape, place in objects:
                words = [size] * (detail in ("size", "full")) + [colour] * (detail != "shape") + [shape if detail != "colour" else "object"]
                words += [at + place] * (detail in ("place", "full") and place != "")
                phrases.append(("an " if words[0].startswith("o") else "a ") + " ".join(words))
            expected = " and ".join([" , ".join(phrases[:-1])] * (len(phrases) > 1) + [phrases[-1]])
            assert said[detail][row] == expected
        assert mixed[row] in {said[detail][row] for detail in DETAILS[2:]}
    facts = {said["full"][row]: tuple(objects_of(batch, row)) for row in range(len(batch))}
    assert len(set(facts.values())) == len(facts), "a full caption tells all that has a name"
    if world == {}:
        assert len({tuple(c == said[d][row] for d in DETAILS[2:]) for row, c in enumerate(mixed)}) > 3, "details vary"


def test_every_word_is_in_the_vocabulary_and_every_word_of_it_is_used():
    used = set()
    for world in [*WORLDS, dict(grid=(2, 3))]:
        batch = scenes(400, 11, "train", **world)
        for text in [*captions(batch), *captions(batch, "colour"), *(t for qs in questions(batch) for q in qs for t in q[:2])]:
            used.update(text.split())
    assert used <= set(WORDS)
    rare = {word for value in range(21, 70) for word in number(value).split()} | {number(value) for value in range(21)}
    assert set(WORDS) - used <= rare | {"in", ",", "picture", "first", "second", "third", "fourth"}
    assert len(set(WORDS)) == len(WORDS) and all(word == word.lower() and " " not in word for word in WORDS)


def test_names_of_places():
    assert places((2, 2)) == ("top left", "top right", "bottom left", "bottom right")
    assert places((1, 1)) == ("",) and places((1, 3)) == ("left", "centre", "right") and places((2, 1)) == ("top", "bottom")
    assert places((3, 3))[4] == "middle centre" and places((4, 8))[-1] == "row four column eight" and places((1, 5))[2] == "column three"
    for rows in range(1, 9):
        for columns in range(1, 9):
            assert len(set(places((rows, columns)))) == rows * columns
    assert number(0) == "zero" and number(20) == "twenty" and number(64) == "sixty four"


# --- composing ---


def test_scenes_put_together_by_hand():
    batch = compose(
        [[("large", "red", "star", "bottom right"), ("small", "blue", "ring", "top left")], [("small", "red", "circle", "top right")]]
    )
    assert captions(batch, "full") == ["a small blue ring at the top left and a large red star at the bottom right",
                                       "a small red circle at the top right"]  # fmt: skip
    assert batch.count.tolist() == [2, 1] and batch.split == "any" and len(questions(batch)[0]) == 9
    both = join([batch, scenes(5, 0, "train")])
    assert len(both) == 7 and both.split == "any" and join([scenes(2, 0, "test"), scenes(3, 1, "test")]).split == "test"
    assert torch.equal(render(both)[:2], render(batch)) and captions(both)[2:] == captions(scenes(5, 0, "train"))
    moved = in_reading_order(dataclasses.replace(batch, cell=torch.tensor([[3, 0], [2, -1]])))
    assert captions(moved, "full")[0] == "a large red star at the top left and a small blue ring at the bottom right"
    with pytest.raises(ValueError, match="unknown colour 'pink'"):
        compose([[("large", "pink", "star", "top left")]])
    with pytest.raises(ValueError, match="unknown place 'centre'.*top left"):
        compose([[("large", "red", "star", "centre")]])
    with pytest.raises(ValueError, match="one place"):
        compose([[("large", "red", "star", "top left"), ("large", "blue", "ring", "top left")]])
    with pytest.raises(ValueError, match="alike"):
        compose([[("large", "red", "star", "top left"), ("small", "red", "star", "top right")]])
    with pytest.raises(ValueError, match="no objects"):
        compose([[]])
    with pytest.raises(ValueError, match="grid"):
        join([batch, scenes(1, 0, "train", grid=3)])
    with pytest.raises(ValueError, match="empty"):
        join([])


@pytest.mark.parametrize("what", ["shape", "colour", "size", "place"])
@pytest.mark.parametrize(("split", "world"), [("train", {}), ("held_out", dict(objects=1)), ("test", dict(objects=(9, 30), grid=6))])
def test_a_change_changes_one_thing_and_keeps_the_rules(what, split, world):
    batch = scenes(200, 12, split, **world)
    other = changed(batch, what)
    assert same(other, changed(batch, what)) and same(other[[5]], changed(batch[[5]], what))
    assert split == "held_out" or not same(other, changed(batch, what, seed=1))
    pair = other.pair[other.present]
    assert pairs_of(split).flatten()[pair].all()
    for row in range(200):
        before, after = objects_of(batch, row), objects_of(other, row)
        lost, gained = sorted(set(before) - set(after)), sorted(set(after) - set(before))
        exchange = what == "place" and len(before) == 4 and batch.grid == (2, 2)
        assert len(lost) == len(gained) == 1 + exchange
        if not exchange:
            differs = [name for name, a, b in zip(("size", "colour", "shape", "place"), lost[0], gained[0], strict=True) if a != b]
            assert differs == [what]
        cells = [place for *_, place in after]
        assert len(set(cells)) == len(cells) and cells == sorted(cells, key=places(batch.grid).index)
        assert len({o[1:3] for o in after}) == len(after) and (len(after) > 8 or len({o[2] for o in after}) == len(after))


def test_changes_that_cannot_be_made():
    with pytest.raises(ValueError, match="unknown change 'hue'"):
        changed(scenes(1, 0, "train"), "hue")
    with pytest.raises(ValueError, match="scene 0 admits no other place"):
        changed(scenes(2, 0, "train", objects=1, grid=1), "place")


# --- errors ---


@pytest.mark.parametrize(("arguments", "options", "message"), [
    ((4, 0, "testing"), {}, "unknown split 'testing'.*train, validation, test, held_out"),
    ((-1, 0, "train"), {}, "the number of scenes.*-1"),
    ((4, -3, "train"), {}, "seed must be between 0 and .*-3"),
    ((4, 2**63, "train"), {}, "seed must be between"),
    ((4, 0, "train"), dict(objects=0), "at least one object.*objects=0"),
    ((4, 0, "train"), dict(objects=(0, 2)), "at least one object"),
    ((4, 0, "train"), dict(objects=(3, 2)), r"objects=\(3, 2\)"),
    ((4, 0, "train"), dict(objects=5), "5 objects do not fit into 2 x 2 = 4 cells"),
    ((4, 0, "train"), dict(objects=49, grid=8), "49 objects.*'train' has 48"),
    ((4, 0, "held_out"), dict(objects=17, grid=8), "17 objects.*'held_out' has 16"),
    ((4, 0, "train"), dict(grid=9), "1 to 8 rows"),
    ((4, 0, "train"), dict(grid=(2, 0)), "1 to 8 rows"),
    ((4, 0, "train"), dict(start=-1), "start must be"),
])  # fmt: skip
def test_impossible_scenes(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        scenes(*arguments, **options)


@pytest.mark.parametrize(("arguments", "options", "message"), [
    ((4, 0.5, "train"), {}, "seed must be an integer, got 0.5 of type float"),
    ((4, "0", "train"), {}, "seed must be an integer, got '0'"),
    ((4, True, "train"), {}, "seed must be an integer, got True"),
    ((4, None, "train"), {}, "seed must be an integer, got None"),
    ((2.0, 0, "train"), {}, "the number of scenes must be an integer"),
    ((4, 0, "train"), dict(grid="2x2"), "grid must be"),
    ((4, 0, "train"), dict(objects=(1, 2, 3)), "objects must be"),
    ((4, 0, "train"), dict(objects=(1.5, 3)), "objects must be"),
    ((4, 0, "train"), dict(objects=1.5), "objects must be"),
])  # fmt: skip
def test_things_of_the_wrong_type(arguments, options, message):
    with unchecked(), pytest.raises(TypeError, match=message):
        scenes(*arguments, **options)
    with unchecked():
        assert same(scenes(3, np.int64(4), "train"), scenes(3, 4, "train")), "an integer of numpy's is an integer"


def test_sizes_too_small_to_draw():
    for draw in (render, render_differently):
        assert draw(scenes(1, 0, "train"), 2 * SMALLEST_CELL).shape[-1] == 16
        with pytest.raises(ValueError, match="15 pixels are too few to draw 2 x 2 cells: size must be at least 16"):
            draw(scenes(1, 0, "train"), 15)
        with pytest.raises(ValueError, match="at least 48"):
            draw(scenes(1, 0, "train", grid=(3, 6)), 32)
        with pytest.raises(ValueError, match="size"):
            draw(scenes(1, 0, "train"), -32)
        with unchecked(), pytest.raises(TypeError, match="size must be an integer"):
            draw(scenes(1, 0, "train"), 32.0)
    assert render(scenes(0, 0, "train")).shape == (0, 3, 32, 32) == render_differently(scenes(0, 0, "train")).shape
    with pytest.raises(ValueError, match="unknown detail 'long'.*mixed"):
        captions(scenes(1, 0, "train"), "long")
    assert RADII[1] + JITTER <= 0.5, "a large object fits into its cell wherever it is moved"
