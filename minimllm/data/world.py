"""The generated world's ground truth: which objects a scene holds, drawn from a seed.

**Which pairs are held out.** Of the 64 pairs of shape and colour, 16 never appear outside the split ``held_out``: shape number ``s`` with
colours ``s + 3`` and ``s + 6`` (counted round in eight). Every shape then keeps six colours and every colour six shapes, so both stay
equally frequent, and a colour tells ``log2(8 / 6) = 0.415`` bits about the shape it comes with, whichever colour it is. Holding nothing
out would make it 0, half of all pairs 1; one colour per shape would make it 0.193, but then each colour would point to one single shape
that it is not, and only half as many pairs would be left to measure on. Among all ways to hold out two colours per shape the information
is the same; this one links the pairs into a single ring of 16 (``gcd(6 - 3, 8) = 1``), so that no two shapes lack the same two colours
and no group of shapes and colours is set apart from the rest.
"""

import dataclasses
import operator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minimllm.data import chance
from minimllm.data.words import COLOURS, LARGEST_GRID, SHAPES

SPLITS = ("train", "validation", "test", "held_out")
RADII = (0.2875, 0.4375)
"""Radius of a small and of a large object, in sides of its cell: 4.6 and 7 pixels in a picture of 32 pixels with 2 x 2 cells."""
JITTER = 1 / 16
"""How far, at most, an object's centre lies from its cell's, in sides of the cell: 1 pixel of 16."""
ROTATION = np.pi / 18
"""The largest rotation either way, in radians: 10 degrees."""

_SHAPE_NUMBER, _COLOUR_NUMBER = np.divmod(np.arange(64), 8)
_HELD_OUT = np.isin((_COLOUR_NUMBER - _SHAPE_NUMBER) % 8, (3, 6)).reshape(8, 8)
_PAIRS = {split: _HELD_OUT if split == "held_out" else ~_HELD_OUT for split in SPLITS} | {"any": np.ones((8, 8), bool)}

pair_names: tuple[str, ...] = tuple(f"{COLOURS[c]} {SHAPES[s]}" for s, c in zip(_SHAPE_NUMBER, _COLOUR_NUMBER, strict=True))
"""The 64 pairs by index ``8 * shape + colour``, as they are said: ``"red circle"``, ``"green circle"``, ..., ``"white heart"``."""
held_out_pairs: tuple[int, ...] = tuple(np.flatnonzero(_HELD_OUT).tolist())
"""The indices of the 16 pairs that only the split ``held_out`` has, and it has no others."""


def pairs_of(split: str) -> Bool[Tensor, "8 8"]:
    """Which pairs of (shape, colour) a split may show; ``"any"``, the split of scenes put together by hand, has all."""
    return torch.from_numpy(_PAIRS[split].copy())


