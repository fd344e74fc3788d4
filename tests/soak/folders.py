"""Malformed folders of weights, a kind for each way in which they go wrong: ``damage(seed, folder, form)`` spoils a whole one."""

import json
import os
import random
import struct
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
        option: of the config that was changed, as the way to it: a model may then be that of another value, if it is the default.
        documented: kinds of error.
    """

    where: Path | str
    must: str = "either"
    option: tuple[Any, ...] = ()


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


# ---- safetensors ----------------------------------------------------------------------------------------------------


def weights(rng: random.Random, folder: Path) -> Path:
    """One of the files of weights."""
    return rng.choice(sorted(folder.glob("*.safetensors")))


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def put(path: Path, header: dict[str, Any] | bytes, data: bytes) -> None:
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def flip(rng: random.Random, path: Path, first: int, last: int, most: int = 12) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, most)):
        content[rng.randrange(first, min(last, len(content)))] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def of_a_tensor(rng: random.Random, path: Path, change: Callable[[str, dict], None]) -> None:
    """Change what the header says of one or a few tensors."""
    header, data = parts(path)
    names = [name for name in header if name != "__metadata__"]
    for name in rng.sample(names, min(len(names), rng.randint(1, 2))):
        change(name, header[name])
    put(path, header, data)


@kind()
def nothing_at_all(rng, folder):
    return Damage(folder, must="right")


@kind()
def weights_cut_short(rng, folder):
    path = weights(rng, folder)
    os.truncate(path, rng.choice([0, 1, 7, 8, 9, rng.randrange(path.stat().st_size), path.stat().st_size - 1]))
    return Damage(folder, must="refused")


@kind()
def flipped_bytes_in_the_head_of_weights(rng, folder):
    path = weights(rng, folder)
    flip(rng, path, 0, 8 + struct.unpack("<Q", path.read_bytes()[:8])[0])


@kind()
def flipped_bytes_in_the_data_of_weights(rng, folder):
    path = weights(rng, folder)
    flip(rng, path, 8 + struct.unpack("<Q", path.read_bytes()[:8])[0], path.stat().st_size)
    return Damage(folder, must="right")


@kind()
def an_absurd_length_of_the_head(rng, folder):
    path = weights(rng, folder)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    absurd = rng.choice([0, 1, size - 1, size + 1, 99_999_999, 100_000_001, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
    path.write_bytes(struct.pack("<Q", absurd) + content[8:])
    return Damage(folder, must="refused")


@kind()
def absurd_offsets(rng, folder):
    def change(name, entry):
        first, last = entry["data_offsets"]
        entry["data_offsets"] = rng.choice(
            [[first, last + 4], [first + 4, last], [last, first], [0, last - first], [0, 0], [-4, last], [first, 2**63]]
        )

    of_a_tensor(rng, weights(rng, folder), change)


@kind()
def absurd_shapes(rng, folder):
    def change(name, entry):
        shape = entry["shape"]
        choices = [
            shape[::-1],
            [*shape, 1],
            [1, *shape],
            [],
            [0],
            [*shape, 0],
            [2**62, 4],
            [2**32, 2**32],
            [-1, *shape[1:]],
            [1.5],
            "shape",
            None,
        ]
        entry["shape"] = rng.choice([*choices, [shape[0] * shape[-1]] if len(shape) == 2 else [1, 1, *shape]])

    of_a_tensor(rng, weights(rng, folder), change)


@kind()
def absurd_dtypes(rng, folder):
    def change(name, entry):
        entry["dtype"] = rng.choice(
            ["I32", "U32", "F64", "F16", "BF16", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "F4", "F128", "float32", "", None, 7]
        )

    of_a_tensor(rng, weights(rng, folder), change)


@kind()
def whole_tensors_of_another_dtype(rng, folder):
    import torch
    from safetensors.torch import load_file, save_file

    path = weights(rng, folder)
    tensors = load_file(path)
    kinds = [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int32, torch.bool, torch.complex64]
    for name in rng.sample(sorted(tensors), rng.choice([1, len(tensors) // 2, len(tensors)]) or 1):
        tensors[name] = tensors[name].to(rng.choice(kinds))
    save_file(tensors, path)


@kind()
def tensors_missing_renamed_or_more(rng, folder):
    from safetensors.torch import load_file, save_file

    path = weights(rng, folder)
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    name = rng.choice(sorted(tensors))
    deed = rng.choice(["missing", "renamed", "more", "none"])
    if deed == "more":
        tensors[rng.choice(["extra.weight", name + ".1", name.upper(), "", "é\n", "a" * 5000, "position_ids"])] = tensors[name].clone()
    elif deed == "none":
        tensors = {}
    else:
        moved = tensors.pop(name)
        if deed == "renamed":
            tensors[rng.choice([name + "x", name.replace(".", "/"), "model." + name])] = moved
    save_file(tensors, path)


@kind()
def a_head_of_weights_that_is_something_else(rng, folder):
    path = weights(rng, folder)
    header, data = parts(path)
    name = next(name for name in header if name != "__metadata__")
    doubled = json.dumps(header)[:-1] + ", " + json.dumps({name: header[name]})[1:]
    deep = b'{"__metadata__": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_001
    heads = [
        b"[]",
        b"null",
        b"{}",
        b"",
        b"{",
        b'{"a": 1}',
        deep,
        doubled.encode(),
        json.dumps(header).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(header).encode(),
    ]
    heads += [json.dumps({**header, "__metadata__": odd}).encode() for odd in ([], {"a": 1}, {"a": None}, "x", {"format": "tf"})]
    put(path, rng.choice(heads), data)


@kind()
def weights_with_more_behind_their_end(rng, folder):
    path = weights(rng, folder)
    path.write_bytes(path.read_bytes() + bytes(rng.choice([1, 4, 4096])))
    return Damage(folder, must="refused")


@kind()
def another_kind_of_file_as_weights(rng, folder):
    contents = [
        b"\x80\x02}q\0.",
        b"PK\3\4" + bytes(90),
        b"GGUF\3\0\0\0" + bytes(40),
        b"hello",
        bytes(4096),
        b"version https://git-lfs.github.com/spec/v1\n",
    ]
    weights(rng, folder).write_bytes(rng.choice(contents))
    return Damage(folder, must="refused")


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


@kind()
def no_file_in_place_of_weights(rng, folder):
    take_the_place(rng, weights(rng, folder))
    return Damage(folder, must="refused")


# ---- shards ---------------------------------------------------------------------------------------------------------

SHARDED = tuple(form for form in FORMS if "shards" in form)


def of_the_index(folder: Path, change: Callable[[dict], Any]) -> None:
    index = json.loads((folder / INDEX).read_text())
    changed = change(index)
    (folder / INDEX).write_text(json.dumps(index if changed is None else changed))


@kind(*SHARDED)
def an_index_that_leads_elsewhere(rng, folder):
    """Never followed outside the folder, whatever lies there."""
    outside = folder.parent / "outside.safetensors"
    first = sorted(folder.glob("*.safetensors"))[0]
    outside.write_bytes(first.read_bytes())
    (folder / "sub").mkdir()
    (folder / "sub" / "x.safetensors").symlink_to("x.safetensors")
    names = [
        "../outside.safetensors",
        str(outside),
        "sub/../../outside.safetensors",
        "..\\outside.safetensors",
        "C:\\x.safetensors",
        "",
        ".",
        "/",
    ]
    names += [
        "sub",
        "sub/x.safetensors",
        "nowhere.safetensors",
        "x\0.safetensors",
        "a" * 5000 + ".safetensors",
        "model.bin",
        INDEX,
        "//x.safetensors",
    ]
    name = rng.choice(names)

    def change(index):
        for tensor, shard in index["weight_map"].items():
            if shard == first.name and (tensor := tensor):
                index["weight_map"][tensor] = name

    of_the_index(folder, change)
    if rng.random() < 0.5:
        first.unlink()
        return Damage(folder, must="refused")
    return None


@kind(*SHARDED)
def an_index_of_another_form(rng, folder):
    def change(index):
        tensor = rng.choice(sorted(index["weight_map"]))
        maps = [
            None,
            [],
            {},
            "x",
            7,
            {"a": None},
            {**index["weight_map"], tensor: None},
            {**index["weight_map"], tensor: [1]},
            list(index["weight_map"]),
        ]
        return rng.choice([{**index, "weight_map": rng.choice(maps)}, {"metadata": {}}, [], None, "x", {**index, "metadata": 5}])

    of_the_index(folder, change)


@kind(*SHARDED)
def an_index_that_names_the_wrong_shard(rng, folder):
    def change(index):
        placed, tensors = index["weight_map"], sorted(index["weight_map"])
        first, second = rng.sample(tensors, 2)
        deed = rng.choice(["swap", "drop", "add", "case"])
        if deed == "swap":
            placed[first], placed[second] = placed[second], placed[first]
        elif deed == "drop":
            del placed[first]
        elif deed == "add":
            placed["extra.weight"] = placed[first]
        else:
            placed[first] = placed[first].upper()

    of_the_index(folder, change)


@kind(*SHARDED)
def shards_missing_or_exchanged(rng, folder):
    first, second, *_ = rng.sample(sorted(folder.glob("*.safetensors")), 2)
    deed = rng.choice(["missing", "exchanged", "twice", "index"])
    if deed == "missing":
        first.unlink()
    elif deed == "twice":
        first.write_bytes(second.read_bytes())
    elif deed == "index":
        (folder / INDEX).unlink()
    else:
        held = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(held)
        return None
    return Damage(folder, must="refused")


@kind(*SHARDED)
def a_file_beside_its_shards(rng, folder):
    """transformers reads the single file first, and so do we."""
    (folder / "model.safetensors").write_bytes(rng.choice([b"", sorted(folder.glob("*.safetensors"))[0].read_bytes()]))
    return Damage(folder, must="refused")


# ---- config.json ----------------------------------------------------------------------------------------------------


def every_option(values: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values in nested objects and lists."""
    pairs = list(values.items()) if isinstance(values, dict) else list(enumerate(values)) if isinstance(values, list) else []
    return [each for key, value in pairs for each in [(*way, key), *every_option(value, (*way, key))]]


