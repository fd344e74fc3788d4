"""A picture as SmolVLM sees it: cut into squares, each with its marker, and the whole shrunk."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minimllm.data.splitting import split_grid

from .page import GREEN, ORANGE, own_axes, style
from .pictures import Picture, _bare, _label, as_array
from .tiles import _drawn

_APART = 0.12  # between sub-pictures, in their sides


@style()
def splitting(
    image: Picture,
    tile_size: int = 512,
    longest_edge: int = 2048,
    *,
    size: tuple[int, int] | None = None,
    split: bool = True,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """The sub-pictures of :func:`~minimllm.data.splitting.split_pictures`, apart from each other: rows and columns, and the whole last.

    Args:
        image: the picture, or a small copy of it.
        tile_size, longest_edge, split: as there.
        size: ``(height, width)`` of the picture in truth; ``None``: as given.
        title, axes: as in the other figures.
    """
    height, width = as_array(image).shape[:2] if size is None else size
    rows, columns = split_grid(height, width, tile_size, longest_edge) if split else (0, 0)
    step = 1 + _APART
    axes = own_axes(axes, min(7.2, 0.3 + 1.05 * step * (columns + 1.3)), 0.5 + 1.05 * step * max(rows, 1))
    if rows:
        stretched = _drawn(image, rows * tile_size, columns * tile_size, tile_size)
        down, across = stretched.shape[0] // rows, stretched.shape[1] // columns
        for row in range(rows):
            for column in range(columns):
                square = stretched[row * down : (row + 1) * down, column * across : (column + 1) * across]
                _square(axes, square, column * step, row * step, f"row {row + 1} col {column + 1}", ORANGE)
    left, top = (columns * step + 0.25, (rows - 1) * step / 2) if rows else (0, 0)
    _square(axes, _drawn(image, tile_size, tile_size, tile_size), left, top, "the whole", GREEN)
    axes.set(xlim=(-0.05, left + 1.05), ylim=(max(rows - 1, 0) * step + 1.05, -0.05), aspect="equal")
    axes.set_title(title)
    _bare(axes)
    return axes.figure


def _square(axes: Axes, pixels, left: float, top: float, name: str, colour: str) -> None:
    axes.imshow(pixels, extent=(left, left + 1, top + 1, top), interpolation="auto")
    axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, linewidth=1.6, clip_on=False, zorder=3))
    axes.text(left + 0.5, top + 0.9, name, zorder=4, **_label(6.5))
