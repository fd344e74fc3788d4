"""A part of a resized picture: by Pillow or torchvision, and where the whole would be huge, without making the rest.

A picture of 1 x 10,000 pixels whose short side becomes 224 would be 224 x 2,240,000 pixels, of which a crop keeps a ten-thousandth.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

NEAREST, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = RESAMPLING = range(6)  # as Pillow, and so a checkpoint's file, numbers its filters
_FOR_FLOATS = {BILINEAR: "bilinear", BICUBIC: "bicubic"}  # those that torchvision has
_REACH = {LANCZOS: 3.0, BILINEAR: 1.0, BICUBIC: 2.0, BOX: 0.5, HAMMING: 1.0}  # of a filter to either side, in pixels
_SMALL, _LARGE = 2**22, 2**27  # pixels: up to the one a resized picture is made whole; beyond the other nothing is
_BITS = 22  # Pillow weighs bytes with whole numbers of 2**-22


def resized_part(image, size: tuple[int, int], window: tuple[int, int, int, int], resample: int = BICUBIC):
    """``image`` resized to ``size``, and of that the ``window``; black where it reaches beyond.

    Args:
        image: a Pillow picture of mode RGB or L, whose result has exactly the pixels of ``picture.resize`` and ``picture.crop``; or float
            tensors ``(..., height, width)``, which some filters take beyond the range of the input.
        size: ``(height, width)``.
        window: ``(top, left, height, width)`` in the resized image; top and left may be negative.
        resample: a filter by Pillow's number.

    Raises:
        ValueError: for sizes at which this would take gigabytes.
    """
    (height, width), (top, left, rows, columns) = size, window
    old = old_height, old_width = image.size[::-1] if isinstance(image, Image.Image) else tuple(image.shape[-2:])
    grows = height >= old_height and width >= old_width
    whole = height * width <= max(_SMALL if grows else _LARGE, 2 * old_height * old_width)
    if not whole and not (grows and (resample != NEAREST or max(top + rows, left + columns) <= _LARGE)):
        raise ValueError(f"{old_height} x {old_width} pixels would be resized to {height:,} x {width:,}; crop the picture first")
    if isinstance(image, Image.Image) and whole:
        return image.resize((width, height), resample).crop((left, top, left + columns, top + rows))
    first = max(top, 0), max(left, 0)
    end = min(top + rows, height), min(left + columns, width)
    margins = first[1] - left, left + columns - end[1], first[0] - top, top + rows - end[0]
    if isinstance(image, Image.Image):
        part = torch.from_numpy(np.array(image)).view(old_height, old_width, -1).permute(2, 0, 1)
        part = F.pad(_sampled(part, size, first, end, resample), margins).permute(1, 2, 0).byte().numpy()
        return Image.fromarray(part.squeeze(2) if image.mode == "L" else part)
    if not whole or (size != old and resample not in _FOR_FLOATS):
        return F.pad(_sampled(image, size, first, end, resample), margins)
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    steps = [] if size == old else [[height, old_width], [height, width]] if height < old_height else [[height, width]]
    for step in steps:  # first along the side that becomes shorter
        image = resize(image, step, interpolation=InterpolationMode(_FOR_FLOATS[resample]), antialias=True)
    return F.pad(image[..., first[0] : end[0], first[1] : end[1]], margins)


def _sampled(image: Tensor, size: tuple[int, int], first: tuple[int, int], end: tuple[int, int], resample: int) -> Tensor:
    """Rows and columns ``first`` to ``end`` of the resized image, from the pixels that they are made of alone; bytes as Pillow has them."""
    rows, by_row = _weights(image.shape[-2], size[0], first[0], end[0], resample)
    columns, by_column = _weights(image.shape[-1], size[1], first[1], end[1], resample)
    lowest = int(rows.min())
    image = _weighed(image[..., lowest : int(rows.max()) + 1, :], -1, columns, by_column)
    return _weighed(image, -2, rows - lowest, by_row)


def _weighed(image: Tensor, axis: int, pixels: Tensor, weights: Tensor) -> Tensor:
    """For every row of ``pixels`` and ``weights`` their weighed sum along one axis; of bytes as Pillow rounds it."""
    floats = image.is_floating_point()
    weights = weights.to(image) if floats else (weights * 2**_BITS + 0.5 * weights.sign()).long()
    total = 0 if floats else 2 ** (_BITS - 1)
    for number in range(pixels.shape[1]):
        part = image.index_select(axis, pixels[:, number].to(image.device))
        total = total + part * weights[:, number].view((-1, 1) if axis == -2 else (-1,))
    return total if floats else (total >> _BITS).clamp(0, 255)


def _weights(old: int, new: int, first: int, end: int, resample: int) -> tuple[Tensor, Tensor]:
    """Of which of ``old`` pixels the pixels ``first`` to ``end`` of ``new`` are made, and with what weights: ``(end - first, pixels)``."""
    scale = old / new
    centres = (np.arange(first, end) + 0.5) * scale
    if old == new:
        return torch.arange(first, end)[:, None], torch.ones(end - first, 1, dtype=torch.float64)
    if resample == NEAREST:  # added up step by step, as in Pillow, which decides where a centre lies between two pixels
        steps = np.full(end, scale)
        steps[0] = scale / 2
        pixels = torch.from_numpy(np.minimum(np.cumsum(steps)[first:].astype(np.int64), old - 1))
        return pixels[:, None], torch.ones(end - first, 1, dtype=torch.float64)
    wider = max(scale, 1.0)  # where a picture shrinks, the filter is as much wider
    reach = _REACH[resample] * wider
    start, stop = np.maximum(centres - reach + 0.5, 0).astype(np.int64), np.minimum(centres + reach + 0.5, old).astype(np.int64)
    pixels = start[:, None] + np.arange(math.ceil(reach) * 2 + 1)
    weights = np.where(pixels < stop[:, None], _filter((pixels - centres[:, None] + 0.5) / wider, resample), 0.0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]
    return torch.from_numpy(np.minimum(pixels, old - 1)), torch.from_numpy(weights)


def _filter(x: np.ndarray, resample: int) -> np.ndarray:
    """The weight of a pixel at a distance ``x`` from the centre."""
    if resample == BOX:
        return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)
    x = np.minimum(np.abs(x), _REACH[resample])
    if resample == BILINEAR:
        return 1 - x
    if resample == BICUBIC:
        return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5)
    if resample == HAMMING:
        return np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x))
    return np.sinc(x) * np.sinc(x / 3)
