"""Widgets of Llama 3.2 Vision: how a picture of any size becomes tiles, and which tokens see which pictures."""

import functools
import math
import textwrap
from collections.abc import Mapping, Sequence

import ipywidgets
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from minimllm import figures
from minimllm.data.pictures import to_rgb
from minimllm.layers.masks import cross_attention_mask
from minimllm.models.llama_vision.tiles import MAX_TILES, arrangements, choose_arrangement, fit_picture

from .explorer import Explorer, explore
from .uploading import own_picture

SIDES = (60, 150, 280, 420, 560, 561, 640, 840, 1120, 1121, 1680, 2240, 3000)
MASK_EXAMPLES = (
    "Look: [4] what is this ? [1] and this ?",
    "[4] [2] which is the larger ?",
    "[4] , [2] which is the larger ?",
    "[1] [1] red or [2] blue ?",
    "[2] what is red ? <pad> <pad>",
    "no picture at all ?",
)
RULES = ("as in Llama 3.2", "all pictures so far", "the last picture alone")
NO_GUESS = "not guessed yet"
MOST_PICTURES, MOST_WORDS = 3, 22
_IMAGE = -1  # any id that is no word


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def tile_explorer(pictures: Mapping[str, Image.Image], sides: Sequence[int] = SIDES, tile_size: int = 560) -> Explorer:
    """Lesson 09: choose a photograph and drag its width and height, and see the grid, the scale, the tiles, the number and the mask.

    Args:
        pictures: by name. Around its middle, each is cut to the proportions asked for. With a picture of one's own, width and height are
            set to what the sliders have that is nearest to its own.
        sides: the widths and heights that the sliders offer, in pixels.
        tile_size: side of a tile, in pixels.
    """
    numbers = {grid: number for number, grid in enumerate(arrangements(), start=1)}
    pictures = dict(pictures)  # those of one's own come to it

    @functools.lru_cache(maxsize=8)
    def shaped(picture: str, width: int, height: int) -> Image.Image:
        """A small copy of the photograph in these proportions."""
        smaller = min(1.0, 640 / max(width, height))
        sides = max(1, round(width * smaller)), max(1, round(height * smaller))
        return ImageOps.fit(to_rgb(pictures[picture]), sides, Image.Resampling.BILINEAR)

    def found(width: int, height: int) -> tuple[tuple[int, int], float, tuple[int, int], list[int]]:
        """Grid, the scale in it, the size to which the picture is resized, and the mask of its tiles."""
        grid = choose_arrangement(height, width, tile_size)
        scale = min(grid[0] * tile_size / height, grid[1] * tile_size / width)
        return grid, scale, fit_picture(height, width, *grid, tile_size), [int(place < math.prod(grid)) for place in range(MAX_TILES)]

    def draw(picture: str, width: int, height: int) -> Figure:
        grid, _, (new_height, new_width), mask = found(width, height)
        figure, (choice, result, told) = figures.placed(7.2, 5.2, (0.05, 2.75, 7.1, 2.4), (0.1, 0.1, 3.4, 2.5), (3.75, 0.1, 3.4, 2.5))
        image, size = shaped(picture, width, height), (height, width)
        figures.canvas_choice(image, tile_size, size=size, axes=choice)
        figures.tiling(image, tile_size, size=size, empty=True, axes=result)
        told.set_axis_off()
        change = f"{new_height} × {new_width}"
        factor = new_width / width if new_width / width != new_height / height and width > height else new_height / height
        how = "as it is" if (new_height, new_width) == size else f"{'larger' if factor > 1 else 'smaller'}, × {factor:.2f}"
        lines = {
            "picture": f"{height} × {width}, height × width",
            "grid": f"{grid[0]} × {grid[1]}, rows × columns",
            "aspect ratio id": numbers[grid],
            "canvas": f"{grid[0] * tile_size} × {grid[1] * tile_size} pixels",
            "resized to": f"{change}, {how}",
            "black padding": f"{1 - new_height * new_width / (math.prod(grid) * tile_size**2):.0%} of the canvas",
            "tile mask": mask,
        }
        for row, (name, value) in enumerate(lines.items()):
            level = 0.95 - 0.14 * row
            told.text(0, level, name, va="top", fontsize=9, color=figures.GREY, transform=told.transAxes)
            told.text(0.36, level, str(value), va="top", fontsize=9, fontweight="bold", transform=told.transAxes)
        return figure

    def alt(picture: str, width: int, height: int) -> str:
        grid, scale, (new_height, new_width), mask = found(width, height)
        of_eight = f"{_counted(grid[0], 'row')} by {_counted(grid[1], 'column')}"
        return (
            f"The photograph {picture}, {height} by {width} pixels, height by width. Of the eight grids, {of_eight} is chosen, number "
            f"{numbers[grid]}, which allows a scale of {scale:.2f}; resized to {new_height} by {new_width}, at the top left of a black "
            f"canvas of {grid[0] * tile_size} by {grid[1] * tile_size}; tile mask {mask}."
        )

    def nearest(start: int) -> int:
        return min(sides, key=lambda side: abs(side - start))

    def slider(start: int) -> ipywidgets.SelectionSlider:
        return ipywidgets.SelectionSlider(options=list(sides), value=nearest(start), layout={"width": "32em"})

    def take(name: str, picture: Image.Image) -> dict[str, int]:
        pictures[name] = picture
        return {"width": nearest(picture.width), "height": nearest(picture.height)}

    return own_picture(explore(draw, alt, picture=list(pictures), width=slider(640), height=slider(420)), "picture", take)


