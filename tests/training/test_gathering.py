"""A batch larger than one device: two processes under torchrun compute the loss and the gradients of one with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import largest_difference, randomise

from minimllm import CLIP, CLIPConfig, TextConfig, contrastive_loss, gather_embeddings
from minimllm.models.clip_config import clip_vit
from minimllm.training.contrastive import clip_loss

SAMPLES = 6
CONFIG = CLIPConfig(
    clip_vit(image_size=16, patch_size=8, dim=32, layers=1, heads=2, mlp_dim=64),
    TextConfig(50, context_length=8, dim=32, layers=1, heads=2, mlp_dim=64, eos_token_id=49),
    embed_dim=16,
)


def batch():
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(SAMPLES, 3, 16, 16, generator=generator, dtype=torch.float64)
    ids = torch.randint(0, 49, (SAMPLES, 8), generator=generator)
    ids[:, -1] = 49
    captions = torch.tensor([0, 1, 2, 0, 3, 4])  # pictures 0 and 3, in different processes, share a caption
    return images, ids, captions[:, None] == captions[None]


def worker(folder: Path) -> None:
    """What each of the two processes does: its half of the batch, the embeddings of both, gradients averaged as usual."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank, half = dist.get_rank(), SAMPLES // 2
    model = randomise(CLIP(CONFIG)).double()
    images, ids, same = batch()
    mine = slice(rank * half, (rank + 1) * half)

    class Step(torch.nn.Module):
        """DistributedDataParallel wants one forward through which all parameters are used."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *batch):
            return clip_loss(self.model, batch, gather=True)[0]

    averaged = DistributedDataParallel(Step())  # kept in a variable: it averages while the loss goes backward
    loss = averaged(images[mine], ids[mine], None, same)
    loss.backward()
    try:
        gather_embeddings(torch.zeros(2 + rank, 4))
        message = "no error"
    except ValueError as error:
        message = str(error)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.save({"loss": loss.detach(), "gradients": gradients, "message": message}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def torchrun(folder: Path) -> list[dict]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    environment = {**os.environ, **loopback, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    run = subprocess.run(
        [*command, "--local-addr=127.0.0.1", __file__, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun's rendezvous needs libuv there, which the wheels lack")
def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    model = randomise(CLIP(CONFIG)).double()
    images, ids, same = batch()
    loss = contrastive_loss(model(images, ids), same)
    loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    alone = contrastive_loss(model(images[:3], ids[:3]))
    assert abs(alone - loss) > 1e-3, "half a batch is another task: fewer pictures to be confused with"
    for result in torchrun(tmp_path):
        assert abs(result["loss"] - loss) < 1e-6
        assert result["gradients"].keys() == expected.keys()
        for name, gradient in result["gradients"].items():
            assert largest_difference(gradient, expected[name]) < 1e-6, name
        assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2
        assert "batches of 2, 3 samples" in result["message"]


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
