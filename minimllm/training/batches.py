"""Seeds and batches as pure functions: the batch of step ``k`` is the same whenever and however often it is asked for."""

import hashlib
from typing import Any

import torch
from torch import Tensor


def derive_seed(seed: int, *labels: int | str) -> int:
    """A seed of its own for every (seed, labels): the streams ``("scenes", step)`` and ``("shift", step)`` have nothing in common."""
    digest = hashlib.sha256(repr((seed, *labels)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits, which every device's generator takes


def generator_for(seed: int, *labels: int | str) -> torch.Generator:
    """A generator on the CPU seeded with ``derive_seed(seed, *labels)``."""
    return torch.Generator().manual_seed(derive_seed(seed, *labels))


def batch_indices(count: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The rows in the batch of ``step``: an endless stream of fresh shuffles of ``count`` rows, cut into batches."""
    if count < 1:
        raise ValueError(f"batches need data to be drawn from, got {count} rows")
    first = step * batch_size
    epochs = range(first // count, (first + batch_size - 1) // count + 1)
    stream = torch.cat([torch.randperm(count, generator=generator_for(seed, "epoch", epoch)) for epoch in epochs])
    return stream[first - epochs[0] * count :][:batch_size]


def to_device(batch: Any, device: torch.device | str) -> Any:
    """``batch`` with all tensors in its tuples, lists and dicts on ``device``; anything else passes as it is."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    return type(batch)(to_device(value, device) for value in batch) if isinstance(batch, list | tuple) else batch
