"""Pictures with texts of one's own."""

import glob
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import PathLike, cpu_count
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from minimllm.data.pair_files import METADATA, Files, from_classes, from_conversations, from_metadata, from_texts_beside
from minimllm.data.pair_tables import Table, expand, from_hub, from_shards


class Pair(NamedTuple):
    """A picture, RGB and upright; its text; and of a conversation the questions and answers, of which ``text`` is the first answer."""

    picture: Image.Image
    text: str
    turns: tuple[tuple[str, str], ...] = ()


class Pairs:
    """Pictures with texts: ``len(pairs)``, and ``pairs[number]`` is a :class:`Pair`, decoded when it is asked for.

    Args:
        source: a folder of pictures (``.jpg``, ``.jpeg``, ``.png``, ``.webp``) with ``metadata.csv`` or ``metadata.jsonl`` (``file_name``
            and ``text``) or with a ``.txt`` beside each; a folder of tar shards of WebDataset's form, one ``.tar``, or a pattern of them
            (``shards/*.tar``, ``shard-{000..012}.tar``); LLaVA's JSON of conversations, its pictures named from where it lies; or the name
            of a data set on the hub. Shards and the hub go through the package ``datasets``, into a table on the disk that is mapped to
            memory.
        skip: leave out what cannot be used, and go on; ``faults`` tells what that was.
        by_class: the source is a folder by class, and the text of each picture is the name of its folder.
        check: decode every picture once now, so that a damaged one is found before a training begins and not in its middle.

    Attributes:
        faults: a line for everything that was left out: damaged pictures, pictures without a text, texts without a picture, empty shards.

    Raises:
        ValueError: a source that is none, faults without ``skip``, no pair at all, or a package that is missing; the message names them.
    """

    def __init__(self, source: str | PathLike, *, skip: bool = False, by_class: bool = False, check: bool = True):
        self.source = str(source)
        self._found, self.faults = find(self.source, by_class)
        self._numbers = range(len(self._found))
        if check and not self._found.checked:
            with ThreadPoolExecutor(cpu_count()) as pool:
                told = list(pool.map(self._fault, self._numbers))
            self._numbers = [number for number in self._numbers if told[number] is None]
            self.faults += [fault for fault in told if fault is not None]
        if self.faults and not skip:
            shown = "".join(f"\n  {fault}" for fault in self.faults[:10]) + ("\n  ..." if len(self.faults) > 10 else "")
            told = f"{len(self)} pairs can be used, and {len(self.faults)} things cannot; Pairs(..., skip=True) leaves them out"
            raise ValueError(f"{self.source}: {told}{shown}")
        if not len(self):
            raise ValueError(f"{self.source} holds no pair that can be used" + "".join(f"\n  {fault}" for fault in self.faults[:10]))
        texts = self._found.texts()
        self._texts = [texts[number] for number in self._numbers]

    def _fault(self, number: int) -> str | None:
        try:
            self._found.picture(number)
        except (ValueError, OSError) as error:
            return str(error)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Pair:
        place = self._numbers[number]
        return Pair(self._found.picture(place), self._texts[number], self._found.turns(place))

    def __iter__(self) -> Iterator[Pair]:
        return (self[number] for number in range(len(self)))

    @property
    def texts(self) -> list[str]:
        """Of all pairs, in their order; no picture is decoded."""
        return self._texts


def find(source: str, by_class: bool) -> tuple[Files | Table, list[str]]:
    """All pairs of a source, and the faults; errors as of :class:`Pairs`."""
    path = Path(source)
    if by_class:
        if not path.is_dir():
            raise ValueError(f"there is no folder {source!r}")
        return from_classes(path)
    if path.is_dir():
        listed = [path / name for name in METADATA if (path / name).is_file()]
        if len(listed) > 1:
            raise ValueError(f"{source} holds {METADATA[0]} and {METADATA[1]}; keep one of them")
        if listed:
            return from_metadata(path, listed[0])
        shards = sorted(str(file) for file in path.glob("*.tar"))
        return from_shards(shards, []) if shards else from_texts_beside(path)
    if path.suffix == ".json" and path.is_file():
        return from_conversations(path)
    if source.endswith(".tar"):
        found, faults = [], []
        for pattern in expand(source):
            files = sorted(glob.glob(pattern))
            found += files
            faults += [] if files else [f"{pattern}: there is no such shard"]
        if not found:
            raise ValueError(f"no shard fits {source!r}")
        return from_shards(found, faults)
    if path.exists():
        raise ValueError(f"{source} is neither a folder of pictures nor a .tar nor a .json of conversations")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or path.is_absolute():
        raise ValueError(f"there is nothing at {source!r}; expected a folder, a .tar or a pattern of them, a .json, or a name on the hub")
    return from_hub(source)
