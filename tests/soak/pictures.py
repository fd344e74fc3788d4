"""Malformed pictures, a kind for each way in which files go wrong: ``make(seed, folder)`` gives one, and the same for the same seed."""

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Image.init()

# What Pillow writes each mode as; the name decides the format, as for every user.
FORMATS = {
    "RGB": ["x.png", "x.jpg", "x.bmp", "x.tif", "x.webp", "x.ppm", "x.gif", "x.tga", "x.pcx", "x.jp2", "x.avif", "x.ico", "x.dds", "x.sgi"],
    "RGBA": ["x.png", "x.webp", "x.tif", "x.tga", "x.jp2", "x.ico", "x.dds", "x.avif", "x.icns", "x.sgi"],
    "L": ["x.png", "x.jpg", "x.pgm", "x.bmp", "x.tif", "x.jp2", "x.tga", "x.gif"],
    "LA": ["x.png", "x.tif", "x.tga", "x.jp2"],
    "P": ["x.png", "x.gif", "x.bmp", "x.tif", "x.pcx", "x.im"],
    "1": ["x.png", "x.bmp", "x.tif", "x.pbm", "x.msp", "x.xbm"],
    "CMYK": ["x.jpg", "x.tif"],
    "I;16": ["x.png", "x.tif", "x.pgm", "x.jp2"],
    "I": ["x.tif", "x.im"],
    "F": ["x.tif", "x.im"],
}
ENDING = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # those that torchvision's ImageFolder looks at


@dataclass
class Subject:
    """A picture to be given to the package.

    Attributes:
        path: the file; ``None`` for a picture that is only in memory.
        opened: gives what a user would hand over, a Pillow picture as a rule; it may raise, and then no entrance is reached.
        must: ``None``: as Pillow reads it; ``refused``: every entrance must refuse it; ``either``: refused, or as Pillow reads it.
        missing: whether a ``FileNotFoundError`` is the documented answer.
        before: the folder's own preparation for ``picture_folder``.
    """

    path: Path | None
    opened: Callable[[], Any] | None = None
    must: str | None = None
    missing: bool = False
    folder: Callable[[Path], None] | None = field(default=None)

    def __post_init__(self):
        if self.opened is None:
            self.opened = lambda: Image.open(self.path)


KINDS: dict[str, Callable[[random.Random, Path], Subject]] = {}


def kind(function: Callable[[random.Random, Path], Subject]) -> Callable[[random.Random, Path], Subject]:
    KINDS[function.__name__.replace("_", " ")] = function
    return function


def kind_of(seed: int) -> str:
    """The kinds take turns, so that the first seeds have each of them once."""
    return list(KINDS)[seed % len(KINDS)]


def make(seed: int, folder: Path) -> Subject:
    return KINDS[kind_of(seed)](random.Random(f"picture {seed}"), folder)


# ---- what the kinds are made of ---------------------------------------------------------------------------------------


def drawing(rng: random.Random, mode: str = "RGB", size: tuple[int, int] | None = None) -> Image.Image:
    """Blocks and noise, oblong, with black, white and transparent places among them."""
    width, height = size or (rng.randint(3, 90), rng.randint(3, 90))
    numbers = np.random.default_rng(rng.getrandbits(32))
    channels = {"RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4}.get(mode, 1)
    values = numbers.integers(0, 256, (height, width, channels), dtype=np.uint8)
    values[: height // 3] = 0
    values[:, : width // 4] = 255
    if mode == "1":
        return Image.fromarray(values[..., 0]).convert("1")
    if mode == "P":
        return Image.fromarray(np.repeat(values, 3, -1)).quantize(rng.randint(2, 200))
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    if mode in ("I", "F"):
        return Image.fromarray(values[..., 0].astype(np.int32 if mode == "I" else np.float32) * 257)
    return Image.fromarray(values[..., 0] if channels == 1 else values, mode=None if mode != "CMYK" else "CMYK")


def stored(rng: random.Random, folder: Path, mode: str | None = None, name: str | None = None, **options: Any) -> Path:
    """A whole file of any format that Pillow writes for this mode."""
    mode = mode or rng.choice(list(FORMATS))
    path = folder / (name or rng.choice(FORMATS[mode]))
    picture = drawing(rng, mode, (64, 48) if path.suffix in (".icns", ".ico") else None)
    if path.suffix == ".jpg":
        options = {"quality": rng.randint(5, 95), "progressive": rng.random() < 0.5} | options
    picture.save(path, **options)
    return path


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG, with its right checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG with these rows, whatever its head says."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*each) for each in more) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    )


def written(path: Path, content: bytes, **options: Any) -> Subject:
    path.write_bytes(content)
    return Subject(path, **options)


def changed(path: Path, change: Callable[[bytearray], bytes | bytearray]) -> Subject:
    path.write_bytes(change(bytearray(path.read_bytes())))
    return Subject(path)