def of_an_option(rng: random.Random, folder: Path, choices: tuple[Any, ...], number: bool = False, name: str = "config.json") -> Damage:
    values = json.loads((folder / name).read_text())

    def at(way):
        part = values
        for key in way:
            part = part[key]
        return part

    ways = every_option(values)
    if number:
        ways = [way for way in ways if isinstance(at(way), int | float) and not isinstance(at(way), bool)]
    *way, last = rng.choice(ways)
    at(way)[last] = rng.choice(choices)
    (folder / name).write_text(json.dumps(values))
    return Damage(folder, option=(*way, last))


@kind()
def an_option_of_another_kind(rng, folder):
    return of_an_option(rng, folder, NO_NUMBERS)


@kind()
def a_number_of_another_kind(rng, folder):
    return of_an_option(rng, folder, NO_NUMBERS, number=True)


@kind()
def an_absurd_number(rng, folder):
    return of_an_option(rng, folder, ABSURD, number=True)


@kind()
def many_absurd_numbers(rng, folder):
    for _ in range(rng.randint(2, 6)):
        of_an_option(rng, folder, ABSURD, number=True)


@kind()
def an_option_that_is_missing(rng, folder):
    values = json.loads((folder / "config.json").read_text())
    *way, last = rng.choice([way for way in every_option(values) if isinstance(way[-1], str)])
    part = values
    for key in way:
        part = part[key]
    del part[last]
    (folder / "config.json").write_text(json.dumps(values))
    return Damage(folder, option=(*way, last))


