"""What a training went through, as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .page import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, canvas, style


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of the ``window`` values around each, fewer towards both ends: it begins and ends where the values do, and does not lag."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    reach = np.minimum(np.minimum(place, place[::-1]), window // 2)
    return (sums[place + reach + 1] - sums[place - reach]) / (2 * reach + 1)


def training_curve(history: Any, steps: int | None = None) -> Figure:
    """Loss (left) and metrics (right) by step: each batch pale, the mean over a twentieth of the run strong, evaluations as dots.

    How far gates are open, a metric with ``gate`` in its name, is no measure of success, and is left to figures of its own.
    """
    metrics = {name: values for name, values in (history.metrics or {}).items() if "gate" not in name}
    window = max(1, (steps or len(history.losses)) // 20)
    with style():
        figure, rows = canvas(7.2 if metrics else 4.2, 2.6, columns=2 if metrics else 1)
        axes = rows[0]
        _draw(axes[0], {"loss": history.losses}, history, window, [BLUE])
        axes[0].set(title="Loss", xlabel="step", ylabel="loss", ylim=(0, None) if min(history.losses, default=0) >= 0 else None)
        if metrics:
            colours = [VERMILION, GREEN, PURPLE, ORANGE, SKY]
            _draw(axes[1], metrics, history, window, colours)
            names = ", ".join(metrics).replace("_", " ")
            title = names.capitalize() if len(metrics) < 3 else "Metrics"  # more names are wider than the axes; the legend has them
            shares = all(0 <= value <= 1 for values in metrics.values() for value in values)
            axes[1].set(title=title, xlabel="step", ylabel=names if len(metrics) == 1 else "share" if shares else "value")
            if axes[1].get_legend_handles_labels()[0]:
                axes[1].legend(loc="best")
        for axis in axes:
            axis.set_xlim(0, steps or max(1, len(history.losses)))
    return figure


def _draw(axis: Any, series: Mapping[str, Sequence[float]], history: Any, window: int, colours: Sequence[str]) -> None:
    for index, (name, values) in enumerate(series.items()):
        colour = colours[index % len(colours)]
        axis.plot(history.steps[: len(values)], values, color=colour, alpha=0.25, linewidth=0.8)
        axis.plot(history.steps[: len(values)], smoothed(values, window), color=colour, label=f"{name.replace('_', ' ')}, training")
        checked = [(entry["step"], entry[name]) for entry in history.evaluations if name in entry]
        if checked:
            label = f"{name.replace('_', ' ')}, evaluation"
            axis.plot(*zip(*checked, strict=True), "o", color=colour, markeredgecolor="black", clip_on=False, label=label)
