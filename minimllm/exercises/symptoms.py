"""What is wrong with a result, in words."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def same(one: Any, other: Any) -> bool:
    """Whether two results agree: tensors in shape and kind and to rounding, tuples and lists item by item."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not one.is_floating_point():
            return torch.equal(one, other)
        return torch.allclose(one.detach(), other.detach(), rtol=1e-4, atol=1e-5, equal_nan=True)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, nn.Module) and isinstance(other, nn.Module):
        return same(dict(one.state_dict()), dict(other.state_dict()))
    if isinstance(one, float) or isinstance(other, float):
        return isinstance(one, int | float) and isinstance(other, int | float) and abs(one - other) <= 1e-5 + 1e-4 * abs(other)
    return type(one) is type(other) and bool(one == other)


def kind(value: Any) -> str:
    """A value as a learner would name it: ``a tensor (2, 4, 12) of float32``."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list):
        kinds = list(map(kind, value))
        if len(kinds) > 2 and len(set(kinds)) == 1:
            return f"{len(kinds)} values (each {kinds[0]})"
        return f"{len(kinds)} values ({', '.join(kinds)})"
    if value is None or value is ...:
        return "nothing (is a return missing?)"
    return f"a value of type {type(value).__name__}"


def call(names: Iterable[str], case: tuple) -> str:
    """The arguments of a case, in words: ``Called with images of shape (2, 3, 8, 12) and patch_size = 4``."""
    told = [_argument(name, value) for name, value in zip(names, case, strict=False)]
    return "Called with " + ", ".join(told[:-1]) + (" and " if told[1:] else "") + told[-1]


def _argument(name: str, value: Any) -> str:
    """An argument with its value where that is short: numbers, words, a row of token ids; of others the shape, the length, or the type."""
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return f"{name} = {value.item():.4g}"
        short = not value.is_floating_point() and value.ndim == 1 and value.numel() <= 16
        return f"{name} = {value.tolist()}" if short else f"{name} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list) and any(isinstance(item, Tensor) for item in value):
        return f"{name} = {kind(value)}"
    if isinstance(value, dict) and len(repr(value)) > 240:
        return f"{name} with {len(value)} entries"
    if isinstance(value, nn.Module) and "\n" in repr(value):
        return f"{name} = {type(value).__name__}(...)"
    return f"{name} = {value!r}"


def describe(result: Any, right: Any) -> str:
    """How ``result`` differs from ``right``, starting with what shows most: kind, shape, number type, NaN, order, values."""
    if not isinstance(right, Tensor):
        if isinstance(right, tuple) and isinstance(result, tuple | list) and len(right) == len(result):
            pairs = [(place + 1, one, other) for place, (one, other) in enumerate(zip(result, right, strict=True)) if not same(one, other)]
            return "; ".join(f"value {place}: {describe(one, other).removesuffix('.')}" for place, one, other in pairs) + "."
        if isinstance(right, bool | int | float | str) and isinstance(result, bool | int | float | str):
            return f"it returned {result!r}, expected {right!r}."
        return f"it returned {kind(result)}, expected {kind(right)}."
    if not isinstance(result, Tensor):
        return f"it returned {kind(result)}, expected {kind(right)}."
    if result.shape != right.shape:
        return _shape(result, right)
    if result.dtype != right.dtype:
        return f"the numbers came back as {str(result.dtype).removeprefix('torch.')}, expected {str(right.dtype).removeprefix('torch.')}."
    if result.is_floating_point() and not torch.isfinite(result).all() and torch.isfinite(right).all():
        share = 1 - torch.isfinite(result).double().mean().item()
        return f"{share:.0%} of the numbers are NaN or infinite. Look for a division by zero, or a softmax over a row that is all −inf."
    return _values(result, right)


def _shape(result: Tensor, right: Tensor) -> str:
    words = f"the shape is {tuple(result.shape)}, expected {tuple(right.shape)}."
    if result.numel() == right.numel():
        if sorted(result.shape) == sorted(right.shape):
            words += " The same sides in another order: a transpose or permute is missing or too much."
        else:
            words += " The number of values is right: only the last reshape is not."
    return words


def _values(result: Tensor, right: Tensor) -> str:
    if right.dtype == torch.bool:
        return _truths(result, right)
    one, other = result.detach().double(), right.detach().double()
    close = torch.isclose(one, other, rtol=1e-4, atol=1e-5)
    wrong = (~close).nonzero()
    if is_number(right):
        return f"it returned {one.item():.4g}, expected {other.item():.4g}."
    first = tuple(wrong[0].tolist())
    words = f"the shape is right, but {len(wrong)} of {close.numel()} numbers are not; the first is at {first}: "
    return words + f"{one[first].item():.4g} instead of {other[first].item():.4g}." + pattern([(one, other)])


def _truths(result: Tensor, right: Tensor) -> str:
    """Of a mask: where it allows too much, and where too little."""
    told = []
    for wrong, words in ((result & ~right, "True where it should be False"), (right & ~result, "False where it should be True")):
        if wrong.any():
            places = f"{int(wrong.sum())} of {wrong.numel()} places are" if wrong.sum() > 1 else f"one of {wrong.numel()} places is"
            told.append(f"{places} {words}, the first at {tuple(wrong.nonzero()[0].tolist())}")
    return "the shape is right, but " + ", and ".join(told) + "."


def is_number(value: Any) -> bool:
    """Whether a result is a single number, as a tensor or otherwise; a truth value is none."""
    return type(value) in (int, float) or (isinstance(value, Tensor) and value.ndim == 0 and value.dtype != torch.bool)


def pattern(results: Sequence[tuple[Any, Any]]) -> str:
    """What all numbers of the results have in common with the right ones, ``(result, right)`` each, in words; empty if nothing.

    One number is always a multiple of another, and off by some amount. So a pattern needs two right numbers that differ; and zeros are not
    left out: a multiple of 0 is 0.
    """
    if not all(
        _is_numeric(one) and _is_numeric(other) and torch.numel(torch.as_tensor(one)) == torch.numel(torch.as_tensor(other))
        for one, other in results
    ):
        return ""
    one, other = (
        torch.cat([torch.as_tensor(value).detach().double().flatten() for value in values]) for values in zip(*results, strict=True)
    )
    finite = one.isfinite() & other.isfinite()
    if (one[~finite] != other[~finite]).any():
        return ""
    one, other = one[finite], other[finite]
    sizes = {"rtol": 1e-4, "atol": 1e-5}
    wrong = ~torch.isclose(one, other, **sizes)
    if len(other[wrong].unique()) > 2 and torch.allclose(one.sort().values, other.sort().values, **sizes):
        return " All the right numbers are there, in the wrong places: look at the order of the dimensions before the last reshape."
    if len(other[other.abs() > 1e-6].unique()) > 1:
        factor = (one @ other / (other @ other)).item()
        if abs(factor) > 1e-6 and torch.allclose(one, factor * other, rtol=1e-3, atol=1e-6):
            if abs(factor + 1) < 1e-3:
                return " Every number has the wrong sign: a minus is missing or too much."
            return f" Everything is {factor:.4g} times the right number: a scale is missing or too much."
    if len(other.unique()) > 1 and torch.allclose(one - other, (one - other).mean().expand_as(one), rtol=1e-3, atol=1e-6):
        return " Everything is off by the same amount: something is added that should not be, or missing."
    return ""


def _is_numeric(value: Any) -> bool:
    return is_number(value) or (isinstance(value, Tensor) and value.dtype != torch.bool)


def advice(error: Exception) -> str:
    """A sentence on the errors that everyone meets; empty for others."""
    known = {
        "NoneType": "A value is None here. Where an argument may be None, that case needs a branch of its own: `if ... is None`.",
        "is ambiguous": "`if tensor` asks every number of it. Whether there is a tensor at all, `is None` says.",
        "Dimension out of range": "The tensor has fewer dimensions than the code counts on.",
        "is invalid for input of size": "The sizes given do not multiply to the number of values; print the tensor's shape just before.",
        "view size is not compatible": "view needs the values in memory order; after a permute or transpose use reshape instead.",
        "shapes cannot be multiplied": "The inner sides of a matrix product must be equal; a transpose may be missing.",
        "must match the size of tensor": "Two tensors of different shapes were combined; print both shapes just before.",
        "positional argument": "The function must take exactly the arguments of the stub.",
        "is not defined": "A name is used that does not exist here: a typing error, or a missing import.",
        "index out of range": "An index is larger than the tensor; count from 0.",
    }
    return next((f"\n  {words}" for sign, words in known.items() if sign in str(error)), "")
