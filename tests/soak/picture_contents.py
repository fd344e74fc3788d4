"""Malformed pictures: what their numbers, palettes, frames and notes say."""

import random
from pathlib import Path

import numpy as np
from PIL import Image
from soak.pictures import Subject, changed, drawing, kind, png, stored, written

# ---- modes and palettes -----------------------------------------------------------------------------------------------


@kind
def a_weird_mode(rng, folder):
    modes = ["LAB", "HSV", "YCbCr", "RGBX", "RGBa", "La", "PA", "CMYK", "I", "F", "I;16", "I;16L", "I;16B", "I;16N", "1", "LA", "P"]
    mode, size = rng.choice(modes), (rng.randint(1, 40), rng.randint(1, 40))
    colour = rng.choice([0, 1, 7])
    return Subject(None, lambda: Image.new(mode, size, colour))


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


# ---- several pictures, notes and profiles -----------------------------------------------------------------------------


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
