"""A run that is stopped goes on with another number of processes, and what happens to one happens to all.

The file is its own script: ``torchrun test_going_on.py FOLDER MISHAP``.
"""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from light import launch, randomise
from torch import nn

from minimllm import History, TrainingConfig, ViT, ViTConfig, classification_loss, generator_for, train

STEPS = 30


def run(folder: Path | None, mishap=lambda step: None) -> tuple[nn.Module, History]:
    model = randomise(ViT(ViTConfig.digits(classes=3, dim=8, layers=1, heads=2, mlp_dim=12)), std=0.3).double()

    def make_batch(step):
        mishap(step)
        images = torch.randn(7, 1, 8, 8, generator=generator_for(0, "images", step), dtype=torch.float64)
        return images, torch.arange(7) % 3

    config = TrainingConfig(steps=STEPS, batch_size=7, checkpoint_every=4)
    return model, train(model, make_batch, classification_loss, config, checkpoints=folder, progress=False)


def main(folder: Path, name: str) -> None:
    rank = int(os.environ["RANK"])
    print(f"worker {os.getpid()}", file=sys.stderr, flush=True)

    def mishap(step: int) -> None:
        if name == "error" and step == 9 and rank == 2:
            raise ValueError("a mishap in one of four")
        if name == "killed" and step == 17 and rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "slow":
            time.sleep(0.05)
        if name == "killed" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "1" and step > 20:
            (folder.parent / "slow").touch()
            time.sleep(1.0)

    run(folder, mishap)


def newest(folder: Path) -> int:
    return max(int(path.stem.removeprefix("step-")) for path in folder.glob("step-*"))


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks after processes in /proc")
def test_an_error_in_four_a_killed_worker_of_two_a_killed_launcher_and_one_that_ends_it(tmp_path, monkeypatch):
    expected, whole = run(None)
    folder = tmp_path / "run"

    four = launch(__file__, folder, "error", processes=4)
    _, told = four.communicate(timeout=120)
    assert four.returncode != 0 and "a mishap in one of four" in told
    assert newest(folder) == 8, "the last checkpoint before the mishap"

    two = launch(__file__, folder, "killed", options=("--max-restarts=1",))
    ends = time.monotonic() + 300
    while not (tmp_path / "slow").exists() and time.monotonic() < ends:
        time.sleep(0.1)
    assert newest(folder) == 20, "after its restart it went on from the checkpoint after 16 steps"
    two.send_signal(signal.SIGKILL)

    with monkeypatch.context() as impatient, pytest.raises(ValueError, match=r"another training writes to .*run \(process \d+ on "):
        impatient.setattr("minimllm.training.checkpoints.PATIENCE", 0.0)
        run(folder)
    model, history = run(folder)  # waits until the workers have noticed that nobody leads them
    _, told = two.communicate(timeout=20)
    workers = [int(number) for number in re.findall(r"worker (\d+)", told)]
    assert len(workers) == 4 and not any(alive(worker) for worker in workers) and "torchrun was ended" in told

    assert len(history.losses) == STEPS and history.losses == pytest.approx(whole.losses, abs=1e-10)
    for name, tensor in expected.state_dict().items():
        assert (model.state_dict()[name] - tensor).abs().max() < 1e-10, name
    assert sorted(path.name for path in folder.iterdir()) == [f"step-{step:08d}.safetensors" for step in (28, 30)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
