"""Small products get one thread, large ones all, and afterwards everything is as before."""

import math

import pytest
import torch
from torch import nn

from minimllm import LanguageModel, LanguageModelConfig, generate
from minimllm.layers.threads import SMALL, threads_for
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


def test_where_all_threads_may_work_their_number_is_not_touched(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: pytest.fail(f"set to {threads}"))
    for multiply_adds, device in ((SMALL, "cpu"), (0, "cuda"), (0, "meta")):
        with threads_for(multiply_adds, torch.device(device)):
            pass


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
def test_reading_and_writing_little_with_a_small_model_takes_one_thread(vocab_size, reading, writing):
    """Estimated from the largest matrix, the output's: 3 prompts of 4 tokens are read, and then one token of each."""
    model = LanguageModel(LanguageModelConfig.tiny(vocab_size, tied=False)).eval()
    assert [tokens * 96 * vocab_size < SMALL for tokens in (12, 3)] == [reading == 1, writing == 1]
    query = model.blocks[0].attention.query
    query.__class__, query.seen = Noting, []
    generate(model, torch.full((3, 4), 7), 3)
    assert query.seen == [reading, writing, writing] and torch.get_num_threads() == 3


@pytest.mark.parametrize("width, threads", [(96, 1), (256, 3)])
def test_an_update_of_small_matrices_takes_one_thread_and_the_rest_of_a_step_all(width, threads, monkeypatch):
    model = nn.Sequential()
    model.blocks = nn.Sequential(Noting(8, width), nn.Linear(width, width))
    forward = model.blocks[0].seen = []
    config = TrainingConfig(steps=2)
    optimizers = make_optimizers(model, config)
    assert largest_product(optimizers["muon"]) == width**3 and largest_product(optimizers["adamw"]) == math.inf
    seen = {name: [] for name in ("backward", "after", *optimizers)}

    def note(name):
        return lambda *_: seen[name].append(torch.get_num_threads())

    for name, optimizer in optimizers.items():
        monkeypatch.setattr(type(optimizer), "step", note(name))
    model.blocks[0].weight.register_hook(note("backward"))
    train(
        model,
        lambda step: torch.ones(4, 8),
        lambda model, x: (model.blocks(x).square().mean(), {}),
        config,
        after_step=note("after"),
        progress=False,
    )
    assert forward == [3, 3] and seen == {"backward": [3, 3], "after": [3, 3], "adamw": [3, 3], "muon": [threads] * 2}
