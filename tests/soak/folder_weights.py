"""Malformed folders: the files of weights, and the index of shards."""

import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soak.folders import FORMS, INDEX, Damage, flip, kind, take_the_place

# ---- safetensors ------------------------------------------------------------------------------------------------------


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


def of_a_tensor(rng: random.Random, path: Path, change: Callable[[str, dict], None]) -> None:
    """Change what the header says of one or a few tensors."""
    header, data = parts(path)
    names = [name for name in header if name != "__metadata__"]
    for name in rng.sample(names, min(len(names), rng.randint(1, 2))):
        change(name, header[name])
    put(path, header, data)


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


@kind()
def no_file_in_place_of_weights(rng, folder):
    take_the_place(rng, weights(rng, folder))
    return Damage(folder, must="refused")


# ---- shards -----------------------------------------------------------------------------------------------------------

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
            if shard == first.name:
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
