"""What a training went through, as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .page import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, canvas, style


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of the last ``window`` values (fewer at the start): steadier than a batch's own value."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(sums))
    first = np.maximum(0, last - window)
    return (sums[last] - sums[first]) / (last - first)


def training_curve(history: Any, steps: int | None = None) -> Figure:
    """Loss (left) and metrics (right) by step: each batch pale, the mean over the last twentieth of the run strong, evaluations as dots."""
    metrics = history.metrics or {}
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
            axes[1].set(title=title, xlabel="step", ylabel=names if len(metrics) == 1 else "value")
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
