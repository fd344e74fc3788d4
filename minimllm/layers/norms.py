"""The norm of the Llama family."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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
            if x.device.type == "cpu" and torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active():
                return _RMSNorm.apply(x, self.weight, self.eps)  # torch.func asks for more than one gradient
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.rms_norm(x.float(), self.weight.shape, eps=self.eps).to(x.dtype) * self.weight


class _RMSNorm(torch.autograd.Function):
    """``F.rms_norm`` to the last bit, with its gradient by hand, in half the time of torch's, which on a CPU goes step by step.

    With ``h = x / rms(x)`` and ``y = h * weight``: the gradient for ``weight`` is ``sum(g * h)``, and that for ``x`` is
    ``(g * weight - h * mean(g * weight * h)) / rms(x)``: what would only make ``x`` longer is taken away, as its length has no effect.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + eps)
        h = x * scale
        ctx.save_for_backward(h, scale, weight)
        return h * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        h, scale, weight = ctx.saved_tensors
        product = g * h
        longer = (product @ weight)[..., None].div_(-len(weight))
        return torch.addcmul(g * weight, h, longer).mul_(scale), product.reshape(-1, len(weight)).sum(dim=0), None
