"""Where pictures with texts are found: in folders, in tar shards of WebDataset's form, in LLaVA's JSON, on the hub.

Nothing is dropped in silence: what cannot be used is a fault, a line that names file and key.
"""

import csv
import glob
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minimllm.data.photos import open_picture, read_picture

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
METADATA = ("metadata.csv", "metadata.jsonl")


class Row(NamedTuple):
    """A picture's file, what is said of it, and how it is called in messages."""

    file: Path
    text: str
    name: str
    turns: tuple[tuple[str, str], ...] = ()


class Files:
    """Pictures in files of their own."""

    def __init__(self, rows: list[Row]):
        self.rows, self.checked = rows, False

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self) -> list[str]:
        return [row.text for row in self.rows]

    def name(self, number: int) -> str:
        return self.rows[number].name

    def turns(self, number: int) -> tuple[tuple[str, str], ...]:
        return self.rows[number].turns

    def picture(self, number: int):
        return open_picture(self.rows[number].file)


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


def find(source: str, by_class: bool) -> tuple[Files | Table, list[str]]:
    """All pairs of a source, and the faults; errors as of :class:`~minimllm.data.pairs.Pairs`."""
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


# ---- plain files -----------------------------------------------------------------------------------------------------


def pictures_in(folder: Path) -> list[Path]:
    """All files below a folder with a picture's suffix, in any case, sorted; hidden ones are left out."""
    files = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def from_metadata(folder: Path, listing: Path) -> tuple[Files, list[str]]:
    rows, faults, seen = [], [], set()
    for line, entry in entries(listing):
        where = f"{listing.name}, line {line}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            raise ValueError(f"{folder / where}: expected file_name and text, got {entry!r:.80}")
        file, text = folder / entry["file_name"], entry.get("text")
        seen.add(file.resolve())
        if not file.is_file():
            faults.append(f"{where}: there is no {entry['file_name']}")
        elif not isinstance(text, str) or not text.strip():
            faults.append(f"{where}: {entry['file_name']} has no text")
        else:
            rows.append(Row(file, text.strip(), f"{file} ({where})"))
    faults += [f"{file.relative_to(folder)} has no row in {listing.name}" for file in pictures_in(folder) if file.resolve() not in seen]
    return Files(rows), faults


def entries(listing: Path) -> Iterator[tuple[int, Any]]:
    """The rows of ``metadata.csv`` or ``metadata.jsonl``, each with its line."""
    with open(listing, encoding="utf-8-sig", newline="") as file:
        if listing.suffix == ".csv":
            reader = csv.DictReader(file)
            for entry in reader:
                yield reader.line_num, entry
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{listing}, line {number} is no JSON: {error}") from None


def from_texts_beside(folder: Path) -> tuple[Files, list[str]]:
    pictures = pictures_in(folder)
    texts = {file.with_suffix(""): file for file in sorted(folder.rglob("*")) if file.suffix.lower() == ".txt" and file.is_file()}
    if not pictures:
        raise ValueError(f"{folder} holds no pictures ({', '.join(SUFFIXES)}) and no shards (.tar)")
    if not texts:
        raise ValueError(f"{folder} holds {len(pictures)} pictures and no texts: expected {' or '.join(METADATA)}, or a .txt beside each")
    rows, faults, of_stem = [], [], {}
    for file in pictures:
        of_stem.setdefault(file.with_suffix(""), []).append(file)
    for stem, files in of_stem.items():
        name, beside = str(files[0].relative_to(folder)), texts.pop(stem, None)
        text = "" if beside is None else beside.read_text(encoding="utf-8-sig", errors="replace").strip()
        if len(files) > 1:
            faults.append(f"{name} and {files[1].name} share one name: whose is the text?")
        elif beside is None or not text:
            faults.append(f"{name}: {'there is no .txt beside it' if beside is None else f'{beside.name} is empty'}")
        else:
            rows.append(Row(files[0], " ".join(text.split()), str(files[0])))
    return Files(rows), faults + [f"{file.relative_to(folder)} has no picture beside it" for file in texts.values()]


def from_conversations(path: Path) -> tuple[Files, list[str]]:
    """LLaVA's form: a list of ``{"image": FILE, "conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}, ...]}``."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(values, list) or not all(isinstance(entry, dict) for entry in values):
        raise ValueError(f"{path}: expected a list of conversations, as LLaVA has them")
    rows, faults = [], []
    for number, entry in enumerate(values):
        where = f"{path.name}, entry {entry.get('id', number)}"
        said = entry.get("conversations")
        whole = isinstance(said, list) and all(isinstance(turn, dict) and isinstance(turn.get("value"), str) for turn in said)
        if not isinstance(entry.get("image"), str):
            faults.append(f"{where}: it has no image")
        elif not whole or not said or [turn.get("from") for turn in said] != ["human", "gpt"] * (len(said) // 2):
            faults.append(f"{where}: expected conversations in which human and gpt take turns")
        elif not all(turn["value"].replace("<image>", "").strip() for turn in said[1::2]):
            faults.append(f"{where}: an answer is empty")
        elif not (file := path.parent / entry["image"]).is_file():
            faults.append(f"{where}: there is no {entry['image']}")
        else:
            words = [turn["value"].replace("<image>", "").strip() for turn in said]
            rows.append(Row(file, words[1], f"{file} ({where})", tuple(zip(words[::2], words[1::2], strict=True))))
    return Files(rows), faults


def from_classes(folder: Path) -> tuple[Files, list[str]]:
    """A folder by class, as ``torchvision.datasets.ImageFolder`` has it: the text of each picture is the name of its folder."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path.name: pictures_in(path) for path in classes}
    if len(classes) < 2:
        raise ValueError(f"{folder} holds {len(classes)} folders; expected one for each class, two or more")
    faults = [f"the class {name} has no picture" for name, files in found.items() if not files]
    return Files([Row(file, name, str(file)) for name, files in found.items() for file in files]), faults


# ---- what goes through datasets --------------------------------------------------------------------------------------


def datasets_package() -> Any:
    try:
        import datasets
    except ImportError:
        told = "shards and data sets of the hub are read by the package datasets, which is not installed: pip install 'minimllm[scale]'"
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
