"""Every attention mask of the course as a pure function that returns a bool tensor: True = may attend."""

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor


def causal_mask(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "length length"]:
    """Row ``i`` is what token ``i`` may attend to: itself and the tokens before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def padding_mask(mask: Shaped[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 1 length"]:
    """From 1 on real tokens and 0 on padding to what may be attended to, the same for every head and every row.

    Args:
        mask: ``(batch, length)``, bool or integers.

    Raises:
        ValueError: if it does not have two dimensions, or holds anything but 0 and 1.
    """
    check_mask(mask)
    return mask.bool()[:, None, None, :]


def check_mask(mask: Shaped[Tensor, "..."]) -> None:
    """Raise a ``ValueError`` unless this is a mask of 1 on real tokens and 0 on padding, ``(batch, length)``."""
    if mask.ndim != 2:
        raise ValueError(f"expected a mask of shape (batch, length), got {tuple(mask.shape)}")
    if mask.is_floating_point() or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            f"a mask is 1 on real tokens and 0 on padding, bool or integer; got {mask.dtype} with {mask.unique()[:5].tolist()}"
        )
