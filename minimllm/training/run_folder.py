"""The folder of a training from the command line: what it will take, a line for every step, and what came of it."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minimllm.training import processes
from minimllm.training.history import History
from minimllm.training.progress import Bar

LINES, HISTORY = "history.jsonl", "history.json"


class RunLog(Bar):
    """A bar, and ``history.jsonl`` in the folder with a line for every step; after ten steps it says how long one takes.

    Given to :func:`minimllm.training.train` as ``progress=partial(RunLog, folder)``.
    """

    def __init__(self, folder: Path, history: History, steps: int):
        super().__init__(history, steps)
        self.folder, self.first = folder, len(history.losses)

    def __enter__(self) -> "RunLog":
        self.file = open(self.folder / LINES, "w", encoding="utf-8")  # the steps since the last checkpoint are made again
        for step in range(self.first):
            self._write(step)
        self.started = time.perf_counter()
        return self

    def _write(self, step: int) -> None:
        metrics = {name: values[step] for name, values in self.history.metrics.items() if step < len(values)}
        self.file.write(json.dumps({"step": step + 1, "loss": self.history.losses[step], **metrics}) + "\n")
        self.file.flush()

    def update(self) -> None:
        step = len(self.history.losses)
        self._write(step - 1)
        super().update()
        if step == self.first + 10:
            each = (time.perf_counter() - self.started) / 10
            self.bar.write(f"{each:.2f} s a step, {each * (self.steps - step) / 60:.1f} minutes to go", file=sys.stdout)

    def __exit__(self, *error: object) -> bool:
        self.file.close()
        return super().__exit__(*error)


def finished_run(folder: Path) -> dict[str, Any] | None:
    """What ``history.json`` says, which is written last; ``None`` before."""
    path = folder / HISTORY
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; delete it, and the training ends anew from its last checkpoint") from None


def write_record(path: Path, values: Any) -> None:
    """JSON, whole or not at all."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    unfinished.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def memory_expected(model: nn.Module, loss: Callable[[], Tensor], rows: int, of: int) -> int:
    """Bytes that a training step of ``of`` rows holds in one process.

    Weights, gradients and two moments of AdamW, and what ``loss()``, which computes ``rows`` rows, keeps for the way back, in proportion.
    """
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, nn.Parameter) else tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    parameters = list(model.parameters())
    weights = sum(parameter.nbytes for parameter in parameters)
    return weights + 3 * sum(parameter.nbytes for parameter in parameters if parameter.requires_grad) + kept * of // rows


def say_once(*lines: str) -> None:
    """Say something once, however many processes train."""
    if int(os.environ.get("RANK", "0")) == 0 and processes.rank() == 0:
        print(*lines, sep="\n", flush=True)