@dataclasses.dataclass(frozen=True)
class Scenes:
    """What a batch of scenes holds. Objects stand in reading order; rows with fewer objects than the fullest are padded with -1 (or 0.0).

    Attributes:
        shape, colour, size: indices into ``SHAPES``, ``COLOURS``, ``SIZES``.
        cell: the object's place, ``row * columns + column``.
        jitter: where its centre lies off the middle of its cell, to the right and down, in sides of the cell.
        rotation: in radians, clockwise as seen.
        key: 64 random bits of the scene's own, from which its noise, its captions and its questions are drawn.
        grid: (rows, columns) of cells; the picture is square.
        split: which split it is drawn from; ``"any"`` when put together by hand.
    """

    shape: Int[Tensor, "scenes objects"]
    colour: Int[Tensor, "scenes objects"]
    size: Int[Tensor, "scenes objects"]
    cell: Int[Tensor, "scenes objects"]
    jitter: Float[Tensor, "scenes objects 2"]
    rotation: Float[Tensor, "scenes objects"]
    key: Int[Tensor, "scenes"]
    grid: tuple[int, int]
    split: str

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows) -> "Scenes":
        """Some of the scenes, still as a batch: an index, a slice, a list of indices or a mask."""
        if isinstance(rows, int):
            rows = [range(len(self))[rows]]
        tensors = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: value[rows] for name, value in tensors.items() if isinstance(value, Tensor)})

    @property
    def present(self) -> Bool[Tensor, "scenes objects"]:
        """Which entries are objects and not padding."""
        return self.shape >= 0

    @property
    def count(self) -> Int[Tensor, "scenes"]:
        """How many objects each scene holds."""
        return self.present.sum(1)

    @property
    def pair(self) -> Int[Tensor, "scenes objects"]:
        """The 64-way label ``8 * shape + colour`` of each object, an index into ``pair_names``; -1 where there is none."""
        return torch.where(self.present, 8 * self.shape + self.colour, -1)

    @property
    def centre(self) -> Float[Tensor, "scenes objects 2"]:
        """(x, y) of each object's centre, in sides of the picture from its top left corner."""
        rows, columns = self.grid
        corner = torch.stack([self.cell % columns, self.cell // columns], dim=-1)
        side = 1 / max(rows, columns)
        return (corner + 0.5) / torch.tensor([columns, rows]) + self.jitter * side

    @property
    def radius(self) -> Float[Tensor, "scenes objects"]:
        """Radius of the circle that each object fits into, in sides of the picture."""
        return torch.tensor(RADII)[self.size] / max(self.grid)


def scenes(
    n: int, seed: int, split: str, *, objects: int | tuple[int, int] = (1, 4), grid: int | tuple[int, int] = 2, start: int = 0
) -> Scenes:
    """Draws ``n`` scenes.

    Scene ``i`` depends on ``(seed, split, objects, grid, start + i)`` alone. So a batch equals its rows, ``n`` may grow without changing
    what was there, and ``start=step * n`` walks along an endless stream without repetition. No two splits share a scene, whatever the
    seeds.

    In scenes of up to eight objects all shapes are distinct, so that "the star" is one object; of larger ones all pairs of shape and colour
    are, so that "the red star" is. Places, sizes and the number of objects are uniform and independent. Every second scene of two objects
    and every fourth of more (up to eight) has two objects of one colour; the others repeat a colour only where they must.

    Args:
        n: how many.
        seed: any integer from 0 to 2**63 - 1.
        split: ``train``, ``validation`` and ``test`` show the 48 pairs of shape and colour that are not held out, ``held_out`` the
            other 16.
        objects: how many objects a scene holds: a number, or the least and the most.
        grid: the cells in which objects stand, at most one in each: (rows, columns), or a number for both; at most 8.
        start: the number of the first scene.

    Raises:
        ValueError: an unknown split, a negative ``n``, no objects, more objects than cells or than distinct pairs, a grid out of range.
        TypeError: a seed, number or grid that is not of integers.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    seed, start = chance.check_seed(seed), chance.check_seed(start, "start")
    n = chance.check_seed(n, "the number of scenes")
    grid = check_grid(grid)
    fewest, most = _check_objects(objects, grid, split)
    keys = chance.scene_keys(seed, SPLITS.index(split), start, n)
    cells = grid[0] * grid[1]

    luck = chance.uniform(keys, 1 + cells + 4 * most)
    count = fewest + (luck[:, 0] * (most - fewest + 1)).astype(np.int64)
    absent = np.arange(most) >= count[:, None]
    cell = luck[:, 1 : 1 + cells].argsort(1)[:, :most]
    rows, order = np.arange(n)[:, None], np.where(absent, cells, cell).argsort(1, kind="stable")
    shape, colour = _pairs(keys, count, most, split)
    size, jitter_x, jitter_y, turn = np.moveaxis(luck[:, 1 + cells :].reshape(n, most, 4), 2, 0)

    def in_order(values: np.ndarray, padding: float) -> Tensor:
        return torch.from_numpy(np.where(absent, padding, values[rows, order]))

    jitter = torch.stack([in_order((2 * u - 1) * JITTER, 0.0) for u in (jitter_x, jitter_y)], dim=-1)
    return Scenes(
        shape=in_order(shape, -1),
        colour=in_order(colour, -1),
        size=in_order((size >= 0.5).astype(np.int64), -1),
        cell=in_order(cell, -1),
        jitter=jitter.float(),
        rotation=in_order((2 * turn - 1) * ROTATION, 0.0).float(),
        key=torch.from_numpy(keys.view(np.int64)),
        grid=grid,
        split=split,
    )


def _pairs(keys: np.ndarray, count: np.ndarray, most: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Shapes and colours for up to ``most`` objects a scene, in no particular order."""
    few = _distinct_shapes(keys, count, min(most, 8), split)
    if most <= 8:
        return few
    crowded = count[:, None] > 8
    pair = (chance.uniform(keys, 64, purpose=2) + ~_PAIRS[split].reshape(64)).argsort(1)[:, :most]
    shape, colour = (
        np.where(crowded, many, np.pad(some, ((0, 0), (0, most - 8)))) for many, some in zip(np.divmod(pair, 8), few, strict=True)
    )
    return shape, colour


def _distinct_shapes(keys: np.ndarray, count: np.ndarray, most: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    allowed = _PAIRS[split]
    luck = chance.uniform(keys, 18 + most, purpose=1)
    repeats = (count > 1) & (luck[:, 0] < np.where(count == 2, 0.5, 0.25))
    repeated = (luck[:, 1] * 8).astype(np.int64)

    order = luck[:, 2:10].copy()
    twins = (luck[:, 10:18] + ~allowed.T[repeated]).argsort(1)[:, :2]
    for position in range(2):
        twin = twins[repeats, position]
        order[repeats, twin] = position - 2.0
    shape = order.argsort(1)[:, :most]

    colour = np.empty_like(shape)
    used = np.zeros((len(keys), 8), bool)
    rows = np.arange(len(keys))
    for position in range(most):
        possible = allowed[shape[:, position]]
        fresh = possible & ~used
        chosen = chance.pick(np.where(fresh.any(1, keepdims=True), fresh, possible), luck[:, 18 + position])
        colour[:, position] = np.where(repeats, repeated, chosen) if position < 2 else chosen
        used[rows, colour[:, position]] = True
    return shape, colour


def check_grid(grid: int | tuple[int, int]) -> tuple[int, int]:
    """The grid as (rows, columns); refuses one that is empty or too large."""
    try:
        rows, columns = (grid, grid) if isinstance(grid, int) else grid
        rows, columns = chance.check_seed(rows, "rows"), chance.check_seed(columns, "columns")
    except (TypeError, ValueError):
        raise TypeError(f"grid must be an integer or (rows, columns), got {grid!r}") from None
    if not (1 <= rows <= LARGEST_GRID and 1 <= columns <= LARGEST_GRID):
        raise ValueError(f"a grid has 1 to {LARGEST_GRID} rows and columns, got {grid!r}")
    return rows, columns


def _check_objects(objects: int | tuple[int, int], grid: tuple[int, int], split: str) -> tuple[int, int]:
    try:
        fewest, most = (objects, objects) if isinstance(objects, int) else objects
        fewest, most = operator.index(fewest), operator.index(most)
    except (TypeError, ValueError):
        raise TypeError(f"objects must be an integer or (fewest, most), got {objects!r}") from None
    if fewest < 1 or most < fewest:
        raise ValueError(f"a scene holds at least one object, and at most no fewer than at least; got objects={objects!r}")
    if most > grid[0] * grid[1]:
        raise ValueError(f"{most} objects do not fit into {grid[0]} x {grid[1]} = {grid[0] * grid[1]} cells; take fewer, or a larger grid")
    kinds = int(_PAIRS[split].sum())
    if most > kinds:
        raise ValueError(f"{most} objects of distinct shape and colour are not to be had: the split {split!r} has {kinds} such pairs")
    return fewest, most
