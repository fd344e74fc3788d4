"""Reads Hugging Face model folders: configs, safetensors files, and weights renamed by a table. Knows no model itself.

Loading is loud. A tensor that is missing, unexpected or of another shape, a damaged file, an option that the model does not
implement: each is a ``ValueError`` that names the thing as the file writes it. Weights come from safetensors only, never from
pickles, and are used as they lie in the file: no second copy is made unless another dtype is asked for.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimllm.weights.fitting import COMPUTED, Fit, Model, WeightNames, build_empty, common_dtype
from minimllm.weights.fitting import enumerate_names as enumerate_names
from minimllm.weights.fitting import file_names as file_names
from minimllm.weights.folders import reading
from minimllm.weights.tensors import Held, held_tensors, read_json, read_tensors, weight_files

LARGEST = 2**53  # beyond any size, and below what torch cannot count


def resolve(folder: str | PathLike) -> Path:
    """The local folder of a checkpoint; a name like ``openai/clip-vit-base-patch32`` is fetched from the hub, or found in its cache.

    Raises:
        ValueError: if it is neither a folder here nor a repository that can be reached.
    """
    path = Path(folder)
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(f"{str(folder)!r} is a file; give the folder that holds config.json and the safetensors files")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(folder)):
        raise ValueError(f"there is no folder {str(folder)!r}, and it is not a hub name of the form owner/name")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(folder), allow_patterns=["*.json", "model*.safetensors"]))
    except Exception as error:  # the hub library raises many kinds: no network, no such repository, not allowed
        raise ValueError(f"{str(folder)!r} is no folder here, and the hub did not give it: {error}") from error


@contextmanager
def opened(folder: str | PathLike) -> Iterator[Path]:
    """Where the files of a checkpoint are to be read from, found as by :func:`resolve`; whoever saves to the folder meanwhile waits."""
    with reading(resolve(folder)) as path:
        yield path


def read_config(folder: Path, *model_types: str) -> dict[str, Any]:
    """The values of ``config.json``; a ``ValueError`` unless it is of one of these ``model_types``."""
    values = read_json(folder / "config.json")
    if values.get("model_type") not in model_types:
        expected = " or ".join(map(repr, model_types))
        raise ValueError(f"{folder / 'config.json'} has model_type {values.get('model_type')!r}, expected {expected}")
    option(values, "quantization_config", None, allowed=(None,))
    return values




def option(values: Mapping[str, Any], name: str, default: Any, allowed: Collection[Any] | None = None, kind: type | None = None) -> Any:
    """A value of a config, or its default; a ``ValueError`` that names the option if we do not implement what it asks for."""
    value = values.get(name, default)
    if allowed is not None and value not in allowed:
        raise ValueError(f"config.json has {name} = {value!r}, which is not implemented; implemented: {', '.join(map(repr, allowed))}")
    if kind is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise ValueError(f"config.json has {name} = {value!r}; only one {kind.__name__} is implemented")
    if kind is int and abs(value) > LARGEST:
        raise ValueError(f"config.json has {name} = {value}; no size or id is larger than {LARGEST}")
    return value


def number(values: Mapping[str, Any], name: str, default: float, least: float = -math.inf) -> float:
    """A finite number of a config, whole or not, and not below ``least``; a ``ValueError`` names the option if it is something else."""
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300 or value < least:
        raise ValueError(f"config.json has {name} = {value!r}, expected a number" + (f" of {least} or more" if least > -math.inf else ""))
    return value


def check_width(folder: Path, name: str, value: int) -> None:
    """Raise a ``ValueError`` unless some tensor of the folder is that wide, before anything of this size is made."""
    widest = max((max(tensor.shape, default=0) for tensor in held_tensors(weight_files(folder))), default=0)
    if value > widest:
        raise ValueError(f"config.json has {name} = {value}, and no tensor of {folder} is wider than {widest}")


def whole_numbers(values: Mapping[str, Any], name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """A list of whole numbers of a config, or its default where it is left out or null; a ``ValueError`` names what is something else."""
    value = values.get(name)
    if value is None:
        return default
    if not isinstance(value, list) or not all(type(each) is int and abs(each) <= LARGEST for each in value):
        raise ValueError(f"config.json has {name} = {value!r}, expected a list of whole numbers")
    return tuple(value)


@contextmanager
def told_by_file(values: Mapping[str, Any], **options: str) -> Iterator[None]:
    """Where a config of ours refuses a value, say under which option the file has it: ``options`` names each of our fields' own."""
    try:
        yield
    except ValueError as error:
        if "config.json" in str(error):
            raise
        named = (option for field, option in options.items() if re.search(rf"\b{field}\b", str(error)))
        found = [f"{option} = {values[option]!r}" for option in named if option in values]
        told = f"config.json has {', '.join(found)}" if found else "config.json describes no model that can be built"
        raise ValueError(f"{told}: {error}") from error


