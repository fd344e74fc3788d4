"""Where two models part ways: their layers side by side, on the same input, by forward hooks; the models stay as they are."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minimllm.weights.pretrained import WeightNames, file_names

Run = Callable[[nn.Module], Any]


@dataclass(frozen=True)
class Layer:
    """A layer of ours beside its counterpart. The differences are the largest one, as a share of the largest number of theirs.

    Attributes:
        name, other: the layer's name in our model and in theirs.
        inputs, outputs: how much what goes in differs, and what comes out; ``None`` where the shapes do not allow to compare.
    """

    name: str
    other: str
    inputs: float | None
    outputs: float | None


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare_layers` found; printed, it says where the models part ways.

    Attributes:
        layers: in the order in which our model computes them.
        tolerance: up to which a difference is rounding.
    """

    layers: list[Layer]
    tolerance: float

    @property
    def first(self) -> Layer | None:
        """The first layer that gives something else; ``None`` if all agree."""
        return next((layer for layer in self.layers if layer.outputs is not None and layer.outputs > self.tolerance), None)

    def __str__(self) -> str:
        compared = [layer.outputs for layer in self.layers if layer.outputs is not None]
        first = self.first
        if first is None:
            return f"all {len(compared)} layers agree; the largest difference is {max(compared):.1e} of the largest number"
        before = [layer.name for layer in self.layers[: self.layers.index(first)] if layer.outputs is not None]
        told = f"{first.name} ({first.other}) is the first that differs, by {first.outputs:.1e}; {len(before)} layers before it agree. "
        if first.inputs is None or first.inputs <= self.tolerance:
            return told + "What goes into it is equal: look at its weights, its bias, its epsilon"
        place = f"between {before[-1]} and it" if before else "before it"
        return told + f"What goes into it differs already, by {first.inputs:.1e}: look at what is computed {place}"


@torch.no_grad()
def compare_layers(
    ours: nn.Module,
    theirs: nn.Module,
    run: Run,
    run_theirs: Run | None = None,
    *,
    names: WeightNames | None = None,
    tolerance: float = 1e-4,
) -> Comparison:
    """Run two models and compare what goes into and what comes out of each layer.

    Layers are the innermost modules: norms, linear layers, embeddings. What lies between them (attention, positions, the activation)
    shows in what goes into the next.

    Args:
        ours, theirs: two models of one architecture, such as one of the course and that of transformers.
        run: calls our model on an input, ``lambda model: model.encode(images)``.
        run_theirs: calls theirs on the same; ``None``: as ``run``.
        names: the table of weight names (``minimllm.models.vit.WEIGHT_NAMES`` ...), which says where each of our layers lies in theirs;
            ``None``: the names are equal.
        tolerance: up to which share of the largest number a difference is rounding.

    Returns:
        The :class:`Comparison`; ``print`` it, or look at ``first`` and ``layers``.

    Raises:
        ValueError: if not one layer is found, and called, in both.
    """
    pairs = counterparts(ours, theirs, names)
    with recorded(ours, [name for name, _ in pairs]) as ours_calls:
        run(ours)
    with recorded(theirs, [other for _, other in pairs]) as theirs_calls:
        (run_theirs or run)(theirs)
    layers, other_of = [], dict(pairs)
    for name, calls in ours_calls.items():
        if (other := other_of[name]) in theirs_calls:
            both = list(zip(calls, theirs_calls[other], strict=False))
            layers.append(Layer(name, other, *(largest([(a[side], b[side]) for a, b in both]) for side in (0, 1))))
    if not any(layer.outputs is not None for layer in layers):
        raise ValueError(
            f"no layer of the {type(ours).__name__} has a counterpart in the {type(theirs).__name__} that is called and gives the same "
            "shape; give the table of names: compare_layers(..., names=minimllm.models.vit.WEIGHT_NAMES)"
        )
    return Comparison(layers, tolerance)


def counterparts(ours: nn.Module, theirs: nn.Module, names: WeightNames | None) -> list[tuple[str, str]]:
    """The innermost modules with weights of ours, each with the name of its counterpart in theirs."""
    there, pairs = dict(theirs.named_modules()), []
    for name, module in ours.named_modules():
        if not any(module.children()) and hasattr(module, "weight"):
            try:
                others = [name] if names is None else [other.removesuffix(".weight") for other in file_names(f"{name}.weight", names)]
            except KeyError:  # a layer that the table does not name
                continue
            pairs += [(name, other) for other in others if other in there][:1]
    return pairs


@contextmanager
def recorded(model: nn.Module, names: list[str]):
    """While it lasts, note what goes into and out of each call of these modules, in the order in which they end."""
    calls: dict[str, list[tuple[Tensor | None, Tensor | None]]] = {}
    modules = dict(model.named_modules())

    def hook(name: str):
        def note(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            calls.setdefault(name, []).append((first_tensor((*args, *kwargs.values())), first_tensor((output,))))

        return note

    handles = [modules[name].register_forward_hook(hook(name), with_kwargs=True) for name in names]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(values: tuple) -> Tensor | None:
    return next((value.detach().clone() for value in values if isinstance(value, Tensor)), None)


def largest(pairs: list[tuple[Tensor | None, Tensor | None]]) -> float | None:
    """The largest difference over several calls, as a share; ``None`` where two tensors cannot be laid side by side."""
    shares = []
    for a, b in pairs:
        if a is None or b is None or a.numel() != b.numel() or a.shape[-1:] != b.shape[-1:]:
            return None
        a, b = a.reshape(b.shape).double().cpu(), b.double().cpu()
        difference = (a - b).abs().max() / b.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
        shares.append(float("inf") if not difference.isfinite() else difference.item())
    return max(shares, default=None)
