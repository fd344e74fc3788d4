"""From a matplotlib figure to the page: the one style, the PNG, the ``<img>`` with its alternative text, and source code shown in place."""

import base64
import contextlib
import functools
import html
import inspect
import io
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
from IPython.display import display
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from PIL import Image

ASSETS = Path(__file__).resolve().parents[2] / "assets"
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY, PALE = "#222222", "#888888", "#ECECEC"
# Beside the colours of the style's lines, one for one, since seven colours are not seven greys.
DASHES = ("-", (0, (6, 1.6)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (10, 3)))
AMOUNT = LinearSegmentedColormap.from_list("amount", ["#FFFFFF", "#B9D9EC", "#4A9CCB", BLUE, "#003B5C"])
SIGNED = LinearSegmentedColormap.from_list("signed", ["#6E2F00", VERMILION, "#F6C9A8", "#FFFFFF", "#A9D2EA", BLUE, "#003B5C"])
GROUPS = ListedColormap(["#A9D2EA", "#F6C9A8", "#A6DCC9", "#EBCFDF", "#F7DFA5", "#D9D9D9"])  # pale enough for dark numbers

DPI = 144  # pixels to an inch in the file
CSS_DPI = 96  # pixels to an inch on the page: three pixels in the file for two on the page stay sharp on a fine screen


@functools.cache
def _settings() -> matplotlib.RcParams:
    return matplotlib.rc_params_from_file(ASSETS / "minimllm.mplstyle", use_default_template=False)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The course's look, as a ``with`` block or as a decorator; matplotlib's own settings are left as they were."""
    with matplotlib.rc_context(_settings()):
        yield


class Drawing(Figure):
    """A figure that a notebook shows where it is a cell's last line, with its titles as the alternative text."""

    def _repr_html_(self) -> str:
        return image_tag(png(self), titles(self))


def titles(figure: Figure) -> str:
    """What a figure's own titles say of it: the alternative text of a figure that has no better one."""
    said = [figure.get_suptitle(), *(axes.get_title(loc) for axes in figure.axes for loc in ("left", "center", "right"))]
    return "A figure: " + (", ".join(" ".join(title.split()) for title in said if title) or "without a title")


@style()
def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """An empty figure of ``width`` by ``height`` inches (7.2 fills a notebook's page) and its ``(rows, columns)`` array of axes."""
    figure = Drawing(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


@style()
def placed(width: float, height: float, *boxes: tuple[float, float, float, float]) -> tuple[Figure, list[Axes]]:
    """An empty figure whose axes lie in ``boxes``, each (left, bottom, width, height) in inches: drawn in half the time, for widgets."""
    figure = Drawing(figsize=(width, height), layout="none")
    return figure, [figure.add_axes((left / width, bottom / height, w / width, h / height)) for left, bottom, w, h in boxes]


def beside(*drawings: Callable[[Axes], object] | None, height: float, rows: int = 1, width: float = 7.2, **options) -> Figure:
    """One figure of several: each drawing is called with its axes, from left to right and row by row; ``None`` leaves a place empty.

    ``options`` go to ``Figure.subplots``, such as ``width_ratios`` and ``height_ratios``.
    """
    figure, axes = canvas(width, height, rows, -(-len(drawings) // rows), **options)
    for place, own in enumerate(axes.flat):
        if place < len(drawings) and drawings[place] is not None:
            drawings[place](own)
        else:
            own.remove()
    return figure


def own_axes(axes: Axes | None, width: float, height: float) -> Axes:
    """``axes``, or the axes of a new figure of ``width`` by ``height`` inches."""
    return canvas(width, height)[1][0, 0] if axes is None else axes


@style()
def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG with a palette of its own: 256 colours look the same here and take a third of the bytes of a photograph."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"savefig.bbox": "tight" if figure.get_layout_engine() else None}):
        figure.savefig(buffer, format="png", dpi=dpi)
    picture = Image.open(buffer).convert("RGB")
    reduced = picture.quantize(256, method=Image.Quantize.MEDIANCUT)
    palette, ground = reduced.getpalette(), reduced.getpixel((0, 0))
    palette[3 * ground : 3 * ground + 3] = picture.getpixel((0, 0))  # the ground keeps exactly its colour
    reduced.putpalette(palette)
    buffer = io.BytesIO()
    reduced.save(buffer, format="PNG")
    return buffer.getvalue()


def image_tag(data: bytes, alt: str, dpi: int = DPI) -> str:
    """An HTML ``<img>`` that carries the PNG ``data`` itself, sized for the page. ``ValueError`` without an alternative text."""
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"a figure needs an alternative text that says in words what it shows, got alt={alt!r}")
    width, height = (round(size * CSS_DPI / dpi) for size in Image.open(io.BytesIO(data)).size)
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" style="max-width:100%;height:auto" src="{source}">'


def show(figure: Figure, alt: str | None = None) -> None:
    """Display ``figure`` as an ``<img>`` whose ``alt`` says in words what a reader sees in it (``None``: its titles), and close it."""
    alt = titles(figure) if alt is None else alt
    tag = image_tag(png(figure), alt)
    pyplot.close(figure)
    display({"text/html": tag, "text/plain": "Figure: " + textwrap.shorten(alt, 100, placeholder=" …")}, raw=True)


def show_source(*things: Callable | type) -> None:
    """Display the package's own source of each function, method or class, so that a lesson never holds a second copy of it."""
    for thing in things:
        thing = inspect.unwrap(thing)
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        file = Path(inspect.getsourcefile(thing)).resolve()
        place = file.relative_to(file.parents[len(thing.__module__.split(".")) - 1]) if "." in thing.__module__ else Path(file.name)
        heading = f"`{place.as_posix()}` · `{thing.__qualname__}`"
        display({"text/markdown": f"{heading}\n\n```python\n{code}\n```", "text/plain": code}, raw=True)