def number_of_classes(values: Mapping[str, Any]) -> int:
    """Classes of a classifier, as transformers finds them: the labels listed, else ``num_labels``, else two."""
    if values.get("id2label") is None:
        return option(values, "num_labels", 2, kind=int)
    return len(option(values, "id2label", {}, kind=dict))


def class_names(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What ``id2label`` calls the classes, in their order; ``None`` where it gives them no names of their own."""
    labels = values.get("id2label") or {}
    names = tuple(labels.get(str(number)) for number in range(len(labels)))
    if not all(isinstance(name, str) for name in names) or all(name == f"LABEL_{number}" for number, name in enumerate(names)):
        return None
    return names


def load(
    build: Callable[[Any], Model],
    config: Any,
    folder: Path,
    names: WeightNames | Callable[[Any], WeightNames],
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    unused: Callable[[str], object] | None = None,
    copies: Mapping[str, str] | None = None,
    tensors: Iterable[tuple[str, Tensor, Path]] | None = None,
) -> Model:
    """Build a model without memory for its weights, then put the tensors of the folder in their places.

    Args:
        build: the model's class, called with ``config``.
        names: our names and those in the files, or what makes them from ``config``.
        dtype, device: of the weights; ``None`` keeps the files' dtype, and the files themselves as memory. Files of several types, or of
            one in which torch does not compute, are cast to the config's.
        shapes: our name -> shape in the file, where the file folds the same numbers otherwise.
        unused: whether a name is that of a tensor that the file may hold and the model never reads.
        copies: names of tensors that the file may hold as well, and the parameter of ours that each must then equal.
        tensors: name, numbers and file of each, where they come from another kind of file than the folder's safetensors.

    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not of floats, a file is damaged, no such dtype or device, a config
            that describes far more than the files hold, several types and none in the config.
    """
    if dtype is not None and dtype not in COMPUTED:
        raise ValueError(f"dtype must be a floating point type of torch such as torch.bfloat16, or None; got {dtype!r}")
    try:
        device = None if device is None else torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"torch knows no device {device!r}: {error}") from error
    held = None if tensors is not None else list(held_tensors(weight_files(folder)))
    model = build_empty(build, config, folder, None if held is None else len(held))
    fit = Fit(model, names(config) if callable(names) else names, shapes, unused, copies)
    if held is not None:  # everything is checked before any number is read
        for tensor in held:
            fit.take(tensor)
        fit.check(folder)
        dtype = dtype or common_dtype(folder, [tensor for tensor in held if tensor.name in fit.ours])
        tensors = read_tensors(folder, apart=dtype is not None or device is not None)
    copied = []
    for file_name, tensor, path in tensors:
        if held is None:
            fit.take(Held(file_name, tensor.dtype, tuple(tensor.shape), path))
        if (name := fit.ours.get(file_name)) is not None:
            fit.put(name, tensor, dtype, device)
        elif file_name in fit.copies:
            copied.append((file_name, tensor, path))  # what it must equal may come later
    fit.check(folder)
    for file_name, tensor, path in copied:
        if not torch.equal(tensor.to(device, dtype), model.get_parameter(fit.copies[file_name])):
            raise ValueError(
                f"{path}: tensor {file_name} differs from the embedding, and config.json has tie_word_embeddings = true; set it to false"
            )
    return model.eval()
