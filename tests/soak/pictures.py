"""Malformed pictures, a kind for each way in which files go wrong: ``make(seed, folder)`` gives one, and the same for the same seed."""

import io
import os
import random
import socket
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


# ---- parts ----------------------------------------------------------------------------------------------------------


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


# ---- kinds: bytes ---------------------------------------------------------------------------------------------------


@kind
def whole(rng, folder):
    return Subject(stored(rng, folder))


@kind
def cut_short(rng, folder):
    return changed(stored(rng, folder), lambda content: content[: rng.randrange(len(content))])


@kind
def cut_by_a_few_bytes(rng, folder):
    return changed(stored(rng, folder), lambda content: content[: -rng.randint(1, 12)])


@kind
def flipped_bytes(rng, folder):
    def change(content):
        for _ in range(rng.randint(1, 20)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return content

    return changed(stored(rng, folder), change)


@kind
def flipped_bits_in_the_head(rng, folder):
    def change(content):
        for _ in range(rng.randint(1, 6)):
            content[rng.randrange(min(len(content), 64))] ^= 1 << rng.randrange(8)
        return content

    return changed(stored(rng, folder), change)


@kind
def a_part_is_missing_doubled_or_zero(rng, folder):
    def change(content):
        first = rng.randrange(len(content))
        last = min(len(content), first + rng.choice([1, 8, 100]))
        return content[:first] + rng.choice([b"", bytes(last - first), 2 * content[first:last]]) + content[last:]

    return changed(stored(rng, folder), change)


@kind
def something_behind_its_end(rng, folder):
    return changed(stored(rng, folder), lambda content: content + rng.randbytes(rng.choice([1, 100, 5000])))


@kind
def another_pictures_second_half(rng, folder):
    first, second = stored(rng, folder), stored(rng, folder, name="other.png", mode="RGB").read_bytes()
    return changed(first, lambda content: content[: len(content) // 2] + second[len(second) // 2 :])


# ---- kinds: what the head says ----------------------------------------------------------------------------------------


@kind
def a_png_with_an_absurd_size(rng, folder):
    sides = [0, 1, 1000, 20_000, 65_536, 2**20, 2**31 - 1, 2**31, 2**32 - 1]
    colour = rng.choice([0, 2, 3, 4, 6])
    return written(folder / "x.png", png(rng.choice(sides), rng.choice(sides), rng.choice([1, 8, 16]), colour, rng.randbytes(300)))


@kind
def a_png_with_a_depth_that_does_not_exist(rng, folder):
    depth, colour = rng.choice([0, 1, 2, 3, 4, 7, 16, 255]), rng.choice([1, 2, 3, 4, 5, 6, 9])
    return written(folder / "x.png", png(5, 4, depth, colour, bytes(200)))


@kind
def a_text_with_an_absurd_size(rng, folder):
    sides = ["0", "-3", "1", "99999999", "1e3", "3.5", "", "x", "4 4 4", "9" * 400]
    head = f"{rng.choice(['P1', 'P2', 'P3', 'P4', 'P5', 'P6', 'P7', 'Pf', 'PF'])}\n{rng.choice(sides)} {rng.choice(sides)}\n"
    return written(folder / "x.ppm", (head + rng.choice(["255", "65535", "0", "-1", "70000", ""]) + "\n").encode() + rng.randbytes(60))


@kind
def a_bitmap_with_an_absurd_size(rng, folder):
    path = stored(rng, folder, "RGB", "x.bmp")

    def change(content):
        struct.pack_into("<i", content, rng.choice([10, 14, 18, 22, 28, 30, 46]), rng.choice([0, -1, 1, 3, 10**6, 2**31 - 1, -(2**31)]))
        return content

    return changed(path, change)


@kind
def a_tiff_with_absurd_tags(rng, folder):
    path = stored(rng, folder, rng.choice(["RGB", "L", "1", "I;16", "F"]), "x.tif")

    def change(content):
        (place,) = struct.unpack_from("<I", content, 4)
        (count,) = struct.unpack_from("<H", content, place)
        for _ in range(rng.randint(1, 3)):
            entry = place + 2 + 12 * rng.randrange(count)
            struct.pack_into(
                *rng.choice([("<H", content, entry + 2), ("<I", content, entry + 4), ("<I", content, entry + 8)]),
                rng.choice([0, 1, 2, 5, 4000, 65_535]),
            )
        if rng.random() < 0.3:  # the next directory is this one again
            struct.pack_into("<I", content, place + 2 + 12 * count, place)
        return content

    return changed(path, change)


@kind
def a_gif_with_an_absurd_size(rng, folder):
    def change(content):
        struct.pack_into("<HH", content, 6, rng.choice([0, 1, 65_535]), rng.choice([0, 3, 65_535]))
        return content

    return changed(stored(rng, folder, "P", "x.gif"), change)


@kind
def a_bomb(rng, folder):
    """Few bytes that become very many pixels, with and without Pillow's refusal."""
    side = rng.choice([5_000, 7_000, 14_000, 30_000])
    row = b"\0" + bytes(-(-side // 8))
    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(row * 100) for _ in range(side // 100)), packer.flush()])
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)) + chunk(b"IDAT", rows)
    return written(folder / "x.png", content + chunk(b"IEND", b""))


@kind
def a_bomb_in_a_text_or_profile(rng, folder):
    packed = zlib.compress(bytes(60_000_000), 9)
    name, head = rng.choice([(b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0"), (b"iCCP", b"profile\0\0")])
    rows = b"".join(b"\0" + bytes([40 * row] * 12) for row in range(5))
    return written(folder / "x.png", png(4, 5, 8, 2, rows, (name, head + packed)), must="either")


@kind
def a_line(rng, folder):
    """A pixel high or wide and very long: enlarged whole, it would fill the memory."""
    long = rng.choice([3_000, 10_000, 60_000])
    mode = rng.choice(["RGB", "L", "RGBA", "P", "1"])
    picture = drawing(rng, mode, rng.choice([(1, long), (long, 1), (2, long), (long, 3)]))
    picture.save(folder / "x.png")
    return Subject(folder / "x.png")


# ---- kinds: other things than pictures ----------------------------------------------------------------------------------


@kind
def another_kind_of_file(rng, folder):
    contents = [
        b"",
        b"\0",
        b"hello\n",
        b'{"a": 1}',
        b"%PDF-1.7\n%",
        b"PK\3\4" + bytes(30),
        b"\x7fELF\2\1\1",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ]
    contents += [
        b"\0\0\0\x20ftypisom" + bytes(100),
        b"GGUF\3\0\0\0",
        struct.pack("<Q", 2) + b"{}",
        b"\x80\x04\x95",
        b"8BPS\0\1" + bytes(40),
    ]
    contents += [
        b"#!/bin/sh\nrm -rf x\n",
        b"<html></html>",
        b"\xd7\xcd\xc6\x9a" + bytes(60),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    ]
    return written(folder / rng.choice(["x.png", "x.jpg", "x.webp"]), rng.choice(contents), must="refused")


@kind
def noise_behind_a_signature(rng, folder):
    starts = [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"II*\0",
        b"MM\0*",
        b"BM",
        b"P6 ",
        b"DDS ",
        b"8BPS",
    ]
    starts += [
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\0\0\1\0",
        b"icns",
        b"qoif",
        b"\x0a\5\1\x08",
        b"\1\xda",
        b"SIMPLE",
        b"",
        b"\0\0\0\x20ftypavif",
    ]
    return written(folder / "x.png", rng.choice(starts) + rng.randbytes(rng.choice([0, 3, 50, 4000])))


@kind
def no_picture_at_all(rng, folder):
    """In place of a Pillow picture; the package is typed, and yet says what it got."""
    thing = rng.choice([None, 7, "x.png", b"x.png", Path("x.png"), {}, object(), np.zeros((5, 5, 3), np.uint8), [[]]])
    return Subject(None, lambda: thing, must="refused")


# ---- kinds: modes and palettes ------------------------------------------------------------------------------------------


@kind
def a_weird_mode(rng, folder):
    modes = ["LAB", "HSV", "YCbCr", "RGBX", "RGBa", "La", "PA", "CMYK", "I", "F", "I;16", "I;16L", "I;16B", "I;16N", "1", "LA", "P"]
    mode, size = rng.choice(modes), (rng.randint(1, 40), rng.randint(1, 40))
    return Subject(None, lambda: Image.new(mode, size, rng.choice([0, 1, 7])))


@kind
def nothing_to_see(rng, folder):
    mode, size = rng.choice(["RGB", "L", "RGBA", "P", "1", "F", "I;16"]), rng.choice([(0, 5), (5, 0), (0, 0)])
    return Subject(None, lambda: Image.new(mode, size), must="refused")


@kind
def a_palette_that_is_too_short(rng, folder):
    rows = b"".join(b"\0" + rng.randbytes(7) for _ in range(6))
    more = [(b"PLTE", rng.randbytes(rng.choice([0, 1, 3, 9, 768, 900])))]
    if rng.random() < 0.6:
        more.append((b"tRNS", rng.randbytes(rng.choice([0, 1, 5, 256, 400]))))
    return written(folder / "x.png", png(7, 6, 8, 3, rows, *more[:: rng.choice([1, -1])]))


@kind
def transparency_of_one_colour(rng, folder):
    colour, channels = rng.choice([(0, 1), (2, 3)])
    rows = b"".join(b"\0" + bytes(rng.choice([0, 0, 255, 90]) for _ in range(7 * channels)) for _ in range(6))
    return written(folder / "x.png", png(7, 6, 8, colour, rows, (b"tRNS", rng.choice([bytes(2 * channels), b"\0", rng.randbytes(20)]))))


@kind
def sixteen_bits(rng, folder):
    return Subject(stored(rng, folder, "I;16"))


@kind
def sixteen_bits_with_colours(rng, folder):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour := rng.choice([0, 2, 4, 6])]
    rows = b"".join(b"\0" + rng.randbytes(2 * 7 * channels) for _ in range(6))
    return written(folder / "x.png", png(7, 6, 16, colour, rows))


@kind
def numbers_beyond_sixteen_bits(rng, folder):
    values = [rng.choice([0, 1, 65_535, 65_536, -1, 2**31 - 1, -(2**31)]) for _ in range(30)]
    picture = Image.fromarray(np.array(values, np.int32).reshape(5, 6))
    picture.save(folder / "x.tif")
    return Subject(folder / "x.tif")


@kind
def numbers_without_a_range(rng, folder):
    values = [rng.choice([0.0, 0.5, 1.0, 255.0, float("nan"), float("inf"), -1e30]) for _ in range(30)]
    Image.fromarray(np.array(values, np.float32).reshape(5, 6)).save(folder / "x.tif")
    return Subject(folder / "x.tif")


# ---- kinds: several pictures, notes and profiles --------------------------------------------------------------------------


def frames(rng: random.Random, folder: Path) -> Path:
    path = folder / rng.choice(["x.gif", "x.webp", "x.png", "x.tif"])
    size = (rng.randint(4, 30), rng.randint(4, 30))
    first, *others = [drawing(rng, "RGB", size) for _ in range(rng.randint(2, 5))]
    first.save(path, save_all=True, append_images=others)
    return path


@kind
def an_animation(rng, folder):
    return Subject(frames(rng, folder))


@kind
def an_animation_with_damage(rng, folder):
    def change(content):
        if rng.random() < 0.5:
            return content[: rng.randrange(len(content) // 2, len(content))]
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return content

    return changed(frames(rng, folder), change)


@kind
def a_photograph_of_two_frames(rng, folder):
    drawing(rng).save(folder / "x.jpg", "MPO", save_all=True, append_images=[drawing(rng) for _ in range(rng.randint(1, 2))])
    path = folder / "x.jpg"
    return changed(path, lambda content: content[: rng.randrange(len(content))]) if rng.random() < 0.3 else Subject(path)


@kind
def a_turned_photograph(rng, folder):
    exif = Image.Exif()
    exif[0x0112] = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 65_535])
    name = rng.choice(["x.jpg", "x.png", "x.webp", "x.tif"])
    return Subject(stored(rng, folder, "RGB", name, exif=exif.tobytes()))


@kind
def damaged_notes_of_a_camera(rng, folder):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = rng.choice([1, 3, 6, 8]), "maker" * rng.randint(1, 30)
    content = bytearray(exif.tobytes())
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(6, len(content))] = rng.choice([0, 1, 8, 255, rng.randrange(256)])
    path = stored(rng, folder, "RGB", rng.choice(["x.jpg", "x.png", "x.webp"]), exif=bytes(content[: rng.choice([len(content), 20, 12])]))
    return Subject(path)


@kind
def a_damaged_profile(rng, folder):
    profile = rng.choice([b"", b"x", rng.randbytes(200), bytes(128) + b"acsp", b"\xff" * 400])
    return Subject(stored(rng, folder, "RGB", rng.choice(["x.jpg", "x.png", "x.tif", "x.webp"]), icc_profile=profile))


# ---- kinds: paths ---------------------------------------------------------------------------------------------------


@kind
def a_strange_name(rng, folder):
    names = [
        "new\nline.png",
        "quote'\".png",
        " .png",
        "-r.png",
        "%s{}.png",
        "é\u0301.png",
        "..png",
        "a\tb.png",
        "\\.png",
        "$(x).png",
        "a" * 250 + ".png",
    ]
    names += [os.fsdecode(b"\xff\xfe.png"), "\U0001f600.png", "con.png", "*.png"]
    return Subject(stored(rng, folder, "RGB", rng.choice(names), format="PNG"))


@kind
def a_strange_name_of_no_picture(rng, folder):
    names = ["new\nline.png", "%s{}.png", os.fsdecode(b"\xff\xfe.png"), "é.png"]
    return written(folder / rng.choice(names), rng.randbytes(20), must="refused")


@kind
def a_link_to_a_picture(rng, folder):
    (folder / "there").mkdir()
    path = folder / "x.png"
    path.symlink_to(stored(rng, folder / "there", "RGB", "y.png"))
    return Subject(path)


@kind
def a_place_without_a_file(rng, folder):
    (folder / "x.png").symlink_to(rng.choice(["x.png", "nowhere.png", "x.png/x.png"]))
    (folder / "file").write_text("")
    paths = [
        folder / "x.png",
        folder / "file" / "x.png",
        folder / "nowhere" / "x.png",
        Path("a" * 300 + ".png"),
        Path("a/" * 3000),
        Path("x\0.png"),
    ]
    return Subject(rng.choice(paths), must="refused", missing=True)


@kind
def a_folder_in_place_of_a_file(rng, folder):
    (folder / "x.png").mkdir()
    return Subject(rng.choice([folder / "x.png", folder, Path("."), Path("/"), folder / "x.png" / ".."]), must="refused")


@kind
def a_device_in_place_of_a_file(rng, folder):
    devices = [name for name in ("/dev/zero", "/dev/null", "/dev/full", "/dev/urandom", "/proc/self/mem") if os.path.exists(name)]
    (folder / "x.png").symlink_to(rng.choice(devices))
    return Subject(folder / "x.png", must="refused")


@kind
def a_pipe_in_place_of_a_file(rng, folder):
    """Nobody ever writes into it: to open it is to wait for ever."""
    if rng.random() < 0.7:
        os.mkfifo(folder / "x.png")
    else:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind("x.png")  # a short name; the folder's own may be too long for a socket

    def opened():
        raise OSError("a user who opens a pipe waits")

    return Subject(folder / "x.png", opened, must="refused")


@kind
def cut_after_it_was_opened(rng, folder):
    path = stored(rng, folder, "RGB", rng.choice(["x.png", "x.bmp", "x.jpg"]))

    def opened():
        picture = Image.open(path)
        os.truncate(path, rng.choice([0, 20, path.stat().st_size // 2]))
        return picture

    return Subject(path, opened, must="either")


@kind
def closed_before_it_was_given(rng, folder):
    path = stored(rng, folder, "RGB", "x.png")

    def opened():
        picture = Image.open(io.BytesIO(path.read_bytes()))
        picture.close()
        return picture

    return Subject(None, opened, must="refused")


@kind
def folders_that_contain_themselves(rng, folder):
    path = stored(rng, folder, "RGB", "x.png")

    def loops(classes: Path) -> None:
        for number in range(rng.randint(1, 3)):
            (classes / "a" / f"again{number}").symlink_to(rng.choice(["..", ".", "../a", "../../root"]))

    return Subject(path, folder=loops)
