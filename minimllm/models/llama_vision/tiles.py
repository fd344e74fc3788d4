"""A picture of any size as one to four square tiles: what Llama 3.2 Vision sees, equal to ``MllamaImageProcessorPil`` of transformers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from minimllm.data.preprocessing import STRETCHED, Preparation, as_mode, channel_values, check_tile_size
from minimllm.models.clip_config import MEAN, STD

MAX_TILES = 4


@dataclass(frozen=True)
class Tiles:
    """The pictures of a batch, cut into tiles; :func:`prepare_tiles` makes it.

    Attributes:
        pixel_values: ``(batch, images, max_tiles, 3, tile, tile)``, normalised; 0 where there is no tile.
        aspect_ratio_ids: ``(batch, images)``, the number of the arrangement, counted from 1 as in :func:`arrangements`; 0: no picture.
        aspect_ratio_mask: ``(batch, images, max_tiles)``, 1 on tiles that hold something. The first is 1 without a picture, too, as in
            Meta's code.
        num_tiles: the number of tiles of each picture, a list per sample.
    """

    pixel_values: Float[Tensor, "batch images tiles channels tile tile"]
    aspect_ratio_ids: Int[Tensor, "batch images"]
    aspect_ratio_mask: Int[Tensor, "batch images tiles"]
    num_tiles: list[list[int]]

    def to(self, *args: Any, **options: Any) -> "Tiles":
        """On another device, or with pixels of another dtype: arguments as of ``torch.Tensor.to``."""
        pixels = self.pixel_values.to(*args, **options)
        ids, mask = self.aspect_ratio_ids.to(pixels.device), self.aspect_ratio_mask.to(pixels.device)
        return replace(self, pixel_values=pixels, aspect_ratio_ids=ids, aspect_ratio_mask=mask)


def arrangements(max_tiles: int = MAX_TILES) -> list[tuple[int, int]]:
    """All grids ``(rows, columns)`` of at most ``max_tiles`` tiles, in the order in which the model numbers them, from 1."""
    check_max_tiles(max_tiles)
    sides = range(1, max_tiles + 1)
    return [(rows, columns) for rows in sides for columns in sides if rows * columns <= max_tiles]


def choose_arrangement(height: int, width: int, tile_size: int, max_tiles: int = MAX_TILES) -> tuple[int, int]:
    """The grid of tiles for a picture: where it fits without shrinking, the one it fills best; else the one that shrinks it least.

    Args:
        height, width: of the picture, in pixels.
        tile_size: side of a tile, in pixels.
        max_tiles: at most so many tiles, up to 4.

    Returns:
        ``(rows, columns)``; of several grids that allow the same scale, the one with the fewest tiles.

    Raises:
        ValueError: a picture without pixels, more than 4 tiles.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a picture of {height} x {width} pixels has nothing to show; each side needs 1 pixel or more")
    check_tile_size(tile_size)
    scales = {(rows, columns): min(rows * tile_size / height, columns * tile_size / width) for rows, columns in arrangements(max_tiles)}
    without_shrinking = [scale for scale in scales.values() if scale >= 1]
    best = min(without_shrinking) if without_shrinking else max(scales.values())
    return min((grid for grid in scales if scales[grid] == best), key=math.prod)


def fit_picture(height: int, width: int, rows: int, columns: int, tile_size: int) -> tuple[int, int]:
    """The size to which a picture is resized in its grid, ``(height, width)``, its proportions kept as far as whole pixels allow.

    A picture smaller than a tile grows until its longer side is that of a tile; a larger one keeps its size if it fits, or shrinks.
    """
    target_height = min(max(height, tile_size), rows * tile_size)
    target_width = min(max(width, tile_size), columns * tile_size)
    by_height, by_width = target_height / height, target_width / width
    if by_width < by_height:
        return min(math.floor(height * by_width) or 1, target_height), target_width
    return target_height, min(math.floor(width * by_height) or 1, target_width)


