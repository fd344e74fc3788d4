"""The formula for a layer's cost against torch's own count of the operations it runs."""

import pytest
import torch
from support import unchecked
from torch.utils.flop_counter import FlopCounterMode

from minimllm import EncoderBlock, LanguageModel, LanguageModelConfig
from minimllm.costs import cache_bytes, layer_multiply_adds


@pytest.mark.parametrize("tokens, dim, mlp_dim", [(16, 32, 128), (50, 64, 256), (7, 24, 48)])
def test_formula_equals_the_measured_count(tokens, dim, mlp_dim):
    block = EncoderBlock(dim, 4, mlp_dim)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        block(torch.randn(1, tokens, dim))
    assert layer_multiply_adds(tokens, dim, mlp_dim).total * 2 == counter.get_total_flops()


def test_equal_parts_at_six_times_the_width():
    cost = layer_multiply_adds(6 * 768, 768)
    assert cost.linear == cost.attention


@pytest.mark.parametrize("arguments", [(0, 8), (8, 0), (8, 8, 0)])
def test_nothing_costs_are_refused(arguments):
    with unchecked(), pytest.raises(ValueError, match="at least 1"):
        layer_multiply_adds(*arguments)


@pytest.mark.parametrize("dtype, size", [(torch.float32, 4), (torch.bfloat16, 2)])
def test_the_cache_is_as_large_as_counted(dtype, size):
    config = LanguageModelConfig.tiny(50)
    model = LanguageModel(config).to(dtype)
    cache = model.new_cache()
    assert cache.bytes() == cache_bytes(3, 2, 24, 0, 5, size) == 0
    with torch.no_grad():
        for length in (7, 1, 4):
            model(torch.ones(5, length, dtype=torch.long), cache=cache)
    assert cache.bytes() == cache_bytes(3, 2, 24, 12, batch=5, bytes_per_number=size)


def test_the_cache_of_real_models():
    assert cache_bytes(32, 8, 128, 1, bytes_per_number=2) == 128 * 1024, "Llama 3.1 8B: 128 KiB a token"
    assert cache_bytes(32, 8, 128, 131_072, bytes_per_number=2) == 16 * 2**30, "16 GiB for a full context"
    with unchecked(), pytest.raises(ValueError, match="'layers': 0"):
        cache_bytes(0, 8, 128, 1)
