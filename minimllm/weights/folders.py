"""Folders whose files change together: whenever a process is killed, and whoever else saves or reads, a folder holds the old or the new.

The folder itself is never renamed, so it may be the working folder, a mount point, or what a symbolic link leads to. New files are
written to a hidden folder inside of it, and one rename, to ``.whole``, is the moment from which they count: until all of them stand in
their places, :func:`reading` finds them there. A program that knows nothing of this finds no ``config.json`` meanwhile. Processes wait
for each other at a lock on the folder, where the system has such locks; Windows and some network drives have none.
"""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# All that such a folder may hold. A folder with anything else in it was not written by this module, and is left alone.
FILES = re.compile(
    r"(config|generation_config|preprocessor_config|processor_config|tokenizer|tokenizer_config|special_tokens_map|card)\.json"
    r"|chat_template\.jinja|model\.safetensors(\.index\.json)?|model-\d{5}-of-\d{5}\.safetensors"
)
# What a training that ends with a saved model keeps beside it: allowed, and left as it is.
KEPT = re.compile(r"history\.jsonl?|checkpoints")
CONFIG = "config.json"  # the first to go and the last to come: without it a folder holds no model
UNFINISHED, WHOLE = ".unfinished", ".whole"


@contextmanager
def whole_folder(folder: str | PathLike) -> Iterator[Path]:
    """A new folder to be filled. If the block ends well its files take the place of those in ``folder``; otherwise nothing has happened.

    Raises:
        ValueError: ``folder`` holds other things than a saved model, or is a file, or a link that leads nowhere.
    """
    place = real(folder)
    with unfinished(place) as filled:
        with locked(place, shared=True):
            others = sorted(path.name for path in place.iterdir() if not was_written_here(path))
        if others:
            raise ValueError(
                f"{str(folder)!r} holds {', '.join(others[:3])}; name a new folder, or one that holds nothing but a saved model"
            )
        yield filled
        with locked(place):
            finish(place)
            os.rename(filled, place / WHOLE)
            finish(place)


@contextmanager
def reading(folder: Path) -> Iterator[Path]:
    """Where the files of ``folder`` are to be read from; they stay the same until the block ends."""
    with locked(folder, shared=True):
        yield folder / WHOLE if (folder / WHOLE).is_dir() else folder


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A new hidden folder in ``folder``, which is made too. After the block it is gone, unless renamed; where the block fails, both are."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f"{UNFINISHED}-{uuid.uuid4().hex[:12]}"
    try:
        with locked(folder):
            sweep(folder)
            finish(folder)
            hidden.mkdir()
            handle = lock(hidden)
        try:
            yield hidden
        finally:
            unlock(handle)
            shutil.rmtree(hidden, ignore_errors=True)
    except BaseException:
        if new:
            with suppress(OSError):  # somebody else has put something into it
                folder.rmdir()
        raise


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished: hidden folders whose lock nobody holds."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):  # somebody is writing there, or just gone
            if (handle := lock(path, wait=False)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                unlock(handle)


def finish(folder: Path) -> None:
    """Put the files of ``.whole`` in their places, if there is one: the first time, or where another process was killed at it."""
    whole = folder / WHOLE
    if not whole.is_dir():
        return
    new = sorted((path.name for path in whole.iterdir()), key=lambda name: name == CONFIG)
    (folder / CONFIG).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name in new or (FILES.fullmatch(path.name) and path.is_file()):
            path.unlink()
    for name in new:
        try:
            os.link(whole / name, folder / name)
        except OSError:  # a file system without such links
            shutil.copy2(whole / name, folder / name)
    done = folder / f"{UNFINISHED}-{uuid.uuid4().hex[:12]}"
    os.rename(whole, done)
    shutil.rmtree(done, ignore_errors=True)


def was_written_here(path: Path) -> bool:
    if path.name.startswith((UNFINISHED, WHOLE)) or KEPT.fullmatch(path.name):
        return True
    return path.is_file() and FILES.fullmatch(path.name) is not None


def real(folder: str | PathLike) -> Path:
    """Where a path leads through all symbolic links, the last included; what it leads to need not exist.

    Raises:
        ValueError: it leads to a file, or in a circle.
    """
    if not str(folder):
        raise ValueError("the folder's name is empty; '.' is the working folder")
    try:
        place = Path(folder).resolve()
        if place.is_symlink():
            raise RuntimeError("a circle of symbolic links")
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{str(folder)!r} leads nowhere: {error}") from error
    if place.exists() and not place.is_dir():
        raise ValueError(f"{str(folder)!r} is a file; name a new folder, or one that holds nothing but a saved model")
    return place


# ---- locks -----------------------------------------------------------------------------------------------------------


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Wait until nobody else changes the folder, or, unless ``shared``, reads it, and keep others waiting meanwhile."""
    handle = lock(folder, shared)
    try:
        yield
    finally:
        unlock(handle)


def lock(folder: Path, shared: bool = False, wait: bool = True) -> int | None:
    """A handle that holds the lock on a folder; ``None`` where there are no locks.

    Raises:
        BlockingIOError: somebody else holds it, and ``wait`` is false.
    """
    handle = None
    try:
        if fcntl is not None:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if handle is not None:
            os.close(handle)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return handle


def unlock(handle: int | None) -> None:
    if handle is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone would not, if the process has been forked meanwhile
        os.close(handle)
