"""A picture of any size as square sub-pictures and the whole shrunk, and the text that stands for them: what SmolVLM sees and reads.

Equal to ``SmolVLMImageProcessorPil`` and ``SmolVLMProcessor`` of transformers (Idefics3, Laurençon et al. 2024, has the same).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from minimllm.data.pictures import check_area
from minimllm.data.preprocessing import Preparation, as_mode, channel_values, check_tile_size
from minimllm.data.resizing import LANCZOS

LARGEST_EDGE = 4096  # no picture is made larger than this, whatever the checkpoint asks for
SPLIT = Preparation(center_crop=False, resample=LANCZOS)


@dataclass(frozen=True)
class SplitPicture:
    """A picture, cut; :func:`split_pictures` makes it.

    Attributes:
        images: ``(sub-pictures, 3, tile, tile)``, normalised: row by row, and the whole picture last.
        rows, columns: of the grid; both 0 where the picture is not cut, and then the whole is the only one.
    """

    images: Float[Tensor, "images 3 tile tile"]
    rows: int
    columns: int


def split_pictures(
    pictures: Sequence[Image.Image],
    tile_size: int = 512,
    longest_edge: int = 2048,
    split: bool = True,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    *,
    preparation: Preparation = SPLIT,
) -> list[SplitPicture]:
    """Bring the longer side of each picture to ``longest_edge``, cut it into squares, and add the whole as one more square.

    Small pictures grow. The sides become multiples of ``tile_size``, so that proportions are not quite kept and nothing is filled up. Each
    of the two or three resizes is rounded to bytes, as there: one in their place would be off by up to a twentieth.

    Args:
        pictures: Pillow pictures, of any mode and size. EXIF is not applied.
        tile_size: side of a sub-picture in pixels, the size of the model's images.
        longest_edge: of the picture before it is cut, in pixels; more than 4096 becomes 4096.
        split: whether the picture is cut; else all of it is resized to one square, whatever its proportions.
        mean, std: of the three channels, by which pixels in [0, 1] are normalised.
        preparation: of its options ``resample``, ``rescale_factor`` (in place of the 1/255 that leads to [0, 1]) and ``convert_rgb``.

    Returns:
        A :class:`SplitPicture` for each.

    Raises:
        ValueError: no list, something in it that is no Pillow picture, a picture that :func:`~minimllm.data.pictures.decode` refuses, sizes
            below 1, a mean or standard deviation that does not fit.
    """
    check_tile_size(tile_size)
    check_tile_size(longest_edge, "longest_edge")
    check_area(tile_size * tile_size, f"sub-pictures would be of {tile_size} x {tile_size} pixels")
    mean, std = channel_values(mean, std)
    if not isinstance(pictures, list | tuple):
        raise ValueError(f"expected a list of Pillow pictures, got a {type(pictures).__name__}; a single picture: [picture]")
    for number, picture in enumerate(pictures):
        if not isinstance(picture, Image.Image):
            kind = type(picture).__name__
            raise ValueError(f"picture {number} is a {kind}, expected a Pillow picture (PIL.Image.open or fromarray) in a list of such")
    levels = torch.from_numpy((np.arange(256) * preparation.rescale_factor).astype(np.float32))
    levels = ((levels - mean.view(3, 1)) / std.view(3, 1)).numpy()  # what each byte becomes in each channel
    return [
        cut(as_mode(picture, f"picture {number}", 3, preparation), tile_size, longest_edge, split, levels, preparation.resample)
        for number, picture in enumerate(pictures)
    ]


def cut(picture: Image.Image, tile_size: int, longest_edge: int, split: bool, levels: np.ndarray, resample: int) -> SplitPicture:
    """One RGB picture; ``levels`` are the numbers of the 256 bytes, ``(3, 256)``, and ``resample`` is Pillow's number of a filter."""
    rows, columns = split_grid(picture.height, picture.width, tile_size, longest_edge) if split else (0, 0)
    height, width = fit_longest_edge(picture.height, picture.width, longest_edge)
    picture = picture.resize((width, height), resample)
    squares = []
    if rows:
        picture = picture.resize((columns * tile_size, rows * tile_size), resample)
        squares = [*rearrange(np.asarray(picture), "(rows h) (columns w) c -> (rows columns) c h w", rows=rows, columns=columns)]
    squares.append(rearrange(np.asarray(picture.resize((tile_size, tile_size), resample)), "h w c -> c h w"))
    images = np.empty((len(squares), 3, tile_size, tile_size), dtype=np.float32)
    for square, image in zip(squares, images, strict=True):
        for channel in range(3):
            np.take(levels[channel], square[channel], out=image[channel], mode="clip")
    return SplitPicture(torch.from_numpy(images), rows, columns)


