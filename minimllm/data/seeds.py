"""A seed of its own for every purpose: what is drawn for one never depends on what was drawn for another."""

import hashlib

import torch


def derive_seed(seed: int, *labels: int | str) -> int:
    """A seed of its own for every (seed, labels): the streams ``("scenes", step)`` and ``("shift", step)`` have nothing in common."""
    digest = hashlib.sha256(repr((seed, *labels)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits, which every device's generator takes


def generator_for(seed: int, *labels: int | str) -> torch.Generator:
    """A generator on the CPU seeded with ``derive_seed(seed, *labels)``."""
    return torch.Generator().manual_seed(derive_seed(seed, *labels))
