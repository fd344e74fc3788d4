"""Small random changes of training pictures that leave their meaning alone, from a generator."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def random_affine(
    images: Float[Tensor, "batch channels height width"],
    generator: torch.Generator,
    *,
    shift: float = 0.0,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
) -> Float[Tensor, "batch channels height width"]:
    """Each image shifted, turned, stretched and slanted by amounts of its own, with bilinear resampling and black beyond the edge.

    Args:
        images: any floats; the result has the same shape, type and device.
        generator: on the CPU, where the amounts are drawn, so that they are the same whatever the device of the images.
        shift: largest shift in pixels, across and down, either way.
        rotation: largest rotation in degrees, either way.
        scale: largest change of size, of width and height separately: 0.1 is between 1 / 1.1 and 1.1 times.
        shear: largest slant, as the sideways shift per pixel of height.

    Raises:
        ValueError: for a negative amount.
    """
    for name, amount in (("shift", shift), ("rotation", rotation), ("scale", scale), ("shear", shear)):
        if amount < 0:
            raise ValueError(f"{name} is the largest change and must be 0 or more, got {amount}")
    height, width = images.shape[2:]
    across, down, turn, stretch_x, stretch_y, slant = torch.rand(6, len(images), generator=generator) * 2 - 1
    turn = turn * math.radians(rotation)
    stretch_x, stretch_y = (1 + scale) ** stretch_x, (1 + scale) ** stretch_y
    aspect = height / width  # the sampling grid runs from -1 to 1 along both sides, so lengths across and down differ in unit
    cosine, sine = turn.cos(), turn.sin()
    from_across = torch.stack(
        [stretch_x * cosine, stretch_x * (slant * shear * cosine - sine) * aspect, 2 * shift * across / width], dim=-1
    )
    from_down = torch.stack([stretch_y * sine / aspect, stretch_y * (slant * shear * sine + cosine), 2 * shift * down / height], dim=-1)
    matrices = torch.stack([from_across, from_down], dim=1).to(images)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
