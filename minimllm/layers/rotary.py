"""Rotary positions (RoPE, Su et al. 2021): each pair of numbers in a query or key turns by an angle that grows with its position."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from minimllm.layers.attention import Rotary


@dataclass(frozen=True)
class RotaryScaling:
    """How Llama 3.1 slows down the low frequencies, so that a model trained on short texts reads long ones (Llama 3, section 3.4.3).

    Attributes:
        factor: by how much the lowest frequencies are divided.
        low_frequency_factor, high_frequency_factor: frequencies with fewer than ``low`` turns in the original length are divided by
            ``factor``, those with more than ``high`` are kept, and between the two there is a smooth passage.
        original_length: number of positions before scaling.

    Raises:
        ValueError: for a value outside its range.
    """

    factor: float = 8.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192

    def __post_init__(self):
        if not self.factor >= 1 or not 0 < self.low_frequency_factor < self.high_frequency_factor or self.original_length < 1:
            raise ValueError(f"expected factor >= 1, 0 < low_frequency_factor < high_frequency_factor, original_length >= 1; got {self}")


def rotary_frequencies(
    head_dim: int, base: float = 10_000.0, scaling: RotaryScaling | None = None, device: torch.device | str | None = None
) -> Float[Tensor, " pairs"]:
    """Radians by which each pair turns per position, ``(head_dim / 2,)``: from 1 down to nearly ``1 / base``.

    Raises:
        ValueError: if ``head_dim`` is odd, or ``base`` not above 0.
    """
    if head_dim < 2 or head_dim % 2 or not base > 0:
        raise ValueError(f"rotary positions need an even head_dim and a base above 0, got head_dim {head_dim} and base {base}")
    frequencies = 1.0 / base ** (torch.arange(0, head_dim, 2, device=device).float() / head_dim)
    if scaling is None:
        return frequencies
    turns = scaling.original_length / (2 * math.pi / frequencies)  # in the whole original length
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # 0: divided, 1: kept as it is
    # Rounded in the order of transformers: a last digit here is an angle that differs visibly at position 100,000.
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


def rotary_angles(
    positions: Num[Tensor, "*batch length"], frequencies: Float[Tensor, " pairs"], dtype: torch.dtype = torch.float32
) -> Rotary:
    """Cosines and sines for :func:`~minimllm.layers.attention.rotate`, ``(*batch, length, head_dim)``, the angles repeated in both halves.

    Angles are computed in float32 whatever ``dtype`` the result has: in bfloat16, neighbouring positions beyond 256 would coincide.
    """
    angles = positions.float()[..., None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


class RotaryTable:
    """The angles of the positions 0, 1, 2, ..., computed once and looked up afterwards, the table growing with the texts.

    Args:
        head_dim, base, scaling: as of :func:`rotary_frequencies`.
    """

    def __init__(self, head_dim: int, base: float = 10_000.0, scaling: RotaryScaling | None = None):
        self.options = (head_dim, base, scaling)
        self.table: Rotary | None = None

    def __call__(self, past: int, length: int, dtype: torch.dtype, device: torch.device) -> Rotary:
        """Cosines and sines of the positions from ``past``, ``(length, head_dim)`` each."""
        table = self.up_to(past + length, dtype, device)
        return table[0][past : past + length], table[1][past : past + length]

    def rows(self, positions: Int[Tensor, "batch length"], below: int, dtype: torch.dtype) -> Rotary:
        """Cosines and sines of whole positions, each from 0 to ``below - 1``, ``(batch, length, head_dim)`` each."""
        cosine, sine = self.up_to(below, dtype, positions.device)
        return cosine[positions], sine[positions]

    def up_to(self, length: int, dtype: torch.dtype, device: torch.device) -> Rotary:
        """The table, with at least so many positions."""
        table = self.table
        if table is None or len(table[0]) < length or table[0].dtype != dtype or table[0].device != device:
            with torch.inference_mode(False):  # else it could not be used in training afterwards
                table = self.table = self.at(torch.arange(max(64, 2 * length), device=device), dtype)
        return table

    def at(self, positions: Num[Tensor, "*batch length"], dtype: torch.dtype) -> Rotary:
        """Cosines and sines of any positions, ``(*batch, length, head_dim)`` each."""
        return rotary_angles(positions, rotary_frequencies(*self.options, positions.device), dtype)
