"""A training in a notebook: a bar and a loss curve that grows; at the end a still picture of it."""

import html
import io
import time
from typing import Any

import ipywidgets
from IPython import get_ipython
from IPython.display import display
from tqdm.notebook import tqdm as notebook_tqdm

from minimllm import figures
from minimllm.training import progress
from minimllm.training.history import History
from minimllm.training.progress import Bar

SHARE_OF_TIME = 0.03  # the growing curve may cost this much of the training's time


def in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel."""
    return getattr(get_ipython(), "kernel", None) is not None


class LiveCurve(Bar):
    """Shows a growing ``history`` in a notebook: bar, latest values and curve are one widget.

    Nothing is printed, cleared or replaced in the cell's output, and what the cell keeps has the same form on every machine: a line of
    text, and the final curve as an ``<img>``. Interrupting the kernel ends the training, not the cell: the curve stays, and the training
    returns its history, so that the next cells work on what has been learned so far.
    """

    def __init__(self, history: History, steps: int):
        # Every refresh is several messages; a program that runs the lesson reads them when the cell has ended: its queue must not overflow.
        done = len(history.losses)
        bar = notebook_tqdm(initial=done, total=steps, unit="step", desc="training", display=False, mininterval=1.0, smoothing=0)
        super().__init__(history, steps, bar)
        self.latest = ipywidgets.HTML()  # beside the bar, long names would leave it no room
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(align_self="flex-start", max_width="100%"))
        self.drawing, self.drawn_at, self.said_at = 0.0, time.perf_counter(), 0.0
        display(LiveView(steps, [bar.container, self.latest, self.picture]))

    def update(self) -> None:
        """Move the bar, and draw the curve again as often as its share of the time allows."""
        super().update()
        if time.perf_counter() - self.drawn_at > max(1.0, self.drawing / SHARE_OF_TIME):
            started = time.perf_counter()
            buffer = io.BytesIO()
            figures.training_curve(self.history, self.steps).savefig(buffer, format="png", dpi=96)
            self.picture.value = buffer.getvalue()
            self.drawn_at = time.perf_counter()
            self.drawing = self.drawn_at - started

    def say(self, values: dict[str, str]) -> None:
        """The latest values in a line of their own, once a second as the bar."""
        if time.perf_counter() - self.said_at < 1.0:
            return
        self.said_at = time.perf_counter()
        self.latest.value = html.escape(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items()))

    def __exit__(self, kind: type[BaseException] | None = None, *rest: object) -> bool:
        super().__exit__(kind, *rest)
        self.picture.close()
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        if kind is None or stopped:
            done = len(self.history.losses)
            drawn = [name for name in self.history.metrics if "gate" not in name]
            names = " and ".join(["loss", *drawn]).replace("_", " ")
            if stopped:
                print(f"stopped at step {done} of {self.steps}; the model keeps what it has learned")
            figures.show(figures.training_curve(self.history, self.steps), alt=f"Training curve: {names} over {done} training steps")
        return stopped


class LiveView(ipywidgets.VBox):
    """Bar and curve; where no kernel runs, a reader sees the text alone, the same every time."""

    def __init__(self, steps: int, children: list[ipywidgets.Widget]):
        super().__init__(children)
        self.text = f"Training, {steps} steps"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**options), "text/plain": self.text}


if in_notebook():
    progress.default_view = LiveCurve
