"""Malformed GGUF files, a kind for each way in which they go wrong, beside the reading of the ``gguf`` package."""

import os
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tiny_gguf
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from soak.folders import flip, take_the_place
from soak.pool import Fault, Log
from torch import Tensor

from minimllm import LanguageModel

COUNT = 100
IDS = torch.tensor([[5, 1, 299, 0, 17, 332]])
KINDS: dict[str, Callable[[random.Random, Path], str | None]] = {}


def kind(function: Callable[[random.Random, Path], str | None]) -> Callable[[random.Random, Path], str | None]:
    """It spoils a whole file, and says ``refused`` or ``right`` where only one of them may follow."""
    KINDS[function.__name__.replace("_", " ")] = function
    return function


def prepare(folder: Path) -> None:
    """Whole files of several types of tensors; the cases are forked from here."""
    global WHOLE, EXPECTED, NAMES, DATA
    WHOLE, EXPECTED, DATA = [], [], []
    values = {"a.flag": True, "a.text": "é", "a.list": [1, 2, 3], "a.words": ["a", "", "bc"], "a.numbers": [0.5, -1.5]}
    kinds = {"token_embd.weight": "F16", "blk.1.ffn_up.weight": "BF16", "blk.0.attn_q.weight": "Q8_0"}
    for tied, usual in ((False, "Q4_1"), (True, "Q4_0"), (False, "F32")):
        path = tiny_gguf.write(folder / f"{usual}.gguf", tiny_gguf.numbers(tied), usual, values, kinds=kinds)
        reader, model = GGUFReader(path), LanguageModel.from_gguf(path)
        WHOLE.append(path)
        DATA.append(reader.data_offset)
        held = dict(model.named_parameters())
        names = {name: [ours for ours in held if alike(held[ours], each)] for name, each in tensors(path).items()}
        if sorted(ours for listed in names.values() for ours in listed) != sorted(held):
            raise Fault(f"{path.name}: which tensor is which? {names}")
        with torch.no_grad():
            EXPECTED.append((names, model(IDS)))


def tensors(path: Path) -> dict[str, Tensor]:
    """As the gguf package reads them."""
    with np.errstate(all="ignore"):
        return {each.name: torch.from_numpy(dequantize(each.data, each.tensor_type).copy()) for each in GGUFReader(path).tensors}


def alike(a: Tensor, b: Tensor) -> bool:
    """The same numbers in whatever order, for the rows of queries and keys lie otherwise in such a file."""
    a, b = (each.detach().float().flatten().nan_to_num(7.25).sort().values for each in (a, b))
    return torch.equal(a, b)


def run(seed: int, folder: Path, log: Log) -> None:
    rng, name = random.Random(f"gguf {seed}"), list(KINDS)[seed % len(KINDS)]
    log.tell(kind=name)
    warnings.simplefilter("ignore")
    number = rng.randrange(len(WHOLE))
    path = folder / "a.gguf"
    path.write_bytes(WHOLE[number].read_bytes())
    global HEAD
    HEAD = DATA[number]
    must = KINDS[name](rng, path)
    model, error = log.call("from_gguf", lambda: LanguageModel.from_gguf(path))
    if error is not None:
        if must == "right":
            raise Fault(f"from_gguf: refused what is whole: {error}")
        if "a.gguf" not in str(error):
            raise Fault(f"from_gguf: the message does not name the file: {error}")
        return
    if must == "refused":
        raise Fault("from_gguf: took it without a word")
    names, expected = EXPECTED[number]
    held, unchanged, whole = dict(model.named_parameters()), True, tensors(WHOLE[number])
    try:
        there = tensors(path)
    except Exception as problem:
        if must == "right":
            raise Fault(f"the gguf package does not read what should be whole: {problem}") from problem
        there = whole  # it is stricter about what no tensor needs; our tensors must then be the undamaged ones
    for each, listed in names.items():
        for ours in listed:
            if not alike(held[ours], there.get(each, torch.empty(0))):
                raise Fault(f"from_gguf: {ours} is not {each} of the file")
            unchanged = unchanged and alike(whole[each], there[each])
    with torch.no_grad():
        value, error = log.call("computing", lambda: model(IDS))
    if error is not None or (must == "right" and unchanged and not torch.equal(value, expected)):
        raise Fault(f"computing: {error or 'something else than the whole file does'}")


# ---- kinds ----------------------------------------------------------------------------------------------------------


