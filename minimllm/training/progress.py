"""What is seen while a model trains: a progress bar, and in a notebook a loss curve that grows; at the end a still picture of it."""

import io
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from minimllm.training.loop import History

SHARE_OF_TIME = 0.03  # the growing curve may cost this much of the training's time


def in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of the last ``window`` values (fewer at the start): steadier than a batch's own value."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(sums))
    first = np.maximum(0, last - window)
    return (sums[last] - sums[first]) / (last - first)


def training_curve(history: "History", steps: int | None = None) -> "Figure":
    """Loss (left) and metrics (right) by step: each batch pale, the mean over the last twentieth of the run strong, evaluations as dots."""
    from minimllm import figures

    metrics = history.metrics or {}
    window = max(1, (steps or len(history.losses)) // 20)
    with figures.style():
        figure, rows = figures.canvas(7.2 if metrics else 4.2, 2.6, columns=2 if metrics else 1)
        axes = rows[0]
        _draw(axes[0], {"loss": history.losses}, history, window, [figures.BLUE])
        axes[0].set(title="Loss", xlabel="step", ylabel="loss", ylim=(0, None) if min(history.losses, default=0) >= 0 else None)
        if metrics:
            colours = [figures.VERMILION, figures.GREEN, figures.PURPLE, figures.ORANGE, figures.SKY]
            _draw(axes[1], metrics, history, window, colours)
            names = ", ".join(metrics).replace("_", " ")
            title = names.capitalize() if len(metrics) < 3 else "Metrics"  # more names are wider than the axes; the legend has them
            axes[1].set(title=title, xlabel="step", ylabel=names if len(metrics) == 1 else "value")
            if axes[1].get_legend_handles_labels()[0]:
                axes[1].legend(loc="best")
        for axis in axes:
            axis.set_xlim(0, steps or max(1, len(history.losses)))
    return figure


def _draw(axis: Any, series: Mapping[str, Sequence[float]], history: "History", window: int, colours: Sequence[str]) -> None:
    for index, (name, values) in enumerate(series.items()):
        colour = colours[index % len(colours)]
        axis.plot(history.steps[: len(values)], values, color=colour, alpha=0.25, linewidth=0.8)
        axis.plot(history.steps[: len(values)], smoothed(values, window), color=colour, label=f"{name.replace('_', ' ')}, training")
        checked = [(entry["step"], entry[name]) for entry in history.evaluations if name in entry]
        if checked:
            label = f"{name.replace('_', ' ')}, evaluation"
            axis.plot(*zip(*checked, strict=True), "o", color=colour, markeredgecolor="black", clip_on=False, label=label)


class Progress:
    """Shows a growing ``history``: ``with Progress(history, steps, show) as progress: ...; progress.update()`` after each step.

    In a notebook the bar and the curve are one widget. Nothing is printed, cleared or replaced in the cell's output, and what the cell
    keeps has the same form on every machine: a line of text, and the final curve as an ``<img>``.
    """

    def __init__(self, history: "History", steps: int, show: bool = True):
        self.history, self.steps = history, steps
        self.live = show and in_notebook()
        self.bar, self.picture = None, None
        self.drawing, self.drawn_at = 0.0, time.perf_counter()
        done = len(history.losses)
        if self.live:
            self.bar, self.picture = _live_view(done, steps)
        elif show:
            self.bar = tqdm(initial=done, total=steps, unit="step", desc="training")

    def __enter__(self) -> "Progress":
        return self

    def update(self) -> None:
        if self.bar is None:
            return
        window = max(1, self.steps // 20)
        latest = {"loss": self.history.losses, **self.history.metrics}
        self.bar.set_postfix({name: f"{np.mean(values[-window:]):.3f}" for name, values in latest.items()}, refresh=False)
        self.bar.update()
        if self.picture is not None and time.perf_counter() - self.drawn_at > max(1.0, self.drawing / SHARE_OF_TIME):
            started = time.perf_counter()
            buffer = io.BytesIO()
            training_curve(self.history, self.steps).savefig(buffer, format="png", dpi=96)
            self.picture.value = buffer.getvalue()
            self.drawn_at = time.perf_counter()
            self.drawing = self.drawn_at - started

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if self.bar is None:
            return
        self.bar.close()
        if self.live:
            self.picture.close()
            if kind is None:
                from minimllm import figures

                names = " and ".join(["loss", *self.history.metrics]).replace("_", " ")
                figures.show(training_curve(self.history, self.steps), alt=f"Training curve: {names} over {self.steps} training steps")


def _live_view(done: int, steps: int) -> tuple[Any, Any]:
    import ipywidgets
    from IPython.display import display
    from tqdm.notebook import tqdm as notebook_tqdm

    class LiveView(ipywidgets.VBox):
        """Bar and curve; where no kernel runs, a reader sees the text alone, the same every time."""

        def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
            return {**super()._repr_mimebundle_(**options), "text/plain": f"Training, {steps} steps"}

    # Every refresh is several messages; a program that runs the lesson reads them when the cell has ended, and the queue must not overflow.
    bar = notebook_tqdm(initial=done, total=steps, unit="step", desc="training", display=False, mininterval=1.0)
    picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(align_self="flex-start", max_width="100%"))
    display(LiveView([bar.container, picture]))
    return bar, picture
