"""Widget of lesson 12: does a model look? One request, answered to the picture, and to four things in its place."""

import html
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import ipywidgets
import numpy as np
import torch
from PIL import Image
from torch import nn

from minimllm.data.pictures import to_rgb
from minimllm.data.seeds import generator_for

from .answers import REQUESTS, WIDE, Answers, image_of
from .things import checked_requests
from .uploading import picture_of

CONTROLS = ("the picture", "shuffled patches", "a blank picture", "another picture", "blind: no picture")
SQUARES = 8  # in a row and in a column of what is shuffled


def shuffled_patches(picture: Image.Image, squares: int = SQUARES, seed: int = 0) -> Image.Image:
    """The picture cut into ``squares`` x ``squares`` equal pieces, which change places; what is left at the right and below is cut off."""
    high, wide = max(picture.height // squares, 1), max(picture.width // squares, 1)
    pixels = np.asarray(to_rgb(picture))[: squares * high, : squares * wide]
    rows, columns = pixels.shape[0] // high, pixels.shape[1] // wide
    pieces = pixels.reshape(rows, high, columns, wide, 3).swapaxes(1, 2).reshape(-1, high, wide, 3)
    order = torch.randperm(len(pieces), generator=generator_for(seed, "shuffled patches")).numpy()
    mixed = pieces[order].reshape(rows, columns, high, wide, 3).swapaxes(1, 2)
    return Image.fromarray(mixed.reshape(pixels.shape))


class LookingTest(Answers):
    """A picture, a request, and the answers to the picture and to what stands in its place. Made by ``looking_test``."""

    def __init__(
        self, model: nn.Module, tokenizer: Any, pictures: Mapping[str, Image.Image], requests: Sequence[str], max_new_tokens: int, side: int
    ):
        self.pictures, self.side = dict(pictures), side
        self.choice = ipywidgets.Dropdown(options=list(pictures), description="Picture", **WIDE)
        self.upload = ipywidgets.FileUpload(accept="image/*", description="Your own picture", layout={"width": "auto"})
        self.said, self.shown = ipywidgets.HTML(), ipywidgets.HTML()
        self.shown.add_class("minimllm-picture")
        models = dict.fromkeys(CONTROLS, model)
        super().__init__(models, tokenizer, requests, max_new_tokens, [self.choice, self.upload, self.said, self.shown])
        self.choice.observe(lambda _: self._redraw(), "value")
        self.upload.observe(self._add, "value")
        self._redraw()

    def picture(self) -> Image.Image:
        return self.pictures[self.choice.value]

    def another(self) -> str:
        """The name of the picture that stands for another one: the next of the menu."""
        names = list(self.pictures)
        return names[(names.index(self.choice.value) + 1) % len(names)]

    def shown_to(self, name: str) -> list[Image.Image]:
        picture = self.picture()
        instead = {
            CONTROLS[0]: lambda: [picture],
            CONTROLS[1]: lambda: [shuffled_patches(picture)],
            CONTROLS[2]: lambda: [Image.new("RGB", picture.size, (128, 128, 128))],
            CONTROLS[3]: lambda: [self.pictures[self.another()]],
            CONTROLS[4]: list,
        }
        return instead[name]()

    def told(self) -> str:
        return f"The picture “{self.choice.value}”, and the same with its pieces shuffled; “{self.another()}” is the other picture."

    def image(self) -> str:
        """The picture, and beside it the shuffled one, small."""
        both = [to_rgb(self.picture()), shuffled_patches(self.picture())]
        scale = min(self.side / max(picture.size) for picture in both)
        sizes = [tuple(max(1, round(scale * side)) for side in picture.size) for picture in both]
        gap = self.side // 16
        board = Image.new("RGB", (sum(width for width, _ in sizes) + gap, max(height for _, height in sizes)), "white")
        board.paste(both[0].resize(sizes[0], Image.Resampling.BOX), (0, 0))
        board.paste(both[1].resize(sizes[1], Image.Resampling.BOX), (sizes[0][0] + gap, 0))
        return image_of(board, self.told(), self.side)

    def _redraw(self) -> None:
        self.outdate()
        self.shown.value = self.image()

    def _add(self, change: Mapping[str, Any]) -> None:
        for file in change["new"]:
            stem = PurePath(file["name"]).stem or "mine"
            name = next(each for each in (stem, *(f"{stem} {number}" for number in range(2, 1000))) if each not in self.pictures)
            try:
                self.pictures[name] = picture_of(bytes(file["content"]), file["name"])
            except ValueError as error:
                self.said.value = f'<span role="alert" style="color:#B34700">{html.escape(str(error))}</span>'
                continue
            self.said.value = ""
            self.choice.options = list(self.pictures)
            self.choice.value = name

    def _lock(self, locked: bool) -> None:
        super()._lock(locked)
        self.choice.disabled = self.upload.disabled = locked


def looking_test(
    model: nn.Module,
    tokenizer: Any,
    pictures: Mapping[str, Image.Image],
    requests: Sequence[str] = REQUESTS,
    max_new_tokens: int = 40,
    side: int = 220,
) -> LookingTest:
    """Lesson 12: ask a model about a picture, and ask the same with the controls of lesson 06.

    The picture's pieces shuffled, a grey one of its size, another picture, and none at all: a model that looks says something else each
    time. A picture of one's own goes to the kernel and nowhere else. A cell ends with it; ``.ask()`` asks at once.

    Args:
        model: a multimodal model of the course.
        tokenizer: its own, of transformers, with a chat template.
        pictures: by name, two or more; the next one in the menu stands for another picture.
        requests: what the menu offers; a field takes any other.
        max_new_tokens: longest answer.
        side: longer side of the shown picture on the page.

    Raises:
        ValueError: fewer than two pictures, a model that sees none, a tokenizer without a chat template, no requests.
    """
    if not isinstance(pictures, Mapping) or len(pictures) < 2:
        raise ValueError(f"expected two pictures or more by name, one of which stands for another picture; got {pictures!r:.80}")
    return LookingTest(model, tokenizer, pictures, checked_requests(requests), max_new_tokens, side)
