"""Widgets of lessons 03 and 04: pictures and texts in one space."""

import textwrap
from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from minimllm import figures
from minimllm.data.captioning import captions
from minimllm.data.composing import compose
from minimllm.data.rendering import render
from minimllm.data.world import Scenes
from minimllm.figures import Picture
from minimllm.inference.transfer import zero_shot

from .explorer import Explorer, explore, slider_at

SCALES = (1, 2, 5, 10, 15, 20, 30, 50, 100)
OBJECTS = ("large red star", "large red heart", "small red star", "large blue star", "small blue ring")


def similarity_explorer(
    similarities: Mapping[str, torch.Tensor], pictures: Sequence[Picture], texts: Sequence[str], scales: Sequence[float] = SCALES
) -> Explorer:
    """Lesson 03: cosines of ``n`` pictures and their ``n`` sentences, scaled, under a softmax over rows or over columns; the loss of both.

    Args:
        similarities: by name of the model, its cosines ``(n, n)``, pairs on the diagonal.
        scales: what the slider offers: 1 / temperature.
    """
    count = len(pictures)
    if not similarities or count != len(texts) or any(values.shape != (count, count) for values in similarities.values()):
        shapes = {name: tuple(values.shape) for name, values in similarities.items()}
        raise ValueError(f"{count} pictures and {len(texts)} texts need square matrices of cosines of that size, got {shapes}")
    boxes, size = ((0.42, 0.1, 2.8, 2.8), (3.85, 0.1, 2.8, 2.8)), (7.3, 4.55)

    def computed(model: str, scale: float, softmax_over: str) -> tuple[np.ndarray, np.ndarray, float, float]:
        cosines = similarities[model].detach().double()
        logits = scale * cosines
        by_row, by_column = logits.softmax(dim=1), logits.softmax(dim=0)
        losses = [-shares.diagonal().log().mean().item() for shares in (by_row, by_column)]
        return cosines.numpy(), (by_row if softmax_over == "rows" else by_column).numpy(), sum(losses) / 2, losses[softmax_over != "rows"]

    def draw(model: str, scale: float, softmax_over: str) -> Figure:
        cosines, shares, loss, one_way = computed(model, scale, softmax_over)
        figure, (left, right) = figures.placed(*size, *boxes)
        figures.similarity(cosines, pictures=pictures, texts=texts, limits=(-1, 1), frame_pairs=True, axes=left)
        figures.similarity(shares, texts=texts, limits=(0, 1), frame_pairs=True, axes=right)
        for axes, title in ((left, "cosines"), (right, f"softmax over {softmax_over}")):
            axes.set_title("")
            axes.text(0.5, 1.5, title, transform=axes.transAxes, ha="center", va="bottom", fontweight="bold")
        words = f"loss over {softmax_over} {one_way:.2f}, both ways {loss:.2f}"
        right.text(0.5, 1.43, words, transform=right.transAxes, ha="center", va="bottom", color=figures.VERMILION)
        left.text(0.5, 1.43, f"× {scale:g}: temperature {1 / scale:.3g}", transform=left.transAxes, ha="center", va="bottom")
        return figure

    def hover(model: str, scale: float, softmax_over: str) -> list[tuple[float, float, float, float, str]]:
        cosines, shares, *_ = computed(model, scale, softmax_over)
        hints = []
        for (left, bottom, side, _), values, form in zip(boxes, (cosines, shares), ("cosine {:.2f}", "share {:.1%}"), strict=True):
            cell = side / count
            for (row, column), value in np.ndenumerate(values):
                place = (left + column * cell) / size[0], (size[1] - bottom - side + row * cell) / size[1], cell / size[0], cell / size[1]
                hints.append((*place, f"picture {row + 1} (“{texts[row]}”) and “{texts[column]}”: {form.format(value)}"))
        return hints

    def alt(model: str, scale: float, softmax_over: str) -> str:
        cosines, shares, loss, one_way = computed(model, scale, softmax_over)
        return (
            f"{count} pictures against their {count} sentences, model {model}. Left, cosines: {cosines.diagonal().mean():.2f} on average "
            f"for pairs, {(cosines.sum() - cosines.trace()) / (count**2 - count):.2f} for the others. Right, times {scale:g} and a softmax "
            f"over {softmax_over}: pairs get {shares.diagonal().mean():.1%} on average. Loss this way {one_way:.3f}, both ways {loss:.3f}."
        )

    return explore(draw, alt, hover=hover, model=list(similarities), scale=slider_at(scales, 15), softmax_over=["rows", "columns"])


