"""Pictures beside sentences: galleries, the similarity matrix, the batch with its targets, and the space in which both meet."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path as Outline
from numpy.typing import ArrayLike

from .numbers import as_numbers, matrix
from .page import GREY, GROUPS, INK, canvas, own_axes, style
from .pictures import Picture, as_array, picture

TARGETS = {0: "a pair", 1: "true as well: no negative", 2: "hard negative: one word differs", 3: "negative"}
"""What a cell of a batch's matrix is, as :func:`targets` colours it."""
_TARGET_COLOURS = {0: 0, 1: 2, 2: 1, 3: 5}  # numbers of colours in GROUPS

# Marks and colours by which the objects of the generated world are drawn as points.
MARKS: Mapping[str, object] = {
    "circle": "o",
    "ring": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "cross": "P",
    "star": "*",
    "heart": Outline(
        [(0, -1), (-1.2, 0), (-1.0, 1.0), (-0.5, 1.0), (-0.1, 1.0), (0, 0.6), (0, 0.5), (0, 0.6), (0.1, 1.0), (0.5, 1.0), (1.0, 1.0)]
        + [(1.2, 0), (0, -1)],
        [Outline.MOVETO, *[Outline.CURVE4] * 12],
    ),
}


@style()
def gallery(
    pictures: Sequence[Picture], names: Sequence[str], *, columns: int | None = None, width: float = 7.2, size: float = 9
) -> Figure:
    """Pictures side by side, each with its name above it; ``columns`` of them to a row."""
    columns = columns or len(pictures)
    rows = -(-len(pictures) // columns)
    figure, axes = canvas(width, rows * (width / columns + 0.3 + 0.15 * max(name.count("\n") for name in names)), rows, columns)
    for place, own in enumerate(axes.flat):
        if place < len(pictures):
            picture(pictures[place], axes=own)
            own.set_title(names[place], fontsize=size)
        else:
            own.remove()
    return figure


def _thumbnails(pictures: Sequence[Picture], axes: Axes) -> None:
    """The pictures as labels of the rows, left of the cells."""
    arrays = [as_array(one) for one in pictures]
    margin = arrays[0].shape[0] // 12
    framed = [np.pad(array, ((margin, margin), (margin, margin), (0, 0)), constant_values=1.0) for array in arrays]
    cell = 1 / len(arrays)  # of the axes' height, and of its width where the matrix is square
    beside = axes.inset_axes((-1.25 * cell, 0, 1.1 * cell, 1))
    beside.imshow(np.concatenate(framed), aspect="auto", interpolation="antialiased")
    beside.set_axis_off()


@style()
def similarity(
    values: ArrayLike,
    *,
    pictures: Sequence[Picture] | None = None,
    texts: Sequence[str] | None = None,
    title: str = "",
    limits: tuple[float, float] | None = None,
    colours: Colormap | str | None = None,
    write: Callable[[float], str] | bool = False,
    frame_pairs: bool = False,
    colour_bar: str = "",
    axes: Axes | None = None,
) -> Figure:
    """A matrix with a row for each picture and a column for each sentence; ``frame_pairs`` frames the diagonal, where pairs lie."""
    values = as_numbers(values)
    axes = own_axes(axes, 1.6 + 0.32 * values.shape[1], 1.8 + 0.32 * values.shape[0])
    matrix(values, title=title, limits=limits, colours=colours, write=write, colour_bar=colour_bar, axes=axes)
    if pictures is not None:
        _thumbnails(pictures, axes)
    if texts is not None:
        slanted = max(map(len, texts)) > 2
        axes.set_xticks(range(len(texts)), texts, rotation=55 if slanted else 0, ha="left" if slanted else "center", rotation_mode="anchor")
        axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, pad=2)
    if frame_pairs:
        for place in range(min(values.shape)):
            axes.add_patch(Rectangle((place - 0.5, place - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1.2))
    return axes.figure


@style()
def targets(
    kinds: ArrayLike,
    *,
    pictures: Sequence[Picture] | None = None,
    texts: Sequence[str] | None = None,
    title: str = "",
    legend: bool = True,
    axes: Axes | None = None,
) -> Figure:
    """What each picture and sentence of a batch are to each other; ``kinds`` holds the numbers of ``TARGETS``."""
    kinds = as_numbers(kinds)
    axes = own_axes(axes, 3.4 + 0.5 * kinds.shape[1], 1.2 + 0.5 * kinds.shape[0])
    groups = np.vectorize(_TARGET_COLOURS.get)(kinds)
    signs = {0: "1", 1: "·", 2: "0", 3: "0"}
    matrix(kinds, groups=groups, title=title, write=lambda kind: signs[int(kind)], axes=axes)
    if pictures is not None:
        _thumbnails(pictures, axes)
    if texts is not None:
        axes.set_xticks(range(len(texts)), texts, rotation=30, ha="left", rotation_mode="anchor")
        axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, pad=2)
    if legend:
        shown = [Patch(facecolor=GROUPS(_TARGET_COLOURS[kind]), edgecolor=GREY, label=name) for kind, name in TARGETS.items()]
        axes.legend(handles=shown, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False)
    return axes.figure


@style()
def embedding_map(
    points: ArrayLike,
    shapes: Sequence[str],
    colours: Sequence[str],
    is_text: Sequence[bool] | None = None,
    *,
    title: str = "",
    names: tuple[str, str] = ("a picture", "a sentence"),
    legend: bool = True,
    axes: Axes | None = None,
) -> Figure:
    """Points ``(n, 2)``, each marked by the shape and colour of what it stands for; sentences are larger, with a dark edge."""
    points, texts = as_numbers(points), np.asarray(is_text if is_text is not None else [False] * len(shapes), dtype=bool)
    axes = own_axes(axes, 5.2, 4.4)
    for shape in dict.fromkeys(shapes):
        for text in (False, True):
            chosen = (np.asarray(shapes) == shape) & (texts == text)
            if chosen.any():
                own = [colour for colour, use in zip(colours, chosen, strict=True) if use]
                look = {"s": 110, "edgecolors": INK, "linewidths": 1.3} if text else {"s": 22, "edgecolors": "#77777788", "linewidths": 0.4}
                place = {"zorder": 3 if text else 2}
                if shape == "ring":  # a line without an inside: where others have a dark edge, it lies on a broader dark line
                    if text:
                        axes.scatter(*points[chosen].T, facecolors="none", **place | look | {"linewidths": 5.5})
                    ring = {"edgecolors": own, "linewidths": 3 if text else 1.6, "s": look["s"] * 0.8}
                    axes.scatter(*points[chosen].T, facecolors="none", **place | look | ring)
                else:
                    axes.scatter(*points[chosen].T, c=own, marker=MARKS[shape], **place | look)
    if legend and texts.any():
        handles = [
            Line2D([], [], linestyle="", marker="s", color="#BBBBBB", markeredgecolor=edge, markersize=size, label=name)
            for name, size, edge in ((names[0], 5, "#777777"), (names[1], 9, INK))
        ]
        axes.legend(handles=handles, loc="best")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set(xlabel="first principal component", ylabel="second")
    axes.set_title(title)
    axes.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)
    axes.set_facecolor("#FAFAFA")
    return axes.figure
