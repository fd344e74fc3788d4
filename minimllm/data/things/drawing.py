"""Draws the things: sketches are turned, placed and coloured as the ground truth says, and laid over a ground layer by layer."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from torch import Tensor

from minimllm.data import chance
from minimllm.data.things.catalogue import KINDS, THINGS
from minimllm.data.things.coverage import coverage
from minimllm.data.things.grounds import grounds
from minimllm.data.things.hands import Look, look_of, moved
from minimllm.data.things.outlines import Outlines, of_sketch
from minimllm.data.things.sketch import Sketch
from minimllm.data.things.truth import Things

SMALLEST_SIDE = 16
"""Pixels a picture needs at least on a side."""

_PROPORTIONS = 40
_BLOCK = 1 << 17


def render_things(things: Things, size: int = 64) -> Float[Tensor, "things 3 size size"]:
    """Draws things as pictures with red, green and blue between 0 and 1.

    The same thing at another size is the same picture, finer or coarser. Picture ``i`` depends on thing ``i`` alone, but for
    rounding errors below 1e-6.

    Args:
        things: what to draw, and whose hand draws it.
        size: side of the pictures in pixels.

    Raises:
        ValueError: fewer than 16 pixels.
        TypeError: ``size`` is not an integer.
    """
    if chance.check_seed(size, "size") < SMALLEST_SIDE:
        raise ValueError(f"{size} pixels are too few to tell things apart: size must be at least {SMALLEST_SIDE}")
    pictures = torch.empty(len(things), 3, size, size)
    if not len(things):
        return pictures
    keys = things.key.numpy().view(np.uint64)
    look = look_of(things)
    grounds(keys, things.ground.numpy(), look.behind, pictures)

    sketches = _sketched(things, keys, look)
    order = np.argsort(things.size.numpy(), kind="stable")  # drawn in blocks of about one size, each in windows just as large
    block = max(1, _BLOCK // size**2)
    for first in range(0, len(things), block):
        _lay(sketches, order[first : first + block], pictures)
    return pictures


def _sketched(things: Things, keys: UInt64[np.ndarray, "things"], look: Look) -> Outlines:
    """The sides of all polygons of all pictures, in sides of the picture, sorted by picture."""
    luck = chance.uniform(keys, _PROPORTIONS, purpose=11)
    which = things.thing.numpy() * 8 + things.drawing.numpy()
    parts = []
    for number in np.unique(which):
        rows = np.flatnonzero(which == number)
        sketch = Sketch(luck[rows], look.main[rows], look.fine, look.reach)
        KINDS[THINGS[number // 8]].drawings[number % 8](sketch)
        parts.extend(of_sketch(sketch, rows, look, lambda points, rows=rows: moved(points, rows, things, keys, look)))
    return Outlines.sorted(parts)


def _lay(sketches: Outlines, rows: Int[np.ndarray, "block"], pictures: Float[Tensor, "things 3 size size"]) -> None:
    """Lays the layers of the pictures ``rows`` over what is there, all of them within windows of one size."""
    mine = sketches.of_rows(rows)
    size, corner, window = pictures.shape[-1], *mine.windows(pictures.shape[-1])
    depth, layers_of = mine.layer_depth, np.bincount(mine.layer_row, minlength=len(rows))
    order = np.argsort(-layers_of, kind="stable")  # pictures with many layers first, so that those with a k-th layer are the first ones
    position = np.argsort(order)
    filled = [int((layers_of > k).sum()) for k in range(layers_of.max())]
    starts = np.cumsum([0, *filled])
    slot = starts[depth] + position[mine.layer_row]

    corners = np.empty((len(slot), 2), np.int64)
    corners[slot] = corner[mine.layer_row]
    covered = coverage(mine.sides * size, mine.sign, slot[mine.layer], corners, window)[:, None]
    colours = torch.empty(len(covered), 3, 1, 1)
    colours[torch.from_numpy(slot), :, 0, 0] = torch.from_numpy(mine.layer_colour).float()
    windows = [
        pictures[row, :, y : y + window, x : x + window] for row, (x, y) in zip(rows[order].tolist(), corner[order].tolist(), strict=True)
    ]
    canvas = torch.stack(windows)
    for k, count in enumerate(filled):
        canvas[:count].lerp_(colours[starts[k] : starts[k + 1]], covered[starts[k] : starts[k + 1]])
    for where, drawn in zip(windows, canvas, strict=True):
        where.copy_(drawn)
