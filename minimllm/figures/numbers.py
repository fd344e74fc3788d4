"""Matrices, curves, confusion matrices and the map of position vectors."""

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import ArrayLike

from minimllm.data.rendering import PALETTE
from minimllm.data.words import COLOURS
from minimllm.inspection.costs import layer_multiply_adds

from .page import AMOUNT, BLUE, DASHES, GREY, GROUPS, INK, PALE, SIGNED, VERMILION, own_axes, style


def as_numbers(values: ArrayLike) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _write(value: float) -> str:
    text = f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"
    return text.removeprefix("-") if not text.strip("-0.") else text.replace("-", "−")


@style()
def matrix(
    values: ArrayLike,
    *,
    title: str = "",
    row_title: str = "",
    column_title: str = "",
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    write: Callable[[float], str] | bool | None = None,
    limits: tuple[float, float] | None = None,
    colours: Colormap | str | None = None,
    colour_bar: str = "",
    groups: ArrayLike | None = None,
    axes: Axes | None = None,
) -> Figure:
    """A heat map of a ``(rows, columns)`` matrix, each cell's value in it where there is room (``write``: how, or whether at all).

    Values of both signs get two-sided colours, centred on 0; ``limits`` fixes the ends of the colours; ``colour_bar`` names a colour bar.
    ``groups``, whole numbers of the same shape, colours cells by what they belong to instead of by their value.
    """
    values = as_numbers(values)
    if values.ndim != 2:
        raise ValueError(f"a matrix figure needs (rows, columns), got {values.shape}")
    rows, columns = values.shape
    axes = own_axes(axes, min(7.2, 1.6 + 0.5 * columns), min(6.0, 1.2 + 0.5 * rows))
    numbers = values.astype(np.float64)
    span = max(abs(np.nanmin(numbers)), abs(np.nanmax(numbers)), 1e-12)
    low, high = limits or ((-span, span) if np.nanmin(numbers) < 0 else (0.0, span))
    shades = matplotlib.colormaps[colours] if isinstance(colours, str) else colours or (SIGNED if low < 0 else AMOUNT)
    if groups is None:
        image = axes.imshow(numbers, cmap=shades, vmin=low, vmax=high, aspect="equal")
    else:
        image = axes.imshow(np.asarray(groups), cmap=GROUPS, vmin=-0.5, vmax=GROUPS.N - 0.5, aspect="equal")
    roomy = write is not False and rows <= 16 and columns <= 16
    if roomy:
        axes.hlines(np.arange(1, rows) - 0.5, -0.5, columns - 0.5, color="white", linewidth=1.5)
        axes.vlines(np.arange(1, columns) - 0.5, -0.5, rows - 0.5, color="white", linewidth=1.5)
    if write or (write is None and roomy):
        for (row, column), value in np.ndenumerate(numbers):
            red, green, blue, _ = image.cmap(image.norm(value if groups is None else np.asarray(groups)[row, column]))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.55
            text = write(value) if callable(write) else _write(value)
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else INK)
    axes.set_xticks(range(columns) if column_labels is not None else [], column_labels)
    axes.set_yticks(range(rows) if row_labels is not None else [], row_labels)
    axes.tick_params(length=0)
    axes.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.6)  # a map that is all zero still shows where it is
    axes.set(xlabel=column_title, ylabel=row_title)
    axes.set_title(title)
    if colour_bar:
        axes.figure.colorbar(image, ax=axes, label=colour_bar, shrink=0.85).outline.set_visible(False)
    return axes.figure


@style()
def confusion_matrix(counts: ArrayLike, names: Sequence[str], *, title: str = "", axes: Axes | None = None) -> Figure:
    """How often class ``row`` was called class ``column``: the colour is the share of the row, the number the count, a 0 stays blank."""
    counts = as_numbers(counts)
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"{len(names)} names need a ({len(names)}, {len(names)}) matrix of counts, got {counts.shape}")
    axes = own_axes(axes, 1.8 + 0.42 * len(names), 1.4 + 0.42 * len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    words = {"row_labels": names, "column_labels": names, "row_title": "truth", "column_title": "answer"}
    figure = matrix(shares, title=title, limits=(0, 1), write=False, colour_bar="share of the row", axes=axes, **words)
    if max(map(len, names)) > 3:  # side by side they would touch
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=9, color=colour)
    return figure


