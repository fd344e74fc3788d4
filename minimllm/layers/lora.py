"""Training a little beside a linear layer that stays as it is (LoRA, Hu et al. 2021)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minimllm.layers.attention import Attention


class LoRA(nn.Module):
    """A linear layer, frozen, plus a product of two small matrices that learns: ``W x + (alpha / rank) B A x`` (equation 3 of the paper).

    ``A`` (``down``) starts random and ``B`` (``up``) at 0, so that nothing changes at the start.

    Args:
        linear: the layer; it is frozen, and used, not copied.
        rank: of the product, 1 to the smaller side of the layer's matrix.
        alpha: the size of what is added, whatever the rank.
        generator: of the random start; ``None``: torch's own.

    Attributes:
        linear: the frozen layer.
        down, up: ``(rank, in_features)`` and ``(out_features, rank)``, in the type of the layer's weights.

    Raises:
        ValueError: a rank outside its range.
    """

    def __init__(self, linear: nn.Linear, rank: int = 8, alpha: float = 16.0, generator: torch.Generator | None = None):
        super().__init__()
        if not 1 <= rank <= min(linear.weight.shape):
            sides = " x ".join(map(str, linear.weight.shape))
            raise ValueError(f"the rank must be 1 to {min(linear.weight.shape)} for a layer of {sides} numbers, got {rank}")
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        start = torch.randn(rank, linear.in_features, generator=generator) / math.sqrt(linear.in_features)
        self.down = nn.Parameter(start.to(linear.weight))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        return self.linear(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that gives the same, to rounding: ``W + (alpha / rank) B A``. The layer that was frozen stays as it is."""
        like = self.linear.weight
        layer = nn.Linear(self.linear.in_features, self.linear.out_features, self.linear.bias is not None, "meta")
        layer.weight = nn.Parameter(like + self.scale * self.up @ self.down, requires_grad=False)
        layer.bias = self.linear.bias
        return layer.train(self.training)


def add_lora(
    model: nn.Module, rank: int = 8, alpha: float = 16.0, projections: Sequence[str] = ("query", "value"), seed: int = 0
) -> nn.Module:
    """Freeze a model, and put a :class:`LoRA` around projections of all its attention layers, in place; they alone learn then.

    Args:
        model: any with :class:`~minimllm.layers.attention.Attention` in it, such as a ``LanguageModel``.
        rank, alpha: as of :class:`LoRA`.
        projections: which of ``query``, ``key``, ``value`` and ``output``; the paper takes queries and values.
        seed: of the random starts; the global random state is neither read nor changed.

    Returns:
        The model.

    Raises:
        ValueError: a model without attention, another projection, a model that has LoRA already, a rank outside its range; the model is
            then as it was.
    """
    known = ("query", "key", "value", "output")
    if not projections or isinstance(projections, str) or not set(projections) <= set(known):
        raise ValueError(f"projections are some of {', '.join(known)}, got {projections!r}")
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    if not layers:
        raise ValueError(f"a {type(model).__name__} has no attention layer of the course to put LoRA into")
    if any(isinstance(module, LoRA) for module in model.modules()):
        raise ValueError("the model has LoRA already; merge_lora(model) first")
    generator = torch.Generator().manual_seed(seed)
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        made = [(layer, name, LoRA(getattr(layer, name), rank, alpha, generator)) for layer in layers for name in projections]
    except ValueError:
        for parameter in learns:
            parameter.requires_grad_(True)
        raise
    model.requires_grad_(False)
    for layer, name, around in made:
        setattr(layer, name, around.train(layer.training))
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Replace every :class:`LoRA` of a model by the one linear layer that gives the same, in place; what they learned is then frozen, too.

    Returns:
        The model, whose tensors have the names of old, so that it saves and loads as before.

    Raises:
        ValueError: a model without LoRA.
    """
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, LoRA)]
    if not found:
        raise ValueError(f"this {type(model).__name__} has no LoRA to be merged; add_lora puts it in")
    for name, module in found:
        model.set_submodule(name, module.merged())
    return model


def check_merged(model: nn.Module) -> None:
    """Raise a ``ValueError`` if a model has :class:`LoRA` in it, for which no checkpoint has names."""
    found = next((name for name, module in model.named_modules() if isinstance(module, LoRA)), None)
    if found is not None:
        raise ValueError(f"{found} is a LoRA, which no checkpoint has a name for: merge_lora(model) first")
