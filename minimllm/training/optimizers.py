"""What moves the weights: the configuration of a training run, its learning-rate schedule, and its optimizers (AdamW and Muon)."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from minimllm.training.spreading import is_spread, like, whole


@dataclass(frozen=True)
class TrainingConfig:
    """Everything a training run depends on besides the model, the data and the loss.

    Attributes:
        steps, batch_size: length of the run; ``batch_size`` is read by the batch functions, the loop only calls ``make_batch(step)``.
            Where the environment variable ``MINIMLLM_STEPS`` is set, ``steps`` is at most as many: for trying what comes after a training.
        learning_rate: AdamW's peak.
        muon_learning_rate: Muon's peak, for the matrices inside the modules named in ``muon_modules``; ``None``: AdamW for everything.
        learning_rate_factors: multiplies the rate of parameters by the last part of their name, for example ``{"gate": 10.0}``.
        betas: AdamW's decay rates of the running means of the gradient and of its square.
        weight_decay: for weight matrices; biases, norms, positions, class tokens, gates and temperatures are never decayed.
        warmup, final: see :func:`learning_rate_factor`.
        clip: largest norm of the whole gradient; a longer one is scaled down to it.
        seed: of everything random in the loop.
        evaluate_every, checkpoint_every: in steps; both also happen after the last step. They do not change the result.
        micro_batch_size: most rows that go through the model at once; larger batches go in parts, whose gradients are added up.
            ``None``: all of a process's rows. Changes the memory, and the result by rounding only (and dropout, which is drawn by parts).
        bfloat16: compute the losses with matrix products in bfloat16 where torch's autocast does; weights and updates stay as they are.
        shard: with several processes, spread the blocks' weights, gradients and optimizer states over them
            (:mod:`minimllm.training.sharding`). Muon gathers each of its gradients for the update.
        recompute: keep the inputs of blocks alone for the way back, and compute the blocks again there: less memory, a third more time.

    Raises:
        ValueError: for a value outside its range.
    """

    steps: int
    batch_size: int = 128
    learning_rate: float = 3e-3
    muon_learning_rate: float | None = 0.02
    muon_modules: tuple[str, ...] = ("blocks",)
    learning_rate_factors: Mapping[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    warmup: float = 0.1
    final: float = 0.02
    clip: float = 1.0
    seed: int = 0
    evaluate_every: int | None = None
    checkpoint_every: int = 100
    micro_batch_size: int | None = None
    bfloat16: bool = False
    recompute: bool = False
    shard: bool = False

    def __post_init__(self):
        if most := os.environ.get("MINIMLLM_STEPS"):
            if not most.isdecimal() or int(most) < 1:
                raise ValueError(f"MINIMLLM_STEPS must be a whole number of 1 or more, got {most!r}; unset it to train in full")
            object.__setattr__(self, "steps", min(self.steps, int(most)))
        for name in ("steps", "batch_size", "checkpoint_every", "evaluate_every", "micro_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        for name in ("learning_rate", "muon_learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name in ("warmup", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share and must lie between 0 and 1, got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be 0 or more, got {self.weight_decay}")


def learning_rate_factor(step: int, steps: int, warmup: float = 0.1, final: float = 0.02) -> float:
    """The share of the peak learning rate used at ``step`` (from 0) of ``steps``.

    It rises in a straight line to 1 over the first ``warmup`` of the steps, then falls along half a cosine to ``final`` at the last step
    (Loshchilov and Hutter 2017, without restarts).
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - 1 - rising)
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def make_optimizers(model: nn.Module, config: TrainingConfig) -> dict[str, Optimizer]:
    """``{"adamw": ..., "muon": ...}`` over the trainable parameters; an optimizer with nothing to do is left out.

    Muon (Jordan 2024) moves a weight matrix by its momentum with all singular values brought near 1, so that every direction of it
    learns at the same pace. It is made for matrices between hidden layers; embeddings, heads, biases, norms and positions stay with
    AdamW. ``match_rms_adamw`` scales its steps to the size of AdamW's (Liu et al. 2025).

    Raises:
        ValueError: if no parameter of the model is trainable.
    """
    groups: dict[tuple[str, float, float, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        *modules, last = name.split(".")
        is_weight = last == "weight" and parameter.ndim >= 2
        muon = config.muon_learning_rate is not None and is_weight and parameter.ndim == 2 and bool(set(modules) & set(config.muon_modules))
        kind, peak = ("muon", config.muon_learning_rate) if muon else ("adamw", config.learning_rate)
        peak *= config.learning_rate_factors.get(last, 1.0)
        decay = config.weight_decay if is_weight else 0.0
        key = (kind, peak, decay, is_spread(parameter))  # an update takes spread and whole weights by themselves
        group = groups.setdefault(key, {"params": [], "names": [], "lr": peak, "peak": peak, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ValueError("the model has no trainable parameter; set requires_grad on those that should learn")

    of_kind = {kind: [group for key, group in groups.items() if key[0] == kind] for kind in ("adamw", "muon")}
    optimizers: dict[str, Optimizer] = {}
    if of_kind["adamw"]:
        optimizers["adamw"] = torch.optim.AdamW(of_kind["adamw"], betas=config.betas, fused=_fused(model))
    if of_kind["muon"]:
        optimizers["muon"] = Muon(of_kind["muon"], momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return optimizers


class Muon(torch.optim.Muon):
    """torch's Muon with ``match_rms_adamw``, whose iterations compute in the precision of the weights and not in bfloat16.

    A processor without arithmetic in bfloat16, as most laptops have, multiplies such matrices 30 times more slowly than those in float32.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """Moves every weight that has a gradient; ``closure``, if given, computes the loss anew and returns it."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight.grad))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(momentum, group["momentum"])
                # Rows that were made orthogonal in several processes apart would not be so together.
                direction = like(orthogonal(whole(direction), group["ns_coefficients"], group["ns_steps"]), weight)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(direction, alpha=0.2 * group["lr"] * max(weight.shape) ** 0.5)
        return loss


def orthogonal(
    matrix: Float[Tensor, "rows columns"], coefficients: tuple[float, float, float], steps: int
) -> Float[Tensor, "rows columns"]:
    """The matrix with all its singular values brought near 1, by Newton and Schulz's iteration with the coefficients of torch's Muon."""
    x = matrix if matrix.dtype == torch.float64 else matrix.float()
    x = x if len(x) <= x.shape[1] else x.T
    x = x / x.norm().clamp(min=1e-7)  # the largest is now 1 at most
    a, b, c = coefficients
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if len(matrix) <= matrix.shape[1] else x.T).to(matrix.dtype)


def largest_product(optimizer: Optimizer) -> float:
    """Multiply-adds of the largest matrix product of an update. Muon multiplies each matrix with itself, several times over; AdamW makes
    no products but passes over all of its numbers, which any number of threads can share: infinite.
    """
    if not isinstance(optimizer, torch.optim.Muon):
        return math.inf
    return max(min(weight.shape) * weight.numel() for group in optimizer.param_groups for weight in group["params"])


def _fused(model: nn.Module) -> bool:
    """Whether AdamW can update all parameters in one pass over memory, which torch offers for floats on these devices."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return all(parameter.device.type in ("cpu", "cuda", "mps") and parameter.is_floating_point() for parameter in parameters)
