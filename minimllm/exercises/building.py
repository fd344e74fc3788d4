"""Checks of a model that a learner has built: names and shapes first, then layer by layer with the shipped weights, then the result."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minimllm.inspection.comparison import compare_layers

TOLERANCE = 1e-4  # of the largest number, up to which a difference is rounding


def compare_model(build: Callable[[Any], nn.Module], model: nn.Module, run: Callable[[nn.Module], Tensor], *inputs: Tensor) -> str | None:
    """What is the first thing wrong with a learner's model; ``None`` if it is right.

    Args:
        build: the learner's class, called with the model's config.
        model: the right one, whose weights the learner's is given.
        run: computes the right result in full, with every layer called on every token: layers are compared on the way.
        inputs: what the learner's model is called with.

    Raises:
        NotImplementedError: where the learner's model does.
    """
    mine = build(model.config)
    if not isinstance(mine, nn.Module):
        return f"it gives {type(mine).__name__}, where a model, an nn.Module, is asked for."
    wanted, given = model.state_dict(), mine.state_dict()
    for name, weight in wanted.items():
        if name not in given:
            others = [other for other in given if other not in wanted]
            unknown = f"; yours has {', '.join(others[:3])}, for which there are none" if others else ""
            return f"there are weights for {name}, {tuple(weight.shape)}, and your model has no parameter of this name{unknown}."
        if given[name].shape != weight.shape:
            return f"{name} is {tuple(given[name].shape)} in your model, and the weights are {tuple(weight.shape)}."
    if extra := [name for name in given if name not in wanted]:
        return f"your model has {extra[0]}, {tuple(given[extra[0]].shape)}, for which there are no weights."
    mine.load_state_dict(wanted)
    mine.eval()
    with torch.no_grad():
        expected = run(model)
        found: list[Tensor] = []
        try:
            comparison = compare_layers(mine, model, lambda each: found.append(each(*inputs)), run, tolerance=TOLERANCE)
        except NotImplementedError:
            raise
        except Exception as error:
            return f"the weights fit; the forward pass stops with {type(error).__name__}: {error}"
    result, right = found[0], isinstance(found[0], Tensor) and found[0].shape == expected.shape
    if right and (result - expected).abs().max() <= TOLERANCE * expected.abs().max():
        return None
    for layer in comparison.layers:
        if layer.outputs is None:
            return f"the weights fit; {layer.name} is given another shape than it should be. {_before(layer.name, comparison.layers)}"
        if layer.outputs > TOLERANCE:
            right_so_far = layer.inputs is not None and layer.inputs <= TOLERANCE
            told = "What goes into it is right: look at how it is made." if right_so_far else "What goes into it differs already."
            return f"the weights fit; {layer.name} is the first layer that differs. {told} {_before(layer.name, comparison.layers)}"
    called = {layer.name for layer in comparison.layers}
    if missed := [name for name, module in mine.named_modules() if name not in called and isinstance(module, (nn.Linear, nn.LayerNorm))]:
        return f"the weights fit; {missed[0]} is never called."
    if not right:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        return f"every layer agrees; the result is {shape}, and should be {tuple(expected.shape)}."
    return "every layer agrees, but the result is not what the last of them gives."


def _before(name: str, layers: list) -> str:
    """Where to look: between a layer and the last that was right."""
    before = [layer.name for layer in layers]
    place = before.index(name)
    return f"Up to {before[place - 1]} all is right." if place else "It is the first layer that is called."
