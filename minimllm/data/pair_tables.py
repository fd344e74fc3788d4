"""Pictures with texts in tar shards of WebDataset's form, and on the hub: tables of the package ``datasets``, mapped to memory.

Nothing is dropped in silence: what cannot be used is a fault, a line that names file and key.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minimllm.data.pair_files import SUFFIXES
from minimllm.data.photos import read_picture


class Table:
    """Pictures as bytes in a memory-mapped table of ``datasets``."""

    def __init__(self, table: Any, picture: str, text: str, checked: bool):
        self.table, self.column, self.text, self.checked = table, picture, text, checked

    def __len__(self) -> int:
        return len(self.table)

    def texts(self) -> list[str]:
        return [text or "" for text in self.table[self.text][:]]

    def name(self, number: int) -> str:
        row = self.table[number] if self.checked else {}
        return f"{row['file']}, key {row['key']}" if row else f"row {number}"

    def turns(self, number: int) -> tuple[tuple[str, str], ...]:
        return ()

    def picture(self, number: int):
        value = self.table[number][self.column]
        held = value if isinstance(value, bytes) else value["bytes"]
        return read_picture(value["path"] if held is None else io.BytesIO(held), self.name(number))


def datasets_package() -> Any:
    try:
        import datasets
    except ImportError:
        way = "in the course's folder, make setup, or pip install --editable '.[scale]'"
        told = f"shards and data sets of the hub are read by the package datasets, which is not installed: {way}"
        raise ValueError(f"{told}; plain folders and JSON need no more than the course") from None
    return datasets


def expand(pattern: str) -> list[str]:
    """``shard-{000..012}.tar`` -> its thirteen names; other patterns as they are."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if not found:
        return [pattern]
    names = [str(number).zfill(len(found[1])) for number in range(int(found[1]), int(found[2]) + 1)]
    return [each for name in names for each in expand(pattern[: found.start()] + name + pattern[found.end() :])]


def from_shards(shards: list[str], faults: list[str]) -> tuple[Table, list[str]]:
    """All pairs of tar files, brought once into a table on the disk (in the cache of ``datasets``), which later runs find there."""
    datasets = datasets_package()
    kinds = {name: datasets.Value("string") for name in ("text", "key", "file", "fault")} | {"picture": datasets.Value("binary")}
    stamped = [(shard, Path(shard).stat().st_size, Path(shard).stat().st_mtime_ns) for shard in shards]
    options = {"features": datasets.Features(kinds), "gen_kwargs": {"shards": stamped}}
    table = datasets.Dataset.from_generator(rows_of_shards, **options)
    told = table["fault"][:]
    good = [number for number, fault in enumerate(told) if not fault]
    kept = table if len(good) == len(told) else table.select(good)
    return Table(kept, "picture", "text", checked=True), faults + [fault for fault in told if fault]


def rows_of_shards(shards: list[Any]) -> Iterator[dict[str, Any]]:
    """The pairs of each shard and its faults, in their order."""
    for shard, _, _ in shards:
        count = 0
        try:
            with tarfile.open(shard) as archive:
                for key, members in samples(archive):
                    count += 1
                    yield {"file": shard, "key": key, **pair_of(members, f"{shard}, key {key}")}
            fault = "" if count else "it holds nothing"
        except (tarfile.TarError, OSError, EOFError) as error:
            fault = f"it is cut short or damaged after {count} pairs: {error}"
        if fault:
            yield {"file": shard, "key": "", "picture": b"", "text": "", "fault": f"{shard}: {fault}"}


def samples(archive: tarfile.TarFile) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Members that follow each other and share the name up to its first dot, each with the rest of its name."""
    key, members = None, []
    for member in archive:
        folder, _, name = member.name.rpartition("/")
        if not member.isfile() or name.startswith("."):
            continue
        stem, _, rest = name.partition(".")
        if f"{folder}/{stem}" != key and members:
            yield key.strip("/"), members
            members = []
        key = f"{folder}/{stem}"
        members.append((rest.lower(), archive.extractfile(member).read()))
    if members:
        yield key.strip("/"), members


def pair_of(members: list[tuple[str, bytes]], name: str) -> dict[str, Any]:
    """Picture and text of one sample, or its fault."""
    pictures = [(kind, held) for kind, held in members if f".{kind}".endswith(SUFFIXES)]
    texts = [held for kind, held in members if f".{kind}".endswith(".txt")]
    texts = texts or [caption(held) for kind, held in members if f".{kind}".endswith(".json")]
    held = ", ".join(kind for kind, _ in members)
    if len(pictures) != 1 or len(texts) != 1:
        return {"picture": b"", "text": "", "fault": f"{name}: expected a picture and a text, it holds {held}"}
    text = " ".join(texts[0].decode("utf-8", errors="replace").split())
    fault = "" if text else f"{name}: its text is empty"
    try:
        read_picture(io.BytesIO(pictures[0][1]), name)
    except ValueError as error:
        fault = str(error)
    return {"picture": pictures[0][1], "text": text, "fault": fault}


def caption(held: bytes) -> bytes:
    """The text in a JSON file: itself, or what it says under ``caption`` or ``text``."""
    try:
        values = json.loads(held)
    except ValueError:
        return b""
    values = values.get("caption", values.get("text", "")) if isinstance(values, dict) else values
    return values.encode() if isinstance(values, str) else b""


def from_hub(name: str) -> tuple[Table, list[str]]:
    datasets = datasets_package()
    try:
        table = datasets.load_dataset(name, split="train")
    except Exception as error:  # the library raises many kinds
        raise ValueError(f"there is neither a file {name!r} nor a data set of that name to be had: {error}") from error
    pictures = [column for column, kind in table.features.items() if isinstance(kind, datasets.Image)]
    strings = [column for column, kind in table.features.items() if getattr(kind, "dtype", None) == "string"]
    named = [column for column in ("text", "caption", "captions", "sentence") if column in strings] or strings
    if len(pictures) != 1 or not named:
        raise ValueError(f"{name} has the columns {', '.join(table.features)}: expected one of pictures and one called text or caption")
    table = table.cast_column(pictures[0], datasets.Image(decode=False))
    faults = [f"{name}, row {number}: it has no text" for number, text in enumerate(table[named[0]][:]) if not (text or "").strip()]
    if faults:
        table = table.filter(lambda row: bool((row[named[0]] or "").strip()))
    return Table(table, pictures[0], named[0], checked=False), faults