@kind
def nothing_at_all(rng, path):
    return "right"


@kind
def cut_short(rng, path):
    os.truncate(path, rng.choice([0, 3, 8, 23, 24, rng.randrange(path.stat().st_size - 64), HEAD, HEAD + 1]))
    return "refused"


@kind
def flipped_bytes_in_the_head(rng, path):
    flip(rng, path, 0, HEAD, most=6)


@kind
def flipped_bytes_in_the_data(rng, path):
    flip(rng, path, HEAD, path.stat().st_size)
    return "right"


@kind
def absurd_counts(rng, path):
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, rng.choice([8, 16]), rng.choice([0, 1, 10**6, 2**31, 2**40, 2**63, 2**64 - 1]))
    path.write_bytes(content)
    return "refused"


@kind
def absurd_lengths_and_types_of_values(rng, path):
    content, keys = bytearray(path.read_bytes()), [b"a.flag", b"a.text", b"a.list", b"a.words", b"a.numbers", b"llama.context_length"]
    key = rng.choice(keys)
    place = content.index(key)
    spots = [
        ("<Q", place - 8),
        ("<I", place + len(key)),
        ("<I", place + len(key) + 4),
        ("<Q", place + len(key) + 8),
        ("<Q", place + len(key) + 4),
    ]
    form, spot = rng.choice(spots)
    struct.pack_into(
        form, content, spot, rng.choice([0, 1, 8, 9, 12, 13, 255, 2**31, 2**32 - 1, *([2**40, 2**63, 2**64 - 1] if form == "<Q" else [])])
    )
    path.write_bytes(content)


@kind
def absurd_tensors(rng, path):
    """Dimensions, sizes, type or offset of one of them."""
    content, name = bytearray(path.read_bytes()), b"blk.1.ffn_gate.weight"
    place = content.index(name) + len(name)  # number of dimensions, two sizes, type, offset
    form, spot = rng.choice([("<I", place), ("<Q", place + 4), ("<Q", place + 12), ("<I", place + 20), ("<Q", place + 24)])
    struct.pack_into(
        form, content, spot, rng.choice([0, 1, 2, 3, 5, 30, 31, 32, 999, 2**31, *([2**40, 2**63, 2**64 - 32] if form == "<Q" else [])])
    )
    path.write_bytes(content)


@kind
def lists_in_lists(rng, path):
    """As deep as the file is long."""
    content, key = bytearray(path.read_bytes()), b"a.list"
    place, depth = content.index(key) + len(key), rng.choice([10, 2_000, 100_000])
    path.write_bytes(content[:place] + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth + content[place:])
    return "refused"


@kind
def other_values(rng, path):
    values = {key: value for key, value in tiny_gguf.VALUES.items()}
    key = rng.choice(sorted(values))
    odd = [0, 1, 3, 2**32 - 1, 10**9, 2**31, -1.0, float("nan"), float("inf"), 1e38, "", "x", True, [1], [1.0, 2.0], None]
    tiny_gguf.write(path, tiny_gguf.numbers(), values={key: rng.choice(odd)})
    return "either"


@kind
def tensors_missing_or_more(rng, path):
    held = tiny_gguf.numbers()
    name = rng.choice(sorted(name for name in held if name != "output.weight"))
    moved = held.pop(name)
    deed = rng.choice(["missing", "renamed", "turned", "longer", "half"])
    if deed != "missing":
        changed = {"turned": moved.T.copy(), "longer": np.concatenate([moved, moved]), "half": moved[: len(moved) // 2]}.get(deed, moved)
        held[rng.choice([name + "x", "blk.9.attn_q.weight", "rope_freqs.weight", ""]) if deed == "renamed" else name] = changed
        if deed == "turned" and moved.shape == changed.shape:
            held[name] = changed[: len(changed) // 2]
    tiny_gguf.write(path, held)
    return "refused"


@kind
def another_kind_of_file(rng, path):
    contents = [
        b"",
        b"GGUF",
        b"GGML" + bytes(100),
        struct.pack(">4sI", b"GGUF", 3) + bytes(60),
        b"PK\3\4",
        struct.pack("<Q", 2) + b"{}",
        bytes(5000),
    ]
    path.write_bytes(rng.choice(contents))
    return "refused"


@kind
def no_file(rng, path):
    take_the_place(rng, path)
    return "refused"


@kind
def more_behind_its_end(rng, path):
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.choice([1, 32, 5000])))
    return "right"
