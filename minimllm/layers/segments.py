"""Several texts in one row, each of which sees a common prefix and itself: where they begin, and how their tokens are counted.

A row's ``segments`` say to which text each token belongs, counted from 1; 0 is the prefix, -1 padding. What each token may see is said by
:func:`~minimllm.layers.masks.segment_mask`, and what stands in such a row by :class:`~minimllm.training.packing.Packed`.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def segment_starts(segments: Int[Tensor, "rows length"]) -> Bool[Tensor, "rows length"]:
    """True on the first token of each segment, of the prefix, and of the padding."""
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return starts


def segment_positions(segments: Int[Tensor, "rows length"], steps: Int[Tensor, "rows length"] | None = None) -> Int[Tensor, "rows length"]:
    """The position of every token: the prefix counts from 0, and each segment goes on from the end of the prefix.

    Args:
        segments: which text each token belongs to, as above.
        steps: by how much a token's position exceeds that of the token before it; ``None``: 1 everywhere.
    """
    steps = torch.ones_like(segments) if steps is None else steps
    counted = steps.cumsum(dim=1)
    prefix = (steps * (segments == 0)).sum(dim=1, keepdim=True)
    before = (counted - steps).masked_fill(~segment_starts(segments), 0).cummax(dim=1).values  # where the count of the segment began
    return torch.where(segments == 0, counted, counted - before + prefix) - 1


def predecessors(segments: Int[Tensor, "rows length"]) -> Int[Tensor, "rows length"]:
    """The place whose logits are about each token: the place before it, and for the first of a segment the last of the prefix.

    The start token has none, and gets its own place, 0.
    """
    before = (torch.arange(segments.shape[1], device=segments.device) - 1).clamp(min=0).expand_as(segments)
    last = (segments == 0).sum(dim=1, keepdim=True) - 1
    return torch.where(segment_starts(segments) & (segments != 0), last, before)
