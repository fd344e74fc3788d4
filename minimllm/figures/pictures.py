"""Pictures, their patches, and what a model looks at in them."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from PIL import Image

from minimllm.data.pictures import to_rgb

from .numbers import as_numbers
from .page import INK, VERMILION, own_axes, style

Picture = Image.Image | torch.Tensor | np.ndarray


def as_array(image: Picture) -> np.ndarray:
    """A picture as floats ``(height, width, 3)`` in [0, 1]; a tensor is channel first, an array channel last or without channels."""
    if isinstance(image, Image.Image):
        return np.asarray(to_rgb(image), dtype=np.float64) / 255
    if isinstance(image, torch.Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"a picture tensor must be (1 or 3, height, width), got {tuple(image.shape)}; take one picture of a batch")
        array = image.detach().cpu().permute(1, 2, 0).numpy()
    else:
        array = np.asarray(image)
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3 or array.shape[2] not in (1, 3):
            raise ValueError(f"a picture array must be (height, width) or (height, width, 3), got {np.asarray(image).shape}")
    array = array / 255 if array.dtype == np.uint8 else array.astype(np.float64)
    return np.broadcast_to(array.clip(0, 1), (*array.shape[:2], 3))


def _tiles(image: Picture, patch_size: int) -> np.ndarray:
    array = as_array(image)
    height, width = array.shape[:2]
    rows, columns = height // max(patch_size, 1), width // max(patch_size, 1)
    if patch_size < 1 or rows * patch_size != height or columns * patch_size != width:
        raise ValueError(
            f"a picture of {height} × {width} pixels is not made of whole patches of {patch_size} × {patch_size}; "
            "choose a patch_size that divides both sides, or crop or resize the picture first"
        )
    return array.reshape(rows, patch_size, columns, patch_size, 3).swapaxes(1, 2)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


@style()
def picture(image: Picture, *, title: str = "", axes: Axes | None = None) -> Figure:
    """The picture alone."""
    axes = own_axes(axes, 3.4, 3.6)
    axes.imshow(as_array(image), interpolation="auto")  # smooth for a photograph, hard pixels for a tiny picture
    axes.set_title(title)
    _bare(axes)
    return axes.figure


def _label(size: float) -> dict:
    """Text that reads on any picture: white letters on a small dark plate."""
    plate = {"boxstyle": "round,pad=0.18", "facecolor": INK, "edgecolor": "none", "alpha": 0.72}
    return {"color": "white", "fontsize": size, "ha": "center", "va": "center", "bbox": plate}


@style()
def patch_grid(
    image: Picture,
    patch_size: int,
    *,
    title: str = "",
    numbers: bool = False,
    highlight: Sequence[int] = (),
    cut: str = "white",
    axes: Axes | None = None,
) -> Figure:
    """The picture cut into its patches by lines of the colour ``cut``; ``numbers`` writes each patch's place; ``highlight`` frames some.

    Where more than ten patches lie side by side, there is room for the numbers of the first and the last patch of each row alone.
    """
    axes = own_axes(axes, 3.6, 3.8)
    tiles = _tiles(image, patch_size)
    rows, columns = tiles.shape[:2]
    whole = tiles.swapaxes(1, 2).reshape(rows * patch_size, columns * patch_size, 3)
    axes.imshow(whole, extent=(0, columns, rows, 0), interpolation="auto")
    line = {"color": cut, "linewidth": min(2.5 if cut == "white" else 1.2, max(0.5, 26 / max(rows, columns)))}
    axes.hlines(range(1, rows), 0, columns, **line)
    axes.vlines(range(1, columns), 0, rows, **line)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        if numbers and (max(rows, columns) <= 10 or column in (0, columns - 1)):
            axes.text(column + 0.5, row + 0.5, str(place), **_label(max(5, min(10, 62 / max(rows, columns)))))
        if place in highlight:
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=VERMILION, linewidth=3, clip_on=False, zorder=3))
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.set_title(title)
    _bare(axes)
    return axes.figure


@style()
def patch_sequence(image: Picture, patch_size: int, *, title: str = "", room: int = 16, axes: Axes | None = None) -> Figure:
    """The patches in reading order, each with its place under it; of more than ``room``, the first ones, an ellipsis and the last three."""
    axes = own_axes(axes, 7.2, 1.1)
    tiles = _tiles(image, patch_size).reshape(-1, patch_size, patch_size, 3)
    count = len(tiles)
    shown = list(range(count)) if count <= room else [*range(room - 4), None, *range(count - 3, count)]
    for slot, place in enumerate(shown):
        if place is None:
            axes.text(slot + 0.5, 0.5, "…", ha="center", va="center", fontsize=16)
            continue
        axes.imshow(tiles[place], extent=(slot + 0.05, slot + 0.95, 0.95, 0.05))
        axes.text(slot + 0.5, 1.08, str(place), ha="center", va="top", fontsize=9)
    axes.set(xlim=(0, max(len(shown), room)), ylim=(1.3, 0), aspect="equal")
    axes.set_title(title)
    _bare(axes)
    return axes.figure


def _square(weights: np.ndarray) -> np.ndarray:
    if weights.ndim == 2:
        return weights
    side = math.isqrt(weights.size)
    if weights.ndim != 1 or side * side != weights.size:
        raise ValueError(f"attention over patches must be (rows, columns), or flat over a square grid, got {weights.shape}")
    return weights.reshape(side, side)


@style()
def attention_map(
    image: Picture, weights: ArrayLike, *, title: str = "", limit: float | None = None, colour_bar: bool = True, axes: Axes | None = None
) -> Figure:
    """How much attention each patch gets: the picture in grey, coloured by ``weights`` of ``(rows, columns)`` or ``(patches,)``.

    ``limit`` fixes the weight that gets the last colour, to compare several maps; by default it is the map's own largest.
    """
    axes = own_axes(axes, 4.2, 3.6)
    weights, array = _square(as_numbers(weights).astype(np.float64)), as_array(image)
    rows, columns = weights.shape
    axes.imshow(array.mean(axis=2), cmap="gray", vmin=-0.2, vmax=1.2, extent=(0, columns, rows, 0))
    limit = limit or max(weights.max(), 1e-12)
    opacity = 0.35 + 0.45 * np.clip(weights / limit, 0, 1)
    shown = axes.imshow(weights, cmap="inferno", vmin=0, vmax=limit, alpha=opacity, extent=(0, columns, rows, 0))
    axes.set_title(title)
    _bare(axes)
    if colour_bar:
        bar = axes.figure.colorbar(matplotlib.cm.ScalarMappable(shown.norm, shown.cmap), ax=axes, label="attention weight", shrink=0.85)
        bar.outline.set_visible(False)
    return axes.figure