def mask_laboratory(examples: Sequence[str] = MASK_EXAMPLES) -> Explorer:
    """Lesson 09: arrange pictures and words, guess which pictures the last token sees, and only then see the whole mask.

    ``[1]`` to ``[4]`` is a picture of so many tiles, ``<pad>`` padding, anything else a word. What cannot be read is told in the figure.

    Args:
        examples: texts that the field offers; the first one stands in it.
    """
    letters = "ABC"
    subsets = ["nothing", "A", "B", "A and B", "C", "A and C", "B and C", "A, B and C"]  # in binary

    def read(text: str) -> tuple[list[str], list[int]]:
        """The tokens, and the number of tiles of each picture; ``ValueError`` in words for the reader."""
        words, tiles = ["<start>"], []
        for word in text.split():
            if word.startswith("[") and word.endswith("]"):
                if word[1:-1] not in ("1", "2", "3", "4"):
                    raise ValueError(f"{word} is no picture: write [1] to [4] for a picture of one to four tiles.")
                words.append(f"<|image|> {letters[len(tiles) : len(tiles) + 1]}")
                tiles.append(int(word[1:-1]))
            else:
                words.append(word)
        if len(tiles) > MOST_PICTURES or len(words) > MOST_WORDS:
            raise ValueError(
                f"Room is for {MOST_PICTURES} pictures and {MOST_WORDS - 1} tokens; there are {len(tiles)} and {len(words) - 1}."
            )
        return words, tiles

    def seen(text: str, rule: str) -> tuple[list[str], list[int], torch.Tensor]:
        words, tiles = read(text)
        ids = torch.tensor([[_IMAGE if word.startswith("<|image|>") else 0 for word in words]])
        visible = cross_attention_mask(ids, [tiles], _IMAGE)[0]
        count = (ids[0] == _IMAGE).cumsum(dim=0)[:, None]
        number = torch.arange(len(tiles))
        if rule != RULES[0]:
            allowed = number < count if rule == RULES[1] else number == count - 1
            held = torch.arange(MAX_TILES) < torch.tensor(tiles).view(-1, 1)
            visible = allowed[..., None] & held
        return words, tiles, visible

    def last(words: Sequence[str]) -> int:
        return max(place for place, word in enumerate(words) if word != "<pad>")

    def answer(words: Sequence[str], visible: torch.Tensor) -> str:
        row = visible[last(words)].any(dim=-1)
        return subsets[sum(2**place for place, sees in enumerate(row.tolist()) if sees)]

    def verdict(text: str, rule: str, guess: str) -> str:
        words, _, visible = seen(text, rule)
        right, name = answer(words, visible), words[last(words)]
        if guess == NO_GUESS:
            return f"The last token is “{name}”. Which pictures does it see? Choose a guess, and the mask appears."
        return f"“{name}” sees {right}. " + ("You guessed right." if guess == right else f"You guessed: {guess}.")

    def draw(text: str, rule: str, guess: str) -> Figure:
        try:
            words, tiles, visible = seen(text, rule)
        except ValueError as trouble:
            figure, (axes,) = figures.placed(7.2, 1.0, (0.2, 0.1, 6.8, 0.8))
            axes.set_axis_off()
            axes.text(0, 0.5, textwrap.fill(str(trouble), 80), va="center", color=figures.VERMILION, transform=axes.transAxes)
            return figure
        height = 0.7 + 0.27 * (len(words) + 1.8)
        box = (1.3, 0.05, min(5.8, 0.3 * 4.6 * max(len(tiles), 1)), height - 0.55)
        figure, (axes,) = figures.placed(7.2, height, box)
        hidden = guess == NO_GUESS
        mask = torch.zeros_like(visible) if hidden else visible
        figures.picture_mask(mask, words, tiles, highlight=last(words), axes=axes)
        axes.set_anchor("W")
        if hidden:
            for place in range(len(tiles)):
                middle = {"ha": "center", "va": "center", "fontsize": 26, "color": figures.GREY, "zorder": 5}
                axes.text(place * 4.6 + 2, last(words) / 2 + 0.5, "?", **middle)
        told = textwrap.fill(f"Rule: {rule}. {verdict(text, rule, guess)}", 92)
        right = not hidden and guess == answer(words, visible)
        colour = figures.INK if hidden else figures.GREEN if right else figures.VERMILION
        figure.text(0.02, 1 - 0.12 / height, told, va="top", fontsize=9.5, fontweight="bold", color=colour)
        return figure

    def alt(text: str, rule: str, guess: str) -> str:
        try:
            words, tiles, visible = seen(text, rule)
        except ValueError as trouble:
            return f"In place of a mask for “{text}”: {trouble}"
        counts = f"{_counted(len(words), 'token')}, {_counted(len(tiles), 'picture')}"
        start = f"The text “{text}”, {counts}, {rule}. {verdict(text, rule, guess)}"
        if guess == NO_GUESS:
            return f"{start} The mask is still hidden."
        rows = [subsets[sum(2**place for place, sees in enumerate(row.any(dim=-1).tolist()) if sees)] for row in visible]
        return start + " The rows: " + "; ".join(f"{word}: {pictures}" for word, pictures in zip(words, rows, strict=True)) + "."

    field = ipywidgets.Combobox(value=examples[0], options=list(examples), continuous_update=False, layout={"width": "40em"})
    menu = ipywidgets.Dropdown(options=list(RULES), layout={"width": "32em"})
    guess = ipywidgets.Dropdown(options=[NO_GUESS, *subsets], layout={"width": "32em"})
    for control in (field, menu):  # a new text is a new riddle
        control.observe(lambda _: setattr(guess, "value", NO_GUESS), "value")
    return explore(draw, alt, text=field, rule=menu, guess=guess)
