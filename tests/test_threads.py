"""Small products get one thread, large ones all, and afterwards everything is as before."""

import pytest
import torch
from torch import nn

from minimllm import LanguageModel, LanguageModelConfig, generate
from minimllm.threads import SMALL, threads_for
from minimllm.training import TrainingConfig, train
from minimllm.training.optimizers import largest_product, make_optimizers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "multiply_adds, device, threads", [(SMALL - 1, "cpu", 1), (SMALL, "cpu", 3), (0, "cpu", 1), (0, "cuda", 3), (0, "meta", 3)]
)
def test_small_products_of_the_processor_get_one_thread(multiply_adds, device, threads):
    with threads_for(multiply_adds, torch.device(device)):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


def test_after_an_error_all_threads_are_back():
    with pytest.raises(KeyError), threads_for(0, CPU):
        raise KeyError
    assert torch.get_num_threads() == 3


class Noting(nn.Linear):
    """Writes down how many threads there are whenever it computes."""

    def forward(self, x):
        self.seen.append(torch.get_num_threads())
        return super().forward(x)


@pytest.mark.parametrize("vocab_size, reading, writing", [(64, 1, 1), (30_000, 3, 1), (200_000, 3, 3)])
def test_writing_a_small_model_takes_one_thread(vocab_size, reading, writing):
    """The largest matrix is the output's; a product of it with 3 prompts of 4 tokens, and with one token of each."""
    model = LanguageModel(LanguageModelConfig.tiny(vocab_size, tied=False)).eval()
    assert [torch.Size([vocab_size, 96]).numel() * tokens < SMALL for tokens in (12, 3)] == [reading == 1, writing == 1]
    query = model.blocks[0].attention.query
    query.__class__, query.seen = Noting, []
    generate(model, torch.full((3, 4), 7), 3)
    assert query.seen == [reading, writing, writing] and torch.get_num_threads() == 3


@pytest.mark.parametrize("width, threads", [(96, 1), (256, 3)])
def test_an_update_of_small_matrices_takes_one_thread_and_the_rest_of_a_step_all(width, threads, monkeypatch):
    model = nn.Sequential()
    model.blocks = nn.Sequential(Noting(8, width), nn.Linear(width, width))
    model.blocks[0].seen, seen = [], []
    config = TrainingConfig(steps=2)
    optimizers = make_optimizers(model, config)
    assert largest_product(optimizers) == width**3 and largest_product({"adamw": optimizers["adamw"]}) == 0
    muon = type(optimizers["muon"])
    monkeypatch.setattr(muon, "step", lambda *_: seen.append(torch.get_num_threads()))
    train(model, lambda step: torch.ones(4, 8), lambda model, x: (model.blocks(x).square().mean(), {}), config, progress=False)
    assert seen == [threads] * 2 and model.blocks[0].seen == [3] * 2
