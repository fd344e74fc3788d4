"""A sketch: the polygons of which things are made, for a batch of drawings of one thing at once.

A drawing is a list of layers, from the back to the front, each with one colour and one or more closed polygons whose union it fills. All
numbers may differ from drawing to drawing: a coordinate is a number for all, or an array with one for each.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

Number = float | np.ndarray
Polygon = Float[np.ndarray, "_ _ 2"]

PART, BAR, MARK, DOT = range(4)
"""Kinds of layers: a part of the thing, which gets an outline; a bar, which is a line of its own; a mark on a part; a dot on a mark."""


@dataclass
class Layer:
    """One colour ``(drawings, 3)`` or for all ``(3,)``, the polygons that it fills, and those that it leaves out."""

    kind: int
    colour: Float[np.ndarray, "*drawings 3"]
    polygons: list[Polygon]
    holes: list[Polygon]

    def signed(self) -> list[tuple[Polygon, int]]:
        """All polygons with 1, or -1 for a hole."""
        return [(polygon, 1) for polygon in self.polygons] + [(hole, -1) for hole in self.holes]


class Sketch:
    """What a drawing function draws with; x goes right, y down, and how large the whole comes out does not matter.

    Args:
        luck: numbers in [0, 1), as many for each drawing as it has parameters; :meth:`between` and :meth:`chance` use them up.
        main: the thing's colour in each drawing.
        fine: how finely curves are cut into straight sides: 1 is smooth, less is angular.
        reach: how far beyond the limits of :meth:`between` the proportions lie, as a share of their distance; 0: within.
    """

    def __init__(self, luck: Float[np.ndarray, "drawings numbers"], main: Float[np.ndarray, "drawings 3"], fine: float, reach: float = 0):
        self.luck, self.main, self.fine, self.reach = luck, main, fine, reach
        self.count, self.used = len(luck), 0
        self.layers: list[Layer] = []

    # ---- parameters ------------------------------------------------------------------------------------------------------

    def _next(self) -> Float[np.ndarray, "drawings"]:
        self.used += 1
        return self.luck[:, self.used - 1]

    def between(self, low: float, high: float) -> Float[np.ndarray, "drawings"]:
        """A proportion of each drawing; of a hand with a reach, one that lies outside of the limits."""
        luck = self._next()
        if self.reach:
            luck = np.where(luck < 0.5, -self.reach * 2 * luck, 1 + self.reach * (2 * luck - 1))
        return low + (high - low) * luck

    def chance(self, share: float = 0.5) -> np.ndarray:
        """True in about that share of the drawings."""
        return self._next() < share

    def tone(self, factor: float, colour=None) -> Float[np.ndarray, "drawings 3"]:
        """The thing's colour, or another, darker (below 1) or nearer to white (above 1)."""
        colour = self.main if colour is None else np.broadcast_to(colour, (self.count, 3))
        return colour * factor if factor <= 1 else 1 - (1 - colour) * (2 - factor)

    def either(self, which: np.ndarray, one, other) -> Float[np.ndarray, "drawings 3"]:
        """One colour where ``which``, the other elsewhere."""
        return np.where(which[:, None], one, other)

    # ---- layers ----------------------------------------------------------------------------------------------------------

    def part(self, colour, *polygons: Polygon, holes: list[Polygon] | tuple[Polygon, ...] = ()) -> None:
        self._add(PART, colour, polygons, holes)

    def bar(self, colour, *polygons: Polygon) -> None:
        self._add(BAR, colour, polygons)

    def mark(self, colour, *polygons: Polygon, holes: list[Polygon] | tuple[Polygon, ...] = ()) -> None:
        self._add(MARK, colour, polygons, holes)

    def dot(self, colour, *polygons: Polygon) -> None:
        self._add(DOT, colour, polygons)

    def _add(self, kind: int, colour, polygons, holes=()) -> None:
        self.layers.append(Layer(kind, np.asarray(colour, np.float64), list(polygons), list(holes)))

    # ---- polygons --------------------------------------------------------------------------------------------------------

    def polygon(self, *corners: tuple[Number, Number]) -> Polygon:
        """Straight sides between the corners."""
        points = np.empty((self.count, len(corners), 2))
        for number, (x, y) in enumerate(corners):
            points[:, number, 0], points[:, number, 1] = x, y
        return points

    def curve(self, *corners: tuple[Number, Number]) -> Polygon:
        """A smooth closed line through the corners (Catmull and Rom 1974)."""
        return _spline(len(corners), max(2, round(5 * self.fine)), True) @ self.polygon(*corners)

    def ellipse(self, x: Number, y: Number, across: Number, down: Number | None = None, turn: Number = 0.0) -> Polygon:
        """Half axes ``across`` and ``down``, turned clockwise by ``turn`` radians; a circle without ``down``."""
        return self.sector(x, y, across, down, 0, 2 * np.pi, turn, corners=max(7, round(26 * self.fine)))

    def sector(
        self,
        x: Number,
        y: Number,
        across: Number,
        down: Number | None,
        start: float,
        end: float,
        turn: Number = 0.0,
        corners: int | None = None,
    ) -> Polygon:
        """The piece of an ellipse between two angles, counted clockwise from the right, cut off by the straight line between its ends."""
        cosines, sines = _angles(start, end, corners or max(4, round(16 * self.fine)), corners is not None)
        right = _column(across) * cosines
        low = _column(across if down is None else down) * sines
        if np.ndim(turn) or turn:
            cosine, sine = np.cos(_column(turn)), np.sin(_column(turn))
            right, low = right * cosine - low * sine, right * sine + low * cosine
        points = np.empty((self.count, len(cosines), 2))
        points[..., 0], points[..., 1] = _column(x) + right, _column(y) + low
        return points

    def box(self, left: Number, top: Number, right: Number, bottom: Number, round_by: Number = 0.0) -> Polygon:
        """An upright rectangle, its corners rounded by that radius."""
        if np.ndim(round_by) == 0 and round_by == 0:
            return self.polygon((left, top), (right, top), (right, bottom), (left, bottom))
        r = round_by
        quarters = [(right - r, bottom - r, 0), (left + r, bottom - r, 1), (left + r, top + r, 2), (right - r, top + r, 3)]
        return np.concatenate([self.sector(x, y, r, r, q * np.pi / 2, (q + 1) * np.pi / 2)[:, ::3] for x, y, q in quarters], axis=1)

    def stroke(self, *points: tuple[Number, Number], width: Number | tuple[Number, ...], smooth: bool = True) -> Polygon:
        """A line through the points, as broad as ``width`` (or from the first width over the next ones to the last), with round ends."""
        line = self.polygon(*points)
        steps = max(1, round(5 * self.fine)) if smooth and len(points) > 2 else 1
        line = _spline(len(points), steps, False) @ line
        widths = width if isinstance(width, tuple) else (width, width)
        half = self.polygon(*((w, 0) for w in widths))[:, :, 0] / 2
        half = (half[:, None] @ _between(len(widths), line.shape[1]).T)[:, 0]

        along = np.diff(line, axis=1)
        along = np.concatenate([along[:, :1], along[:, :-1] + along[:, 1:], along[:, -1:]], axis=1)
        along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
        off = np.stack([-along[..., 1], along[..., 0]], axis=-1) * half[..., None]
        angles = np.linspace(0, np.pi, max(3, round(7 * self.fine)))[1:-1, None]
        ends = []
        for end, direction in ((-1, 1), (0, -1)):
            side, front = off[:, end, None] * direction, along[:, end, None] * half[:, end, None, None] * direction
            ends.append(line[:, end, None] + side * np.cos(angles) + front * np.sin(angles))
        return np.concatenate([line + off, ends[0], (line - off)[:, ::-1], ends[1]], axis=1)

    def arc(self, x: Number, y: Number, across: Number, down: Number, start: float, end: float, width: Number) -> Polygon:
        """A stroke along a piece of an ellipse's outline."""
        angles = np.linspace(start, end, max(4, round(10 * self.fine)))
        return self.stroke(*((x + across * np.cos(a), y + down * np.sin(a)) for a in angles), width=width)

    def mirrored(self, polygon: Polygon) -> Polygon:
        """The same on the other side of the line x = 0."""
        return polygon * np.array([-1.0, 1.0])

    def both(self, *polygons: Polygon) -> list[Polygon]:
        """The polygons, and the same mirrored."""
        return [*polygons, *(self.mirrored(polygon) for polygon in polygons)]

    def where(self, which: np.ndarray, *polygons: Polygon) -> list[Polygon]:
        """The polygons in those drawings, and nothing (which NaN stands for) in the others."""
        return [np.where(which[:, None, None], polygon, np.nan) for polygon in polygons]


