"""Pictures of every mode and file become RGB alike at every entrance; extreme ones are cut without making the rest; no others go in."""

import io
import resource

import numpy as np
import pytest
import torch
from PIL import Image
from support import largest_difference, unchecked
from transformers import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from minimllm import (
    CLIP,
    CLIPConfig,
    LlamaVision,
    LlamaVisionConfig,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    answer,
    describe_pictures,
    figures,
    prepare_pictures,
    prepare_tiles,
    preprocess,
    split_pictures,
    zero_shot,
)
from minimllm.data import resizing
from minimllm.data.photos import as_tensor, open_picture, picture_folder
from minimllm.data.pictures import as_picture, to_rgb
from minimllm.data.resizing import RESAMPLING, resized_part
from minimllm.figures.pictures import as_array

TOKENIZER = Tokenizer.from_texts(["what colour is the star ? red blue"])
NOTHING = dict(mean=(0.0,) * 3, std=(1.0,) * 3)


def noise(height, width, channels=3, seed=0, high=256, dtype=np.uint8):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(np.random.default_rng(seed + 1000 * height + width).integers(0, high, shape, dtype=dtype))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


def entrances(picture, folder):
    """The picture as each entrance has it, as bytes ``(height, width, 3)``; its file holds what Pillow can keep without loss."""
    height, width = picture.height, picture.width
    side = max(height, width)
    square = Image.new("RGB", (side, side))
    square.paste(to_rgb(picture))
    found = {"to_rgb": np.asarray(to_rgb(picture)), "figures": as_array(picture) * 255}
    if height == width:
        found["preprocess"] = preprocess(picture, side, **NOTHING)[0].permute(1, 2, 0).numpy() * 255
        if side % 2 == 0:
            found["split_pictures"] = split_pictures([picture], side, side, **NOTHING)[0].images[0].permute(1, 2, 0).numpy() * 255
    found["prepare_tiles"] = prepare_tiles([[picture]], side, 1, **NOTHING).pixel_values[0, 0, 0, :, :height, :width].permute(1, 2, 0) * 255
    path = folder / "picture.tiff"
    try:
        picture.save(path)
        again = Image.open(path)
    except (OSError, KeyError):  # TIFF has no such mode
        return found
    if again.mode == picture.mode and again.info.get("transparency") == picture.info.get("transparency"):
        found["open_picture"] = np.asarray(open_picture(path))
        (folder / "all" / "one").mkdir(parents=True)
        picture.save(folder / "all" / "one" / "picture.tiff")
        if height == width:
            found["picture_folder"] = picture_folder(folder / "all", side)[0][0].permute(1, 2, 0).numpy() * 255
    return found


def coloured(mode):
    pixels = noise(20, 20, 4)
    if mode in ("RGBA", "LA", "PA"):
        pixels.putalpha(Image.fromarray(np.repeat(np.array([[0, 128, 255, 1]], np.uint8), 5, axis=1).repeat(20, axis=0)))
        return pixels if mode == "RGBA" else pixels.convert(mode)
    if mode == "P with a transparent colour":
        picture = pixels.convert("RGB").convert("P")
        picture.info["transparency"] = 3
        return picture
    if mode == "P with transparencies":
        picture = pixels.convert("RGB").convert("P")
        picture.info["transparency"] = bytes(range(256))
        return picture
    if mode == "RGB with a transparent colour":
        picture = Image.new("RGB", (20, 20), (10, 200, 30))
        picture.paste((1, 2, 3), (4, 4, 20, 15))
        picture.info["transparency"] = (1, 2, 3)
        return picture
    if mode == "L with a transparent shade":
        picture = pixels.convert("RGB").convert("L")
        picture.info["transparency"] = 7
        return picture
    return pixels.convert("RGB").convert(mode)


MODES = "1 L P RGB RGBX CMYK YCbCr HSV LAB RGBA LA PA".split() + ["P with a transparent colour", "P with transparencies"]
MODES += ["RGB with a transparent colour", "L with a transparent shade"]


@pytest.mark.parametrize("mode", MODES)
def test_eight_bits_become_rgb_as_in_transformers_at_every_entrance(mode, tmp_path):
    picture = coloured(mode)
    plain = dict(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}, do_normalize=False, do_rescale=False)
    expected = CLIPImageProcessorPil(**plain)(picture, return_tensors="pt")["pixel_values"][0].permute(1, 2, 0).numpy()
    assert np.array_equal(expected, CLIPImageProcessor(**plain)(picture, return_tensors="pt")["pixel_values"][0].permute(1, 2, 0).numpy())
    for entrance, found in entrances(picture, tmp_path).items():
        assert np.abs(np.asarray(found) - expected).max() < 1e-3, entrance


