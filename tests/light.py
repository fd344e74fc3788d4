"""What tests share with the processes that they start: without transformers, which takes each of them seconds to load."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0, std: float = 0.2, gate: float = 0.8) -> nn.Module:
    """Weights that hide no mistake: N(0, std^2) everywhere, norms around one, gates open."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.normal_(std=std, generator=generator)
        if "norm" in name.lower() and name.endswith("weight"):
            parameter.add_(1)
        if name.endswith("gate"):
            parameter.fill_(gate)
    return model.eval()


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape, f"{tuple(a.shape)} against {tuple(b.shape)}"
    return (a - b).abs().max().item()


def launch(script: str | Path, *arguments: str | Path, processes: int = 2, options: tuple[str, ...] = ()) -> subprocess.Popen:
    """A script under torchrun on this machine alone, a thread each; its output is in the pipes ``stdout`` and ``stderr``."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", *options, str(script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def torchrun(script: str | Path, *arguments: str | Path, processes: int = 2) -> str:
    """What a script that ends well under torchrun says."""
    run = launch(script, *arguments, processes=processes)
    out, told = run.communicate(timeout=600)
    assert run.returncode == 0, out + told
    return out + told
