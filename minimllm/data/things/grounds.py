"""What is behind the things."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from torch import Tensor

from minimllm.data import chance


def ground_colours(keys: UInt64[np.ndarray, "n"], ground: Int[np.ndarray, "n"], main: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """The colour of each ground, far from the thing's; white where the ground is."""
    luck = chance.uniform(keys, 5, purpose=16)
    colour = np.where(luck[:, 3, None] < 0.55, 0.72 + 0.28 * luck[:, :3], luck[:, :3])
    colour = np.where(luck[:, 3, None] > 0.85, 0.3 * luck[:, :3], colour)
    near = (np.abs(colour - main).max(1) < 0.4)[:, None]
    bright = main.mean(1, keepdims=True) > 0.5
    colour = np.where(near, np.where(bright, 0.35 * colour, 1 - 0.3 * (1 - colour)), colour)
    return np.where((ground == 0)[:, None], 1.0, colour)


def grounds(
    keys: UInt64[np.ndarray, "n"], ground: Int[np.ndarray, "n"], colour: Float[np.ndarray, "n 3"], pictures: Float[Tensor, "n 3 size size"]
) -> None:
    """Fills the pictures: one colour, and on it a slope, blotches, another half, or stripes."""
    size = pictures.shape[-1]
    luck = chance.uniform(keys, 7, purpose=17)
    pictures.copy_(torch.from_numpy(colour).float()[:, :, None, None])
    place = (np.arange(size) + 0.5) / size - 0.5
    slope, turn = 0.5 * (luck[:, :3] - 0.5), 2 * np.pi * luck[:, 3]
    for kind in range(2, 6):
        rows = np.flatnonzero(ground == kind)
        if not len(rows):
            continue
        across = np.cos(turn[rows])[:, None, None] * place + np.sin(turn[rows])[:, None, None] * place[:, None]
        if kind == 2:
            added = slope[rows, :, None, None] * 2 * across[:, None]
        elif kind == 3:
            spread = _interpolation(6, size)
            blotches = 0.3 * (chance.uniform(keys[rows], 108, purpose=18).reshape(-1, 3, 6, 6) - 0.5)
            added = spread @ blotches @ spread.T
        elif kind == 4:
            height = 0.1 + 0.3 * luck[rows, 4]
            lower = np.clip((place - height[:, None]) * size + 0.5, 0, 1)
            added = (slope[rows] * 1.2)[:, :, None, None] * lower[:, None, :, None] * np.ones(size)
        else:
            waves = np.sin(2 * np.pi * (3 + 7 * luck[rows, 5])[:, None, None] * across)
            added = (slope[rows] * 0.8)[:, :, None, None] * np.clip(4 * waves, -1, 1)[:, None]
        pictures[torch.from_numpy(rows)] += torch.from_numpy(added).float()
    pictures.clamp_(0, 1)


def _interpolation(points: int, places: int) -> Float[np.ndarray, "places points"]:
    """The matrix of a smooth interpolation (a cosine's half between neighbours)."""
    at = (np.arange(places) + 0.5) / places * (points - 1)
    left = np.minimum(at.astype(np.int64), points - 2)
    share = 0.5 - 0.5 * np.cos(np.pi * (at - left))
    matrix = np.zeros((places, points))
    matrix[np.arange(places), left] = 1 - share
    matrix[np.arange(places), left + 1] = share
    return matrix
