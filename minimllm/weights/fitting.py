"""Which parameter of a model each tensor of a folder is: by a table of names, by shape, and in one type. What does not fit is named."""

import math
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Mapping
from os.path import commonprefix
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from minimllm.weights.tensors import Held, read_json

# Our name -> the names it may have in a file, the usual one first; {i} is a layer's number, .weight and .bias are carried along.
WeightNames = Mapping[str, tuple[str, ...]]
Model = TypeVar("Model", bound=nn.Module)

# Buffers that older files carry and no model needs: they are computed afresh.
STALE_BUFFERS = re.compile(r"(.*\.)?(position_ids|rotary_emb\.inv_freq)$")

COMPUTED = {torch.float64, torch.float32, torch.float16, torch.bfloat16}  # the types in which a model can be run


class Fit:
    """Which of our parameters each tensor of a folder is. Arguments as of :func:`load`."""

    def __init__(
        self,
        model: nn.Module,
        names: WeightNames,
        shapes: Mapping[str, tuple[int, ...]] | None,
        unused: Callable[[str], object] | None,
        copies: Mapping[str, str] | None,
    ):
        self.model, self.shapes, self.unused, self.copies = model, shapes or {}, unused, copies or {}
        self.candidates = {name: file_names(name, names) for name, _ in model.named_parameters()}
        self.ours = {candidate: name for name, listed in self.candidates.items() for candidate in listed}
        self.places: dict[int, list[str]] = {}  # a tied parameter lies in several
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self.places.setdefault(id(parameter), []).append(name)
        self.seen: dict[str, str] = {}
        self.unexpected: list[str] = []

    def take(self, tensor: Held) -> None:
        """Note one tensor; a ``ValueError`` if it is of another shape than ours, or not of floats."""
        name = self.ours.get(tensor.name)
        if name is None and tensor.name in self.copies:
            name = self.copies[tensor.name]
        elif name is None or name in self.seen:
            known = STALE_BUFFERS.match(tensor.name) or (self.unused and self.unused(tensor.name))
            if name is not None or not known:
                self.unexpected.append(f"{tensor.name} ({tensor.path.name})")
            return
        else:
            self.seen[name] = tensor.name
        expected = self.shapes.get(name, tuple(self.model.get_parameter(name).shape))
        if tensor.shape != expected or not (isinstance(tensor.dtype, torch.dtype) and tensor.dtype.is_floating_point):
            raise ValueError(f"{tensor.path}: tensor {tensor.name} is {tensor.dtype} {tensor.shape}, expected floats of shape {expected}")

    def check(self, folder: Path) -> None:
        """Raise a ``ValueError`` that names what is missing and what should not be there."""
        missing = [listed for name, listed in self.candidates.items() if name not in self.seen]
        if missing or self.unexpected:
            named = spelled_alike(missing, [(self.candidates[name], found) for name, found in self.seen.items()])
            found = f"{enumerate_names('missing', named)}; {enumerate_names('unexpected', self.unexpected)}"
            raise ValueError(f"the tensors of {folder} do not fit its config.json: {found}")

    def put(self, name: str, tensor: Tensor, dtype: torch.dtype | None, device: torch.device | None) -> None:
        parameter = self.model.get_parameter(name)
        value = nn.Parameter(tensor.reshape(parameter.shape).to(device, dtype))
        for place in self.places[id(parameter)]:
            owner, _, leaf = place.rpartition(".")
            setattr(self.model.get_submodule(owner), leaf, value)


def spelled_alike(missing: list[list[str]], seen: list[tuple[list[str], str]]) -> list[str]:
    """Of the names that each missing tensor may have, the one that a file would use whose tensors, among theirs, are called as ``seen``."""
    found = sorted(name for _, name in seen)
    usual = {len(listed): Counter() for listed in missing}  # where the beginnings tell nothing, as most of the others are spelled
    for listed, name in seen:
        usual.setdefault(len(listed), Counter())[listed.index(name)] += 1

    def likeness(name: str) -> int:
        place = bisect(found, name)
        return max((len(commonprefix([name, other])) for other in found[max(0, place - 1) : place + 1]), default=0)

    return [max(listed, key=lambda name: (likeness(name), usual[len(listed)][listed.index(name)])) for listed in missing]  # noqa: B023


def common_dtype(folder: Path, tensors: list[Held]) -> torch.dtype | None:
    """``None`` if all tensors have one type in which we can compute; else the config's, to which transformers casts them as well."""
    kinds = {tensor.dtype: tensor.name for tensor in tensors}
    if len(kinds) == 1 and kinds.keys() <= COMPUTED:
        return None
    values = read_json(folder / "config.json")
    name = "dtype" if values.get("dtype") is not None else "torch_dtype"
    chosen = values.get(name)
    dtype = getattr(torch, chosen, None) if isinstance(chosen, str) else None
    if not isinstance(dtype, torch.dtype) or dtype not in COMPUTED:
        mixed = ", ".join(f"{kind} ({name})" for kind, name in kinds.items())
        raise ValueError(
            f"the tensors of {folder} are of {mixed}, and its config.json has {name} = {chosen!r}, which is no one type to compute in; "
            "say which, for example dtype=torch.float32"
        )
    return dtype


def build_empty(build: Callable[[Any], Model], config: Any, folder: Path, held: int | None) -> Model:
    """A model without memory for its weights, given up once it has far more of them than its folder holds tensors.

    Raises:
        ValueError: naming the option that asks for so much, or what cannot be built.
    """
    most, thread, made = math.inf if held is None else 2 * held + 500, get_ident(), 0

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal made
        made += get_ident() == thread
        if made > most:
            asked = large_options(folder, held, "layers")
            raise ValueError(f"config.json {asked} describes more than {most} tensors, and {folder} holds {held}")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            return build(config)
    except (RuntimeError, TypeError, OverflowError, ValueError) as error:
        if isinstance(error, ValueError) and "config.json" in str(error):
            raise
        what = f"config.json {large_options(folder, 2**31)} describes no model that can be built"
        raise ValueError(f"{what}: {str(error).splitlines()[0]}") from error
    finally:
        hook.remove()


def large_options(folder: Path, above: int, within: str = "") -> str:
    """The whole numbers above a bound that ``config.json`` holds under names with ``within``, as it has them."""
    parts, found = [read_json(folder / "config.json")] if folder.is_dir() else [], []
    while parts:
        part = parts.pop()
        parts += [value for value in part.values() if isinstance(value, dict)]
        found += [f"{name} = {value}" for name, value in part.items() if type(value) is int and value > above and within in name]
    return f"with {', '.join(found)}" if found else "as a whole"


def file_names(name: str, names: WeightNames) -> list[str]:
    """The names that one of our parameters may have in a file."""
    numbers = re.findall(r"\.(\d+)\.", name)
    for entry in (name, re.sub(r"\.\d+\.", ".{i}.", name)):  # a table may number its layers itself
        stem, _, suffix = entry.rpartition(".")
        templates = names.get(entry) or tuple(f"{template}.{suffix}" for template in names.get(stem, ()))
        if templates:
            return [template.format(i=numbers[0] if numbers else "") for template in templates]
    raise KeyError(f"the table of names has no {name}")


def enumerate_names(what: str, listed: list[str], most: int = 8) -> str:
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{len(listed)} {what}" + (": " + ", ".join(listed[:most]) + more if listed else "")
