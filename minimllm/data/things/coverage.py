"""How much of each pixel a set of polygons covers: where their sides cross the lines of pixels, and a running sum.

Each line of pixels is cut into four, and on each cut every side of a polygon is one crossing at most, whose place along the line is exact.
Right of a crossing the winding number is one more, or one less. So a crossing is written down once, where it lies, and a running sum from
left to right makes areas of all crossings together: work for the outlines' length and not for the area, whatever the polygons' form.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CUTS = 4
"""Into how many a line of pixels is cut: outlines that run along a line are smoothed in as many steps."""


def coverage(
    sides: Float[np.ndarray, "sides 4"],
    sign: Float[np.ndarray, "sides"],
    layer: Int[np.ndarray, "sides"],
    corner: Int[np.ndarray, "layers 2"],
    size: int,
) -> Float[Tensor, "layers size size"]:
    """The covered share of each pixel, by layer, between 0 and 1.

    Args:
        sides: ``(x0, y0, x1, y1)`` of each side of each polygon, in pixels; they may lie outside of the picture.
        sign: 1 or -1, by which the winding of a side counts; where the sum is 1 or more is inside. Polygons of equal winding make a union.
        layer: which layer a side belongs to.
        corner: of each layer the top left pixel ``(x, y)`` of the window that is looked at.
        size: side of the windows in pixels.
    """
    left, top = corner[layer].T
    x0, y0, x1, y1 = sides.T
    y0, y1 = y0 * CUTS - 0.5, y1 * CUTS - 0.5  # now the cuts are looked at where y is a whole number
    low, high = top * CUTS, (top + size) * CUTS
    first, last = (np.clip(np.ceil(y), low, high).astype(np.int64) for y in (np.minimum(y0, y1), np.maximum(y0, y1)))
    count = last - first
    slope = (x1 - x0) / np.where(count > 0, y1 - y0, 1)
    weight = np.where(y1 > y0, -sign, sign) / CUTS

    cut = np.arange(count.sum()) + np.repeat(first - (count.cumsum() - count), count)
    x, edge = np.repeat(x0 - y0 * slope, count) + cut * np.repeat(slope, count), np.repeat(left, count)
    x = np.clip(x, edge, edge + size)
    pixel = x.astype(np.int64)
    beyond = x - pixel
    stride, layers = size + 2, len(corner)  # two more, for what is crossed at the right edge
    place = (np.repeat(layer * size - top, count) + cut // CUTS) * stride + pixel - edge
    weight = np.repeat(weight, count)
    steps = np.bincount(
        np.concatenate([place, place + 1]), np.concatenate([weight * (1 - beyond), weight * beyond]), layers * size * stride
    )
    return torch.from_numpy(steps.astype(np.float32)).view(layers, size, stride)[:, :, :size].cumsum(-1).clamp_(0, 1)
