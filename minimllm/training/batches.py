"""Batches as pure functions: the batch of step ``k`` is the same whenever and however often it is asked for."""

from typing import Any

import torch
from torch import Tensor

from minimllm.data.seeds import generator_for


def batch_indices(count: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The rows in the batch of ``step``: an endless stream of fresh shuffles of ``count`` rows, cut into batches."""
    if count < 1:
        raise ValueError(f"batches need data to be drawn from, got {count} rows")
    first = step * batch_size
    epochs = range(first // count, (first + batch_size - 1) // count + 1)
    stream = torch.cat([torch.randperm(count, generator=generator_for(seed, "epoch", epoch)) for epoch in epochs])
    return stream[first - epochs[0] * count :][:batch_size]


def to_device(batch: Any, device: torch.device | str) -> Any:
    """``batch`` with all tensors in its tuples, lists and dicts on ``device``, and what else has a method ``to``; the rest as it is."""
    if isinstance(batch, Tensor) or hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    return type(batch)(to_device(value, device) for value in batch) if isinstance(batch, list | tuple) else batch
