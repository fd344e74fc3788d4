"""Sketches as sides of polygons in the picture: what :func:`~minimllm.data.things.coverage.coverage` fills."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from minimllm.data.things.hands import Look
from minimllm.data.things.sketch import Sketch


@dataclasses.dataclass
class Outlines:
    """Layers of many pictures, from the back to the front, and the sides of their polygons, both sorted by picture.

    Attributes:
        sides, sign, layer: of each side its ends ``(x0, y0, x1, y1)`` in sides of the picture, how its winding counts, and its layer.
        layer_row, layer_rank, layer_colour: of each layer its picture, its rank there (growing, with gaps), and its colour.
    """

    sides: Float[np.ndarray, "sides 4"]
    sign: Float[np.ndarray, "sides"]
    layer: Int[np.ndarray, "sides"]
    layer_row: Int[np.ndarray, "layers"]
    layer_rank: Int[np.ndarray, "layers"]
    layer_colour: Float[np.ndarray, "layers 3"]

    @classmethod
    def joined(cls, parts: list["Outlines"]) -> "Outlines":
        """All layers of all parts, sorted by picture and rank."""
        starts = np.cumsum([0, *(len(part.layer_row) for part in parts)])
        fields = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(cls)}
        fields["layer"] = np.concatenate([part.layer + start for part, start in zip(parts, starts, strict=False)])
        order = np.lexsort((fields["layer_rank"], fields["layer_row"]))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        layer = place[fields["layer"]]
        by_layer = np.argsort(layer, kind="stable")
        of_layers = {name: fields[name][order] for name in ("layer_row", "layer_rank", "layer_colour")}
        return cls(fields["sides"][by_layer], fields["sign"][by_layer], layer[by_layer], **of_layers)

    def of_rows(self, rows: Int[np.ndarray, "block"]) -> "Outlines":
        """The layers of some pictures, which are then counted as in ``rows``."""
        layers, row = _spans(*np.searchsorted(self.layer_row, (rows, rows + 1)))
        sides, layer = _spans(*np.searchsorted(self.layer, (layers, layers + 1)))
        return Outlines(self.sides[sides], self.sign[sides], layer, row, self.layer_rank[layers], self.layer_colour[layers])

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


def of_sketch(sketch: Sketch, rows: Int[np.ndarray, "drawings"], look: Look, move: Callable[[np.ndarray], np.ndarray]) -> Outlines:
    """A sketch of pictures ``rows``, moved into them, as the hand's look has it: each layer filled, and behind it its outline."""
    polygons = [(number, polygon, sign) for number, layer in enumerate(sketch.layers) for polygon, sign in layer.signed()]
    lengths = np.array([polygon.shape[1] for _, polygon, _ in polygons])
    starts = lengths.cumsum() - lengths
    of_layer = np.array([number for number, _, _ in polygons])

    points = np.concatenate([polygon for _, polygon, _ in polygons], axis=1)
    hidden = np.isnan(points[:, starts, 0])  # what `Sketch.where` left out
    points = np.where(np.isnan(points), points[:, np.flatnonzero(~np.isnan(points).any((0, 2)))[:1]], points)
    points = move(points)
    following = np.arange(1, lengths.sum() + 1)
    following[starts + lengths - 1] = starts
    before = np.empty_like(following)
    before[following] = np.arange(len(following))
    ends = points[:, following]
    area = np.add.reduceat(points[..., 0] * ends[..., 1] - ends[..., 0] * points[..., 1], starts, axis=1)
    around = np.where(hidden, 0.0, np.sign(area))
    sign = around * [sign for _, _, sign in polygons]

    wider = _grown(points, points[:, before], ends, np.repeat(sign, lengths, axis=1))
    fills, widths, outlines = zip(*(look.painted(layer, rows) for layer in sketch.layers), strict=True)
    found = []
    for number in range(len(sketch.layers)):
        mine = np.flatnonzero(of_layer == number)
        corners = slice(starts[mine[0]], starts[mine[-1]] + lengths[mine[-1]])
        shown = around[:, mine].any(1)
        side_sign = np.repeat(sign[:, mine], lengths[mine], axis=1)
        link = following[corners] - corners.start
        outlined = np.flatnonzero(shown & (widths[number] > 0))
        for rank, chosen, colour in ((2 * number, outlined, outlines[number]), (2 * number + 1, np.flatnonzero(shown), fills[number])):
            if len(chosen):
                corner = points[chosen, corners]
                if rank % 2 == 0:
                    corner = corner + wider[chosen, corners] * widths[number][chosen, None, None]
                sides = np.concatenate([corner, corner[:, link]], axis=-1).reshape(-1, 4)
                layer = np.repeat(np.arange(len(chosen)), corner.shape[1])
                signs, ranks = side_sign[chosen].ravel(), np.full(len(chosen), rank)
                found.append(Outlines(sides, signs, layer, rows[chosen], ranks, colour[chosen]))
    return Outlines.joined(found)


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
