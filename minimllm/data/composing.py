"""Scenes put together by hand, joined, and changed in one thing."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from minimllm.data import chance
from minimllm.data.words import COLOURS, SHAPES, SIZES, places
from minimllm.data.world import SPLITS, Scenes, check_grid, pairs_of


def join(parts: list[Scenes]) -> Scenes:
    """Several batches as one, in the order given; they must share the grid. The split is theirs where they agree, else ``"any"``."""
    if not parts:
        raise ValueError("nothing to join: the list of scenes is empty")
    if len({part.grid for part in parts}) > 1:
        raise ValueError(f"only scenes on one grid can be joined, got the grids {sorted({part.grid for part in parts})}")
    most = max(part.shape.shape[1] for part in parts)

    def stacked(name: str) -> Tensor:
        tensors = []
        for part in parts:
            value = getattr(part, name)
            if value.ndim > 1:
                extra = value.new_full((len(value), most - value.shape[1], *value.shape[2:]), 0 if value.is_floating_point() else -1)
                value = torch.cat([value, extra], dim=1)
            tensors.append(value)
        return torch.cat(tensors)

    fields = {f.name: stacked(f.name) for f in dataclasses.fields(Scenes) if f.name not in ("grid", "split")}
    splits = {part.split for part in parts}
    return Scenes(**fields, grid=parts[0].grid, split=splits.pop() if len(splits) == 1 else "any")


def compose(objects: list[list[tuple[str, str, str, str]]], grid: int | tuple[int, int] = 2, seed: int = 0) -> Scenes:
    """Scenes put together by hand: for each a list of ``(size, colour, shape, place)``, such as ``("large", "red", "star", "top left")``.

    Any pair of shape and colour may be used. Raises ``ValueError`` for an unknown word, an empty scene, two objects in one place, and two
    objects alike in shape and colour, of which no sentence could tell which it means.
    """
    grid = check_grid(grid)
    names = places(grid)
    keys = chance.scene_keys(chance.check_seed(seed), len(SPLITS), 0, len(objects))
    most = max((len(scene) for scene in objects), default=1)
    fields = torch.full((4, len(objects), most), -1)
    for row, scene in enumerate(objects):
        if not scene:
            raise ValueError(f"scene {row} has no objects; a scene holds at least one")
        indices = sorted(
            (_index(place, names, "place"), _index(s, SHAPES, "shape"), _index(c, COLOURS, "colour"), _index(z, SIZES, "size"))
            for z, c, s, place in scene
        )
        if len({index[0] for index in indices}) < len(indices):
            raise ValueError(f"scene {row} puts two objects in one place: {scene}")
        if len({index[1:3] for index in indices}) < len(indices):
            raise ValueError(f"scene {row} holds two objects alike in shape and colour: {scene}")
        fields[:, row, : len(indices)] = torch.tensor(indices).T
    cell, shape, colour, size = fields
    zeros = torch.zeros(len(objects), most)
    return Scenes(shape, colour, size, cell, zeros[..., None].repeat(1, 1, 2), zeros, torch.from_numpy(keys.view(np.int64)), grid, "any")


def changed(scenes: Scenes, what: str, seed: int = 0) -> Scenes:
    """Each scene with one thing about one of its objects changed: the hard negatives of contrastive learning, minimal pairs for tests.

    What comes out keeps the rules of its split: only pairs of shape and colour that it may show, shapes distinct as before. Everything
    else, noise, jitter and rotation too, stays. ``place`` moves an object to an empty cell, or where there is none exchanges two objects.

    Args:
        scenes: what to change.
        what: ``shape``, ``colour``, ``size`` or ``place``.
        seed: another one makes other changes.

    Raises:
        ValueError: another ``what``, or a scene that admits no such change.
    """
    if what not in ("shape", "colour", "size", "place"):
        raise ValueError(f"unknown change {what!r}; choose shape, colour, size or place")
    keys = chance.mix(scenes.key.numpy().view(np.uint64) ^ np.uint64(chance.check_seed(seed)))
    values = {name: getattr(scenes, name).numpy().copy() for name in ("shape", "colour", "size", "cell")}
    shape, colour, size, cell = values.values()
    present = shape >= 0
    pairs = pairs_of(scenes.split).numpy()
    taken = ((8 * shape + colour)[:, :, None] == np.arange(64)).any(1).reshape(-1, 1, 8, 8)
    cells = np.arange(scenes.grid[0] * scenes.grid[1])
    if what == "shape":
        possible = pairs.T[colour] & ~np.take_along_axis(taken, colour[:, :, None, None] % 8, 3)[..., 0]
        possible &= ~taken.any(3) | (scenes.count > 8).numpy()[:, None, None]
    elif what == "colour":
        possible = pairs[shape] & ~np.take_along_axis(taken, shape[:, :, None, None] % 8, 2)[:, :, 0]
    elif what == "size":
        possible = size[:, :, None] != np.arange(2)
    else:
        full = present.sum(1) == len(cells)
        empty = ~(cell[:, :, None] == cells).any(1)
        possible = np.where(full[:, None, None], cell[:, :, None] != cells, empty[:, None])
    possible &= present[:, :, None]
    if not possible.any((1, 2)).all():
        raise ValueError(f"scene {int(possible.any((1, 2)).argmin())} admits no other {what}")
    chosen = chance.pick(possible.reshape(len(scenes), possible[0].size if len(scenes) else 1), chance.uniform(keys, 1, purpose=8)[:, 0])
    rows, (slot, value) = np.arange(len(scenes)), np.divmod(chosen, possible.shape[2])
    if what == "place":
        other_row, other_slot = np.nonzero(cell == value[:, None])
        cell[other_row, other_slot] = cell[other_row, slot[other_row]]
        cell[rows, slot] = value
    else:
        values[what][rows, slot] = value
    return in_reading_order(dataclasses.replace(scenes, **{name: torch.from_numpy(array) for name, array in values.items()}))


def spread(scenes: Scenes) -> Scenes:
    """The same scenes on a grid twice as fine: every object, half as large beside its picture, somewhere in the cell that it had.

    What was said and asked about them stays true, in the words of the coarser grid.

    Raises:
        ValueError: a grid of more than 4 rows or columns.
    """
    grid = check_grid((2 * scenes.grid[0], 2 * scenes.grid[1]))
    luck = chance.uniform(scenes.key.numpy().view(np.uint64), scenes.shape.shape[1], purpose=9)
    down, right = np.divmod((4 * luck).astype(np.int64), 2)
    rows, columns = np.divmod(scenes.cell.numpy(), scenes.grid[1])
    cell = torch.from_numpy((2 * rows + down) * grid[1] + 2 * columns + right)
    return in_reading_order(dataclasses.replace(scenes, cell=torch.where(scenes.present, cell, -1), grid=grid))


def in_reading_order(scenes: Scenes) -> Scenes:
    """The same scenes with their objects sorted by place, as :class:`Scenes` has them: for after changing ``cell``."""
    order = torch.where(scenes.present, scenes.cell, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True)
    fields = {name: getattr(scenes, name).gather(1, order) for name in ("shape", "colour", "size", "cell", "rotation")}
    jitter = scenes.jitter.gather(1, order[..., None].expand(-1, -1, 2))
    return dataclasses.replace(scenes, jitter=jitter, **fields)


def _index(word: str, words: tuple[str, ...], what: str) -> int:
    if word not in words:
        raise ValueError(f"unknown {what} {word!r}; choose one of {', '.join(words)}")
    return words.index(word)
