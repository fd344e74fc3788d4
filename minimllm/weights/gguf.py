"""Reads GGUF files, the format of llama.cpp: a header of keys and values, a list of tensors, and their numbers, most of them in blocks.

The header is read here, and checked against the file's size before anything is believed; blocks are turned into numbers by the
``gguf`` package, and one of them by hand in :func:`dequantise_q4_1`. Reference: docs/gguf.md of ggml.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# The types of tensors that are read; a block holds 32 numbers, or one where nothing is quantised.
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")

# The types of values by their number in the file, as struct and numpy write them; 8 is a string, 9 a list.
SCALARS = ("B", "b", "H", "h", "I", "i", "f", "?", None, None, "Q", "q", "d")
STRING, LIST = 8, 9


def dequantise_q4_1(block: bytes) -> Float[Tensor, "32"]:
    """The 32 numbers of a block of type Q4_1: ``scale * q + minimum``, each q a whole number from 0 to 15.

    Args:
        block: 20 bytes: scale and minimum in float16, then 16 bytes with two q each, number i in the lower half of byte i, number
            i + 16 in its upper half. 20 bytes for 32 numbers are 5 bits for each.

    Raises:
        ValueError: for another number of bytes.
    """
    if len(block) != 20:
        raise ValueError(f"a block of type Q4_1 has 20 bytes, got {len(block)}")
    scale, minimum = struct.unpack("<ee", block[:4])
    lower, upper = [byte & 15 for byte in block[4:]], [byte >> 4 for byte in block[4:]]
    return scale * torch.tensor(lower + upper, dtype=torch.float32) + minimum


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies in a file: its shape in torch's order, its type, its first byte and the number of its bytes."""

    shape: tuple[int, ...]
    type: str
    start: int
    size: int