@pytest.mark.parametrize("mode", MODES)
def test_other_modes_are_resized_as_rgb(mode):
    """Not as OpenAI's code does, which resizes palettes and black and white to the nearest pixel, and drops what is transparent."""
    picture = coloured(mode).resize((30, 23), Image.Resampling.NEAREST)
    sizes = dict(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    expected = CLIPImageProcessorPil(**sizes, image_mean=[0.5] * 3, image_std=[0.5] * 3)(picture, return_tensors="pt")["pixel_values"]
    assert largest_difference(preprocess(picture, 16, (0.5,) * 3, (0.5,) * 3), expected) < 1e-6


def test_a_black_drawing_on_nothing_stays_a_drawing():
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (4, 2, 8, 14))
    result = preprocess(picture, 16, **NOTHING)
    assert result[0, :, 2:14, 4:8].max() == 0 and result.sum() == 3 * (256 - 48)


# ---- sixteen bits and floats ----

RAMP = np.linspace(0, 65_535, 400).astype(np.uint16).reshape(20, 20)


def sixteen(form, folder):
    if form == "I":
        return Image.fromarray(RAMP.astype(np.int32))
    if form == "I;16":
        return Image.fromarray(RAMP)
    if form == "I;16B":
        return Image.frombytes("I;16B", (20, 20), RAMP.astype(">u2").tobytes())
    path = folder / f"ramp.{form}"
    if form == "pgm":
        path.write_bytes(b"P5 20 20 65535\n" + RAMP.astype(">u2").tobytes())
    else:
        Image.fromarray(RAMP).save(path)
    return Image.open(path)


