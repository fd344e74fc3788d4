"""Pictures cut as SmolVLM sees them: equal to transformers' own processor to the last bit, and the text that stands for them."""

import numpy as np
import pytest
import torch
from PIL import Image
from support import unchecked
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from minimllm import Preparation, picture_text, split_grid, split_pictures


def noise(width, height, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed + 1000 * height + width).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def theirs(pictures, tile_size, longest_edge, split=True, kind=SmolVLMImageProcessorPil, **changes):
    """Sub-pictures, rows and columns of each picture as transformers makes them."""
    processor = kind(size={"longest_edge": longest_edge}, max_image_size={"longest_edge": tile_size}, **changes)
    made = [processor([[each]], return_tensors="pt", return_row_col_info=True, do_image_splitting=split) for each in pictures]
    return [(each["pixel_values"][0], each["rows"][0][0], each["cols"][0][0]) for each in made]


def assert_equal(pictures, tile_size, longest_edge, split=True, kind=SmolVLMImageProcessorPil, options=None, **changes):
    ours = split_pictures(pictures, tile_size, longest_edge, split, **options or {})
    for picture, own, (images, rows, columns) in zip(
        pictures, ours, theirs(pictures, tile_size, longest_edge, split, kind, **changes), strict=True
    ):
        assert (own.rows, own.columns) == (rows, columns), picture.size
        assert torch.equal(own.images, images), picture.size
        if split:
            assert split_grid(picture.height, picture.width, tile_size, longest_edge) == (rows, columns)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("tile,longest", [(16, 64), (15, 64), (16, 50), (16, 16), (17, 9), (1, 3)])
def test_all_sides_around_the_tile_equal_transformers(tile, longest, split):
    sides = sorted({1, 2, max(tile - 1, 1), tile, tile + 1, 2 * tile, 2 * tile + 1, 4 * tile})
    assert_equal([noise(width, height) for width in sides for height in sides], tile, longest, split)


@pytest.mark.parametrize("size", [(1, 1), (1920, 1080), (427, 640), (200, 3000), (5000, 1), (1, 5000), (513, 512)])
def test_sizes_of_photographs_equal_transformers(size):
    assert_equal([noise(*size)], 512, 2048)


def test_no_picture_is_made_larger_than_4096():
    assert_equal([noise(40, 3), noise(3, 40), noise(4100, 2)], 512, 5000)
    assert_equal([noise(3, 2)], 1365, 1_000_000)


def test_the_grids_of_some_pictures():
    sizes = {(1, 1): (4, 4), (1080, 1920): (3, 4), (3000, 200): (4, 1), (512, 512): (4, 4), (640, 427): (4, 3)}
    assert {size: split_grid(*size) for size in sizes} == sizes
    assert split_grid(300, 400, 512, 512) == (0, 0) and split_grid(300, 400, 512, 513) == (2, 2)
    with pytest.raises(ValueError, match="height must be a whole number of pixels, 1 or more; got 0"):
        split_grid(0, 5)


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_eight_bits_equals_transformers(mode):
    picture = noise(37, 50, "RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((37, 50)))
    if mode in ("LA", "PA", "RGBA"):
        picture = picture.convert(mode) if mode != "PA" else picture.convert("LA").convert("PA")
    else:
        picture = picture.convert("RGB").convert(mode)
    assert picture.mode == mode
    assert_equal([picture], 16, 48)


def test_sixteen_bits_are_scaled_and_floats_refused():
    values = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    bytes_ = Image.fromarray(((values.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8))
    (ours,), (expected,) = split_pictures([Image.fromarray(values)], 16, 32), split_pictures([bytes_], 16, 32)
    assert torch.equal(ours.images, expected.images)
    with pytest.raises(ValueError, match="picture 1 cannot be read as RGB: mode F"):
        split_pictures([bytes_, Image.new("F", (3, 3))], 16, 32)


def test_other_means_filters_and_scales_equal_transformers():
    mean, std = (0.1, 0.5, 0.75), (0.25, 0.5, 1.0)
    assert_equal([noise(20, 31)], 16, 32, options=dict(mean=mean, std=std), image_mean=mean, image_std=std)
    options = dict(preparation=Preparation(resample=3, rescale_factor=1 / 127.5))
    assert_equal([noise(20, 31)], 16, 32, options=options, resample=3, rescale_factor=1 / 127.5)
    assert_equal([noise(20, 31)], 16, 32, kind=Idefics3ImageProcessorPil)


def test_sub_pictures_stand_row_by_row_and_the_whole_last():
    picture = Image.new("RGB", (64, 32), "blue")
    picture.paste("red", (0, 0, 32, 16))
    picture.paste("white", (32, 16, 64, 32))
    (own,) = split_pictures([picture], 16, 64, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert (own.rows, own.columns) == (2, 4) and own.images.shape == (9, 3, 16, 16)
    middle = own.images[:, :, 5:11, 5:11].mean(dim=(2, 3)).round(decimals=1).tolist()
    red, blue, white = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]
    assert middle[:8] == [red, red, blue, blue, blue, blue, white, white]
    assert own.images[8, :, 3, 3].tolist() == red and own.images[8, :, 12, 12].tolist() == white


def test_no_pictures_and_what_is_none():
    assert split_pictures([]) == []
    picture = noise(20, 30)
    for given, words in (
        (picture, "expected a list of Pillow pictures, got a Image"),
        ([[picture]], "picture 0 is a list"),
        ([picture, np.zeros((3, 3, 3))], "picture 1 is a ndarray"),
        ([picture, Image.new("RGB", (0, 5))], "picture 1 has 5 x 0 pixels"),
        ("photo.jpg", "got a str"),
    ):
        with unchecked(), pytest.raises(ValueError, match=words):
            split_pictures(given)
    for options, words in (
        (dict(tile_size=0), "tile_size must be a whole number of pixels, 1 or more; got 0"),
        (dict(tile_size=10**6), "1000000 x 1000000 pixels, too many to be meant"),
        (dict(longest_edge=0), "longest_edge must be"),
        (dict(longest_edge=2.5), "got 2.5"),
        (dict(mean=(0.5, 0.5)), "one number for each of 3 channels"),
        (dict(std=(0.5, 0.0, 0.5)), "std above 0"),
    ):
        with unchecked(), pytest.raises(ValueError, match=words):
            split_pictures([], **options)


@pytest.mark.parametrize("tokens", [1, 3])
def test_the_text_of_a_picture_equals_transformers(tokens):
    for rows, columns in [(0, 0), *((rows, columns) for rows in range(1, 7) for columns in range(1, 7))]:
        expected = get_image_prompt_string(rows, columns, tokens, "<fake_token_around_image>", "<image>", "<global-img>")
        assert picture_text(rows, columns, tokens) == expected


def test_the_text_of_two_sub_pictures_side_by_side():
    border = "<fake_token_around_image>"
    expected = f"{border}<row_1_col_1><image>{border}<row_1_col_2><image>\n\n{border}<global-img><image>{border}"
    assert picture_text(1, 2, 1) == expected
    for wrong, words in (
        ((1, 0, 4), "1 rows and 0 columns"),
        ((0, 2, 4), "0 rows and 2 columns"),
        ((-1, 2, 4), "rows must be .* got -1"),
        ((1, 2, 0), "image_tokens must be .* got 0"),
        ((True, 2, 4), "rows must be .* got True"),
    ):
        with unchecked(), pytest.raises(ValueError, match=words):
            picture_text(*wrong)