@kind()
def an_option_more(rng, folder):
    values = json.loads((folder / "config.json").read_text())
    name = rng.choice(["", "extra", "é\n", "__class__", "a" * 10_000, "quantization_config", "rope_scaling", "auto_map", "type", "self"])
    values[name] = rng.choice([None, 1, {"a": {}}, [[]], "x" * 100_000])
    (folder / "config.json").write_text(json.dumps(values))
    return Damage(folder, option=(name,))


@kind()
def another_type_of_model(rng, folder):
    values = json.loads((folder / "config.json").read_text())
    name = "type" if "type" in values else "model_type"
    kinds = [
        "vit",
        "clip",
        "llama",
        "llava",
        "mllama",
        "bert",
        "",
        None,
        7,
        [],
        "LLAMA",
        "ViTConfig",
        "CLIPConfig",
        "TextConfig",
        "RotaryScaling",
        "object",
    ]
    values[name] = rng.choice([each for each in kinds if each != values[name]])
    (folder / "config.json").write_text(json.dumps(values))
    return Damage(folder, must="refused")


@kind()
def a_config_that_is_no_json(rng, folder):
    path = folder / "config.json"
    text = path.read_text()
    half = text[: rng.randrange(1, len(text) - 2)]
    texts = [
        "",
        " ",
        "null",
        "[]",
        "7",
        '"x"',
        "{",
        "{}",
        half,
        text + "}",
        "{'a': 1}",
        "// x\n" + text,
        text.replace(":", "=", 1),
        "NaN",
        "[" * 100_000,
    ]
    texts += [
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"hidden_size": ' + "9" * 5000 + "}",
        "9" * 5000,
        '{"model_type": "\\ud800"}',
        "\0" + text,
    ]
    path.write_text(rng.choice(texts))
    return Damage(folder, must="refused")


@kind()
def a_config_in_another_encoding(rng, folder):
    path = folder / "config.json"
    text = path.read_text()
    path.write_bytes(
        rng.choice(
            [text.encode("utf-8-sig"), text.encode("utf-16"), text.encode("utf-32"), text.encode() + b"\xff", bytes(8) + text.encode()]
        )
    )


@kind()
def flipped_bytes_in_the_config(rng, folder):
    flip(rng, folder / "config.json", 0, 10**9, most=4)
    return Damage(folder, must="whatever its config says")


