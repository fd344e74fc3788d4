"""Widget of lesson 11: pick a drawn thing and a request, and read what models answer that see it."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
from PIL import Image
from torch import nn

from minimllm.data.pictures import as_picture
from minimllm.data.things import HANDS, THINGS, Things, render_things, things

from .answers import REQUESTS, WIDE, Answers, image_of

HAND_WORDS = dict(zip(("the hand of the training", "a pen, never trained on", "cut paper, never trained on"), HANDS, strict=True))
DRAWINGS = 6  # of a thing by a hand, to choose from


class ThingExplorer(Answers):
    """A thing, a hand, one of its drawings and a request above the answers. Made by ``thing_explorer``."""

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        tokenizer: Any,
        requests: Sequence[str],
        max_new_tokens: int,
        thing: str,
        hand: str,
        seed: int,
    ):
        self.seed = seed
        self.thing = ipywidgets.Dropdown(options=list(THINGS), value=thing, description="Thing", **WIDE)
        self.hand = ipywidgets.Dropdown(options=list(HAND_WORDS.items()), value=hand, description="Drawn by", **WIDE)
        self.drawing = ipywidgets.SelectionSlider(options=range(1, DRAWINGS + 1), description="Drawing", **WIDE)
        self.shown = ipywidgets.HTML()
        self.shown.add_class("minimllm-picture")
        super().__init__(models, tokenizer, requests, max_new_tokens, [self.thing, self.hand, self.drawing, self.shown])
        for control in (self.thing, self.hand, self.drawing):
            control.observe(lambda _: self._redraw(), "value")
        self._redraw()

    def picture(self) -> Image.Image:
        shown = drawings(self.thing.value, self.hand.value, self.seed)
        return as_picture(render_things(shown[self.drawing.value - 1])[0])

    def told(self) -> str:
        hand = {of: words for words, of in HAND_WORDS.items()}[self.hand.value]
        return f"Drawing {self.drawing.value} of “{self.thing.value}” by {hand}."

    def _redraw(self) -> None:
        self.outdate()
        self.shown.value = image_of(self.picture(), self.told())

    def _lock(self, locked: bool) -> None:
        super()._lock(locked)
        for control in (self.thing, self.hand, self.drawing):
            control.disabled = locked


@functools.lru_cache(maxsize=256)
def drawings(thing: str, hand: str, seed: int) -> Things:
    """The first drawings of a thing by a hand in the split ``test`` of a seed, which no training shows."""
    number, start, found = THINGS.index(thing), 0, []
    while len(found) < DRAWINGS:
        shown = things(2000, seed, "test", hand, start=start)
        found += [start + row for row in (shown.thing == number).nonzero()[:, 0].tolist()]
        start += len(shown)
    return things(found[DRAWINGS - 1] + 1, seed, "test", hand)[found[:DRAWINGS]]


def thing_explorer(
    models: Mapping[str, nn.Module],
    tokenizer: Any,
    requests: Sequence[str] = REQUESTS,
    thing: str = "owl",
    hand: str = "first",
    max_new_tokens: int = 60,
    seed: int = 0,
) -> ThingExplorer:
    """Pick a drawn thing, who draws it, and a request; the models' answers appear beside each other as they are written.

    A cell ends with it. ``.ask()`` asks at once, so that readers without a kernel see answers, too.

    Args:
        models: multimodal models of the course, by the names that stand before their answers.
        tokenizer: theirs, of transformers, with a chat template.
        requests: what the menu offers; a field takes any other.
        thing, hand: one of ``THINGS`` and of ``HANDS``, to begin with.
        max_new_tokens: longest answer.
        seed: of the drawings, which are of the split ``test``.

    Raises:
        ValueError: an unknown thing or hand, no models, one that sees no pictures, a tokenizer without a chat template, no requests.
    """
    for name, value, known in (("thing", thing, THINGS), ("hand", hand, HANDS)):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")
    return ThingExplorer(models, tokenizer, checked_requests(requests), max_new_tokens, thing, hand, seed)


def checked_requests(requests: Sequence[str]) -> list[str]:
    """What is to be asked, as a list; a ``ValueError`` if it is none."""
    if isinstance(requests, str) or not requests:
        raise ValueError(f"expected a list of requests, at least one, got {requests!r}")
    return list(requests)
