"""The formula for a layer's cost against torch's own count of the operations it runs."""

import pytest
import torch
from support import unchecked
from torch.utils.flop_counter import FlopCounterMode

from minimllm import EncoderBlock
from minimllm.costs import layer_multiply_adds


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
