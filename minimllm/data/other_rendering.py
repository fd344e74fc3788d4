"""Draws the same scenes in another hand: a test of whether a model has learned the things or our way of drawing them.

Nothing here is shared with :func:`minimllm.data.rendering.render` but the scene and the names of the colours. Outlines are polygons and
curves filled by Pillow at four times the size and scaled down; the ground is a slanted gradient with blotches and grain; colours,
lighting, sizes, places, angles, proportions and sharpness vary from object to object. It is slow, and meant for evaluation.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from minimllm.data import chance
from minimllm.data.words import SHAPES
from minimllm.data.world import Scenes

_OVERSAMPLING = 4
_COLOURS = np.array(
    [(214, 39, 50), (52, 168, 83), (48, 92, 214), (240, 208, 60), (138, 62, 190), (64, 196, 214), (236, 132, 34), (236, 236, 230)]
)


def render_differently(scenes: Scenes, size: int = 32, seed: int = 0) -> Float[Tensor, "scenes 3 size size"]:
    """Pictures in [0, 1] of the same scenes, not drawn by our renderer.

    Each object's size is off by up to 8%, its centre by up to 4% of its cell (large ones stay within their cell by being moved less), its
    angle by up to 6 degrees. Every ``seed`` draws them anew; picture ``i`` depends on the seed and scene ``i`` alone.

    Raises:
        ValueError: fewer than 8 pixels for a cell's side.
    """
    smallest = 8 * max(scenes.grid)
    if chance.check_seed(size, "size") < smallest:
        raise ValueError(f"{size} pixels are too few to draw {scenes.grid[0]} x {scenes.grid[1]} cells: size must be at least {smallest}")
    keys = chance.mix(scenes.key.numpy().view(np.uint64) ^ np.uint64(chance.check_seed(seed)))
    pictures = np.empty((len(scenes), size, size, 3), np.float32)
    for index, key in enumerate(chance.draws(keys, 1, purpose=7)[:, 0].tolist()):
        pictures[index] = _paint(scenes[index], size, np.random.default_rng(key))
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def _paint(scene: Scenes, size: int, random: np.random.Generator) -> np.ndarray:
    picture = _ground(size, random)
    large = size * _OVERSAMPLING
    for slot in range(int(scene.count)):
        radius = float(scene.radius[0, slot]) * random.uniform(0.92, 1.08)
        room = max(0.0, 0.5 / max(scene.grid) - radius)
        jitter = scene.jitter[0, slot].numpy() / max(scene.grid) + random.uniform(-0.04, 0.04, 2) / max(scene.grid)
        middle = (scene.centre[0, slot] - scene.jitter[0, slot] / max(scene.grid)).numpy()
        x, y = middle + np.clip(jitter, -room, room)
        angle = float(scene.rotation[0, slot]) + random.uniform(-1, 1) * math.radians(6)
        mask = Image.new("L", (large, large))
        _fill(ImageDraw.Draw(mask), SHAPES[int(scene.shape[0, slot])], x * large, y * large, radius * large, angle, random)
        mask = mask.filter(ImageFilter.GaussianBlur(random.uniform(0.0, 0.35) * _OVERSAMPLING)).resize((size, size), Image.Resampling.BOX)
        cover = np.asarray(mask, np.float32)[..., None] / 255
        colour = (_COLOURS[int(scene.colour[0, slot])] + random.uniform(-14, 14, 3)) / 255
        light = 1 + random.uniform(-0.12, 0.12) * np.linspace(-1, 1, size)[:, None, None]
        picture = picture * (1 - cover) + np.clip(colour * light, 0, 1) * cover
    return np.clip(picture + random.normal(0, 0.012, picture.shape), 0, 1)


def _ground(size: int, random: np.random.Generator) -> np.ndarray:
    """A gradient in any direction between two dark greys, with soft blotches."""
    angle = random.uniform(0, 2 * math.pi)
    down, across = np.mgrid[0:size, 0:size] / size - 0.5
    slope = (across * math.cos(angle) + down * math.sin(angle)) * random.uniform(0.0, 0.12)
    blotches = Image.fromarray(random.uniform(0, 1, (5, 5)).astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    tint = random.uniform(0.05, 0.22) + random.uniform(-0.02, 0.02, 3)
    return tint + (slope + 0.06 * (np.asarray(blotches) - 0.5))[..., None]


def _fill(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, angle: float, random: np.random.Generator) -> None:
    """Fills one shape, white, around ``(x, y)``."""
    if shape in ("circle", "ring"):
        outer = 0.92 * radius
        draw.ellipse((x - outer, y - outer, x + outer, y + outer), fill=255)
        if shape == "ring":
            inner = outer * random.uniform(0.48, 0.58)
            draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=0)
        return
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = [(x + radius * (u * cosine - v * sine), y + radius * (u * sine + v * cosine)) for u, v in _polygon(shape, random)]
    draw.polygon(corners, fill=255)


def _polygon(shape: str, random: np.random.Generator) -> list[tuple[float, float]]:
    """Corners within the unit circle, y down."""

    def around(count: int, start: float, *radii: float) -> list[tuple[float, float]]:
        turns = [start + 2 * math.pi * corner / count for corner in range(count)]
        return [(radii[i % len(radii)] * math.cos(t), radii[i % len(radii)] * math.sin(t)) for i, t in enumerate(turns)]

    if shape == "square":
        return around(4, math.pi / 4, 0.97)
    if shape == "triangle":
        return around(3, -math.pi / 2, 1.0)
    if shape == "diamond":
        return around(4, 0.0, random.uniform(0.64, 0.76), 1.0)
    if shape == "star":
        return around(10, -math.pi / 2, 1.0, random.uniform(0.42, 0.5))
    if shape == "cross":
        arm = random.uniform(0.26, 0.34)
        quarter = [(arm, -0.94), (arm, -arm), (0.94, -arm)]
        return [(u * c - v * s, u * s + v * c) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1)) for u, v in quarter]
    turns = np.linspace(0, 2 * math.pi, 90)
    heart = [
        (16 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) - 2.5) for t in turns
    ]
    return [(u / 17.2, v / 17.2) for u, v in heart]
