"""Pictures in tiles: which grid a picture gets and why, who may look at which tile, and in what order features lie side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from PIL import Image

from minimllm.models.llama_vision.tiles import MAX_TILES, arrangements, choose_arrangement, fit_picture

from .numbers import as_numbers
from .page import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SKY, VERMILION, own_axes, placed, style
from .pictures import Picture, _bare, _label, as_array

PICTURE_COLOURS = (GREEN, VERMILION, BLUE, PURPLE, ORANGE, SKY)
"""The colours of the first, second, ... picture of a text."""

_SIDE = 160  # pixels of a tile in these drawings, whatever it has in truth


def _size(image: Picture, size: tuple[int, int] | None) -> tuple[int, int]:
    return as_array(image).shape[:2] if size is None else size


def _drawn(image: Picture, height: float, width: float, tile_size: int) -> np.ndarray:
    """The picture as it looks at ``height`` x ``width`` pixels, coarsened to the resolution of the drawing."""
    pixels = Image.fromarray((as_array(image) * 255).round().astype(np.uint8))
    sides = (max(1, round(side * _SIDE / tile_size)) for side in (width, height))
    return np.asarray(pixels.resize(tuple(sides), Image.Resampling.BILINEAR, reducing_gap=2.0))


@style()
def tiling(
    image: Picture,
    tile_size: int = 560,
    *,
    size: tuple[int, int] | None = None,
    max_tiles: int = MAX_TILES,
    title: str = "",
    empty: bool = False,
    axes: Axes | None = None,
) -> Figure:
    """What Llama 3.2 Vision makes of a picture: resized, at the top left of its grid of black tiles, each tile with its number.

    Args:
        image: the picture, or a small copy of it.
        tile_size: side of a tile, in pixels.
        size: ``(height, width)`` of the picture in truth; ``None``: as given.
        max_tiles: most tiles of a picture.
        title, axes: as in the other figures.
        empty: draw the tiles that are left over as well, below the grid: they hold zeros.
    """
    height, width = _size(image, size)
    rows, columns = choose_arrangement(height, width, tile_size, max_tiles)
    new_height, new_width = fit_picture(height, width, rows, columns, tile_size)
    axes = own_axes(axes, 1.0 + 0.9 * columns, 1.0 + 0.9 * rows)
    axes.add_patch(Rectangle((0, 0), columns, rows, color="black"))
    shown = _drawn(image, new_height, new_width, tile_size)
    axes.imshow(shown, extent=(0, new_width / tile_size, new_height / tile_size, 0), interpolation="auto", zorder=2)
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=ORANGE, linewidth=1.6, clip_on=False, zorder=3))
        axes.text(column + 0.13, row + 0.13, str(number), zorder=4, **_label(8))
    spare = max_tiles - rows * columns if empty else 0
    for place in range(spare):
        box = Rectangle((place * 0.28, rows + 0.14), 0.22, 0.22, facecolor=PALE, edgecolor=GREY, hatch="////", linewidth=0.6, clip_on=False)
        axes.add_patch(box)
    if spare:
        axes.text(spare * 0.28 + 0.02, rows + 0.26, "empty", va="center", fontsize=8)
    axes.set(xlim=(-0.02, columns + 0.02), ylim=(rows + (0.4 if spare else 0.02), -0.02), aspect="equal")
    axes.set_title(title)
    _bare(axes)
    return axes.figure


@style()
def tilings(images: Mapping[str, Picture], tile_size: int = 560, *, row: int = 4, side: float = 0.56, width: float = 7.2) -> Figure:
    """What becomes of several pictures, each as in :func:`tiling` and all at the same scale, ``row`` of them beside each other.

    Args:
        images: by title.
        tile_size: side of a tile, in pixels.
        row: how many pictures stand beside each other.
        side, width: of a tile and of the whole, in inches; what is left between the pictures is shared out.

    Raises:
        ValueError: no pictures, ``row`` or ``side`` not above 0, a ``width`` that the pictures of a row do not fit into.
    """
    if not images or row < 1 or side <= 0:
        raise ValueError(f"expected pictures, a row of 1 or more, and a side above 0; got {len(images)} pictures, row {row}, side {side}")
    names, numbers = list(images), {grid: number for number, grid in enumerate(arrangements(), start=1)}
    grids = [choose_arrangement(*_size(image, None), tile_size) for image in images.values()]
    lines = [range(first, min(first + row, len(names))) for first in range(0, len(names), row)]
    sizes = [(side * (columns + 0.04), side * (rows + (0.42 if rows * columns < MAX_TILES else 0.04))) for rows, columns in grids]
    heights = [max(sizes[place][1] for place in line) + 0.55 for line in lines]
    boxes = []
    for line, bottom in zip(lines, np.cumsum(heights[::-1])[::-1], strict=True):
        wide = [max(sizes[place][0], 1.15) for place in line]
        gap = (width - sum(wide)) / len(line)
        if gap < 0:
            raise ValueError(f"{len(line)} pictures need {sum(wide):.1f} inches, more than width={width}; choose a smaller row or side")
        for place, left in zip(line, np.cumsum([0, *wide[:-1]]) + gap * np.arange(len(line)), strict=True):
            boxes.append((left + 0.05, bottom - 0.45 - sizes[place][1], *sizes[place]))
    figure, every = placed(width, sum(heights), *boxes)
    for name, grid, axes in zip(names, grids, every, strict=True):
        tiling(images[name], tile_size, title=f"{name}\nid {numbers[grid]}: {grid[0]} × {grid[1]}", empty=True, axes=axes)
        axes.title.set_fontsize(9)
    return figure


@style()
def canvas_choice(
    image: Picture, tile_size: int = 560, *, size: tuple[int, int] | None = None, title: str = "", axes: Axes | None = None
) -> Figure:
    """The eight grids, in each the picture as large as the grid allows, and by how much that scales it; the one that is chosen framed.

    Arguments as of :func:`tiling`. Scales below 1, which would shrink the picture, are grey. ``=`` marks other grids of the best scale.
    """
    height, width = _size(image, size)
    chosen = choose_arrangement(height, width, tile_size)
    scales = {grid: min(grid[0] * tile_size / height, grid[1] * tile_size / width) for grid in arrangements()}
    axes = own_axes(axes, 7.2, 3.2)
    for place, (grid, scale) in enumerate(scales.items()):
        down, across = divmod(place, 4)
        left, top = across * 4.9, down * 2.5
        rows, columns = grid
        for number in range(rows * columns):
            corner = (left + number % columns, top + number // columns)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor="#3A3A3A", edgecolor="white", linewidth=0.8))
        sides = width * scale / tile_size, height * scale / tile_size
        shown = _drawn(image, sides[1] * tile_size, sides[0] * tile_size, tile_size)
        axes.imshow(shown, extent=(left, left + sides[0], top + sides[1], top), interpolation="auto", zorder=2)
        for line in range(1, columns):
            axes.vlines(left + line, top, top + rows, color="white", linewidth=0.8, zorder=3)
        for line in range(1, rows):
            axes.hlines(top + line, left, left + columns, color="white", linewidth=0.8, zorder=3)
        best = grid == chosen
        if best:
            frame = Rectangle((left - 0.12, top - 0.12), columns + 0.24, rows + 0.24, fill=False, edgecolor=ORANGE, linewidth=3, zorder=4)
            axes.add_patch(frame)
        also = "  =" if scale == scales[chosen] and not best else ""
        words = f"{rows} × {columns}:  × {scale:.2f}{also}"
        style_of = {"fontweight": "bold" if best else "normal", "color": INK if scale >= 1 else GREY}
        axes.text(left, top - 0.28, words, va="bottom", fontsize=9, **style_of)
    axes.set(xlim=(-0.3, 3 * 4.9 + 4.2), ylim=(6.75, -1.1), aspect="equal")
    axes.set_title(title)
    _bare(axes)
    return axes.figure


@style()
def picture_mask(
    visible: ArrayLike,
    words: Sequence[str],
    num_tiles: Sequence[int],
    *,
    pictures: Sequence[Sequence[Picture]] | None = None,
    title: str = "",
    highlight: int | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Which tiles of which pictures each token may look at: a row for each token, a column for each tile, a colour for each picture.

    Args:
        visible: bool ``(tokens, images, max_tiles)``, a row of :func:`~minimllm.layers.masks.cross_attention_mask`.
        words: the text of each token. One that begins with ``<|image|>`` gets the colour of its picture, ``<pad>`` is grey.
        num_tiles: how many tiles each picture has; the places of the others are hatched.
        pictures: the tiles of each picture, to be drawn above their columns.
        highlight: the row to frame.
        title, axes: as in the other figures.
    """
    allowed = as_numbers(visible).astype(bool)
    if allowed.ndim != 3 or allowed.shape[:2] != (len(words), len(num_tiles)):
        raise ValueError(f"{len(words)} words and {len(num_tiles)} pictures need a mask (words, pictures, tiles), got {allowed.shape}")
    count, images, tiles = allowed.shape
    group, lift = tiles + 0.6, 1.15 if pictures else 0.0
    axes = own_axes(axes, min(7.2, 1.9 + 0.3 * group * images), min(8.0, 1.3 + 0.27 * (count + lift)))
    for image in range(images):
        left, colour = image * group, PICTURE_COLOURS[image % len(PICTURE_COLOURS)]
        pale = np.array([1 - 0.8 * (1 - channel) for channel in to_rgb(colour)])
        for tile in range(tiles):
            x = left + tile
            if tile >= num_tiles[image]:
                look = {"facecolor": "#F4F4F4", "edgecolor": "#D2D2D2", "hatch": "///", "linewidth": 0}
                axes.add_patch(Rectangle((x, 0), 1, count, **look))
            elif pictures:
                axes.imshow(as_array(pictures[image][tile]), extent=(x + 0.05, x + 0.95, -0.12, -1.02), zorder=2)
            for row in np.flatnonzero(allowed[:, image, tile]):
                axes.add_patch(Rectangle((x, row), 1, 1, facecolor=pale, linewidth=0))
            if tiles > 1:
                axes.text(x + 0.5, count + 0.15, str(tile), ha="center", va="top", fontsize=7.5, color=GREY)
        axes.hlines(range(count + 1), left, left + tiles, color="#DADADA", linewidth=0.5)
        axes.vlines(left + np.arange(tiles + 1), 0, count, color="#DADADA", linewidth=0.5)
        name = {"ha": "center", "va": "bottom", "fontweight": "bold", "color": colour, "fontsize": 10}
        axes.text(left + tiles / 2, -0.15 - lift, f"picture {chr(65 + image)}" if tiles > 2 else chr(65 + image), **name)
    axes.set_yticks(np.arange(count) + 0.5, words, fontsize=8.5)
    axes.set_xticks([])
    axes.tick_params(length=0)
    number = 0
    for label, word in zip(axes.get_yticklabels(), words, strict=True):
        if word.startswith("<|image|>"):
            label.set(color=PICTURE_COLOURS[number % len(PICTURE_COLOURS)], fontweight="bold")
            number += 1
        elif word == "<pad>":
            label.set_color("#A0A0A0")
    if highlight is not None:
        reach = max(images * group - 0.6, 1)
        axes.add_patch(Rectangle((-0.06, highlight), reach + 0.12, 1, fill=False, edgecolor=INK, linewidth=1.8, zorder=4, clip_on=False))
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.1, max(images * group - 0.5, 1)), ylim=(count + 0.8, -1.0 - lift), aspect="equal")
    axes.set_title(title)
    return axes.figure


