"""Widget of lesson 12: how SmolVLM cuts a picture of any size, and what that costs in tokens."""

import functools
from collections.abc import Mapping, Sequence

import ipywidgets
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from minimllm import figures
from minimllm.data.pictures import to_rgb
from minimllm.data.splitting import fit_longest_edge, split_grid

from .explorer import Explorer, explore
from .uploading import own_picture

SIDES = (60, 200, 427, 512, 640, 1080, 1440, 1920, 2560, 3000)
EDGES = (512, 1024, 1536, 2048)


def split_explorer(
    pictures: Mapping[str, Image.Image],
    sides: Sequence[int] = SIDES,
    edges: Sequence[int] = EDGES,
    tile_size: int = 512,
    image_tokens: int = 64,
    patches: int = 1024,
) -> Explorer:
    """Lesson 12: choose a photograph, drag its width and height and how long its longer side is made, and see how it is cut.

    Args:
        pictures: by name. Around its middle, each is cut to the proportions asked for. With a picture of one's own, width and height are
            set to what the sliders have that is nearest to its own.
        sides: the widths and heights that the sliders offer, in pixels.
        edges: what the longer side may be brought to, in pixels.
        tile_size, image_tokens, patches: of a sub-picture: its side in pixels, its tokens in the text and in the encoder.
    """
    pictures = dict(pictures)  # those of one's own come to it

    @functools.lru_cache(maxsize=8)
    def shaped(picture: str, width: int, height: int) -> Image.Image:
        """A small copy of the photograph in these proportions."""
        smaller = min(1.0, 640 / max(width, height))
        sides = max(1, round(width * smaller)), max(1, round(height * smaller))
        return ImageOps.fit(to_rgb(pictures[picture]), sides, Image.Resampling.BILINEAR)

    def told(width: int, height: int, longest_edge: int) -> dict[str, str]:
        rows, columns = split_grid(height, width, tile_size, longest_edge)
        count = rows * columns + 1
        fitted = fit_longest_edge(height, width, longest_edge)
        stretched = (rows * tile_size, columns * tile_size) if rows else (tile_size, tile_size)
        around = 2 * count + rows + 1  # a border and a marker each, a line break to a row, and the last border
        return {
            "height × width": f"{height} × {width}",
            "longer side first": f"{fitted[0]} × {fitted[1]}",
            "then stretched to": f"{stretched[0]} × {stretched[1]}",
            "sub-pictures": f"{rows} × {columns} and the whole: {count}" if rows else "the whole alone: 1",
            "tokens in the encoder": f"{count * patches:,}",
            "tokens in the text": f"{count * image_tokens:,} of pictures, {around} around them",
        }

    def draw(picture: str, width: int, height: int, longest_edge: int) -> Figure:
        rows, columns = split_grid(height, width, tile_size, longest_edge)
        tall = min(3.6, max(1.6, 0.95 * max(rows, 1)))
        figure, (shown, words) = figures.placed(7.2, tall + 0.2, (0.05, 0.1, 3.8, tall), (4.0, 0.1, 3.15, tall))
        figures.splitting(shaped(picture, width, height), tile_size, longest_edge, size=(height, width), axes=shown)
        words.set_axis_off()
        place = {"va": "top", "fontsize": 8.5, "transform": words.transAxes}
        for row, (name, value) in enumerate(told(width, height, longest_edge).items()):
            level = 1 - row * 0.26 / tall
            words.text(0, level, name, color=figures.GREY, **place)
            words.text(0.46, level, value.replace(", ", ",\n") if "around" in value else value, fontweight="bold", **place)
        return figure

    def alt(picture: str, width: int, height: int, longest_edge: int) -> str:
        lines = "; ".join(f"{name} {value}" for name, value in told(width, height, longest_edge).items())
        return f"The photograph {picture} as SmolVLM is shown it. {lines}."

    def nearest(start: int) -> int:
        return min(sides, key=lambda side: abs(side - start))

    def slider(start: int) -> ipywidgets.SelectionSlider:
        return ipywidgets.SelectionSlider(options=list(sides), value=nearest(start), layout={"width": "32em"})

    def take(name: str, picture: Image.Image) -> dict[str, int]:
        pictures[name] = picture
        return {"width": nearest(picture.width), "height": nearest(picture.height)}

    edge = ipywidgets.SelectionSlider(options=list(edges), value=edges[-1], layout={"width": "32em"})
    explorer = explore(draw, alt, picture=list(pictures), width=slider(640), height=slider(427), longest_edge=edge)
    return own_picture(explorer, "picture", take)
