"""Looks inside a model while it runs: forward hooks that record attention weights, the model unchanged."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minimllm.layers.attention import Attention


class Recorder:
    """Records the attention weights of every :class:`~minimllm.layers.attention.Attention` in a model, while the ``with`` block lasts.

    ``with Recorder(model) as recorder: model(images)`` leaves ``recorder.attention["blocks.0.attention"]``, of shape
    ``(batch, heads, queries, keys)``, for each layer by its name in the model. The fused attention kernel returns no weights, so
    they are computed again from what the module was given; the model's outputs, gradients and parameters stay as they are.
    Called several times, the last call counts; :attr:`calls` keeps them all. In a classifier's ``model(images)`` the last layer has
    one query, the class token's; ``model.encode(images)`` gives them all.

    Args:
        model: any module that contains attention.
        layers: names of the attention modules to record; ``None``: all of them.

    Raises:
        ValueError: if a name is not an attention of the model, or the model has none.
    """

    def __init__(self, model: nn.Module, layers: list[str] | None = None):
        found = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}
        if not found:
            raise ValueError(f"{type(model).__name__} has no attention to record")
        unknown = [name for name in layers or [] if name not in found]
        if unknown:
            raise ValueError(f"no attention called {', '.join(unknown)}; this model has {', '.join(found)}")
        self._modules = {name: found[name] for name in (layers or found)}
        self._hooks: list = []
        self.calls: dict[str, list[Tensor]] = {}

    @property
    def attention(self) -> dict[str, Float[Tensor, "batch heads queries keys"]]:
        """The weights of each layer's last call."""
        return {name: calls[-1] for name, calls in self.calls.items()}

    def __enter__(self) -> "Recorder":
        self.calls = {}
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_pre_hook(self._hook(name), with_kwargs=True))
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _hook(self, name: str):
        def record(module: Attention, args: tuple, kwargs: dict) -> None:
            # Before the call, so that the cache is as the module will find it; a shallow copy, because projecting extends it.
            copied = {key: copy.copy(value) if key == "cache" else value for key, value in kwargs.items()}
            args = (*args[:4], *(copy.copy(value) for value in args[4:]))
            with torch.no_grad():
                self.calls.setdefault(name, []).append(module.weights(*args, **copied))

        return record


def rollout(attention: list[Float[Tensor, "batch heads _ tokens"]]) -> Float[Tensor, "batch kept tokens"]:
    """Attention rollout (Abnar and Zuidema 2020): how much of each input token reaches each output token, by attention alone.

    The heads are averaged, half of the weight is given to the residual connection, and the layers are multiplied. It ignores
    the values, the MLPs and the norms: a picture of where information could flow, not of what the model used.

    Args:
        attention: the weights of each layer, first layer first; the last may hold its leading queries alone.

    Raises:
        ValueError: if there are no layers.
    """
    if not attention:
        raise ValueError("rollout needs the attention weights of at least one layer, got none")
    total = None
    for weights in attention:
        mixed = weights.mean(dim=1)
        mixed = (mixed + torch.eye(*mixed.shape[-2:], dtype=mixed.dtype, device=mixed.device)) / 2
        total = mixed if total is None else mixed @ total
    return total