def prepare_tiles(
    images: Sequence[Sequence[Image.Image]],
    tile_size: int,
    max_tiles: int = MAX_TILES,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    *,
    preparation: Preparation = STRETCHED,
) -> Tiles | None:
    """Resize each picture into a grid of tiles, fill up with black to the right and below, normalise, and cut along the grid.

    Args:
        images: for every sample its list of Pillow pictures, of any mode and size; lists may be empty. EXIF is not applied.
        tile_size: side of a tile, in pixels; 560 for Llama 3.2 Vision.
        max_tiles: at most so many tiles for a picture, up to 4.
        mean, std: of the three channels, by which pixels in [0, 1] are normalised; black becomes ``-mean / std``.
        preparation: of its options ``resample``, ``rescale_factor`` (in place of the 1/255 that leads to [0, 1]) and ``convert_rgb``.

    Returns:
        The :class:`Tiles`, or ``None`` if there is no picture in the whole batch.

    Raises:
        ValueError: lists that are not nested so, something that is no Pillow picture, a picture of 0 pixels, an animation, a file that
            cannot be read to its end, more than 4 tiles, a mean or standard deviation that does not fit.
    """
    check_tile_size(tile_size)
    ids = {grid: number for number, grid in enumerate(arrangements(max_tiles), start=1)}
    mean, std = channel_values(mean, std)
    check_nesting(images)
    most = max((len(pictures) for pictures in images), default=0)
    if most == 0:
        return None
    # Zeros of numpy take up memory only where something is written, and most places may stay empty.
    pixels = torch.from_numpy(np.zeros((len(images), most, max_tiles, 3, tile_size, tile_size), dtype=np.float32))
    aspect_ratio_ids = torch.zeros(len(images), most, dtype=torch.long)
    aspect_ratio_mask = torch.zeros(len(images), most, max_tiles, dtype=torch.long)
    aspect_ratio_mask[:, :, 0] = 1
    for sample, pictures in enumerate(images):
        for place, picture in enumerate(pictures):
            picture = as_mode(picture, f"picture {place} of sample {sample}", 3, preparation)
            grid = choose_arrangement(picture.height, picture.width, tile_size, max_tiles)
            cut(picture, grid, pixels[sample, place, : math.prod(grid)], mean, std, preparation)
            aspect_ratio_ids[sample, place] = ids[grid]
            aspect_ratio_mask[sample, place, : math.prod(grid)] = 1
    num_tiles = [aspect_ratio_mask[sample, : len(pictures)].sum(dim=-1).tolist() for sample, pictures in enumerate(images)]
    return Tiles(pixels, aspect_ratio_ids, aspect_ratio_mask, num_tiles)


def cut(
    picture: Image.Image, grid: tuple[int, int], out: Float[Tensor, "tiles 3 tile tile"], mean: Tensor, std: Tensor, how: Preparation
) -> None:
    """Write the tiles of an RGB picture into ``out``, which is 0, row by row, and normalise them; what stays 0 is black."""
    (rows, columns), side = grid, out.shape[-1]
    height, width = fit_picture(picture.height, picture.width, rows, columns, side)
    pixels = pil_to_tensor(picture.resize((width, height), how.resample))
    for number, tile in enumerate(out):  # one at a time, so that it stays in the processor's cache
        top, left = number // columns * side, number % columns * side
        part = pixels[:, top : top + side, left : left + side]
        tile[:, : part.shape[1], : part.shape[2]] = part
        tile.div_(1 / how.rescale_factor).sub_(mean).div_(std)


def check_nesting(images: Any) -> None:
    for sample, pictures in enumerate(images) if isinstance(images, list | tuple) else [(None, images)]:
        if sample is None or not isinstance(pictures, list | tuple):
            kind = type(pictures).__name__
            raise ValueError(f"expected for every sample a list of its pictures: [[first], [second]], or [[first, second]]; got a {kind}")
        for place, picture in enumerate(pictures):
            if not isinstance(picture, Image.Image):
                kind = type(picture).__name__
                raise ValueError(f"picture {place} of sample {sample} is a {kind}, expected a Pillow picture (PIL.Image.open or fromarray)")


def check_max_tiles(max_tiles: int) -> None:
    if not isinstance(max_tiles, int) or isinstance(max_tiles, bool) or not 1 <= max_tiles <= MAX_TILES:
        raise ValueError(f"max_tiles must be 1 to {MAX_TILES}, got {max_tiles!r}; the model numbers arrangements of so many")