@style()
def curves(
    x: ArrayLike,
    series: Mapping[str, ArrayLike | tuple[ArrayLike, ArrayLike, ArrayLike]],
    *,
    title: str = "",
    x_title: str,
    y_title: str,
    log: str = "",
    markers: bool = False,
    limits: tuple[float, float] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Named curves over ``x``, each with dashes of its own and its name beside its end.

    A curve is its values, or ``(middle, low, high)`` with the band between. One that is called as a colour of the world has that colour,
    with a dark edge, so that white and yellow are seen.

    ``log`` names the logarithmic axes: ``""``, ``"x"``, ``"y"`` or ``"xy"``; ``limits`` fixes the ends of the vertical one.
    """
    axes = own_axes(axes, 6.4, 3.6)
    x, ends = as_numbers(x), []
    axes.set(xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear", xlabel=x_title, ylabel=y_title)
    for name, values in series.items():
        middle, *band = map(as_numbers, values) if isinstance(values, tuple) else [as_numbers(values)]
        own = dict(zip(COLOURS, PALETTE, strict=True)).get(name)
        (line,) = axes.plot(x, middle, marker="o" if markers else None, linestyle=DASHES[len(ends) % len(DASHES)], color=own)
        if own is not None:
            line.set_path_effects([Stroke(linewidth=line.get_linewidth() + 1.6, foreground=INK), Normal()])
        if band:
            axes.fill_between(x, *band, color=line.get_color(), alpha=0.18, linewidth=0)
        ends.append((name, INK if own is not None else line.get_color(), middle[-1]))
    axes.grid(axis="y")
    axes.set_title(title)
    axes.autoscale_view()
    if limits is not None:
        axes.set_ylim(limits)  # before the names are placed
    heights = [axes.transAxes.inverted().transform(axes.transData.transform((x[-1], end)))[1] for _, _, end in ends]
    last = -math.inf
    for place in np.argsort(heights):
        name, colour, _ = ends[place]
        last = max(heights[place], last + 0.075)  # names never lie on each other
        axes.annotate(name, (1.015, last), xycoords="axes fraction", va="center", color=colour, fontweight="bold", annotation_clip=False)
    return axes.figure


@style()
def position_similarity(table: ArrayLike, grid: tuple[int, int], *, title: str = "", axes: Axes | None = None) -> Figure:
    """A map of maps: the small map at each place shows how alike (cosine) that place's position vector and every other's are.

    ``table`` is ``(rows * columns, dim)``, without the class token's row. After Dosovitskiy et al. (2021), figure 7.
    """
    axes = own_axes(axes, 4.6, 4.0)
    vectors, (rows, columns) = as_numbers(table).astype(np.float64), grid
    if vectors.shape[0] != rows * columns:
        raise ValueError(
            f"a grid of {rows} × {columns} has {rows * columns} position vectors, got {vectors.shape[0]}; leave out the class token's"
        )
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    maps = (vectors @ vectors.T).reshape(rows, columns, rows, columns)
    framed = np.pad(maps, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    whole = framed.swapaxes(1, 2).reshape(rows * (rows + 1), columns * (columns + 1))[:-1, :-1]
    axes.set_facecolor(PALE)
    image = axes.imshow(whole, cmap=SIGNED, vmin=-1, vmax=1)
    axes.set_xticks(np.arange(columns) * (columns + 1) + (columns - 1) / 2, range(columns))
    axes.set_yticks(np.arange(rows) * (rows + 1) + (rows - 1) / 2, range(rows))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="column of the patch", ylabel="row of the patch")
    axes.set_title(title)
    axes.figure.colorbar(image, ax=axes, label="cosine similarity", shrink=0.85).outline.set_visible(False)
    return axes.figure


@style()
def layer_cost(tokens: int, dim: int, *, axes: Axes | None = None) -> Figure:
    """Multiply-adds of one encoder layer of width ``dim`` against the number of tokens, in its two parts, with a mark at ``tokens``."""
    axes = own_axes(axes, 4.4, 3.4)
    x = np.unique(np.geomspace(10, max(40_000, tokens), 100).round().astype(int))
    costs = [layer_multiply_adds(int(count), dim) for count in x]
    here, equal = layer_multiply_adds(tokens, dim), 6 * dim
    plate = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.set(xscale="log", yscale="log", xlabel="tokens n", ylabel="multiply-adds")
    axes.plot([tokens, tokens], [1e5, max(here.linear, here.attention)], color=GREY, linewidth=1, linestyle=":")  # not through the words
    for height, part, name, colour in ((0.97, "linear", "linear layers ∝ n", BLUE), (0.87, "attention", "attention ∝ n²", VERMILION)):
        axes.plot(x, [getattr(cost, part) for cost in costs], color=colour)
        axes.plot(tokens, getattr(here, part), "o", color=colour)
        words = f"{name}: {_short(getattr(here, part))}"
        axes.text(0.03, height, words, color=colour, fontweight="bold", transform=axes.transAxes, va="top", bbox=plate)
    level = layer_multiply_adds(equal, dim).linear
    arrow = {"arrowstyle": "-", "color": GREY}
    axes.annotate(f"equal at n = {equal:,}", (equal, level), (equal, level / 300), ha="center", arrowprops=arrow, bbox=plate)
    axes.xaxis.set_major_locator(FixedLocator([10, 100, 1000, 10_000]))
    axes.yaxis.set_major_locator(FixedLocator([1e6, 1e9, 1e12]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: _short(count)))
    axes.minorticks_off()
    axes.set_ylim(1e5, 1e14)
    axes.grid(axis="y")
    axes.set_title(f"One layer of width {dim}, n = {tokens:,}")
    return axes.figure


def _short(count: float) -> str:
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:,.0f}"
