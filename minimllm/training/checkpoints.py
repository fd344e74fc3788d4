"""Checkpoints of a training run: one safetensors file each, written whole or not at all, and the one before it kept."""

import hashlib
import json
import os
import platform
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from minimllm.training.spreading import whole
from minimllm.weights.fitting import enumerate_names
from minimllm.weights.folders import lock, real, sweep, unfinished, unlock

FORMAT = "minimllm training checkpoint, version 1"
FILE_NAME = re.compile(r"step-(\d{8})\.safetensors")
PATIENCE = 30.0  # seconds to wait for another run in the same folder: the workers of one that was killed end within one
KEPT = 2  # the newest, and the one before it in case the newest is damaged


def save_checkpoint(folder: str | Path, step: int, tensors: dict[str, Tensor], record: dict) -> Path:
    """Write ``folder/step-XXXXXXXX.safetensors`` with ``tensors`` and the JSON ``record`` in its header; keep one older checkpoint.

    The file appears under its name only when it is complete and on the disk, so a process killed at any moment leaves whole checkpoints.
    """
    folder = real(folder)
    path = folder / f"step-{step:08d}.safetensors"
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with unfinished(folder) as hidden:
        save_file(tensors, hidden / path.name, metadata={"format": FORMAT, "record": json.dumps(record), "sha256": _digest(tensors)})
        _flush(hidden / path.name)
        os.replace(hidden / path.name, path)
    if os.name == "posix":  # the new name is in the folder, and the folder has to reach the disk too
        _flush(path.parent)
    tidy(folder)
    return path


@contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Within it no other process that asks for the same trains in the folder. One that was killed is waited for: its workers end soon.

    Raises:
        ValueError: naming the process that still writes there after some seconds.
    """
    mark = real(folder) / ".running"
    ends = time.monotonic() + PATIENCE
    while True:
        mark.mkdir(parents=True, exist_ok=True)
        try:
            handle = lock(mark, wait=False)
            if handle is None and not mark.exists():  # taken away before it could be opened
                continue
            if handle is None or os.path.samestat(os.fstat(handle), os.stat(mark)):
                break
            unlock(handle)  # its owner has just ended, and taken it away
        except FileNotFoundError:
            continue
        except BlockingIOError:
            if time.monotonic() > ends:
                who = ", ".join(path.name for path in mark.iterdir())
                raise ValueError(f"another training writes to {folder} ({who}); wait for its end, or name another folder") from None
            time.sleep(0.2)
    try:
        for path in mark.iterdir():  # of one that was killed
            path.unlink()
        (mark / f"process {os.getpid()} on {platform.node()}").touch()
        yield
    finally:
        shutil.rmtree(mark, ignore_errors=True)
        unlock(handle)


def tidy(folder: str | Path) -> None:
    """Delete all but the newest checkpoints, and what a killed process left unfinished."""
    for older in _in(Path(folder))[KEPT:]:
        older.unlink(missing_ok=True)  # another process may have been first
    sweep(Path(folder))


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the record of one checkpoint.

    Raises:
        FileNotFoundError: no such file.
        ValueError: naming the file, if it is cut short, damaged, or no checkpoint of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
    except SafetensorError as error:
        size = path.stat().st_size
        raise ValueError(f"{path} is cut short or damaged ({size} bytes; {error}); delete it, the one before it is kept") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of a training run: its format is {metadata.get('format')!r}, expected {FORMAT!r}")
    if metadata.get("sha256") != _digest(tensors):
        raise ValueError(f"{path} is damaged: its contents do not match its checksum; delete it, the one before it is kept")
    return tensors, json.loads(metadata["record"])


def latest_checkpoint(folder: str | Path) -> tuple[Path, dict[str, Tensor], dict] | None:
    """The newest whole checkpoint in ``folder`` as ``(path, tensors, record)``; ``None`` if there is none yet.

    A damaged one is passed over with a warning that names it: training continues from the one before, and ends with the same weights.

    Raises:
        ValueError: naming the newest, if there are checkpoints but all are damaged.
    """
    refused = []
    for path in _in(Path(folder)):
        try:
            return path, *load_checkpoint(path)
        except ValueError as error:
            warnings.warn(str(error), stacklevel=3)
            refused.append(error)
    if refused:
        raise ValueError(f"no checkpoint in {folder} is whole; delete the folder to start again. The newest: {refused[0]}") from refused[0]
    return None


def training_state(model: nn.Module, optimizers: dict[str, Optimizer]) -> dict[str, Tensor]:
    """Every tensor that a run needs to go on: ``model.NAME``, and ``optimizer.KIND.NAME.FIELD`` for each parameter's NAME."""
    tensors = {f"model.{name}": tensor for name, tensor in _untied(model).items()}
    for kind, optimizer in optimizers.items():
        names = _parameter_names(optimizer)
        for index, fields in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{kind}.{names[index]}.{key}": value for key, value in fields.items()}
    return {name: whole(tensor) for name, tensor in tensors.items()}