class GGUFFile:
    """A GGUF file, opened; the file is only read, and tensors only when they are asked for.

    Args:
        path: of the file.

    Attributes:
        values: key -> value, as the file has them: ``general.architecture``, ``llama.block_count``, ``tokenizer.ggml.tokens`` ...
        tensors: name -> where it lies.

    Raises:
        ValueError: no such file, another format, version or byte order, a file that is cut short or damaged, a tensor of a type that is
            not read; the message names the file and what is wrong with it.
    """

    def __init__(self, path: str | PathLike):
        self.path = Path(path)
        try:
            if not self.path.is_file():  # whoever opens a pipe waits for ever
                raise FileNotFoundError("there is no such file, or it is no ordinary one")
            with open(self.path, "rb") as file:
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise ValueError(f"{self.path} cannot be read as a GGUF file: {error}") from error
        header = Header(self.data, self.path)
        header.check_start()
        tensors, keys = header.count("tensors", at_least=24), header.count("keys", at_least=13)
        self.values: dict[str, Any] = {}
        for _ in range(keys):
            key = header.string("a key")
            if key in self.values:
                raise ValueError(f"{self.path} is damaged: it has the key {key} twice")
            self.values[key] = header.value(header.number("I", key), key)
        listed = [header.tensor() for _ in range(tensors)]
        self.tensors = self.places(listed, header.place)

    def places(self, listed: list[tuple[str, tuple[int, ...], int, int]], end: int) -> dict[str, TensorPlace]:
        """Where the listed tensors lie, given the end of the header; each is checked to lie inside the file and on no other."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        alignment = self.values.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"{self.path} has general.alignment = {alignment!r}, expected a power of two")
        data, places = -(-end // alignment) * alignment, {}
        for name, shape, number, offset in listed:
            kind = GGMLQuantizationType(number).name if number in list(GGMLQuantizationType) else f"number {number}"
            if kind not in TYPES:
                raise ValueError(f"{self.path}: tensor {name} is of type {kind}, which is not read; read are {', '.join(TYPES)}")
            numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
            if name in places or not shape or min(shape) < 1 or shape[-1] % numbers or offset % alignment:
                raise ValueError(
                    f"{self.path} is damaged: tensor {name} is listed twice, or its shape {shape} or offset {offset} is not possible for "
                    f"type {kind}, whose blocks hold {numbers} numbers"
                )
            places[name] = TensorPlace(shape, kind, data + offset, math.prod(shape) // numbers * size)
            if (last := places[name].start + places[name].size) > len(self.data):
                raise ValueError(f"{self.path} is cut short: tensor {name} ends at byte {last}, and the file at {len(self.data)}")
        free = 0
        for name, place in sorted(places.items(), key=lambda item: item[1].start):
            if place.start < free:
                raise ValueError(f"{self.path} is damaged: tensor {name} starts at byte {place.start}, inside of another")
            free = place.start + place.size
        return places

    def bytes(self, name: str) -> bytes:
        """The bytes of a tensor as they lie in the file, row by row: those of a Q4_1 tensor are blocks of 20."""
        place = self.tensors[name]
        return self.data[place.start : place.start + place.size]

    def tensor(self, name: str) -> Float[Tensor, "..."]:
        """The numbers of a tensor in float32, dequantised where they are quantised."""
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        place = self.tensors[name]
        rows = np.frombuffer(self.bytes(name), np.uint8).reshape(*place.shape[:-1], -1)
        return torch.from_numpy(dequantize(rows, GGMLQuantizationType[place.type]).astype(np.float32))


class Header:
    """Takes one value after another from the head of a file; ``what`` is named where the file ends before it."""

    def __init__(self, data: mmap.mmap, path: Path):
        self.data, self.path, self.place = data, path, 0

    def check_start(self) -> None:
        """The magic bytes and the version."""
        if self.data[:4] != b"GGUF":
            raise ValueError(f"{self.path} is no GGUF file: it starts with {self.data[:4]!r}, expected b'GGUF'")
        self.place = 4
        version = self.number("I", "its version")
        if version not in (2, 3):
            swapped = " of a machine with the other byte order" if version and version % 65536 == 0 else ""
            raise ValueError(f"{self.path} is a GGUF file{swapped} with version {version}; versions 2 and 3 are read, little-endian")

    def need(self, size: int, what: str) -> None:
        if size > len(self.data) - self.place:
            raise ValueError(
                f"{self.path} is cut short or damaged: {what} takes {size} bytes from byte {self.place} on, "
                f"and the file ends at {len(self.data)}"
            )

    def number(self, kind: str, what: str) -> Any:
        self.need(struct.calcsize("<" + kind), what)
        (value,) = struct.unpack_from("<" + kind, self.data, self.place)
        self.place += struct.calcsize("<" + kind)
        return value

    def count(self, what: str, at_least: int) -> int:
        """A number of things, each of ``at_least`` so many bytes: no damaged count is believed that the file has no room for."""
        value = self.number("Q", f"the number of {what}")
        self.need(value * at_least, f"the list of {value} {what}")
        return value

    def string(self, what: str) -> str:
        length = self.count(f"bytes of {what}", at_least=1)
        text = self.data[self.place : self.place + length]
        self.place += length
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is damaged: {what} at byte {self.place - length} is no UTF-8: {error}") from error

    def value(self, kind: int, key: str) -> Any:
        """A value of one of the types; a list as a Python list."""
        if kind == STRING:
            return self.string(key)
        if kind == LIST:
            inner = self.number("I", key)
            scalar = SCALARS[inner] if inner < len(SCALARS) else None
            if scalar is None and inner != STRING:
                raise ValueError(f"{self.path} has {key}, a list of type {inner}, which is not read")
            count = self.count(f"elements of {key}", at_least=np.dtype(scalar).itemsize if scalar else 8)
            if inner == STRING:
                return [self.string(key) for _ in range(count)]
            numbers = np.frombuffer(self.data, np.dtype(scalar).newbyteorder("<"), count, self.place)
            self.place += numbers.nbytes
            return numbers.tolist()
        if kind >= len(SCALARS):
            raise ValueError(f"{self.path} is damaged: {key} is of type {kind}, which does not exist")
        return self.number(SCALARS[kind], key)

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape in torch's order, the number of the type, and the offset in the data."""
        name = self.string("the name of a tensor")
        what = f"the description of tensor {name}"
        if (dimensions := self.number("I", what)) > 4:
            raise ValueError(f"{self.path} is damaged: tensor {name} has {dimensions} dimensions")
        shape = tuple(self.number("Q", what) for _ in range(dimensions))[::-1]  # the file has the fastest first
        return name, shape, self.number("I", what), self.number("Q", what)
