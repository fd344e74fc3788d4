"""Reads the files of a folder: JSON, and safetensors, in one file or in shards. Nothing is unpickled; no path leads outside the folder."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

# Files whose reading could run what is in them.
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
MOST_JSON = 100_000_000  # bytes; the index of the largest models has a few million

# What torch calls the types of a safetensors file.
DTYPES = {
    **{f"F{bits}": getattr(torch, f"float{bits}") for bits in (64, 32, 16)},
    **{f"I{bits}": getattr(torch, f"int{bits}") for bits in (64, 32, 16, 8)},
    **{"BF16": torch.bfloat16, "U8": torch.uint8, "BOOL": torch.bool},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
}


class Held(NamedTuple):
    """What a file says of a tensor before any of its numbers is read; a ``dtype`` that torch lacks is as the file writes it."""

    name: str
    dtype: torch.dtype | str
    shape: tuple[int, ...]
    path: Path


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; a ``ValueError`` names the file if there is none."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        if path.exists() and path.stat().st_size > MOST_JSON:
            raise OSError(f"it is {path.stat().st_size} bytes long, expected at most {MOST_JSON}")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} holds no {path.name}; is it the folder that save_pretrained wrote?") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} should hold a JSON object, and holds a {type(values).__name__}")
    return values


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


def held_tensors(files: Iterable[Path]) -> Iterator[Held]:
    """What the headers of the files say of every tensor, in the files' order."""
    for path in files:
        try:
            if path.exists() and not path.is_file():
                raise OSError("it is no file")
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (the file is no mapping)
                    part = file.get_slice(name)
                    yield Held(name, DTYPES.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape()), path)
        except FileNotFoundError:
            raise ValueError(f"the shard {path} is missing") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged or cut short: {error}; fetch or save it again") from error


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