def _paler(source: int) -> tuple[float, ...]:
    colours = (GREY, *PICTURE_COLOURS)
    return tuple(1 - 0.55 * (1 - channel) for channel in to_rgb(colours[source % len(colours)]))


@style()
def feature_order(
    sources: Sequence[int], numbers: Sequence[int], names: Sequence[str], *, title: str = "", axes: Axes | None = None
) -> Figure:
    """A feature vector as a row of cells: the colour says which state a cell comes from, the number in it which number of that state.

    Args:
        sources: for each cell, the number of its state in ``names``.
        numbers: for each cell, its number within the state.
        names: of the states.
        title, axes: as in the other figures.
    """
    if len(sources) != len(numbers) or not all(0 <= source < len(names) for source in sources):
        raise ValueError(f"expected as many sources as numbers, of {len(names)} states; got {list(sources)} and {list(numbers)}")
    axes = own_axes(axes, 7.2, 1.1)
    for place, (source, number) in enumerate(zip(sources, numbers, strict=True)):
        axes.add_patch(Rectangle((place, 0), 1, 1, facecolor=_paler(source), edgecolor="white", linewidth=1))
        axes.text(place + 0.5, 0.5, str(number), ha="center", va="center", fontsize=9)
        axes.text(place + 0.5, 1.12, str(place), ha="center", va="top", fontsize=6.5, color=GREY)
    axes.set(xlim=(-0.05, len(sources) + 0.05), ylim=(1.6, -0.05))
    handles = [Rectangle((0, 0), 1, 1, facecolor=_paler(number)) for number in range(len(names))]
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0.1), ncols=len(names), frameon=False, fontsize=8)
    axes.set_title(title)
    _bare(axes)
    return axes.figure
