"""A training run of a fraction of a second, and a program that kills it again and again: ``python tests/tiny_run.py FOLDER``."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from minimllm.training import History, TrainingConfig, checkpoints, classification_loss, generator_for, make_optimizers, train


class TinyModel(nn.Module):
    """A matrix for Muon, biases and a norm for AdamW, dropout for the random generators, and a buffer that training changes."""

    def __init__(self, dropout: float = 0.2):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(dropout)) for _ in range(2)])
            self.norm = nn.BatchNorm1d(8)
            self.head = nn.Linear(8, 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x))


def make_batch(step: int):
    inputs = torch.randn(16, 8, generator=generator_for(0, "inputs", step))
    return inputs, inputs[:, :3].argmax(1)


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"steps": 12, "checkpoint_every": 1} | changes)


def run(
    folder: Path | None, model: nn.Module | None = None, batches=make_batch, device: str = "cpu", **changes
) -> tuple[nn.Module, History]:
    model = TinyModel() if model is None else model
    return model, train(model, batches, classification_loss, config(**changes), checkpoints=folder, device=device, progress=False)


def same(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ---- killed by the operating system ---------------------------------------------------------------------------------


def die(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_middle_of_writing(countdown: int) -> None:
    whole = checkpoints.save_file

    def write(tensors, path, metadata):
        nonlocal countdown
        whole(tensors, path, metadata)
        countdown -= 1
        if countdown == 0:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    checkpoints.save_file = write


def die_around_renaming(countdown: int, after: bool) -> None:
    rename = os.replace

    def replace(*paths):
        nonlocal countdown
        countdown -= 1
        if countdown == 0 and not after:
            die()
        rename(*paths)
        if countdown == 0:
            die()

    os.replace = replace


def child(work) -> int:
    """Run ``work`` in a process of its own and give its id; this process itself never computes, so that it can be forked safely."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    finally:
        os._exit(0 if sys.exc_info()[0] is None else 1)


def was_killed(process: int) -> bool:
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise SystemExit("a run failed of its own accord; its traceback is above")
    return False


def main(folder: Path, random_kills: int = 12, steps: int = 60) -> None:
    torch.set_num_threads(1)
    make_optimizers(TinyModel(), config())  # imports what optimizers need, once for all the children

    def train_and_store(checkpoint_folder: Path, result: Path, prepare=lambda: None):
        def work():
            prepare()
            model, history = run(checkpoint_folder, steps=steps)
            save_file(model.state_dict(), result, metadata={"losses": repr(history.losses)})

        return work

    started = time.perf_counter()
    assert not was_killed(child(train_and_store(folder / "quiet", folder / "expected.safetensors")))
    seconds = time.perf_counter() - started

    preparations = [
        lambda: die_in_the_middle_of_writing(1),
        lambda: die_in_the_middle_of_writing(3),
        lambda: die_around_renaming(2, after=False),
        lambda: die_around_renaming(2, after=True),
    ]
    kills = 0
    for prepare in preparations:
        assert was_killed(child(train_and_store(folder / "killed", folder / "result.safetensors", prepare))), "the run outlived its killing"
        kills += 1
    for _ in range(random_kills):
        process = child(train_and_store(folder / "killed", folder / "result.safetensors"))
        time.sleep(random.uniform(0.02, 0.5) * seconds)
        os.kill(process, signal.SIGKILL)
        kills += was_killed(process)
    assert not was_killed(child(train_and_store(folder / "killed", folder / "result.safetensors")))

    expected, result = load_file(folder / "expected.safetensors"), load_file(folder / "result.safetensors")
    assert expected.keys() == result.keys() and all(torch.equal(expected[name], result[name]) for name in expected), "the weights differ"
    left = sorted(path.name for path in (folder / "killed").iterdir())
    assert left == [f"step-{step:08d}.safetensors" for step in (steps - 1, steps)], f"files left behind: {left}"
    print(f"killed {kills} times, same weights")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
