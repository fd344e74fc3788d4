"""Draws scenes: every shape is a distance to its outline, and a pixel is covered by as much as that distance says.

For each pixel of an object's cell the signed distance to the outline (negative inside) is computed from a formula, and half a pixel to
either side of the outline the colour is blended with the ground: antialiasing without drawing anything twice. The technique, and several
of the formulas, are those of Inigo Quilez, *2D distance functions* (iquilezles.org/articles/distfunctions2d).
"""

import dataclasses
import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from minimllm.data import chance
from minimllm.data.words import SHAPES
from minimllm.data.world import Scenes

PALETTE: tuple[tuple[float, float, float], ...] = (
    (0.95, 0.19, 0.20),
    (0.16, 0.86, 0.28),
    (0.20, 0.36, 0.98),
    (0.99, 0.88, 0.14),
    (0.68, 0.22, 0.94),
    (0.12, 0.86, 0.95),
    (0.99, 0.54, 0.08),
    (0.96, 0.96, 0.96),
)
"""Red, green and blue of each of ``COLOURS``, between 0 and 1."""
GROUND = 0.10
"""Brightness of the dark ground."""
NOISE = 0.04
"""Standard deviation of the ground's noise."""
SMALLEST_CELL = 8
"""Pixels a cell needs at least: below, the outlines of small objects cannot be told apart."""

_BLOCK = 1 << 18


