"""Pictures with texts in files of their own: folders, and LLaVA's JSON.

Nothing is dropped in silence: what cannot be used is a fault, a line that names the file.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minimllm.data.photos import open_picture

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
