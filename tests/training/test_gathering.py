"""A batch larger than one device: two processes under torchrun compute the loss and the gradients of one with the whole batch."""

import sys
from pathlib import Path

import pytest
import torch
from light import largest_difference, randomise, torchrun

from minimllm import CLIP, CLIPConfig, TextConfig, contrastive_loss
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
    """What each of the two processes does: its part of the batch, the embeddings of both, gradients averaged as usual."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model = randomise(CLIP(CONFIG)).double()
    images, ids, same = batch()
    mine = (slice(0, 2), slice(2, SAMPLES))[rank]

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
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.save({"loss": loss.detach(), "gradients": gradients}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun's rendezvous needs libuv there, which the wheels lack")
def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    model = randomise(CLIP(CONFIG)).double()
    images, ids, same = batch()
    loss = contrastive_loss(model(images, ids), same)
    loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    alone = contrastive_loss(model(images[:3], ids[:3]))
    assert abs(alone - loss) > 1e-3, "half a batch is another task: fewer pictures to be confused with"
    torchrun(__file__, tmp_path)
    for result in [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]:
        assert abs(result["loss"] - loss) < 1e-6
        assert result["gradients"].keys() == expected.keys()
        for name, gradient in result["gradients"].items():
            assert largest_difference(gradient, expected[name]) < 1e-6, name
        assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
