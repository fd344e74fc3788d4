"""Reads Hugging Face model folders: configs, safetensors files, and weights renamed by a table. Knows no model itself.

Loading is loud. A tensor that is missing, unexpected or of another shape, a damaged file, an option that the model does not
implement: each is a ``ValueError`` that names the thing as the file writes it. Weights come from safetensors only, never from
pickles, and are used as they lie in the file: no second copy is made unless another dtype is asked for.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from minimllm.weights.folders import reading

# Our name -> the names it may have in a file, the usual one first; {i} is a layer's number, .weight and .bias are carried along.
WeightNames = Mapping[str, tuple[str, ...]]
Model = TypeVar("Model", bound=nn.Module)

# Buffers that older files carry and no model needs: they are computed afresh.
STALE_BUFFERS = re.compile(r"(.*\.)?(position_ids|rotary_emb\.inv_freq)$")

# Files whose reading could run what is in them.
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


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


def read_config(folder: Path, model_type: str) -> dict[str, Any]:
    """The values of ``config.json``; a ``ValueError`` unless it is of this ``model_type``."""
    values = read_json(folder / "config.json")
    if values.get("model_type") != model_type:
        raise ValueError(f"{folder / 'config.json'} has model_type {values.get('model_type')!r}, expected {model_type!r}")
    option(values, "quantization_config", None, allowed=(None,))
    return values


def read_normalisation(folder: Path, channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """``image_mean`` and ``image_std`` of a folder: of ``preprocessor_config.json``, else of ``processor_config.json``, else the defaults.

    Raises:
        ValueError: a file with something else than one number for each channel, deviations above 0; it names the file and the value.
    """
    found, path = {}, folder / "preprocessor_config.json"
    if path.exists():
        found = read_json(path)
    elif (folder / "processor_config.json").exists():
        path = folder / "processor_config.json"
        found = read_json(path).get("image_processor") or {}
        if not isinstance(found, dict):
            raise ValueError(f"{path} has image_processor = {found!r}, expected an object")
    result = {}
    for name, default in (("image_mean", mean), ("image_std", std)):
        value = found.get(name, default)
        numbers = isinstance(value, (list, tuple)) and all(
            isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in value
        )
        if not numbers or len(value) != channels or (name == "image_std" and min(value) <= 0):
            raise ValueError(f"{path} has {name} = {value!r}; expected a number for each of {channels} channels, and deviations above 0")
        result[name] = tuple(float(each) for each in value)
    return result


def read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} holds no {path.name}; is it the folder that save_pretrained wrote?") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} should hold a JSON object, and holds a {type(values).__name__}")
    return values


def option(values: Mapping[str, Any], name: str, default: Any, allowed: Collection[Any] | None = None, kind: type | None = None) -> Any:
    """A value of a config, or its default; a ``ValueError`` that names the option if we do not implement what it asks for."""
    value = values.get(name, default)
    if allowed is not None and value not in allowed:
        raise ValueError(f"config.json has {name} = {value!r}, which is not implemented; implemented: {', '.join(map(repr, allowed))}")
    if kind is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise ValueError(f"config.json has {name} = {value!r}; only one {kind.__name__} is implemented")
    return value


def whole_numbers(values: Mapping[str, Any], name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """A list of whole numbers of a config, or its default where it is left out or null; a ``ValueError`` names what is something else."""
    value = values.get(name)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(each, int) and not isinstance(each, bool) for each in value):
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


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: the single file, or the shards that its index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if not index.exists():
        pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLES]
        hint = f" ({', '.join(sorted(pickles))} would have to be unpickled, which runs what is in it: convert it)" if pickles else ""
        raise ValueError(f"{folder} holds neither {single.name} nor {index.name}{hint}")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f"{index} has no weight_map from tensor names to files")
    for name in shards.values():
        if ".." in re.split(r"[/\\]", name) or PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
            raise ValueError(f"{index} names the shard {name!r}, which leads outside the folder; refused")
        if not name.endswith(".safetensors"):
            raise ValueError(f"{index} names the shard {name!r}; expected a .safetensors file, since nothing is unpickled: convert it")
    return [folder / name for name in sorted(set(shards.values()))]


def read_tensors(folder: Path, apart: bool = False) -> Iterator[tuple[str, Tensor, Path]]:
    """Every tensor of a folder with its name and file, memory-mapped, in the files' order.

    ``apart``: mapped one by one, so that what is copied elsewhere does not stay in memory as well until the last of its file is.
    """
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                if not apart:
                    yield from ((name, file.get_tensor(name), path) for name in names)
            for name in names if apart else ():
                with safe_open(path, framework="pt") as file:
                    yield name, file.get_tensor(name), path
        except FileNotFoundError:
            raise ValueError(f"the shard {path} is missing") from None
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is damaged or cut short: {error}; fetch or save it again") from error


def load(
    build: Callable[[Any], Model],
    config: Any,
    folder: Path,
    names: WeightNames,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    unused: str | None = None,
    copies: Mapping[str, str] | None = None,
    tensors: Iterable[tuple[str, Tensor, Path]] | None = None,
) -> Model:
    """Build a model without memory for its weights, then put the tensors of the folder in their places.

    Args:
        build: the model's class, called with ``config``.
        names: our names and those in the files.
        dtype, device: of the weights; ``None`` keeps the files' dtype, and the files themselves as memory.
        shapes: our name -> shape in the file, where the file folds the same numbers otherwise.
        unused: a regular expression of tensors that the file may hold and the model never reads.
        copies: names of tensors that the file may hold as well, and the parameter of ours that each must then equal.
        tensors: name, numbers and file of each, where they come from another kind of file than the folder's safetensors.

    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not of floats, a file is damaged, no such dtype or device.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating point type of torch such as torch.bfloat16, or None; got {dtype!r}")
    try:
        device = None if device is None else torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"torch knows no device {device!r}: {error}") from error
    with torch.device("meta"):
        model = build(config)
    candidates = {name: file_names(name, names) for name, _ in model.named_parameters()}
    ours = {candidate: name for name, listed in candidates.items() for candidate in listed}
    places: dict[int, list[str]] = {}  # a tied parameter lies in several
    for name, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(name)
    unexpected, seen, copied = [], set(), []
    if tensors is None:
        tensors = read_tensors(folder, apart=dtype is not None or device is not None)
    for file_name, tensor, path in tensors:
        name = ours.get(file_name)
        if name is None and file_name in (copies or {}):
            copied.append((file_name, tensor, path))
            continue
        if name is None or name in seen:
            if name is not None or not (STALE_BUFFERS.match(file_name) or (unused and re.fullmatch(unused, file_name))):
                unexpected.append(f"{file_name} ({path.name})")
            continue
        parameter = model.get_parameter(name)
        expected = (shapes or {}).get(name, tuple(parameter.shape))
        if tuple(tensor.shape) != expected or not tensor.is_floating_point():
            raise ValueError(f"{path}: tensor {file_name} is {tensor.dtype} {tuple(tensor.shape)}, expected floats of shape {expected}")
        value = nn.Parameter(tensor.reshape(parameter.shape).to(device, dtype))
        for place in places[id(parameter)]:
            owner, _, leaf = place.rpartition(".")
            setattr(model.get_submodule(owner), leaf, value)
        seen.add(name)
    missing = [listed[0] for name, listed in candidates.items() if name not in seen]
    if missing or unexpected:
        found = f"{enumerate_names('missing', missing)}; {enumerate_names('unexpected', unexpected)}"
        raise ValueError(f"the tensors of {folder} do not fit its config.json: {found}")
    for file_name, tensor, path in copied:
        if not torch.equal(tensor.to(device, dtype), model.get_parameter(copies[file_name])):
            raise ValueError(
                f"{path}: tensor {file_name} differs from the embedding, and config.json has tie_word_embeddings = true; set it to false"
            )
    return model.eval()


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