@kind()
def a_config_twice_in_one(rng, folder):
    """Each name twice in one object, as JSON allows; the last one counts, as everywhere in Python."""
    path = folder / "config.json"
    text = path.read_text().strip()
    path.write_text(text[:-1] + "," + text[1:])
    return Damage(folder, must="right")


@kind()
def no_file_in_place_of_the_config(rng, folder):
    take_the_place(rng, folder / "config.json")
    return Damage(folder, must="refused")


@kind("clip", "llava", "mllama", "llava in shards")
def options_of_pictures(rng, folder):
    choices = (*NO_NUMBERS, *ABSURD[:6], "center", {"height": -1, "width": 10**9})
    return of_an_option(rng, folder, choices, name="preprocessor_config.json")


@kind("clip", "llava", "mllama")
def options_of_pictures_that_cannot_be_read(rng, folder):
    path = folder / "preprocessor_config.json"
    if rng.random() < 0.5:
        take_the_place(rng, path)
    else:
        path.write_text(rng.choice(["", "null", "[]", "{", "[" * 100_000, '{"image_mean": [' + "9" * 5000 + "]}"]))


@kind("llama", "llava", "mllama")
def options_of_generation(rng, folder):
    path = folder / "generation_config.json"
    if rng.random() < 0.3:
        path.touch()
        take_the_place(rng, path)
    else:
        ends = ["x", [], [[]], [None], True, 1.5, -1, 2**70, {"a": 1}, None]
        path.write_text(rng.choice(["", "[]", "{", "[" * 100_000, *(json.dumps({"eos_token_id": end}) for end in ends)]))


# ---- tokenizer and card -----------------------------------------------------------------------------------------------

WITH_TEXT = SHIPPED[1:]


@kind(*WITH_TEXT)
def a_tokenizer_with_damage(rng, folder):
    path = folder / "tokenizer.json"
    deed = rng.choice(["cut", "flip", "text", "place", "missing"])
    if deed == "cut":
        os.truncate(path, rng.randrange(path.stat().st_size))
    elif deed == "flip":
        flip(rng, path, 0, path.stat().st_size)
    elif deed == "text":
        path.write_text(
            rng.choice(["", "{}", "null", "[" * 100_000, '{"version": "1.0"}', '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'])
        )
    elif deed == "missing":
        path.unlink()
    else:
        take_the_place(rng, path)


@kind(*WITH_TEXT)
def a_tokenizer_with_other_values(rng, folder):
    choices = (*NO_NUMBERS, -1, 2**40, 10**30, "<pad>")
    values = json.loads((folder / "tokenizer.json").read_text())
    ways = [way for way in every_option(values) if way[:2] != ("model", "vocab") or rng.random() < 0.1]
    *way, last = rng.choice(ways)
    part = values
    for key in way:
        part = part[key]
    part[last] = rng.choice(choices)
    (folder / "tokenizer.json").write_text(json.dumps(values))


@kind(*SHIPPED)
def a_card_with_damage(rng, folder):
    path = folder / "card.json"
    if rng.random() < 0.6:
        take_the_place(rng, path)
    else:
        path.write_text(rng.choice(["", "[]", "{", "7", "[" * 100_000]))
    return Damage(folder, must="the card")


# ---- the folder itself ------------------------------------------------------------------------------------------------


@kind()
def a_folder_elsewhere(rng, folder):
    """By another name, or through a link: the same folder."""
    names = ["new\nline", "%s {} 'x'", "é", "a" * 250, os.fsdecode(b"\xff\xfe"), "-r", "x.safetensors", " "]
    there = folder.with_name(rng.choice(names))
    if rng.random() < 0.5:
        there.symlink_to(folder.name)
    else:
        folder.rename(there)
    utf8 = there.name.isprintable() or "\n" in there.name  # the safetensors library takes no other names
    return Damage(there, must="right" if utf8 else "either")


@kind()
def files_elsewhere(rng, folder):
    """Every file a link to another place, as in the cache of the Hugging Face hub."""
    blobs = folder.with_name("blobs")
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(Path("..") / "blobs" / str(number))
    return Damage(folder, must="right")


@kind()
def no_folder(rng, folder):
    beside = folder.with_name("beside")
    deed = rng.choice(["file", "pipe", "loop", "nowhere", "empty", "hub", "strange"])
    if deed == "file":
        beside.write_text("x")
    elif deed == "pipe":
        os.mkfifo(beside)
    elif deed == "loop":
        beside.symlink_to("beside")
    elif deed == "empty":
        beside.mkdir()
    elif deed == "hub":
        return Damage("nobody/nothing", must="refused")
    elif deed == "strange":
        return Damage(rng.choice(["x\0y", "a" * 300, "a/" * 3000, "", "..", "x" * 200 + "/" + "y" * 200, "/dev/null", "~"]), must="refused")
    return Damage(beside, must="refused")
