"""Malformed folders of weights, a kind for each way in which they go wrong: ``damage(seed, folder, form)`` spoils a whole one."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The forms of folders: as transformers writes them, in one file or in shards, and as the course ships them.
FORMS = ("vit", "clip", "llama", "llama in shards", "llava", "llava in shards", "mllama", "mllama in shards")
SHIPPED = ("shipped vit", "shipped clip", "shipped language_model", "shipped unified", "shipped cross_attention", "shipped llama_vision")

INDEX = "model.safetensors.index.json"
ABSURD = (-1, 0, 3, 10**7, 2**31 - 1, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30)
NO_NUMBERS = (None, True, "96", "", [], [96], {}, {"a": 1}, 96.5, float("nan"), float("inf"), float("-inf"), 1e308, -0.0, 1e-320)


@dataclass
class Damage:
    """What was done to a folder.

    Attributes:
        where: what is given to the model, the folder as a rule.
        must: ``either``: refused by name or right, which is the model as its files have it; ``refused``; ``right``.
        option: that was changed, as the way to it: the model may then be that of the new value, or of the default.
        file: in which it was.
    """

    where: Path | str
    must: str = "either"
    option: tuple[Any, ...] = ()
    file: str = "config.json"


KINDS: dict[str, tuple[Callable[[random.Random, Path], Damage | None], tuple[str, ...]]] = {}


def kind(*forms: str):
    """For these forms of folders; for all, where none is named."""

    def add(function):
        KINDS[function.__name__.replace("_", " ")] = function, forms or FORMS + SHIPPED
        return function

    return add


def kind_of(seed: int) -> str:
    """The kinds take turns, so that the first seeds have each of them once."""
    return list(KINDS)[seed % len(KINDS)]


def form_of(seed: int) -> str:
    forms = KINDS[kind_of(seed)][1]
    return forms[(seed // len(KINDS) + seed % len(KINDS)) % len(forms)]


def damage(seed: int, folder: Path) -> Damage:
    """Spoil the whole folder that stands there."""
    return KINDS[kind_of(seed)][0](random.Random(f"folder {seed}"), folder) or Damage(folder)


# ---- what the kinds are made of ---------------------------------------------------------------------------------------


def flip(rng: random.Random, path: Path, first: int, last: int, most: int = 12) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, most)):
        content[rng.randrange(first, min(last, len(content)))] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def take_the_place(rng: random.Random, path: Path) -> None:
    """Something that is no ordinary file, or is far too long, where one was."""
    path.unlink()
    deed = rng.choice(["folder", "pipe", "nowhere", "itself", "zero", "null", "long"])
    if deed == "folder":
        path.mkdir()
    elif deed == "pipe":
        os.mkfifo(path)
    elif deed == "long":
        path.touch()
        os.truncate(path, 3 * 2**30)  # zeros that take up no place on the disk
    else:
        path.symlink_to({"nowhere": "nowhere", "itself": path.name, "zero": "/dev/zero", "null": "/dev/null"}[deed])


def every_option(values: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values in nested objects and lists."""
    pairs = list(values.items()) if isinstance(values, dict) else list(enumerate(values)) if isinstance(values, list) else []
    return [each for key, value in pairs for each in [(*way, key), *every_option(value, (*way, key))]]


@kind()
def nothing_at_all(rng, folder):
    return Damage(folder, must="right")
