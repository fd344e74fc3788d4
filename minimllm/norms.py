"""The norm of the Llama family."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Divides each vector by the root of its mean square, and multiplies by a learned scale (Zhang and Sennrich 2019).

    No mean is subtracted, and there is no bias. The division is computed in float32 and rounded to the type of ``x`` before the scale, as
    Llama does; ``nn.RMSNorm`` rounds once, after the scale: the same in float32, but not in bfloat16 or float64.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        if x.dtype == torch.float32:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.rms_norm(x.float(), self.weight.shape, eps=self.eps).to(x.dtype) * self.weight
