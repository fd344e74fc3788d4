"""The folder of a training from the command line: what it will take, a line for every step, and what came of it."""

import hashlib
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

LINES, HISTORY, BEGUN = "history.jsonl", "history.json", "begun.json"


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


def begin(folder: Path, settings: dict[str, Any]) -> None:
    """Note with what a training begins, in ``checkpoints/begun.json``; or, where one was interrupted, see to it that this one is the same.

    Options are compared, and the texts of the pictures (their classes): not the pictures themselves.

    Raises:
        ValueError: naming what was another then: an option, or the texts of the pictures.
    """
    place, settings = folder / "checkpoints", json.loads(json.dumps(settings))
    path = place / BEGUN
    if path.is_file() and any(place.glob("step-*")):
        then = json.loads(path.read_text(encoding="utf-8"))
        for name in [name for name in settings if name in then and then[name] != settings[name]]:
            told = f"with {name} {then[name]!r}, and now it is {settings[name]!r}"
            if name == "texts":
                told = "with other captions or classes: they have changed since, and the model's words or classes with them"
            raise ValueError(f"{folder} holds a training that began {told}; begin anew in another folder, or change it back and go on")
    elif started_as()[0] == 0:
        place.mkdir(parents=True, exist_ok=True)
        write_record(path, settings)


def fingerprint(texts: list[str]) -> str:
    """A short text that is another where texts, or their order, are others."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def started_as() -> tuple[int, int]:
    """Which of how many processes torchrun has started; ``(0, 1)`` without torchrun, whatever else the environment says."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def write_record(path: Path, values: Any) -> None:
    """JSON, whole or not at all."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    unfinished.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def memory_expected(model: nn.Module, loss: Callable[[], Tensor], rows: int, of: int) -> int:
    """Bytes that a training step of ``of`` rows holds in one process.

    Weights, gradients and two moments of AdamW, and what ``loss()``, which computes ``rows`` rows, keeps for the way back, in proportion.
    """
    parameters, held = list(model.parameters()), {}
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no other gets its place; one that is kept twice is there once
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    kept = sum(tensor.untyped_storage().nbytes() for place, tensor in held.items() if place not in own)
    weights = sum(parameter.nbytes for parameter in parameters)
    return weights + 3 * sum(parameter.nbytes for parameter in parameters if parameter.requires_grad) + kept * of // rows


def say_once(*lines: str) -> None:
    """Say something once, however many processes train."""
    if started_as()[0] == 0 and processes.rank() == 0:
        print(*lines, sep="\n", flush=True)
