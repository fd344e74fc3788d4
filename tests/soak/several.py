"""Trainings by several processes, killed at a random moment: one process goes on, and ends with the same losses and weights."""

import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from soak.pool import Fault, Log
from support import launch
from training import test_going_on as training

COUNT = 50
KINDS = ("a worker killed", "the launcher killed")


def prepare(folder: Path) -> None:
    """An undisturbed training."""
    global EXPECTED
    EXPECTED = training.run(None)


def run(seed: int, folder: Path, log: Log) -> None:
    kind, rng = KINDS[seed % 2], random.Random(f"several {seed}")
    count, wanted, later = rng.choice((2, 3, 4)), rng.randrange(0, 25), rng.random() * 0.3
    log.tell(kind=kind, at=f"{count} processes, {kind} {later:.2f} s after step {wanted}")
    started = launch(training.__file__, folder / "run", "slow", processes=count)
    while started.poll() is None and newest(folder / "run") < wanted:
        time.sleep(0.02)
    time.sleep(later)
    process = started.pid if kind == KINDS[1] else rng.choice(workers(started.pid) or [started.pid])
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it had ended
    _, told = started.communicate()
    (model, history), error = log.call("going on alone", lambda: training.run(folder / "run"), (Exception,))
    if error is not None:
        raise Fault(f"going on gives {error!r}; before that: {told[-500:]}")
    model_then, whole = EXPECTED
    if history.losses != pytest.approx(whole.losses, abs=1e-10):
        raise Fault("other losses than undisturbed")
    if any((tensor - model_then.state_dict()[name]).abs().max() > 1e-10 for name, tensor in model.state_dict().items()):
        raise Fault("other weights than undisturbed")
    left = [int(number) for number in re.findall(r"worker (\d+)", told) if training.alive(int(number))]
    if left:
        raise Fault(f"the workers {left} are still there")


def newest(folder: Path) -> int:
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("step-*")), default=0)


def workers(launcher: int) -> list[int]:
    """Its children, on Linux."""
    told = Path(f"/proc/{launcher}/task/{launcher}/children")
    return [int(number) for number in told.read_text().split()] if told.exists() else []
