"""Captions: sentences that are true of a scene, in as much detail as wanted."""

import numpy as np

from minimllm.data import chance
from minimllm.data.words import COLOURS, SHAPES, SIZES, article, at_place
from minimllm.data.world import Scenes

DETAILS = ("shape", "colour", "plain", "size", "place", "full")
"""In this order: ``a star``, ``a red object``, ``a red star``, ``a large red star``, ``a red star at the top left``, and
``a large red star at the top left``."""


def captions(scenes: Scenes, detail: str = "mixed") -> list[str]:
    """One sentence per scene, naming all its objects in reading order: ``a large red star at the top left and a small blue ring ...``.

    All words are lower case and separated by spaces, commas too. A full caption tells everything about a scene that has a name: two scenes
    with the same full caption differ in jitter, rotation and noise alone.

    Args:
        scenes: what to describe.
        detail: one of ``DETAILS``, or ``mixed``: each scene has one of ``plain``, ``size``, ``place`` and ``full``, always the same.

    Raises:
        ValueError: an unknown detail.
    """
    if detail == "mixed":
        choices = (chance.uniform(scenes.key.numpy().view(np.uint64), 1, purpose=5)[:, 0] * 4).astype(int) + 2
    elif detail in DETAILS:
        choices = np.full(len(scenes), DETAILS.index(detail))
    else:
        raise ValueError(f"unknown detail {detail!r}; choose mixed or one of {', '.join(DETAILS)}")
    where = at_place(scenes.grid)
    texts = []
    columns = (choices, scenes.count, scenes.shape, scenes.colour, scenes.size, scenes.cell)
    for choice, count, shape, colour, size, cell in zip(*(column.tolist() for column in columns), strict=True):
        phrases = [describe(shape[i], colour[i], size[i], where[cell[i]], DETAILS[choice]) for i in range(count)]
        texts.append(phrases[0] if count == 1 else f"{' , '.join(phrases[:-1])} and {phrases[-1]}")
    return texts


def describe(shape: int, colour: int, size: int, place: str, detail: str = "full") -> str:
    """One object in words, ``a large red star at the top left``; ``place`` is a phrase, which may be empty."""
    words = []
    if detail in ("size", "full"):
        words.append(SIZES[size])
    if detail != "shape":
        words.append(COLOURS[colour])
    words.append("object" if detail == "colour" else SHAPES[shape])
    if detail in ("place", "full") and place:
        words.append(place)
    return " ".join([article(words[0]), *words])