@pytest.mark.parametrize("form", ["I", "I;16", "I;16B", "png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled_at_every_entrance(form, tmp_path):
    for entrance, found in entrances(sixteen(form, tmp_path), tmp_path).items():
        found = np.asarray(found)
        assert np.abs(found - RAMP[..., None] / 257).max() <= 0.5 + 1e-3 and abs(found.mean() - 127.5) < 0.5, entrance
    if form in ("png", "tiff", "pgm"):
        assert np.abs(np.asarray(open_picture(tmp_path / f"ramp.{form}")) - RAMP[..., None] / 257).max() <= 0.5


def test_sixteen_bits_with_a_transparent_shade():
    picture = Image.fromarray(RAMP)
    file = encoded(picture, "PNG", transparency=int(RAMP[3, 4]))
    found = np.asarray(to_rgb(Image.open(file)))
    assert found[3, 4].tolist() == [255] * 3 and found[3, 5].tolist() == [round(RAMP[3, 5] / 257)] * 3


@pytest.mark.parametrize("low, high", [(-1, 5), (0, 65_536), (-(2**31), 2**31 - 1)])
def test_numbers_beyond_sixteen_bits_are_refused_everywhere(low, high, tmp_path):
    pixels = np.zeros((20, 20), np.int32)
    pixels[3, 5], pixels[4, 4] = low, high
    refused_everywhere(Image.fromarray(pixels), tmp_path, "mode I is read as 0 to 65,535", f"{low:,} to {high:,}")
    assert to_rgb(Image.fromarray(np.clip(pixels, 0, 65_535))).mode == "RGB"


@pytest.mark.parametrize("value", [0.0, 0.5, 200.0, float("nan")])
def test_floats_are_refused_everywhere(value, tmp_path):
    refused_everywhere(Image.fromarray(np.full((20, 20), value, np.float32)), tmp_path, "mode F")


def refused_everywhere(picture, folder, *words):
    picture.save(folder / "odd.tiff")
    (folder / "classes" / "one").mkdir(parents=True)
    picture.save(folder / "classes" / "one" / "odd.tiff")
    calls = {
        "preprocess": lambda: preprocess(picture, 16, **NOTHING),
        "prepare_tiles": lambda: prepare_tiles([[picture]], 16),
        "prepare_pictures": lambda: prepare_pictures(MODEL, [noise(9, 9), picture]),
        "zero_shot": lambda: zero_shot(MODEL, TOKENIZER, picture, ["red", "blue"], ["{}"]),
        "open_picture": lambda: open_picture(folder / "odd.tiff"),
        "picture_folder": lambda: picture_folder(folder / "classes"),
        "figures": lambda: figures.picture(picture),
    }
    for entrance, call in calls.items():
        with pytest.raises(ValueError) as error:
            call()
        assert all(word in str(error.value) for word in words), f"{entrance}: {error.value}"


MODEL = CLIP(CLIPConfig.tiny(TOKENIZER.vocab_size, TOKENIZER.eos_token_id))


# ---- floats to bytes, and photographs of two frames ----


def test_floats_are_rounded_to_bytes():
    values = torch.linspace(0, 1, 3000).view(1, 50, 60).expand(3, -1, -1)
    pixels = np.asarray(as_picture(values)).astype(float)[..., 0]
    assert np.abs(pixels / 255 - values[0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert as_picture(torch.full((3, 2, 3), 0.999, dtype=torch.bfloat16)).getpixel((2, 1)) == (255, 255, 255)
    vision = LlamaVision(LlamaVisionConfig.tiny(TOKENIZER.vocab_size, image_token_id=TOKENIZER.image_token_id))
    seen = []
    prepare, vision.prepare_tiles = vision.prepare_tiles, lambda rows: seen.append(rows) or prepare(rows)
    answer(vision, TOKENIZER, torch.full((1, 3, 40, 30), 0.999), "what colour is the star ?", max_new_tokens=1)
    assert seen[0][0][0].getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("frames", [2, 3])
def test_photographs_of_several_frames_show_the_first(frames, tmp_path):
    first, others = noise(20, 30), [noise(20, 30, seed=seed) for seed in range(1, frames)]
    (tmp_path / "all" / "one").mkdir(parents=True)
    path = tmp_path / "all" / "one" / "photo.jpg"
    path.write_bytes(encoded(first, "MPO", save_all=True, append_images=others, quality=100).getvalue())
    photo = Image.open(path)
    assert photo.format == "MPO" and photo.n_frames == frames
    expected = np.asarray(photo.convert("RGB"))
    assert np.array_equal(np.asarray(open_picture(path)), expected)
    assert torch.equal(picture_folder(tmp_path / "all", 16)[0][0], as_tensor(Image.fromarray(expected), 16))
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        path = tmp_path / f"moving.{kind.lower()}"
        first, *others = (noise(20, 30, seed=seed) for seed in range(frames))  # Pillow keeps what an earlier encoder was told
        path.write_bytes(encoded(first, kind, save_all=True, append_images=others).getvalue())
        with pytest.raises(ValueError, match=f"it holds {frames} pictures"):
            open_picture(path)


# ---- extreme proportions ----


@pytest.mark.parametrize("resample", RESAMPLING)
def test_a_part_is_exactly_what_it_is_in_the_whole(resample, monkeypatch):
    monkeypatch.setattr(resizing, "_SMALL", 0)  # so that none is made whole
    random = np.random.default_rng(resample)
    for trial in range(60):
        height, width = np.exp(random.uniform(0, 4, 2)).astype(int).tolist()
        size = tuple(int(side * scale) for side, scale in zip((height, width), 1 + np.exp(random.uniform(-3, 3, 2)), strict=True))
        window = (*(int(random.integers(-3, side)) for side in size), *random.integers(4, 40, 2).tolist())
        image = noise(height, width, 1 if trial % 3 == 0 else 3, seed=trial)
        box = (window[1], window[0], window[1] + window[3], window[0] + window[2])
        expected = image.resize(size[::-1], resample).crop(box)
        found = resized_part(image, size, window, resample)
        assert found.mode == image.mode and np.array_equal(np.asarray(found), np.asarray(expected)), (height, width, size, window)


@pytest.mark.parametrize("height, width", [(1, 10_000), (10_000, 1), (2, 3001), (3001, 2), (3, 500), (7, 900), (700, 11), (1, 2)])
def test_the_crop_of_an_extreme_picture_is_that_of_the_whole(height, width):
    image = noise(height, width)
    size = 16
    long = int(size * max(height, width) / min(height, width))
    whole = image.resize((long, size) if height <= width else (size, long), Image.Resampling.BICUBIC)
    start = round((long - size) / 2)
    box = (start, 0, start + size, size) if height <= width else (0, start, size, start + size)
    expected = torch.from_numpy(np.asarray(whole.crop(box)) / 255).permute(2, 0, 1).float()
    assert torch.equal(preprocess(image, size, **NOTHING)[0], expected)
    floats = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    naive = torch.nn.functional.interpolate(floats, whole.size[::-1], mode="bicubic", antialias=True).clamp(0, 1)
    naive = naive[..., box[1] : box[3], box[0] : box[2]]
    for given in (floats, list(floats)):
        assert largest_difference(preprocess(given, size, **NOTHING), naive) < 2e-5


def test_a_line_of_pixels_takes_no_memory():
    """A picture of 1 x 10,000 pixels took 2.9 GB; a process remembers the most it ever had."""
    preprocess(noise(300, 300), 224, **NOTHING)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for shape in ((1, 10_000), (10_000, 1), (1, 1_000_000)):
        image = noise(*shape)
        assert preprocess(image, 224, **NOTHING).shape == (1, 3, 224, 224)
        assert prepare_tiles([[image]], 224).num_tiles == [[4]]
        assert as_tensor(image, 224).shape == (3, 224, 224)
        assert preprocess(torch.rand(1, 3, *shape), 224, **NOTHING).shape == (1, 3, 224, 224)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_pictures_too_large_to_be_meant_are_refused(monkeypatch, tmp_path):
    large = Image.new("1", (2000, 1000))
    large.save(tmp_path / "large.png")
    opened = Image.open(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900_000)
    for picture in (large, opened):
        with pytest.raises(ValueError, match="picture 0.* 1000 x 2000 pixels, too many"):
            preprocess(picture, 16, **NOTHING)
        with pytest.raises(ValueError, match="too many"):
            prepare_tiles([[picture]], 16)
    with pytest.raises(ValueError, match="too large"):
        open_picture(tmp_path / "large.png")


# ---- what is no picture ----


@pytest.mark.parametrize(
    "given, words",
    [
        ("x.png", "the path 'x.png'; open it first"),
        (b"x.png", "got a bytes"),
        (np.zeros((1, 8, 8, 3), np.uint8), "got a ndarray; for an array of bytes, Image.fromarray"),
        ([np.zeros((8, 8, 3), np.uint8)], "picture 0 is a ndarray"),
        ([None], "picture 0 is a NoneType"),
        ([noise(9, 9), "x.png"], "picture 1 is a str ('x.png')"),
        (7, "got a int"),
        ([[noise(9, 9)]], "picture 0 is a list"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "torch.uint8 (1, 3, 8, 8); of bytes, images / 255"),
        (torch.rand(1, 8, 8, 3), "3 channels, got 8 in (1, 8, 8, 3)"),
        (torch.rand(3, 8, 8), "(batch, channels, height, width)"),
        ([torch.rand(1, 3, 8, 8)], "(batch, channels, height, width)"),
        ([torch.rand(8, 8, 3)], "3 channels, got 8"),
        (torch.rand(1, 3, 8, 8) * 255, "in [0, 1], not yet normalised"),
        ([torch.full((3, 8, 8), torch.nan)], "in [0, 1]"),
        (torch.rand(1, 3, 0, 8), "(1, 3, 0, 8)"),
    ],
)
def test_what_is_no_picture_is_told_what_to_do(given, words):
    unified = UnifiedMLLM(UnifiedConfig.tiny(TOKENIZER.vocab_size, TOKENIZER.image_token_id))
    vision = LlamaVision(LlamaVisionConfig.tiny(TOKENIZER.vocab_size, image_token_id=TOKENIZER.image_token_id))
    questions = ["what colour is the star ?"] * (2 if isinstance(given, list) and len(given) == 2 else 1)
    calls = [
        lambda: preprocess(given, 16, **NOTHING),
        lambda: prepare_pictures(MODEL, given),
        lambda: zero_shot(MODEL, TOKENIZER, given, ["red"], ["{}"]),
    ]
    if not (isinstance(given, torch.Tensor) and given.ndim != 4):  # as many pictures as its first side
        calls += [lambda model=model: answer(model, TOKENIZER, given, questions) for model in (unified, vision)]
        calls += [lambda: describe_pictures(unified, TOKENIZER, given)]
    for call in calls:
        with unchecked(), pytest.raises(ValueError) as error:
            call()
        assert words in str(error.value), str(error.value)


def test_lists_may_hold_tensors_and_pictures_of_any_size():
    picture = noise(20, 33)
    floats = torch.from_numpy(np.asarray(noise(16, 16)).copy()).permute(2, 0, 1) / 255
    together = preprocess([picture, floats, torch.rand(3, 40, 9)], 16, **NOTHING)
    assert torch.equal(together[:1], preprocess(picture, 16, **NOTHING)) and torch.equal(together[1], floats)
    assert torch.equal(preprocess((picture,), 16, **NOTHING), preprocess([picture], 16, **NOTHING))
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.bfloat16, 0.02), (torch.float16, 0.003)):
        images = torch.rand(2, 3, 30, 25, dtype=dtype)
        assert preprocess(images, 16, **NOTHING).dtype == dtype
        assert largest_difference(preprocess(images, 16, **NOTHING).float(), preprocess(images.float(), 16, **NOTHING)) < tolerance


def test_exif_is_not_applied_but_where_one_opens_ones_own_pictures(tmp_path):
    image, exif = noise(10, 30), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    turned = Image.open(tmp_path / "turned.png")
    assert torch.equal(preprocess(turned, 8, **NOTHING), preprocess(image, 8, **NOTHING))
    assert to_rgb(turned).size == (30, 10) and open_picture(tmp_path / "turned.png").size == (10, 30)
