"""Malformed pictures: damaged bytes, heads that lie, and files that are something else."""

import struct
import zlib
from pathlib import Path

import numpy as np
from soak.pictures import Subject, changed, chunk, drawing, kind, png, stored, written

# ---- bytes ------------------------------------------------------------------------------------------------------------


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


# ---- what the head says -----------------------------------------------------------------------------------------------


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
    side = rng.choice([3_000, 5_000, 14_000, 30_000])
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


# ---- other things than pictures ---------------------------------------------------------------------------------------


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