def trained(optimizers: dict[str, Optimizer]) -> dict[str, list[str]]:
    """The names of the parameters that each optimizer moves."""
    return {kind: sorted(_parameter_names(optimizer)) for kind, optimizer in optimizers.items()}


def restore_training_state(
    tensors: dict[str, Tensor], model: nn.Module, optimizers: dict[str, Optimizer], before: dict[str, list[str]] | None = None
) -> None:
    """Put what :func:`training_state` gave back in place.

    Args:
        tensors: the state.
        model, optimizers: to be changed.
        before: what :func:`trained` gave at that time; ``None`` where it was not noted, as in checkpoints of earlier versions.

    Raises:
        ValueError: naming the first tensor that is missing, unexpected or of another shape, or the weights that are trained now and
            were not then, or the other way round; nothing is changed in any of these cases.
    """
    state = _untied(model)
    saved = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    for name in sorted(state.keys() ^ saved.keys()):
        where = "the model" if name in state else "the checkpoint"
        raise ValueError(f"the checkpoint belongs to another model: {name} is only in {where}")
    for name, tensor in saved.items():
        if tensor.shape != state[name].shape:
            raise ValueError(f"the checkpoint belongs to another model: {name} is {tuple(tensor.shape)}, not {tuple(state[name].shape)}")
    _check_trained(tensors, optimizers, before)
    for kind, optimizer in optimizers.items():
        content, names, prefix = optimizer.state_dict(), _parameter_names(optimizer), f"optimizer.{kind}."
        content["state"] = {}
        for key, tensor in tensors.items():
            if key.startswith(prefix):
                name, _, field = key.removeprefix(prefix).rpartition(".")
                content["state"].setdefault(names.index(name), {})[field] = tensor
        optimizer.load_state_dict(content)
    with torch.no_grad():
        for name, tensor in saved.items():
            state[name].copy_(tensor)


def _check_trained(tensors: dict[str, Tensor], optimizers: dict[str, Optimizer], before: dict[str, list[str]] | None) -> None:
    now = {f"{kind}: {name}" for kind, names in trained(optimizers).items() for name in names}
    if before is None:
        parts = [name.split(".", 2) for name in tensors if name.startswith("optimizer.")]
        then = {f"{kind}: {rest.rpartition('.')[0]}" for _, kind, rest in parts}
    else:
        then = {f"{kind}: {name}" for kind, names in before.items() for name in names}
    if then != now:
        parts = [("trained then and not now", then - now), ("trained now and not then", now - then)]
        told = "; ".join(enumerate_names(what, sorted(names)) for what, names in parts if names)
        raise ValueError(
            f"the checkpoint was written while {len(then)} weights were trained, and now {len(now)} are: {told}. "
            "A run can only go on as it began: freeze the same weights (requires_grad), or use another folder"
        )


def _in(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, newest first."""
    found = [path for path in folder.glob("step-*.safetensors") if FILE_NAME.fullmatch(path.name)]
    return sorted(found, reverse=True)


def _flush(path: Path) -> None:
    """Wait until the file or folder is on the disk; on Windows only a file that is open for writing can be flushed."""
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _untied(model: nn.Module) -> dict[str, Tensor]:
    """The model's state with each tensor once, under its first name (a tied head and embedding share theirs)."""
    places = set()
    state = {}
    for name, tensor in model.state_dict().items():
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        place = (local.untyped_storage().data_ptr(), local.storage_offset(), tensor.shape)
        if tensor.numel() == 0 or place not in places:
            state[name] = tensor
        places.add(place)
    return state


def _parameter_names(optimizer: Optimizer) -> list[str]:
    """Names in the order in which ``optimizer.state_dict()`` numbers the parameters."""
    return [name for group in optimizer.param_groups for name in group["names"]]
