"""The widget of the closing page: one typed question, one picture, and what each model of the course says."""

import functools
import textwrap
from collections.abc import Callable, Mapping

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from minimllm import figures
from minimllm.data.rendering import render
from minimllm.data.world import scenes

from .explorer import Explorer, explore

Answerer = Callable[[Tensor, str], str]
LETTERS = 68  # of a line, names and answers together


def together(models: Mapping[str, Answerer], question: str, pictures: int = 24, seed: int = 0) -> Explorer:
    """Type a question, choose a new picture of the world, and see what every model says to it.

    What a model cannot read is told in its place; it is no error of the program.

    Args:
        models: by name, functions of a picture ``(3, height, width)`` in [0, 1] and the question to what is said.
        question: what the field holds at first; it is read when Enter is pressed.
        pictures: how many pictures the slider offers, drawn for ``seed`` from the split that no model was trained on.

    Raises:
        ValueError: without models or without pictures.
    """
    if not models or pictures < 1:
        raise ValueError(f"expected models and at least one picture, got {len(models)} models and {pictures} pictures")
    shown = render(scenes(pictures, seed, "test"))
    room = max(map(len, models)) + 2  # letters before the answers begin

    @functools.lru_cache(maxsize=256)
    def said(name: str, question: str, picture: int) -> tuple[str, bool]:
        """What a model says, and whether it is an answer."""
        if not question.strip():
            return "Type a question, such as: what colour is the star ?", False
        try:
            return models[name](shown[picture - 1], question) or "(nothing)", True
        except ValueError as error:
            return str(error), False

    def draw(question: str, picture: int) -> Figure:
        told = {name: said(name, question, picture) for name in models}
        lines = {name: textwrap.wrap(words, max(20, LETTERS - room)) or [""] for name, (words, _) in told.items()}
        height = max(2.5, 0.35 + sum(0.2 * len(each) + 0.16 for each in lines.values()))
        figure, (left, right) = figures.placed(7.2, height, (0.1, height - 2.35, 2.0, 2.0), (2.4, 0.1, 4.7, height - 0.2))
        figures.picture(shown[picture - 1], title=f"picture {picture}", axes=left)
        right.set_axis_off()
        level = height - 0.3
        for name, each in lines.items():
            place = {"va": "top", "fontsize": 9, "transform": right.transAxes}
            right.text(0, level / (height - 0.2), name, color=figures.GREY, **place)
            colour = figures.INK if told[name][1] else figures.VERMILION
            right.text(room / LETTERS, level / (height - 0.2), "\n".join(each), color=colour, **place)
            level -= 0.2 * len(each) + 0.16
        return figure

    def alt(question: str, picture: int) -> str:
        told = "; ".join(f"{name}: {said(name, question, picture)[0]}" for name in models)
        return f"Picture {picture} of the world, and what is said to “{question}”. {told}."

    field = ipywidgets.Text(question, continuous_update=False, layout={"width": "40em"})
    return explore(draw, alt, question=field, picture=list(range(1, pictures + 1)))
