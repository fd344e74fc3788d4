"""What is seen of a training in a terminal: a bar with the latest losses and metrics."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from tqdm import tqdm

from minimllm.training.history import History

# What shows a run: ``view(history, steps)`` is entered before the first step, and its ``update()`` called after each.
View = Callable[[History, int], AbstractContextManager[Any]]


class Bar:
    """Shows a growing ``history``: ``with Bar(history, steps) as bar: ...; bar.update()`` after each step.

    Args:
        history: that the run appends to; what it already holds when a run goes on counts as done.
        steps: of the whole run.
        bar: a ``tqdm`` bar to use in place of a new one.
    """

    def __init__(self, history: History, steps: int, bar: Any = None):
        self.history, self.steps = history, steps
        self.bar = tqdm(initial=len(history.losses), total=steps, unit="step", desc="training", smoothing=0) if bar is None else bar

    def __enter__(self) -> "Bar":
        return self

    def update(self) -> None:
        """One step more: move the bar, and say the means over the last twentieth of the run."""
        window = max(1, self.steps // 20)
        latest = {"loss": self.history.losses, **self.history.metrics}
        self.say({name: f"{np.mean(values[-window:]):.3f}" for name, values in latest.items()})
        self.bar.update()

    def say(self, values: dict[str, str]) -> None:
        """Show the latest values, by name."""
        self.bar.set_postfix(values, refresh=False)

    def __exit__(self, *_: object) -> bool:
        self.bar.close()
        return False


class Silent:
    """Shows nothing."""

    def __init__(self, history: History, steps: int):
        pass

    def __enter__(self) -> "Silent":
        return self

    def update(self) -> None:
        """Nothing to show."""

    def __exit__(self, *_: object) -> None:
        pass


# What shows a run where nothing else is asked for; this floor draws nothing, and in a notebook ``minimllm.widgets`` puts its curve here.
default_view: View = Bar


def choose_view(progress: bool | View) -> View:
    """``True``: the default; ``False``: nothing; anything else is itself what shows the run."""
    if isinstance(progress, bool):
        return default_view if progress else Silent
    return progress