def batch_composer(objects: Sequence[str] = OBJECTS, details: Sequence[str] = ("plain", "size", "shape")) -> Explorer:
    """Lesson 03: choose the four pictures of a batch and how much their captions tell, and see what each cell of the matrix is.

    ``objects`` are called by size, colour and shape, such as ``"large red star"``; ``details`` are those of ``captions``.
    """
    boxes, size, slots = ((0.75, 0.1, 2.3, 2.3),), (7.2, 3.25), 4

    def kinds(chosen: Sequence[str], detail: str) -> tuple[Scenes, list[str], np.ndarray]:
        world = compose([[(*name.split(), "")] for name in chosen], grid=1)
        texts = captions(world, detail)
        words = [text.split()[1:] for text in texts]
        table = np.full((slots, slots), 3)
        for (row, column), _ in np.ndenumerate(table):
            differing = sum(one != other for one, other in zip(words[row], words[column], strict=True))
            table[row, column] = 0 if row == column else 1 if differing == 0 else 2 if differing == 1 and len(words[row]) > 1 else 3
        return world, texts, table

    def draw(detail: str, **chosen: str) -> Figure:
        world, texts, table = kinds(list(chosen.values()), detail)
        figure, (axes,) = figures.placed(*size, *boxes)
        figures.targets(table, pictures=list(render(world, size=32)), texts=texts, axes=axes)
        return figure

    def alt(detail: str, **chosen: str) -> str:
        _, texts, table = kinds(list(chosen.values()), detail)
        counts = [int((table == kind).sum()) for kind in range(4)]
        pictures = ", ".join(chosen.values())
        return (
            f"Pictures of {pictures}, in rows, against the captions {'; '.join(texts)}, in columns. Of 16 cells {counts[0]} are pairs, "
            f"{counts[1]} true as well and so no negatives, {counts[2]} hard negatives, {counts[3]} other negatives."
        )

    start = [objects[place % len(objects)] for place in (0, 1, 0, 2)]
    menus = {
        f"picture_{place + 1}": ipywidgets.Dropdown(options=list(objects), value=name, layout={"width": "32em"})
        for place, name in enumerate(start)
    }
    return explore(draw, alt, detail=list(details), **menus)


def name_explorer(
    model: torch.nn.Module,
    tokenizer: Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]],
    pictures: Mapping[str, torch.Tensor],
    names: str = "red star, blue star, red heart",
    template: str = "a {}",
) -> Explorer:
    """Lesson 04: type class names, separated by commas, and see the probabilities that a CLIP gives them for a picture.

    A word that the model does not know, or a template without ``{}``, is told in the figure; it is no error of the program.

    Args:
        model, tokenizer: as :func:`minimllm.zero_shot` takes them.
        pictures: by name, ``(channels, height, width)`` in [0, 1].
        names, template: what the fields hold at first. They are read when the reader presses Enter or leaves the field.
    """
    most = 12

    def answer(picture: str, names: str, template: str) -> tuple[list[str], torch.Tensor | None, str]:
        """Names and probabilities, or what is wrong with them."""
        classes = list(dict.fromkeys(" ".join(name.split()) for name in names.split(",") if name.strip()))
        if not 1 <= len(classes) <= most:
            return classes, None, f"Type 1 to {most} different names, separated by commas; there are {len(classes)}."
        try:
            return classes, zero_shot(model, tokenizer, pictures[picture][None], classes, [template])[0], ""
        except ValueError as error:
            return classes, None, str(error)

    def draw(**values: str) -> Figure:
        classes, shares, trouble = answer(**values)
        figure, (left, right) = figures.placed(7.2, 3.5, (0.1, 0.35, 2.6, 2.6), (4.3, 0.45, 2.4, 2.5))
        figures.picture(pictures[values["picture"]], title=values["picture"], axes=left)
        if shares is None:
            right.set_axis_off()
            right.text(-0.45, 0.5, textwrap.fill(trouble, 42), va="center", color=figures.VERMILION, transform=right.transAxes)
        else:
            figures.bars([textwrap.shorten(name, 26, placeholder=" …") for name in classes], shares, title="softmax over names", axes=right)
        return figure

    def alt(**values: str) -> str:
        classes, shares, trouble = answer(**values)
        if shares is None:
            return f"The picture {values['picture']}, and beside it in place of probabilities: {trouble}"
        told = ", ".join(f"{name} {share:.1%}" for name, share in zip(classes, shares.tolist(), strict=True))
        return f"The picture {values['picture']}, and beside it the probabilities of the names typed: {told}."

    fields = {
        name: ipywidgets.Text(text, continuous_update=False, layout={"width": "40em"})
        for name, text in (("names", names), ("template", template))
    }
    return explore(draw, alt, picture=list(pictures), **fields)