def outline_distance(shape: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance from ``(x, y)`` to the outline of shape number ``shape``, negative inside; y points down.

    All outlines lie within the unit circle. The distance is exact near the outline's sides and an underestimate outside of corners. All
    shapes are mirror images of themselves, so only ``|x|`` matters.
    """
    return _OUTLINES[SHAPES[shape]](np.abs(x), y)


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - 0.9


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(x * x + y * y) - 0.72) - 0.23


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.abs(y)) - 0.7


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(y, (math.sqrt(3) / 2) * x - 0.5 * y) - 0.5


def _diamond(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.82 * x + 0.57 * np.abs(y) - 0.57


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.94, np.minimum(x, y) - 0.29)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: the plane is folded along the symmetry axes until one side of one point is left, a straight line."""
    for cosine, sine in ((math.cos(math.pi / 5), math.sin(math.pi / 5)), (-math.cos(math.pi / 5), math.sin(math.pi / 5))):
        beyond = 2 * np.maximum(cosine * x + sine * y, 0)
        x, y = x - cosine * beyond, y - sine * beyond
    inner = 0.47
    right, down = inner * math.sin(math.pi / 5), 1 - inner * math.cos(math.pi / 5)
    return (down * np.abs(x) - right * (y + 1)) / math.hypot(right, down)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square standing on a corner, and a half circle on each of its two upper sides."""
    half, y = 0.54, y - 0.17
    across, along = math.sqrt(0.5) * (x + y), math.sqrt(0.5) * (x - y)
    square = np.maximum(np.abs(across), np.abs(along))
    lobe = np.sqrt(across**2 + (along - half) ** 2)
    return np.minimum(square, lobe) - half


_OUTLINES = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "cross": _cross,
    "star": _star,
    "heart": _heart,
}


def render(scenes: Scenes, size: int = 32) -> Float[Tensor, "scenes 3 size size"]:
    """Draws scenes as pictures with red, green and blue between 0 and 1.

    The same scene at another size is the same picture, finer or coarser; only the ground's noise is per pixel. Picture ``i`` depends on
    scene ``i`` alone.

    Args:
        scenes: what to draw.
        size: side of the pictures in pixels.

    Raises:
        ValueError: fewer than 8 pixels for a cell's side.
        TypeError: ``size`` is not an integer.
    """
    smallest = SMALLEST_CELL * max(scenes.grid)
    if chance.check_seed(size, "size") < smallest:
        rows, columns = scenes.grid
        raise ValueError(f"{size} pixels are too few to draw {rows} x {columns} cells: size must be at least {smallest}")
    pictures = torch.empty(len(scenes), 3, size, size)
    block = max(1, _BLOCK // size**2)
    for first in range(0, len(scenes), block):
        _draw(scenes[first : first + block], pictures[first : first + block])
    return pictures


def render_canvas(scenes: Scenes, cell: int = 16) -> Float[Tensor, "scenes 3 height width"]:
    """Draws scenes with square cells, so that a grid of other than equal sides gives a picture that is not square.

    Args:
        scenes: what to draw.
        cell: side of a cell in pixels; the pictures are ``rows * cell`` high and ``columns * cell`` wide. With as many rows as columns
            they are those of :func:`render`.

    Raises:
        ValueError: fewer than 8 pixels for a cell's side.
        TypeError: ``cell`` is not an integer.
    """
    rows, columns = scenes.grid
    side = max(scenes.grid)
    placed = torch.where(scenes.present, scenes.cell // columns * side + scenes.cell % columns, -1)
    square = dataclasses.replace(scenes, cell=placed, grid=(side, side))
    return render(square, chance.check_seed(cell, "cell") * side)[:, :, : rows * cell, : columns * cell]


def _draw(scenes: Scenes, pictures: Tensor) -> None:
    rows, columns = scenes.grid
    size = pictures.shape[-1]
    height, width = -(-size // rows), -(-size // columns)
    tops, lefts = np.arange(rows) * size // rows, np.arange(columns) * size // columns
    fits = height * rows == size and width * columns == size
    canvas = pictures if fits else torch.empty(len(scenes), 3, height * rows, width * columns)
    _draw_ground(scenes.key, canvas)

    # The objects of all scenes in one list, sorted by shape; what is known of each, in pixels from the corner of its cell.
    shape = scenes.shape.numpy()
    scene, slot = np.nonzero(shape >= 0)
    order = shape[scene, slot].argsort(kind="stable")
    scene, slot = scene[order], slot[order]
    row, column = np.divmod(scenes.cell.numpy()[scene, slot], columns)
    radius = scenes.radius.numpy()[scene, slot, None] * np.float32(size)
    centre = scenes.centre.numpy()[scene, slot] * np.float32(size)
    right = (np.arange(width, dtype=np.float32) + 0.5 - (centre[:, :1] - lefts[column, None].astype(np.float32))) / radius
    down = (np.arange(height, dtype=np.float32) + 0.5 - (centre[:, 1:] - tops[row, None].astype(np.float32))) / radius
    turn = scenes.rotation.numpy()[scene, slot, None]
    cosine, sine = np.cos(turn), np.sin(turn)
    x = (cosine * right)[:, None] + (sine * down)[..., None]
    y = (cosine * down)[..., None] - (sine * right)[:, None]

    distance = np.empty_like(x)
    ends = np.bincount(shape[scene, slot], minlength=len(SHAPES)).cumsum().tolist()
    for number, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if first < last:
            distance[first:last] = outline_distance(number, x[first:last], y[first:last])
    cover = np.clip(0.5 - distance * radius[..., None], 0, 1)

    # Each line of a cell is a row of ``lines``: those under objects are taken out, blended with the colours, and put back.
    lines = canvas.view(-1, width)
    line = np.arange(3)[:, None] * (rows * height) + np.arange(height)
    line = (line + (scene * (3 * rows * height) + row * height)[:, None, None]) * columns + column[:, None, None]
    line = torch.from_numpy(line.ravel())
    blended = lines.index_select(0, line).view(len(scene), 3, height, width)
    blended.lerp_(torch.tensor(PALETTE)[scenes.colour[scene, slot], :, None, None], torch.from_numpy(cover)[:, None])
    lines.index_copy_(0, line, blended.view(-1, width))
    if not fits:
        every_row, every_column = _kept(tops, height, size), _kept(lefts, width, size)
        pictures.copy_(canvas[:, :, every_row][:, :, :, every_column])


def _kept(starts: np.ndarray, length: int, size: int) -> Int[Tensor, "size"]:
    """Where each pixel of the picture lies on a canvas whose cells, all of one length, overlap in the picture."""
    pixel = np.arange(size)
    cell = np.searchsorted(starts, pixel, side="right") - 1
    return torch.from_numpy(cell * length + pixel - starts[cell])


def _draw_ground(keys: Int[Tensor, "scenes"], canvas: Float[Tensor, "scenes 3 height width"]) -> None:
    """Dark noise: for every scene a stretch of one long fixed sequence, beginning at a place of the scene's own."""
    length = canvas[0].numel()
    pool = _noise(max(1 << 20, 1 << (2 * length - 1).bit_length()))
    places = chance.draws(keys.numpy().view(np.uint64), 1, purpose=3)[:, 0] % np.uint64(len(pool) - length)
    stretches = pool.as_strided((len(pool) - length, length), (1, 1))
    torch.index_select(stretches, 0, torch.from_numpy(places.view(np.int64)), out=canvas.view(-1, length))


@lru_cache(maxsize=4)
def _noise(length: int) -> Float[Tensor, "length"]:
    """Ground plus noise. The sum of four 16-bit numbers is close to normal, within 3.5 standard deviations, and exact on every machine."""
    numbers = chance.draws(np.zeros(1, np.uint64), 1, purpose=4)[0] + np.arange(length, dtype=np.uint64)
    total = sum((chance.mix(numbers)[:, None].view(np.uint16)).T.astype(np.float64))
    deviations = (total - 2 * 65535) / math.sqrt(4 * (65536**2 - 1) / 12)
    return torch.from_numpy(np.clip(GROUND + NOISE * deviations, 0, 1)).float()
