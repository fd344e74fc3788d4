"""The blocks of a model spread over the processes: each keeps a part of their weights, gradients and optimizer states (``fully_shard``).

A block's weights are gathered from all processes when it is computed, forward and backward, and given up again (ZeRO-3, Rajbhandari et al.
2020; PyTorch's FSDP2). What lies outside of the blocks, embeddings and heads, stays whole in every process.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from minimllm.training import processes
from minimllm.training.optimizers import TrainingConfig, make_optimizers
from minimllm.training.spreading import is_spread, like, whole


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The modules in every list of a model whose name ends in ``blocks``."""
    lists = [module for name, module in model.named_modules() if name.endswith("blocks") and isinstance(module, nn.ModuleList)]
    return [block for each in lists for block in each]


def spread(
    model: nn.Module, optimizers: dict[str, Optimizer], config: TrainingConfig, device: torch.device
) -> tuple[nn.Module, dict[str, Optimizer]]:
    """A copy of the model whose blocks are spread, with optimizers in the same state. The model itself goes to the processor's memory.

    Raises:
        ValueError: a model without blocks.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not blocks_of(model):
        raise ValueError(f"a {type(model).__name__} has no blocks that could be spread over the processes; leave shard out")
    mesh, given = init_device_mesh(device.type, (processes.count(),)), model
    model = copy.deepcopy(model)
    given.to("cpu")
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
        block.set_gradient_divide_factor(1.0)  # the sum of all parts, not their mean
        block.set_force_sum_reduction_for_comms(True)
    spread_optimizers = make_optimizers(model, config)
    for kind, optimizer in spread_optimizers.items():
        before = state_by_name(optimizers[kind])
        for name, parameter in named(optimizer):
            for field, value in before.get(name, {}).items():
                alike = isinstance(value, Tensor) and value.shape == parameter.shape
                optimizer.state[parameter][field] = like(value, parameter) if alike else value
    return model, spread_optimizers


def named(optimizer: Optimizer) -> list[tuple[str, nn.Parameter]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]


def state_by_name(optimizer: Optimizer) -> dict[str, dict[str, Any]]:
    return {name: optimizer.state[parameter] for name, parameter in named(optimizer) if parameter in optimizer.state}


def clip_gradients(parameters: list[nn.Parameter], largest: float) -> float:
    """As ``torch.nn.utils.clip_grad_norm_``, which does not take spread and whole gradients together; the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not any(map(is_spread, gradients)):
        return nn.utils.clip_grad_norm_(parameters, largest).item()
    norm = torch.stack([whole(torch.linalg.vector_norm(gradient)) for gradient in gradients]).norm().item()
    for gradient in gradients:
        gradient.mul_(min(1.0, largest / (norm + 1e-6)))
    return norm