def fit_longest_edge(height: int, width: int, longest_edge: int) -> tuple[int, int]:
    """``(height, width)`` with the longer side as asked for, and the shorter one even, proportions kept as far as that allows."""
    ratio = width / height
    if width >= height:
        height, width = int(longest_edge / ratio), longest_edge
        height += height % 2
    else:
        height, width = longest_edge, int(longest_edge * ratio)
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if max(height, width) > LARGEST_EDGE:
        height, width = (int(LARGEST_EDGE / ratio), LARGEST_EDGE) if width >= height else (LARGEST_EDGE, int(LARGEST_EDGE * ratio))
    return max(height, 1), max(width, 1)


def split_grid(height: int, width: int, tile_size: int = 512, longest_edge: int = 2048) -> tuple[int, int]:
    """Rows and columns of the squares into which a picture of ``height`` x ``width`` pixels is cut, ``(0, 0)`` where it is one square.

    Once its longer side has ``longest_edge`` pixels, that side is rounded up to whole squares, and the other one in proportion likewise.

    Raises:
        ValueError: a size below 1 pixel.
    """
    for name, value in (("height", height), ("width", width), ("tile_size", tile_size), ("longest_edge", longest_edge)):
        check_tile_size(value, name)
    height, width = fit_longest_edge(height, width, longest_edge)
    ratio = width / height
    if width >= height:
        columns = math.ceil(width / tile_size)
        rows = math.ceil(int(columns * tile_size / ratio) / tile_size)
    else:
        rows = math.ceil(height / tile_size)
        columns = math.ceil(int(rows * tile_size * ratio) / tile_size)
    return (rows, columns) if rows * columns > 1 else (0, 0)


def picture_text(rows: int, columns: int, image_tokens: int) -> str:
    """What stands in the text in place of ``<image>``: for every sub-picture its marker and its image tokens, in the order of the images.

    Rows end with a line break; an empty line and ``<global-img>`` come before the whole. All of it is to be tokenised at once, with the
    text around it.

    Args:
        rows, columns: of the grid, as a :class:`SplitPicture` has them; both 0 for a picture that is not cut.
        image_tokens: ``<image>`` tokens of a sub-picture, ``model.image_tokens``.

    Raises:
        ValueError: numbers below 0, one of rows and columns 0 and the other not, no image tokens.
    """
    for name, value, least in (("rows", rows, 0), ("columns", columns, 0), ("image_tokens", image_tokens, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number, {least} or more; got {value!r}")
    if (rows == 0) != (columns == 0):
        raise ValueError(f"a picture that is not cut has 0 rows and 0 columns; got {rows} rows and {columns} columns")
    border, tokens = "<fake_token_around_image>", "<image>" * image_tokens
    lines = ["".join(f"{border}<row_{row}_col_{column}>{tokens}" for column in range(1, columns + 1)) for row in range(1, rows + 1)]
    return "".join(f"{line}\n" for line in lines) + ("\n" if lines else "") + f"{border}<global-img>{tokens}{border}"
