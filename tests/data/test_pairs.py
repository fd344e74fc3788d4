"""Pairs of one's own: each form gives the same pairs, and everything that cannot be used is named."""

import csv
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimllm import Pairs
from minimllm.data.pair_tables import expand

TEXTS = ["a red star", "two blue rings, at the left", "grün und weiß", "a dark ground"]


def picture(number: int) -> Image.Image:
    """Oblong, and of another colour for each number."""
    values = np.full((6 + number, 9, 3), (40 * number, 200 - 30 * number, 90), dtype=np.uint8)
    values[0, 0] = 255
    return Image.fromarray(values)


def data(number: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture(number).save(file, kind)
    return file.getvalue()


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def tar(path: Path, members: list[tuple[str, bytes | str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def with_csv(folder: Path) -> Path:
    write(folder, {f"{number}.png": data(number) for number in range(4)})
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_name", "text"), *((f"{number}.png", text) for number, text in enumerate(TEXTS))])
    return folder


def with_jsonl(folder: Path) -> Path:
    write(folder, {f"inside/{number}.PNG": data(number) for number in range(4)})
    lines = [json.dumps({"file_name": f"inside/{number}.PNG", "text": text}) for number, text in enumerate(TEXTS)]
    return write(folder, {"metadata.jsonl": "\n".join(lines) + "\n\n"})


def with_texts(folder: Path) -> Path:
    kinds = (".png", ".PNG", ".webp", ".png")
    for number, (text, kind) in enumerate(zip(TEXTS, kinds, strict=True)):
        content = data(number) if kind != ".webp" else lossless(number)
        write(folder, {f"{number}{kind}": content, f"{number}.{'TXT' if number == 1 else 'txt'}": text + "\n"})
    return folder


def lossless(number: int) -> bytes:
    file = io.BytesIO()
    picture(number).save(file, "WEBP", lossless=True)
    return file.getvalue()


def shards(folder: Path) -> Path:
    """Two shards, with a gap in their numbers; members with further dots in their names, capitals, JSON beside a text and in its place."""
    tar(folder / "part-00.tar", [("x.input.png", data(0)), ("x.outputs.txt", TEXTS[0]), ("y.PNG", data(1)), ("y.txt", TEXTS[1])])
    second = [("in/x.png", data(2)), ("in/x.json", '{"caption": 1}'), ("in/x.txt", TEXTS[2])]
    tar(folder / "part-07.tar", [*second, ("z.webp", lossless(3)), ("z.json", json.dumps({"caption": TEXTS[3]}))])
    return folder


def conversations(folder: Path) -> Path:
    write(folder, {f"pictures/{number}.png": data(number) for number in range(4)})
    said = [
        {"id": number, "image": f"pictures/{number}.png", "conversations": [said_by("human", "<image>\nWhat?"), said_by("gpt", text)]}
        for number, text in enumerate(TEXTS)
    ]
    said[2]["conversations"] += [said_by("human", "And now?"), said_by("gpt", "the same")]
    return write(folder, {"data.json": json.dumps(said)}) / "data.json"


def said_by(who: str, what: str) -> dict[str, str]:
    return {"from": who, "value": what}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("form", [with_csv, with_jsonl, with_texts, shards, conversations])
def test_each_form_gives_the_same_pairs(form, tmp_path):
    pairs = Pairs(form(tmp_path / "pairs"))
    assert len(pairs) == 4 and pairs.texts == TEXTS and pairs.faults == []
    for number, pair in enumerate(pairs):
        assert pair.text == TEXTS[number] and pair.picture.mode == "RGB"
        assert np.array_equal(np.asarray(pair.picture), np.asarray(picture(number)))
    assert pairs[2].turns == ((("What?", TEXTS[2]), ("And now?", "the same")) if form is conversations else ())


def test_patterns_of_shards(tmp_path):
    folder = shards(tmp_path / "pairs")
    assert Pairs(folder / "part-*.tar").texts == TEXTS and Pairs(f"{folder}/part-07.tar").texts == TEXTS[2:]
    assert expand("a-{08..10}-{1..2}.tar") == [f"a-{first}-{second}.tar" for first in ("08", "09", "10") for second in (1, 2)]
    with pytest.raises(ValueError, match=r"4 pairs can be used, and 6 things cannot(.|\n)*part-01.tar: there is no such shard"):
        Pairs(f"{folder}/part-{{00..07}}.tar")
    with pytest.raises(ValueError, match="no shard fits"):
        Pairs(folder / "other-*.tar")


def test_a_folder_by_class(tmp_path):
    folder = write(tmp_path / "pairs", {"star/1.png": data(1), "ring/2.png": data(2), "star/a/0.png": data(0)})
    pairs = Pairs(folder, by_class=True)
    assert pairs.texts == ["ring", "star", "star"]
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="the class empty has no picture"):
        Pairs(folder, by_class=True)


def test_a_data_set_of_the_hub(tmp_path, monkeypatch):
    import datasets

    kinds = datasets.Features({"id": datasets.Value("int64"), "photo": datasets.Image(), "caption": datasets.Value("string")})
    rows = {"id": range(5), "photo": [picture(number) for number in range(4)] * 2, "caption": [*TEXTS[:3], None, TEXTS[3]]}
    rows["photo"] = [picture(number) for number in (0, 1, 2, 3, 3)]
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_dict(rows, kinds))
    with pytest.raises(ValueError, match="someone/pictures, row 3: it has no text"):
        Pairs("someone/pictures")
    pairs = Pairs("someone/pictures", skip=True)
    assert pairs.texts == TEXTS and np.array_equal(np.asarray(pairs[3].picture), np.asarray(picture(3)))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="neither a file 'someone/pictures' nor a data set of that name"):
        Pairs("someone/pictures")


def test_without_the_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(Pairs(with_csv(tmp_path / "plain"))) == 4
    with pytest.raises(ValueError, match=r"pip install --editable '\.\[scale\]'"):
        Pairs(shards(tmp_path / "shards"))


CUT = data(0, "JPEG")[:-60]
FAULTS = {
    "a damaged picture": ({"a.jpg": CUT, "a.txt": "text", "b.png": data(1), "b.txt": "b"}, r"a\.jpg is damaged or cut short"),
    "no picture at all": ({"a.jpg": b"nothing", "a.txt": "text", "b.png": data(1), "b.txt": "b"}, r"a\.jpg is not a picture"),
    "a missing text": ({"a.png": data(0), "b.png": data(1), "b.txt": "b"}, r"a\.png: there is no \.txt beside it"),
    "an empty text": ({"a.png": data(0), "a.txt": " \n", "b.png": data(1), "b.txt": "b"}, r"a\.png: a\.txt is empty"),
    "a missing picture": ({"a.txt": "text", "b.png": data(1), "b.txt": "b"}, r"a\.txt has no picture beside it"),
    "two of one name": ({"a.png": data(0), "a.webp": data(2), "a.txt": "a", "b.png": data(1), "b.txt": "b"}, r"share one name"),
    "a picture without a row": (
        {"a.png": data(0), "b.png": data(1), "metadata.csv": "file_name,text\nb.png,b\n"},
        r"a\.png has no row in metadata\.csv",
    ),
    "a row without a picture": ({"b.png": data(1), "metadata.csv": "file_name,text\nb.png,b\nc.png,c\n"}, r"line 3: there is no c\.png"),
    "a row without a text": (
        {"a.png": data(0), "b.png": data(1), "metadata.csv": "file_name,text\nb.png,b\na.png,\n"},
        r"line 3: a\.png has no text",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_folders_are_named_counted_and_left_out_if_asked(fault, tmp_path):
    files, told = FAULTS[fault]
    folder = write(tmp_path / "pairs", files)
    with pytest.raises(ValueError, match=f"1 pairs can be used, and 1 things cannot(.|\n)*{told}"):
        Pairs(folder)
    pairs = Pairs(folder, skip=True)
    assert pairs.texts == ["b"] and len(pairs.faults) == 1
    assert np.array_equal(np.asarray(pairs[0].picture), np.asarray(picture(1)))


GOOD = [("b.png", data(1)), ("b.txt", "b")]
TAR_FAULTS = {
    "a damaged picture": ([("a.jpg", CUT), ("a.txt", "text"), *GOOD], r"one\.tar, key a is damaged or cut short"),
    "a missing text": ([("a.png", data(0)), *GOOD], r"one\.tar, key a: expected a picture and a text, it holds png"),
    "a missing picture": ([*GOOD, ("c.txt", "c")], r"one\.tar, key c: expected a picture and a text, it holds txt"),
    "an empty text": ([("a.png", data(0)), ("a.json", "{}"), *GOOD], r"one\.tar, key a: its text is empty"),
    "two pictures": ([("a.png", data(0)), ("a.jpg", data(2)), ("a.txt", "a"), *GOOD], r"key a: expected .* it holds png, jpg, txt"),
}


@pytest.mark.parametrize("fault", TAR_FAULTS)
def test_faults_in_shards_are_named_with_file_and_key(fault, tmp_path):
    members, told = TAR_FAULTS[fault]
    source = tar(tmp_path / "pairs" / "one.tar", members)
    with pytest.raises(ValueError, match=f"1 pairs can be used, and 1 things cannot(.|\n)*{told}"):
        Pairs(source)
    assert Pairs(source, skip=True).texts == ["b"]


def test_an_empty_shard_and_one_cut_short_are_named(tmp_path):
    folder = shards(tmp_path / "pairs")
    tar(folder / "part-08.tar", [])
    (folder / "part-09.tar").write_bytes(b"")
    whole = (folder / "part-07.tar").read_bytes()
    (folder / "part-07.tar").write_bytes(whole[:700])
    with pytest.raises(ValueError, match=r"part-07\.tar: it is cut(.|\n)*part-08\.tar: it holds nothing(.|\n)*part-09\.tar: it is cut"):
        Pairs(folder)
    assert Pairs(folder, skip=True).texts == TEXTS[:2]


def test_a_shard_that_changes_is_read_anew(tmp_path):
    source = tar(tmp_path / "pairs" / "one.tar", GOOD)
    assert Pairs(source).texts == ["b"]
    tar(source, [("b.png", data(1)), ("b.txt", "another text")])
    assert Pairs(source).texts == ["another text"]


@pytest.mark.parametrize(
    "said, told",
    [
        ({"conversations": [said_by("human", "q"), said_by("gpt", "a")]}, "entry 0: it has no image"),
        ({"image": "9.png", "conversations": [said_by("human", "q"), said_by("gpt", "a")]}, "there is no 9.png"),
        ({"image": "b.png", "conversations": [said_by("gpt", "a")]}, "human and gpt take turns"),
        ({"image": "b.png", "conversations": [said_by("human", "q"), said_by("gpt", " ")]}, "an answer is empty"),
        ({"image": "b.png"}, "human and gpt take turns"),
    ],
)
def test_faults_of_conversations(said, told, tmp_path):
    whole = {"image": "b.png", "conversations": [said_by("human", "q"), said_by("gpt", "b")]}
    folder = write(tmp_path, {"b.png": data(1), "data.json": json.dumps([said, whole])})
    with pytest.raises(ValueError, match=told):
        Pairs(folder / "data.json")
    assert Pairs(folder / "data.json", skip=True).texts == ["b"]


@pytest.mark.parametrize(
    "files, source, told",
    [
        ({}, "nowhere at all/x", "there is nothing at"),
        ({"a.png": data(0)}, ".", "1 pictures and no texts"),
        ({"a.txt": "a"}, ".", "holds no pictures"),
        ({"metadata.csv": "name,text\na,b\n"}, ".", "line 2: expected file_name and text"),
        ({"metadata.jsonl": '{"file_name": \n'}, ".", "line 1 is no JSON"),
        ({"metadata.jsonl": "", "metadata.csv": ""}, ".", "keep one of them"),
        ({"x.json": "{"}, "x.json", "is no JSON"),
        ({"x.json": "{}"}, "x.json", "expected a list of conversations"),
        ({"x.png": data(0)}, "x.png", "neither a folder of pictures nor"),
        ({"metadata.csv": "file_name,text\n"}, ".", "holds no pair"),
    ],
)
def test_what_is_no_source_is_refused(files, source, told, tmp_path):
    write(tmp_path, files)
    with pytest.raises(ValueError, match=told):
        Pairs(tmp_path / source)


def test_a_damaged_picture_that_was_not_looked_for_is_named_when_it_is_asked_for(tmp_path):
    folder = write(tmp_path, {"a.jpg": CUT, "a.txt": "a", "b.png": data(1), "b.txt": "b"})
    pairs = Pairs(folder, check=False)
    assert pairs[1].text == "b"
    with pytest.raises(ValueError, match=r"a\.jpg is damaged or cut short"):
        pairs[0]
