"""Pictures as tiles: to the last bit as transformers cuts them, for every size and every mode."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from support import largest_difference, unchecked
from transformers.models.mllama.image_processing_pil_mllama import (
    MllamaImageProcessorPil,
    get_image_size_fit_to_canvas,
    get_optimal_tiled_canvas,
)

from minimllm import prepare_tiles
from minimllm.models.clip_config import MEAN, STD
from minimllm.models.llama_vision.tiles import Tiles, arrangements, choose_arrangement, fit_picture

TILE = 16


def noise(height, width, channels=3, seed=0):
    generator = np.random.default_rng(seed + height * 1000 + width)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))


def theirs(images, tile_size=TILE, max_tiles=4, mean=MEAN, std=STD):
    size = {"height": tile_size, "width": tile_size}
    processor = MllamaImageProcessorPil(size=size, max_image_tiles=max_tiles, image_mean=list(mean), image_std=list(std))
    return processor(images, return_tensors="pt")


def assert_equal(got: Tiles, expected):
    assert got.pixel_values.dtype == torch.float32 and got.aspect_ratio_ids.dtype == got.aspect_ratio_mask.dtype == torch.int64
    assert largest_difference(got.pixel_values, expected["pixel_values"]) < 1e-6
    assert torch.equal(got.aspect_ratio_ids, expected["aspect_ratio_ids"])
    assert torch.equal(got.aspect_ratio_mask, expected["aspect_ratio_mask"])
    assert got.num_tiles == expected["num_tiles"]


def compare_sizes(sizes, tile_size, max_tiles=4):
    for height, width in sizes:
        rows, columns = choose_arrangement(height, width, tile_size, max_tiles)
        canvas = get_optimal_tiled_canvas(height, width, max_tiles, tile_size)
        assert (rows * tile_size, columns * tile_size) == canvas, f"{height} x {width}"
        expected = get_image_size_fit_to_canvas(height, width, *canvas, tile_size)
        assert fit_picture(height, width, rows, columns, tile_size) == expected, f"{height} x {width}"


@pytest.mark.parametrize("tile_size", [560, 448])
def test_grid_and_size_equal_those_of_transformers_at_random_sizes_and_at_the_edges(tile_size):
    random = np.random.default_rng(tile_size)
    sizes = np.exp(random.uniform(0, np.log(8000), (4000, 2))).astype(int).tolist()
    edges = [1, 2, tile_size - 1, tile_size, tile_size + 1, 2 * tile_size, 2 * tile_size + 1, 4 * tile_size, 20 * tile_size]
    sizes += [(height, width) for height in edges for width in edges]
    compare_sizes(sizes, tile_size)


@pytest.mark.parametrize("max_tiles", [1, 2, 3])
def test_fewer_tiles_at_most(max_tiles):
    compare_sizes([(height, width) for height in range(1, 80, 7) for width in range(1, 80, 5)], TILE, max_tiles)
    images = [[noise(40, 20), noise(10, 70)]]
    assert_equal(prepare_tiles(images, TILE, max_tiles), theirs(images, max_tiles=max_tiles))


@pytest.mark.parametrize(
    "size, grid, resized",
    [
        ((1, 1), (1, 1), (560, 560)),
        ((300, 200), (1, 1), (560, 373)),
        ((560, 561), (1, 2), (560, 561)),
        ((561, 561), (2, 2), (561, 561)),
        ((480, 640), (1, 2), (480, 640)),
        ((1080, 1920), (2, 2), (630, 1120)),
        ((100, 2000), (1, 4), (100, 2000)),
        ((3000, 3000), (2, 2), (1120, 1120)),
        ((1, 5000), (1, 4), (1, 2240)),
        ((200, 1200), (1, 3), (200, 1200)),
    ],
)
def test_examples_by_hand(size, grid, resized):
    assert choose_arrangement(*size, 560) == grid and fit_picture(*size, *grid, 560) == resized


def test_the_eight_arrangements_in_the_models_order():
    assert arrangements() == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]


SIZES = [
    (1, 1),
    (TILE, TILE),
    (TILE + 1, TILE + 1),
    (500, 1),
    (1, 500),
    (3, 70),
    (3, 700),
    (10, 22),
    (10, 224),
    (64, 16),
    (48, 90),
    (33, 31),
    (15, 16),
    (2, 3),
]


@pytest.mark.parametrize("tile_size", [TILE, 20])
def test_pixels_of_every_shape(tile_size):
    images = [[noise(*size)] for size in SIZES] + [[Image.radial_gradient("L").resize((47, 29))]]
    assert_equal(prepare_tiles(images, tile_size), theirs(images, tile_size))


def test_pixels_at_the_size_of_the_real_model():
    images = [[noise(630, 900)], [noise(300, 200)]]
    assert_equal(prepare_tiles(images, 560), theirs(images, 560))


def transparent_palette():
    image = noise(20, 30).convert("P", palette=Image.Palette.ADAPTIVE)
    image.info["transparency"] = 3
    return image


def of_mode(mode):
    colours = noise(20, 30, 4)
    alpha = Image.fromarray(np.repeat(np.array([[0, 128, 255] * 10], dtype=np.uint8), 20, axis=0))
    if mode == "RGB with a transparent colour":
        image = Image.new("RGB", (30, 20), (10, 200, 30))
        image.paste((1, 2, 3), (4, 4, 20, 15))
        image.info["transparency"] = (1, 2, 3)
        return image
    if mode == "P with transparency":
        return transparent_palette()
    if mode in ("RGBA", "LA", "La", "RGBa", "PA"):
        image = colours.convert("RGBA")
        image.putalpha(alpha)
        return image if mode == "RGBA" else image.convert(mode) if mode != "La" else image.convert("LA").convert("La")
    return colours.convert("RGB").convert(mode)


# Modes of more than eight bits, which transformers cuts at 255, are in tests/data/test_pictures.py.
MODES = "1 L P CMYK YCbCr LAB HSV RGBX RGBA LA La RGBa PA".split() + ["P with transparency", "RGB with a transparent colour"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode):
    image = of_mode(mode)
    assert image.mode == mode.split(" ")[0]
    try:
        expected = theirs([[image]])
    except ValueError as error:  # Pillow itself knows no way from here to RGB
        with pytest.raises(ValueError, match="cannot be read"):
            prepare_tiles([[image]], TILE)
        assert "conversion" in str(error)
        return
    assert_equal(prepare_tiles([[image]], TILE), expected)


def with_transparency(mode, value):
    image = of_mode(mode)
    image.info["transparency"] = value
    return image


ODD = {
    "a palette in which every colour has its own transparency": lambda: with_transparency("P", bytes([0, 128, 255] * 20)),
    "grey with a transparent shade": lambda: with_transparency("L", 7),
    "black and white with transparent black": lambda: with_transparency("1", 0),
    "a JPEG opened at a smaller size in grey": lambda: draft(Image.open(io.BytesIO(encoded(noise(200, 300), "JPEG")))),
}


def draft(image):
    image.draft("L", (100, 100))
    return image


@pytest.mark.parametrize("name", ODD)
def test_pictures_that_are_odd_in_their_mode(name):
    assert_equal(prepare_tiles([[ODD[name]()]], TILE), theirs([[ODD[name]()]]))


# What each kind of file can hold; read again, some of it has another mode.
HELD = {
    "PNG": ["1", "L", "LA", "P", "P with transparency", "RGB", "RGB with a transparent colour", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"],
    "WEBP": ["L", "RGB", "RGBA"],
    "GIF": ["1", "L", "P", "P with transparency", "RGB", "RGBA"],
    "JPEG": ["1", "L", "RGB", "CMYK"],
}


@pytest.mark.parametrize("kind, mode", [(kind, mode) for kind, modes in HELD.items() for mode in modes])
def test_pictures_as_files_hold_them(kind, mode):
    file = encoded(of_mode(mode), kind)
    assert_equal(prepare_tiles([[Image.open(io.BytesIO(file))]], TILE), theirs([[Image.open(io.BytesIO(file))]]))


def test_what_is_transparent_lies_on_white_and_filling_is_black():
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    tiles = prepare_tiles([[Image.new("RGBA", (20, 20), (9, 9, 9, 0))]], TILE)
    assert tiles.num_tiles == [[4]] and tiles.aspect_ratio_ids.tolist() == [[6]]
    assert torch.allclose(tiles.pixel_values[0, 0, 0], ((1 - mean) / std).view(3, 1, 1).expand(3, 16, 16), atol=1e-6)
    black = (-mean / std).view(3, 1, 1)
    assert torch.allclose(tiles.pixel_values[0, 0, 3, :, 4:, 4:], black.expand(3, 12, 12), atol=1e-6)


def test_batches_of_every_kind_with_absent_pictures_at_the_edges():
    a, b, c = noise(40, 20), noise(10, 70), noise(8, 8)
    for images in ([[a], []], [[], [a]], [[a], [], [b]], [[a, b], [c]], [[a, b, c], [], [b, b]], [[c]]):
        assert_equal(prepare_tiles(images, TILE), theirs(images))
    tiles = prepare_tiles([[], [c]], TILE)
    assert tiles.aspect_ratio_ids.tolist() == [[0], [1]] and tiles.num_tiles == [[], [1]]
    assert tiles.aspect_ratio_mask.tolist() == [[[1, 0, 0, 0]], [[1, 0, 0, 0]]], "the first tile counts as there, as in Meta's code"
    assert not tiles.pixel_values[0].any() and not tiles.pixel_values[1, 0, 1:].any() and tiles.pixel_values[1, 0, 0].all()
    assert prepare_tiles(((a, b), (c,)), TILE).num_tiles == [[2, 4], [1]], "tuples are lists, too"


def test_a_batch_without_any_picture_gives_none():
    assert prepare_tiles([[], []], TILE) is None and prepare_tiles([], TILE) is None


def test_another_mean_and_deviation():
    images, mean, std = [[noise(10, 30)]], (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    assert_equal(prepare_tiles(images, TILE, mean=mean, std=std), theirs(images, mean=mean, std=std))
    images = [[noise(10, 30)]]
    assert_equal(prepare_tiles(images, TILE, mean=[0.5] * 3, std=[0.5] * 3), theirs(images, mean=(0.5,) * 3, std=(0.5,) * 3))


def test_tiles_go_left_to_right_and_top_to_bottom():
    image = Image.new("RGB", (32, 32))
    for number, corner in enumerate([(0, 0), (16, 0), (0, 16), (16, 16)]):
        image.paste((60 * number,) * 3, (*corner, corner[0] + 16, corner[1] + 16))
    tiles = prepare_tiles([[image]], TILE, mean=(0, 0, 0), std=(1, 1, 1)).pixel_values[0, 0]
    assert [tile.unique().mul(255).round().tolist() for tile in tiles] == [[0], [60], [120], [180]]


def test_pictures_are_left_as_they_are_and_exif_is_not_applied():
    image = noise(10, 30)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    turned, before = Image.open(file), image.tobytes()
    assert torch.equal(prepare_tiles([[turned]], TILE).pixel_values, prepare_tiles([[image]], TILE).pixel_values)
    assert image.tobytes() == before and image.size == (30, 10)


def test_tiles_move_to_another_type():
    tiles = prepare_tiles([[noise(10, 30)]], TILE).to(torch.bfloat16)
    assert tiles.pixel_values.dtype == torch.bfloat16 and tiles.aspect_ratio_ids.dtype == torch.int64 and tiles.num_tiles == [[2]]


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_refused_by_name(tmp_path, kind):
    whole = encoded(noise(200, 200), kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(whole)
    with Image.open(path) as image:
        assert prepare_tiles([[image]], TILE).num_tiles == [[4]]
    path.write_bytes(whole[: len(whole) // 2])
    try:
        image = Image.open(path)
    except OSError:
        return  # so damaged that Pillow does not take it for a picture
    with image, pytest.raises(ValueError, match=r"picture 0 of sample 1 \(.*cut\.bin\) cannot be read to its end"):
        prepare_tiles([[], [image]], TILE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_is_refused_and_one_of_its_frames_is_not(kind):
    frames = [noise(20, 20, seed=seed) for seed in range(3)]
    animation = Image.open(io.BytesIO(encoded(frames[0], kind, save_all=True, append_images=frames[1:])))
    with pytest.raises(ValueError, match="animation of 3 frames"):
        prepare_tiles([[animation]], TILE)
    animation.seek(1)
    assert prepare_tiles([[animation.copy()]], TILE).num_tiles == [[4]]


def test_a_photograph_with_a_preview_is_no_animation():
    photo = Image.open(io.BytesIO(encoded(noise(20, 20), "MPO", save_all=True, append_images=[noise(8, 8)])))
    assert photo.format == "MPO" and prepare_tiles([[photo]], TILE).num_tiles == [[4]]


@pytest.mark.parametrize(
    "images, changes, words",
    [
        (noise(4, 4), {}, "[[first], [second]]"),
        ([noise(4, 4)], {}, "got a Image"),
        (None, {}, "got a NoneType"),
        ([[[noise(4, 4)]]], {}, "picture 0 of sample 0 is a list"),
        ([[], [np.zeros((4, 4, 3))]], {}, "picture 0 of sample 1 is a ndarray"),
        ([[noise(4, 4), None]], {}, "picture 1 of sample 0 is a NoneType"),
        ([[Image.new("RGB", (0, 5))]], {}, "5 x 0 pixels"),
        ([[], [noise(4, 4), Image.new("RGBA", (5, 0))]], {}, "picture 1 of sample 1 has 0 x 5 pixels"),
        ([[Image.new("1", (0, 0))]], {}, "0 x 0 pixels"),
        ([[noise(4, 4)]], dict(max_tiles=5), "1 to 4, got 5"),
        ([[noise(4, 4)]], dict(max_tiles=0), "1 to 4, got 0"),
        ([[noise(4, 4)]], dict(max_tiles=True), "1 to 4, got True"),
        ([[noise(4, 4)]], dict(max_tiles=4.0), "1 to 4, got 4.0"),
        ([[noise(4, 4)]], dict(tile_size=0), "tile_size"),
        ([[noise(4, 4)]], dict(tile_size=16.0), "tile_size"),
        ([[noise(4, 4)]], dict(mean=(0.5,)), "3 channels"),
        ([[noise(4, 4)]], dict(std=(1.0, 0.0, 1.0)), "std above 0"),
    ],
)
def test_what_cannot_be_cut_is_refused(images, changes, words):
    with unchecked(), pytest.raises(ValueError) as error:
        prepare_tiles(images, **{"tile_size": TILE, **changes})
    assert words in str(error.value)


def test_no_picture_is_cut_into_more_tiles_than_asked():
    for size in SIZES:
        assert math.prod(choose_arrangement(*size, TILE, 3)) <= 3
    with pytest.raises(ValueError, match="0 x 5 pixels"):
        choose_arrangement(0, 5, TILE)
