"""The formulas for a training step against what torch keeps, holds and counts."""

import pytest
import torch
from support import unchecked
from torch.utils.flop_counter import FlopCounterMode

from minimllm import EncoderBlock, Spread, block_kept, training_operations
from minimllm.inspection.costs import layer_multiply_adds


@pytest.mark.parametrize("batch, tokens, dim, mlp_dim, heads", [(3, 10, 32, 48, 4), (5, 17, 24, 96, 2), (1, 1, 8, 8, 1)])
def test_a_block_keeps_what_the_formula_says(batch, tokens, dim, mlp_dim, heads):
    block, held = EncoderBlock(dim, heads, mlp_dim), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}

    def keep(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(torch.randn(batch, tokens, dim, requires_grad=True))
    kept = sum(tensor.untyped_storage().nbytes() // 4 for place, tensor in held.items() if place not in weights)
    assert kept == block_kept(batch * tokens, dim, mlp_dim, heads)
    assert block_kept(batch * tokens, dim, mlp_dim, heads, recomputed=True) == batch * tokens * dim


def test_three_forward_passes_where_all_learns_two_behind_something_that_learns_one_in_front():
    tokens, dim, heads, mlp_dim = 6, 16, 2, 40
    forward = layer_multiply_adds(tokens, dim, mlp_dim)
    for learns, before in ((True, True), (True, False), (False, True), (False, False)):
        block = EncoderBlock(dim, heads, mlp_dim).requires_grad_(learns)
        x = torch.randn(1, tokens, dim, requires_grad=before)
        with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            y = block(x)
            if y.requires_grad:
                y.sum().backward()
        assert counter.get_total_flops() == training_operations(forward, trained=learns, gradient=before)
    assert training_operations(forward) == 6 * forward.total and training_operations(forward, False, False) == 2 * forward.total
    assert training_operations(100, trained=True, gradient=False) == 400


def test_what_each_process_holds_and_sends():
    whole, spread = (Spread(1000, 4, sharded, whole=120 if sharded else 0) for sharded in (False, True))
    assert whole.held() == {"weights": 4000, "gradients": 4000, "moments": 8000}
    assert spread.held() == {"weights": 4 * 340, "gradients": 4 * 340, "moments": 8 * 340}
    assert whole.messages() == {"all_reduce": 4000, "all_gather": 0, "reduce_scatter": 0}
    assert spread.messages() == {"all_reduce": 480, "all_gather": 7040, "reduce_scatter": 3520}
    assert whole.sent() == 6000 and spread.sent() == (960 + 7040 + 3520) * 3 / 4
    frozen = Spread(1000, 3, True, trained=10, bytes_per_number=2)
    assert frozen.held() == {"weights": 2 * 334, "gradients": 2 * 4, "moments": 4 * 4}
    assert frozen.messages() == {"all_reduce": 0, "all_gather": 4000, "reduce_scatter": 20}
    assert Spread(1000).sent() == 0 and Spread(1000, trained=0).held()["gradients"] == 0


def test_counts_that_do_not_fit_are_refused():
    for arguments in ((10, 0), (10, 2, True, 11), (10, 2, True, 5, 6)):
        with pytest.raises(ValueError, match="at least one process, and whole <= trained <= parameters"):
            Spread(*arguments)
    with unchecked(), pytest.raises(ValueError, match="heads=0"):
        block_kept(1, 2, 3, 0)
