"""Widgets of lesson 05: a decoder that reads and writes."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from minimllm import figures
from minimllm.data.tokenizer import Tokenizer
from minimllm.inference.generation import next_probabilities

from .encoders import MEAN
from .explorer import Explorer, explore, slider_at


def reading_explorer(words: Sequence[str], attention: Mapping[str, torch.Tensor | np.ndarray]) -> Explorer:
    """Lesson 05: choose mask, layer and head, and see how much each word of a sentence attends to each other.

    Args:
        words: the tokens of one sentence, at most 24.
        attention: by the name of the mask, softmax weights ``(layers, heads, words, words)``, computed beforehand.
    """
    weights = {name: np.asarray(given, dtype=np.float64) for name, given in attention.items()}
    shapes = {array.shape for array in weights.values()}
    if len(shapes) != 1 or len(words) > 24 or next(iter(shapes))[2:] != (len(words), len(words)):
        raise ValueError(f"expected attention (layers, heads, {len(words)}, {len(words)}) for at most 24 words, got {sorted(shapes)}")
    layers, heads, *_ = shapes.pop()
    side = 4.1

    def seen(mask: str, layer: int, head: int | str) -> np.ndarray:
        return weights[mask][layer].mean(axis=0) if head == MEAN else weights[mask][layer, head]

    def named(head: int | str) -> str:
        return head if head == MEAN else f"head {head}"

    def draw(mask: str, layer: int, head: int | str) -> Figure:
        figure, (axes,) = figures.placed(7.2, side + 1.5, (1.35, 0.95, side, side))
        labels = {"row_labels": words, "column_labels": words}
        figures.matrix(seen(mask, layer, head), **labels, limits=(0, 1), write=False, axes=axes)
        axes.set_xticks(range(len(words)), words, rotation=90)
        axes.set_title(f"{mask}: layer {layer}, {named(head)}")
        axes.text(1.04, 1, "a row:\nthe word that looks\n\na column:\nthe word looked at", va="top", transform=axes.transAxes)
        return figure

    def hover(mask: str, layer: int, head: int | str) -> list[tuple[float, float, float, float, str]]:
        rows, hints = seen(mask, layer, head), []
        for place, word in enumerate(words):
            most = rows[place].argsort()[::-1][:3]
            told = ", ".join(f"{words[other]} {rows[place, other]:.0%}" for other in most if rows[place, other] >= 0.005)
            top = (0.55 + place * side / len(words)) / (side + 1.5)
            hints.append((1.35 / 7.2, top, side / 7.2, side / len(words) / (side + 1.5), f"{word} looks at: {told}"))
        return hints

    def alt(mask: str, layer: int, head: int | str) -> str:
        rows = seen(mask, layer, head)
        later = rows[np.triu_indices(len(words), 1)].sum() / len(words)
        told = "; ".join(f"{word} → {words[row.argmax()]} {row.max():.0%}" for word, row in zip(words, rows, strict=True))
        return (
            f"Attention of {len(words)} words to each other, {mask}, layer {layer}, {named(head)}: {later:.0%} of it goes to words further "
            f"on. Each word's favourite: {told}."
        )

    choice = {MEAN: MEAN} | {f"head {head}": head for head in range(heads)}
    return explore(draw, alt, hover=hover, mask=list(weights), layer=list(range(layers)), head=choice)


def next_word_explorer(
    model: torch.nn.Module, tokenizer: Tokenizer, text: str = "a large", temperatures: Sequence[float] = (0.3, 0.5, 1.0, 2.0)
) -> Explorer:
    """Lesson 05: type a text, and see at every key which words the model expects next, and which of them sampling would draw from.

    A word that the model does not know, as every word is while it is half typed, is told in the figure; it is no error of the program.

    Args:
        model, tokenizer: a language model of the course.
        text: what the field holds at first.
        temperatures: what the slider offers.
    """
    most = 12

    @torch.no_grad()
    def expected(text: str, temperature: float, top_k: int, top_p: float) -> tuple[list[str], list[float], int, str]:
        """The likeliest words with their shares, how many words are left to draw from, or what is wrong."""
        try:
            ids, _ = tokenizer(text, end=False)
            logits = model(ids)[:, -1]
        except ValueError as error:
            return [], [], 0, str(error)
        logits[:, tokenizer.image_token_id] = float("-inf")  # which is never written
        shares, order = next_probabilities(logits, temperature, top_k or None, top_p if top_p < 1 else None)[0].sort(
            descending=True, stable=True
        )
        left = int((shares > 0).sum())
        words = [tokenizer.words[number] for number in order[:most].tolist()]
        return words[:left], shares[:most].tolist()[:left], left, ""

    def dials(temperature: float, top_k: int, top_p: float) -> str:
        return f"temperature {temperature:g}, top-k {top_k or 'all'}, top-p {'all' if top_p == 1 else top_p}"

    def draw(text: str, **values: Any) -> Figure:
        words, shares, left, trouble = expected(text, **values)
        figure, (axes,) = figures.placed(7.2, 4.3, (1.5, 0.45, 4.6, 3.2))
        shown = textwrap.shorten(text[::-1], 70, placeholder="…")[::-1]
        if trouble:
            axes.set_axis_off()
            axes.text(
                -0.2,
                0.6,
                f"{textwrap.fill(trouble, 78)}\n\n({dials(**values)})",
                va="center",
                color=figures.VERMILION,
                transform=axes.transAxes,
            )
        else:
            figures.bars(words, shares, x_title=f"{dials(**values)}: {left} words to draw from", axes=axes)
            axes.set_ylim(most - 0.5, -0.5)
        axes.text(-0.22, 1.08, f"{shown} …" if shown.strip() else "(the beginning) …", fontweight="bold", transform=axes.transAxes)
        return figure

    def alt(text: str, **values: Any) -> str:
        words, shares, left, trouble = expected(text, **values)
        if trouble:
            return f"In place of next words after “{text}”, at {dials(**values)}: {trouble}"
        told = ", ".join(f"{word} {share:.1%}" for word, share in zip(words, shares, strict=True))
        return f"The likeliest words after “{text}” at {dials(**values)}, of {left} that are left: {told}."

    field = ipywidgets.Text(text, continuous_update=True, layout={"width": "40em"})
    return explore(
        draw,
        alt,
        text=field,
        temperature=slider_at(list(temperatures), 1.0),
        top_k={"all": 0, "1": 1, "3": 3, "10": 10},  # None would be no choice at all
        top_p={"all": 1.0, "0.5": 0.5, "0.9": 0.9},
    )