def _column(values: Number) -> Float[np.ndarray, "_ 1"]:
    return np.asarray(values, np.float64).reshape(-1, 1)


@lru_cache(maxsize=256)
def _angles(start: float, end: float, corners: int, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of equally distant angles; those of a closed line end before the last."""
    angles = np.linspace(start, end, corners, endpoint=not closed)
    return np.cos(angles), np.sin(angles)


@lru_cache(maxsize=256)
def _spline(points: int, steps: int, closed: bool) -> Float[np.ndarray, "places points"]:
    """The matrix from points to places on the curve through them, ``steps`` from one point to the next."""
    t = np.arange(steps) / steps
    weights = 0.5 * np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1)
    pieces = points if closed else points - 1
    matrix = np.zeros((pieces * steps, points))
    for piece in range(pieces):
        for offset in range(4):
            point = piece + offset - 1
            point = point % points if closed else min(max(point, 0), points - 1)
            matrix[piece * steps : (piece + 1) * steps, point] += weights[:, offset]
    return matrix if closed else np.concatenate([matrix, np.eye(points)[-1:]])


@lru_cache(maxsize=256)
def _between(points: int, places: int) -> Float[np.ndarray, "places points"]:
    """The matrix of linear interpolation from points at equal distances to more of them."""
    return np.stack([np.interp(np.linspace(0, points - 1, places), np.arange(points), row) for row in np.eye(points)], axis=1)
