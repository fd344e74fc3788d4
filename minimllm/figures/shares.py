"""Shares as bars: probabilities over names, and accuracies beside chance."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .numbers import as_numbers
from .page import BLUE, GREY, INK, VERMILION, own_axes, style


@style()
def bars(
    names: Sequence[str],
    shares: ArrayLike,
    *,
    title: str = "",
    x_title: str = "",
    intervals: Sequence[tuple[float, float]] | None = None,
    chance: Sequence[float] | None = None,
    chance_name: str = "chance",
    axes: Axes | None = None,
) -> Figure:
    """A bar between 0 and 1 for each name, from the top down, with its share in percent.

    Without ``chance`` these are probabilities: the largest stands out, and what rounds to 0.0% is not written.

    ``intervals`` are drawn as whiskers; ``chance`` is a tick across each bar: what guessing would reach, or whatever ``chance_name`` says.
    """
    shares = as_numbers(shares).astype(np.float64)
    if shares.shape != (len(names),) or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"{len(names)} names need as many shares between 0 and 1, got {np.round(shares, 3).tolist()}")
    axes = own_axes(axes, 6.4, 0.9 + 0.32 * len(names))
    rows = np.arange(len(names))
    colours = [BLUE if chance is not None or row == shares.argmax() else GREY for row in rows]
    axes.barh(rows, shares, height=0.62, color=colours)
    ends = shares.copy()
    if intervals is not None:
        low, high = np.array(intervals, dtype=np.float64).T
        axes.errorbar(shares, rows, xerr=np.maximum([shares - low, high - shares], 0), fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
        ends = np.maximum(high, shares)
    if chance is not None:
        guesses = np.asarray(chance, dtype=np.float64)
        axes.vlines(guesses, rows - 0.42, rows + 0.42, color=VERMILION, linewidth=2, label=chance_name)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, borderaxespad=0.1)
        ends = np.maximum(ends, guesses)
    for row, share, end in zip(rows, shares, ends, strict=True):
        if chance is not None or share >= 0.0005:
            axes.annotate(f"{share:.1%}", (end, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel=x_title)
    axes.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
    axes.spines["left"].set_visible(False)
    axes.set_title(title, pad=20 if chance is not None else None)
    return axes.figure
