"""The gradient of one step's batch, however it is cut: over several processes, and in each into parts that fit into the memory."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minimllm.data.seeds import derive_seed
from minimllm.training import processes
from minimllm.training.batches import to_device
from minimllm.training.optimizers import TrainingConfig
from minimllm.training.parts import Part, inside, spans, whole
from minimllm.training.sharding import blocks_of
from minimllm.training.spreading import is_spread

LossFunction = Callable[[nn.Module, Any], tuple[Tensor, Any]]


def own_parts(batch: Any, config: TrainingConfig) -> list[Part]:
    """This process's rows of a batch, in parts of at most ``config.micro_batch_size``; errors as of :meth:`Part.split`."""
    part = whole(batch)
    if part.share == 1 and processes.count() > 1:
        part = part.split(processes.count())[processes.rank()]
    largest = -(-part.of // processes.count())  # as many parts in every process: the blocks that are spread meet at each
    parts = -(-largest // (config.micro_batch_size or largest))
    least = part.of // processes.count()
    if least < parts:
        raise ValueError(
            f"of {part.of} rows the {processes.count()} processes have {least} to {largest} each, which micro_batch_size "
            f"{config.micro_batch_size} cuts into different numbers of parts; take a batch size that the processes divide, or larger parts"
        )
    return part.split(parts)


def go_back(
    model: nn.Module, loss_function: LossFunction, parts: list[Part], config: TrainingConfig, step: int, device: torch.device
) -> tuple[float, dict[str, float]]:
    """Add the gradient of the whole batch's loss to the model's; that loss, and the metrics.

    Args:
        parts: this process's, of :func:`own_parts`.
    """
    if parts[0].share < 1:
        _refuse_batch_norm(model)
    way = _compared if hasattr(loss_function, "embed") else _averaged
    loss, metrics = way(model, loss_function, parts, config, step, device)
    own = [parameter for parameter in model.parameters() if parameter.requires_grad and not is_spread(parameter)]
    processes.sum_gradients(own)  # those of spread blocks are summed on the way back
    return processes.add_up(loss, metrics)


def _averaged(model, loss_function, parts, config, step, device) -> tuple[float, dict[str, float]]:
    """A mean over rows: each part's loss counts by its share of them."""
    total, metrics = 0.0, {}
    for part in parts:
        with _computing(part, config, step, device), inside(part):
            loss, found = loss_function(model, to_device(part.batch, device))
        (loss * part.share).backward()
        total += loss.item() * part.share
        for name, value in found.items():
            metrics[name] = metrics.get(name, 0.0) + float(value) * part.share
    return total, metrics


def _compared(model, loss_function, parts, config, step, device) -> tuple[float, dict[str, float]]:
    """Rows that are compared with each other: all are embedded first, then the gradient goes back from the embeddings, part by part.

    Where there are several parts each is embedded twice, at first without keeping what the way back needs: GradCache (Gao et al. 2021).
    """

    def embed(part: Part) -> list[Tensor]:
        with _computing(part, config, step, device), inside(part):
            return list(loss_function.embed(model, to_device(part.batch, device)))

    with torch.set_grad_enabled(len(parts) == 1):
        embedded = [embed(part) for part in parts]
    local = [torch.cat(rows) for rows in zip(*embedded, strict=True)]
    everyone = processes.count()
    sizes = [last - first for first, last in spans(parts[0].of, everyone)]
    every = [processes.gather_rows(rows.float() if rows.dtype == torch.bfloat16 else rows, sizes) for rows in local]
    every = [rows.requires_grad_() if rows.is_floating_point() else rows for rows in every]
    loss, metrics = loss_function.compare(model, *every)
    (loss / everyone).backward()  # every process computes all of it, and their gradients are added up
    for part, rows in zip(parts, embedded, strict=True):
        rows = embed(part) if len(parts) > 1 else rows
        back = [(each, of_all.grad[part.first : part.last]) for each, of_all in zip(rows, every, strict=True) if each.requires_grad]
        torch.autograd.backward([each for each, _ in back], [gradient.to(each.dtype) * everyone for each, gradient in back])
    return loss.item() / everyone, {name: float(value) / everyone for name, value in metrics.items()}


# ---- how a part is computed ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _computing(part: Part, config: TrainingConfig, step: int, device: torch.device) -> Iterator[None]:
    """Its own random numbers, the same each time it is computed; and bfloat16, if asked for."""
    if part.share < 1:
        torch.manual_seed(derive_seed(config.seed, "step", step, part.first))
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
        yield


@contextlib.contextmanager
def recomputing(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Within it every block keeps its input alone for the way back, and is computed a second time there (Chen et al. 2016)."""
    blocks = blocks_of(model) if enabled else []
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _refuse_batch_norm(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            raise ValueError(
                f"{name} is a {type(module).__name__}, whose mean is over the rows that it sees: in parts it would be another training. "
                "Use one process without micro-batches, or another norm"
            )
