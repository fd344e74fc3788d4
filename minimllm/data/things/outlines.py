"""Sketches as sides of polygons in the picture: what :func:`~minimllm.data.things.coverage.coverage` fills."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from minimllm.data.things.hands import Look
from minimllm.data.things.sketch import Sketch

_RANKS = 256  # more than a picture has layers and outlines


@dataclasses.dataclass
class Outlines:
    """Layers of many pictures, from the back to the front, and the sides of their polygons, both sorted by picture.

    Attributes:
        sides, sign, layer: of each side its ends ``(x0, y0, x1, y1)`` in sides of the picture, how its winding counts, and its layer.
        layer_row, layer_colour: of each layer its picture and its colour.
    """

    sides: Float[np.ndarray, "sides 4"]
    sign: Float[np.ndarray, "sides"]
    layer: Int[np.ndarray, "sides"]
    layer_row: Int[np.ndarray, "layers"]
    layer_colour: Float[np.ndarray, "layers 3"]

    @classmethod
    def sorted(cls, parts: list[tuple[np.ndarray, ...]]) -> "Outlines":
        """All layers of what :func:`of_sketch` gave."""
        sides, sign, side_key, layer_key, colour = (np.concatenate(values) for values in zip(*parts, strict=True))
        by_side, by_layer = np.argsort(side_key, kind="stable"), np.argsort(layer_key, kind="stable")
        layer_key = layer_key[by_layer]
        layer = np.searchsorted(layer_key, side_key[by_side])
        return cls(sides[by_side], sign[by_side], layer, layer_key // _RANKS, colour[by_layer])

    def of_rows(self, rows: Int[np.ndarray, "block"]) -> "Outlines":
        """The layers of some pictures, which are then counted as in ``rows``."""
        layers, row = _spans(*np.searchsorted(self.layer_row, (rows, rows + 1)))
        sides, layer = _spans(*np.searchsorted(self.layer, (layers, layers + 1)))
        return Outlines(self.sides[sides], self.sign[sides], layer, row, self.layer_colour[layers])

    @property
    def layer_depth(self) -> Int[np.ndarray, "layers"]:
        """How many layers of the same picture lie behind each."""
        return np.arange(len(self.layer_row)) - np.searchsorted(self.layer_row, self.layer_row)

    def windows(self, size: int) -> tuple[Int[np.ndarray, "block 2"], int]:
        """Of pictures of ``size`` pixels, where in each the top left corner ``(x, y)`` of a window around all it holds is, and the side
        of the largest window, in pixels."""
        first = np.searchsorted(self.layer_row[self.layer], np.arange(self.layer_row[-1] + 1))
        low = np.floor(np.minimum.reduceat(self.sides[:, :2], first) * size).astype(np.int64)
        high = np.ceil(np.maximum.reduceat(self.sides[:, :2], first) * size).astype(np.int64)
        side = min(size, int((high - low).max()))
        return np.clip(low, 0, size - side), side


def _spans(first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All indices from ``first`` to ``end - 1`` of several spans, one after the other, and the number of the span of each."""
    count = end - first
    span = np.repeat(np.arange(len(first)), count)
    return np.arange(count.sum()) + (first - (count.cumsum() - count))[span], span


def of_sketch(
    sketch: Sketch, rows: Int[np.ndarray, "drawings"], look: Look, move: Callable[[np.ndarray], np.ndarray]
) -> list[tuple[np.ndarray, ...]]:
    """A sketch of pictures ``rows``, moved into them, as the hand's look has it: each layer filled, and behind it its outline.

    Returns:
        Of the outlines and of the fills: sides and their sign, the key of the layer of each side, and keys and colours of the layers. Keys
        sort layers by picture, and from the back to the front.
    """
    polygons = [(number, polygon, sign) for number, layer in enumerate(sketch.layers) for polygon, sign in layer.signed()]
    of_layer, lengths = np.array([(number, polygon.shape[1]) for number, polygon, _ in polygons]).T
    starts = lengths.cumsum() - lengths
    points = np.concatenate([polygon for _, polygon, _ in polygons], axis=1)
    hidden = np.isnan(points[:, starts, 0])  # what `Sketch.where` left out
    points = move(np.where(np.isnan(points), points[:, np.flatnonzero(~np.isnan(points).any((0, 2)))[:1]], points))

    following = np.arange(1, lengths.sum() + 1)
    following[starts + lengths - 1] = starts
    before = np.argsort(following)
    ends = points[:, following]
    area = np.add.reduceat(points[..., 0] * ends[..., 1] - ends[..., 0] * points[..., 1], starts, axis=1)
    around = np.where(hidden, 0.0, np.sign(area))
    sign = np.repeat(around * [sign for _, _, sign in polygons], lengths, axis=1)
    shown = np.logical_or.reduceat(around != 0, np.searchsorted(of_layer, np.arange(len(sketch.layers))), axis=1)

    fills, widths, lines = look.painted(sketch.layers, rows)
    layer = np.repeat(of_layer, lengths)
    grown = points + _grown(points, points[:, before], ends, sign) * widths[:, layer, None]
    parts = []
    for front, (corners, there, colours) in enumerate(((grown, shown & (widths > 0), lines), (points, shown, fills))):
        key = rows[:, None] * _RANKS + 2 * np.arange(len(sketch.layers)) + front
        mine = there[:, layer]
        sides = np.concatenate([corners, corners[:, following]], axis=-1)[mine]
        parts.append((sides, sign[mine], key[:, layer][mine], key[there], colours[there]))
    return parts


def _grown(points: np.ndarray, before: np.ndarray, after: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """By what each corner moves for every unit that its polygon grows all around; sharp corners are cut off."""
    normals = []
    for one, other in ((before, points), (points, after)):
        along = other - one
        along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
        normals.append(np.stack([along[..., 1], -along[..., 0]], axis=-1))
    both = normals[0] + normals[1]
    square = np.maximum((both**2).sum(-1, keepdims=True), 1e-6)
    return both * np.minimum(2 / square, 1.8 / np.sqrt(square)) * sign[..., None]
