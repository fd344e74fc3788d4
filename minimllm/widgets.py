"""The course's figures behind sliders. ``explore`` makes a widget of any drawing function; the rest are the lessons' own widgets.

A widget's output also holds a still picture with its alternative text, for readers without a kernel. Moving a control redraws at once;
should drawing fail, the reader sees the error beside the picture, which is marked as out of date, and the kernel sees it too.
"""

import functools
import html
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from . import figures
from .answering import answer, prompts
from .costs import layer_multiply_adds
from .data.scenes import COLOURS, SHAPES, SIZES, Scenes, captions, compose, render
from .data.tokenizer import Tokenizer
from .figures import Picture
from .generation import next_probabilities
from .masks import causal_mask, same_picture_mask, segment_mask
from .recording import Recorder
from .transfer import zero_shot

Draw = Callable[..., Figure]
Alt = str | Callable[..., str]
Hover = Callable[..., Sequence[tuple[float, float, float, float, str]]]
SCALES = (1, 2, 5, 10, 15, 20, 30, 50, 100)
OBJECTS = ("large red star", "large red heart", "small red star", "large blue star", "small blue ring")
MASK_TEXTS = ("what colour is the star ? red <end>", "where is the ring ? bottom right <end>", "how many objects are there ? two <end>")
MEAN = "mean of the heads"
LIVE_DPI = 120  # a little coarser than a still figure, so that a slider is followed without delay


def _control(name: str, given: Any) -> ipywidgets.Widget:
    """The control for a shorthand, with its name in words: see ``explore``."""
    options: dict = {"description": name.replace("_", " ").capitalize(), "style": {"description_width": "9em"}}
    if isinstance(given, ipywidgets.Widget):
        if not hasattr(given, "value"):
            raise ValueError(f"control {name!r} is a {type(given).__name__}, which has no value; give an ipywidgets control with one")
        given.description = given.description or options["description"]
        given.style.description_width = "9em"
        return given
    if isinstance(given, bool):
        return ipywidgets.Checkbox(given, indent=True, **options)
    if isinstance(given, str):
        return ipywidgets.Text(given, continuous_update=True, layout={"width": "32em"}, **options)
    if isinstance(given, tuple) and len(given) in (2, 3) and all(isinstance(end, int | float) for end in given):
        slider = ipywidgets.FloatSlider if any(isinstance(end, float) for end in given) else ipywidgets.IntSlider
        low, high, *step = given
        steps = {"step": step[0]} if step else {}
        return slider(value=low, min=low, max=high, layout={"width": "32em"}, **steps, **options)
    if isinstance(given, Mapping) and given:
        if None in given.values():
            raise ValueError(f"control {name!r} has the value None, by which a menu means that nothing is chosen; give it another value")
        return ipywidgets.Dropdown(options=list(given.items()), layout={"width": "32em"}, **options)
    if isinstance(given, list | range) and given:
        if all(isinstance(option, int | float) for option in given):
            return ipywidgets.SelectionSlider(options=list(given), layout={"width": "32em"}, **options)
        return ipywidgets.Dropdown(options=list(given), layout={"width": "32em"}, **options)
    raise ValueError(
        f"control {name!r} cannot be made of {given!r}: expected an ipywidgets control, (low, high) or (low, high, step), "
        "a list of options, a mapping from labels to values, True or False, or a text"
    )


def _stops(control: ipywidgets.Widget) -> list:
    """Every value that a control can take; of a text, the one it has."""
    if hasattr(control, "options"):
        return [option[1] if isinstance(option, tuple) else option for option in control.options]
    if isinstance(control, ipywidgets.Checkbox):
        return [False, True]
    if hasattr(control, "step"):
        count = round((control.max - control.min) / control.step)
        return [type(control.value)(control.min + stop * control.step) for stop in range(count + 1)]
    return [control.value]


class Explorer(ipywidgets.VBox):
    """Controls above a picture that ``draw`` makes of their values. Made by ``explore``."""

    def __init__(self, draw: Draw, alt: Alt, controls: Mapping[str, ipywidgets.Widget], hover: Hover | None = None):
        self._draw, self._alt, self._hover, self._paused = draw, alt, hover, False
        self.controls = dict(controls)
        self.picture = ""  # the last picture that was drawn, an HTML <img>, under it the places that answer the pointer
        self._error, self._shown = ipywidgets.HTML(), ipywidgets.HTML()
        self._shown.add_class("minimllm-picture")
        super().__init__([*self.controls.values(), self._error, self._shown])
        for control in self.controls.values():
            control.observe(self._redraw, "value")
        self._redraw()

    @property
    def values(self) -> dict[str, Any]:
        """What each control stands at."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def error(self) -> str:
        """What the reader is told went wrong; empty when the picture is up to date."""
        return self._error.value

    def set(self, **values: Any) -> None:
        """Move several controls and redraw once."""
        self._paused = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._paused = False
        self._redraw()

    def sweep(self, most: int = 5000) -> Iterator[dict[str, Any]]:
        """Move the controls through every combination of their values, redrawing each, and give the values; then restore them.

        ``ValueError`` if there are more than ``most`` combinations: coarser steps are kinder to the reader, too.
        """
        start, stops = self.values, {name: _stops(control) for name, control in self.controls.items()}
        count = int(np.prod([len(values) for values in stops.values()]))
        if count > most:
            raise ValueError(f"{count} combinations of controls are more than {most}: give the controls fewer stops")
        for combination in itertools.product(*stops.values()):
            self.set(**dict(zip(stops, combination, strict=True)))
            yield self.values
        self.set(**start)

    def _redraw(self, _change: Any = None) -> None:
        if self._paused:
            return
        values = self.values
        try:
            alt = self._alt(**values) if callable(self._alt) else self._alt
            with figures.style():
                self.picture = figures.image_tag(figures.png(self._draw(**values), LIVE_DPI), alt, LIVE_DPI)
            if self._hover:
                self.picture = _with_hints(self.picture, self._hover(**values))
        except Exception as error:
            told = html.escape(f"{type(error).__name__}: {error}")
            self._error.value = f'<p role="alert" style="color:#B34700"><b>The picture is out of date.</b> Drawing failed: {told}</p>'
            self._shown.value = f'<div style="opacity:0.3">{self.picture}</div>'
            raise
        self._error.value, self._shown.value = "", self.picture

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget, and for readers without a kernel the same picture as a still."""
        standing = ", ".join(f"{name.replace('_', ' ')} {_words(control)}" for name, control in self.controls.items())
        bundle = super()._repr_mimebundle_(**options)
        caption = f"Still picture: {html.escape(standing)}. Run this cell to move the controls."
        bundle["text/html"] = f"{self._error.value}{self.picture}<br><em>{caption}</em>"
        bundle["text/plain"] = f"Explorer at {standing}"
        return bundle


def _with_hints(picture: str, hints: Sequence[tuple[float, float, float, float, str]]) -> str:
    """The picture under boxes that show a text where the pointer rests; they are placed in shares of the picture, and scale with it."""
    boxes = "".join(
        f'<span title="{html.escape(text)}" style="position:absolute;left:{100 * left:.2f}%;top:{100 * top:.2f}%;'
        f'width:{100 * width:.2f}%;height:{100 * height:.2f}%"></span>'
        for left, top, width, height, text in hints
    )
    return f'<div style="position:relative;display:inline-block;line-height:0;max-width:100%">{picture}{boxes}</div>'


def _words(control: ipywidgets.Widget) -> str:
    return str(getattr(control, "label", None) or control.value)


def explore(draw: Draw, alt: Alt, *, hover: Hover | None = None, **controls: Any) -> Explorer:
    """A picture that follows its controls: ``explore(draw, alt="...", patch_size=[8, 16, 32], picture=["china", "flower"])``.

    Args:
        draw: called with the value of every control by name; returns a matplotlib ``Figure``. It should depend on nothing else.
        alt: what the picture shows, in words; or a function of the controls' values that says it.
        hover: a function of the controls' values to the texts that appear under the pointer, each with its place in the picture:
            ``(left, top, width, height, text)``, in shares of the whole. ``draw`` must then place its axes itself (``figures.placed``).
        controls: each an ipywidgets control, or a shorthand: ``(low, high)`` or ``(low, high, step)`` for a slider, a list of numbers
            for a slider over just these, a list of texts or a mapping from labels to values for a menu, ``True``/``False`` for a
            tick box, a text for a field to type in.

    Raises:
        ValueError: without controls or alternative text, or for a control that is none of these; and whatever the first drawing raises.
    """
    if not controls:
        raise ValueError("a widget needs at least one control: give each argument of draw by name")
    if not callable(alt) and (not isinstance(alt, str) or not alt.strip()):
        raise ValueError(f"a widget needs an alternative text that says in words what it shows, got alt={alt!r}")
    return Explorer(draw, alt, {name: _control(name, given) for name, given in controls.items()}, hover)


# ---- the lessons' widgets ---------------------------------------------------------------------------------------------


def patch_explorer(pictures: Mapping[str, Picture], patch_sizes: Sequence[int] = (4, 8, 14, 16, 28, 32, 56), dim: int = 768) -> Explorer:
    """Lesson 01: choose picture and patch size, and see the grid, the sequence, the number of tokens and what an encoder layer costs.

    ``pictures`` share one size, which every patch size divides; ``dim`` is the layer's width (768: ViT-B), its MLP four times that.
    """
    arrays = {name: figures.as_array(picture) for name, picture in pictures.items()}
    sizes = {array.shape[:2] for array in arrays.values()}
    if len(sizes) != 1 or any(side % size for side in next(iter(sizes)) for size in patch_sizes):
        raise ValueError(f"pictures must share one size that the patch sizes {tuple(patch_sizes)} divide, got {sorted(sizes)}")
    ((height, width),) = sizes

    def draw(picture: str, patch_size: int) -> Figure:
        rows, columns = height // patch_size, width // patch_size
        count, numbers = rows * columns, 3 * patch_size**2
        figure, (grid, costs, line) = figures.placed(7.2, 4.6, (0.05, 1.35, 2.9, 2.9), (4.0, 1.75, 3.1, 2.5), (0.05, 0.05, 7.1, 0.75))
        array = arrays[picture]
        figures.patch_grid(array, patch_size, numbers=count <= 64, title=f"{rows} × {columns} = {count:,} tokens", axes=grid)
        figures.layer_cost(count, dim, axes=costs)
        size = f"{patch_size} × {patch_size} × 3 = {numbers:,}"
        figures.patch_sequence(array, patch_size, title=f"The sequence: {count:,} vectors of {size} numbers", axes=line)
        return figure

    def alt(picture: str, patch_size: int) -> str:
        rows, columns = height // patch_size, width // patch_size
        cost = layer_multiply_adds(rows * columns, dim)
        return (
            f"The picture {picture} cut into {rows} by {columns} patches of {patch_size} pixels, then the {rows * columns:,} patches in a "
            f"row. Beside it the cost of an encoder layer of width {dim}: {cost.linear / 1e6:,.0f} million multiply-adds in the linear "
            f"layers, {cost.attention / 1e6:,.0f} million in the attention."
        )

    return explore(draw, alt, picture=list(arrays), patch_size=_slider_at(patch_sizes, 16))


def attention_explorer(
    pictures: Sequence[Picture], attention: torch.Tensor | np.ndarray, names: Sequence[str] | None = None, extra: int = 1
) -> Explorer:
    """Lesson 02: choose picture, layer and head, and see where in the picture the class token looks.

    Args:
        pictures: ``n`` pictures.
        attention: softmax weights ``(n, layers, heads, queries, keys)``, computed beforehand; the first ``extra`` tokens are no patches.
        names: what the menu calls the pictures.
    """
    weights = np.asarray(attention.detach().cpu() if isinstance(attention, torch.Tensor) else attention, dtype=np.float64)
    if weights.ndim != 5 or len(pictures) != weights.shape[0] or extra < 1:
        raise ValueError(
            f"attention must be (pictures, layers, heads, queries, keys) for {len(pictures)} pictures, with a class token first; "
            f"got {weights.shape}, extra={extra}"
        )
    names = list(names or (f"picture {place}" for place in range(len(pictures))))
    layers, heads = weights.shape[1:3]
    arrays = [figures.as_array(picture) for picture in pictures]

    def seen(picture: int, layer: int, head: int | str) -> np.ndarray:
        rows = weights[picture, layer, :, 0, extra:]
        return rows.mean(axis=0) if head == MEAN else rows[head]

    def draw(picture: int, layer: int, head: int | str) -> Figure:
        figure, (left, right) = figures.placed(7.2, 3.4, (0.05, 0.1, 2.95, 2.95), (3.15, 0.1, 3.75, 2.95))
        figures.picture(arrays[picture], title=names[picture], axes=left)
        who = head if head == MEAN else f"head {head}"
        figures.attention_map(arrays[picture], seen(picture, layer, head), title=f"Layer {layer}, {who}", axes=right)
        return figure

    def alt(picture: int, layer: int, head: int | str) -> str:
        map_ = seen(picture, layer, head)
        side = int(len(map_) ** 0.5)
        row, column = divmod(int(map_.argmax()), side)
        return (
            f"{names[picture]}, and over it the attention of the class token in layer {layer}, "
            f"{head if head == MEAN else f'head {head}'}: strongest, {map_.max():.2f}, in row {row}, column {column} "
            f"of {side} by {side} patches, counted from 0; {map_.sum():.2f} of the attention is on patches."
        )

    menu = {name: place for place, name in enumerate(names)}
    choice = {MEAN: MEAN} | {f"head {head}": head for head in range(heads)}  # None would be no choice at all
    return explore(draw, alt, picture=menu, layer=list(range(layers)), head=choice)


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

    return explore(draw, alt, hover=hover, model=list(similarities), scale=_slider_at(scales, 15), softmax_over=["rows", "columns"])


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
        temperature=_slider_at(list(temperatures), 1.0),
        top_k={"all": 0, "1": 1, "3": 3, "10": 10},  # None would be no choice at all
        top_p={"all": 1.0, "0.5": 0.5, "0.9": 0.9},
    )


def mask_explorer(texts: Sequence[str] = MASK_TEXTS, image_tokens: int = 4) -> Explorer:
    """Lesson 06: who may attend to whom in a row of pictures and questions, under each of the course's masks, and what one token sees.

    Args:
        texts: up to three questions, each with its answer behind the ``?``, and an end token.
        image_tokens: of each picture.
    """
    kinds = (("question", "answer"), ("second question", "second answer"), ("third question", "third answer"))
    box = (0.9, 0.1, 4.35, 4.35)

    def row(pictures: int, questions: int, mask: str) -> tuple[list[str], list[str], np.ndarray]:
        """Words and roles of the tokens, and who may attend to whom."""
        tokens = [("<start>", "start", 0, 0)]
        for number in range(pictures):
            role = ("picture", "second picture")[number]
            tokens += [(f"{'AB'[number]}{place + 1}", role, number + 1, 0) for place in range(image_tokens)]
        for number, text in enumerate(texts[:questions]):
            words = text.split()
            asked = words.index("?") + 1
            tokens += [(word, kinds[number][place >= asked], 0, number + 1) for place, word in enumerate(words)]
        names, roles, picture, segments = zip(*tokens, strict=True)
        attend = segment_mask(torch.tensor([segments])) if mask.startswith("packed") else causal_mask(len(tokens))[None, None]
        if mask.endswith("prefix"):
            attend = attend | same_picture_mask(torch.tensor([picture]))
        return list(names), list(roles), attend[0, 0].numpy()

    def looking(token: str, names: list[str], roles: list[str]) -> int:
        return {"the first patch": roles.index("picture"), "the first ?": names.index("?"), "the last word": len(names) - 1}[token]

    def seen_by(place: int, names: list[str], attend: np.ndarray) -> str:
        return " ".join(name for name, may in zip(names, attend[place], strict=True) if may)

    def draw(mask: str, pictures: int, questions: int, token: str) -> Figure:
        names, roles, attend = row(pictures, questions, mask)
        figure, (axes,) = figures.placed(7.2, 5.1, box)
        figures.attention_mask(attend, names, roles, highlight=looking(token, names, roles), axes=axes)
        axes.text(1.03, 0.02, mask.replace(", ", ",\n"), fontweight="bold", va="bottom", transform=axes.transAxes)
        return figure

    def hover(mask: str, pictures: int, questions: int, token: str) -> list[tuple[float, float, float, float, str]]:
        names, _, attend = row(pictures, questions, mask)
        left, bottom, width, height = box
        side, top = height / len(names), 5.1 - bottom - height
        return [
            (left / 7.2, (top + place * side) / 5.1, width / 7.2, side / 5.1, f"{name} sees: {seen_by(place, names, attend)}")
            for place, name in enumerate(names)
        ]

    def alt(mask: str, pictures: int, questions: int, token: str) -> str:
        names, roles, attend = row(pictures, questions, mask)
        place = looking(token, names, roles)
        return (
            f"The mask “{mask}” over {len(names)} tokens, with {pictures} pictures and {questions} questions: {attend.sum()} of "
            f"{attend.size} pairs may attend. Number {place + 1}, {names[place]}, sees {attend[place].sum()} tokens: "
            f"{seen_by(place, names, attend)}."
        )

    menus = {"mask": ["causal", "image prefix", "packed", "packed, image prefix"], "pictures": [1, 2], "questions": [1, 2, 3]}
    menus["questions"] = menus["questions"][: len(texts)]
    return explore(draw, alt, hover=hover, **menus, token=["the first patch", "the first ?", "the last word"])


def question_explorer(
    model: torch.nn.Module,
    tokenizer: Tokenizer,
    objects: Sequence[str] | None = None,
    scene: Sequence[str] = ("large red star", "nothing", "nothing", "small blue ring"),
    question: str = "where is the ring ?",
) -> Explorer:
    """Lesson 06: put a scene together, ask a question of your own, and see the answer and where the model looked for it.

    What cannot be drawn or read, two objects alike or an unknown word, is told in the figure; it is no error of the program.

    Args:
        model, tokenizer: a multimodal model of the course, as :func:`minimllm.answer` takes them.
        objects: what the menus offer for each place, such as ``large red star``; ``None``: all there are.
        scene: what the four places hold at first.
        question: what the field holds at first; it is read when the reader presses Enter or leaves the field.
    """
    offered = list(objects or (f"{size} {colour} {shape}" for shape in SHAPES for colour in COLOURS for size in SIZES))
    cells = dict(zip(("top_left", "top_right", "bottom_left", "bottom_right"), scene, strict=True))

    @functools.lru_cache(maxsize=4)  # the picture, its text and the still ask for the same
    def look(question: str, held: tuple[str, ...]) -> tuple[torch.Tensor, str, list[tuple[str, float]], torch.Tensor]:
        """The picture, the answer, the likeliest first words, and what the last word of the question attends to: (layers, image tokens)."""
        placed = [(*name.split(), place.replace("_", " ")) for place, name in zip(cells, held, strict=True) if name != "nothing"]
        picture = render(compose([placed]))
        ids, mask = prompts(tokenizer, [question], model.image_tokens)
        with torch.no_grad(), Recorder(model.language_model) as recorder:
            logits = model(ids, **model.picture_inputs(picture), mask=mask)[0, -1]
        logits[model.image_token_id] = float("-inf")
        shares, words = logits.softmax(dim=-1).topk(4)
        likeliest = [(tokenizer.words[word], share) for word, share in zip(words.tolist(), shares.tolist(), strict=True)]
        patches = (ids[0] == model.image_token_id).nonzero()[:, 0]
        attention = torch.stack([weights[0, :, -1, patches].mean(dim=0) for weights in recorder.attention.values()])
        return picture[0], answer(model, tokenizer, picture, [question])[0], likeliest, attention

    def tried(question: str, **held: str) -> tuple | str:
        """What :func:`look` gives, or what is wrong."""
        if not question.strip():
            return "Type a question, such as: what colour is the star ?"
        try:
            return look(question, tuple(held[place] for place in cells))
        except ValueError as error:
            return str(error)

    def told(held: Mapping[str, str]) -> str:
        return ", ".join(f"{name} at the {place.replace('_', ' ')}" for place, name in held.items() if name != "nothing") or "nothing"

    def draw(question: str, **held: str) -> Figure:
        found = tried(question, **held)
        width, height = 7.2, 4.0
        if isinstance(found, str):
            figure, (axes,) = figures.placed(width, height, (0.3, 0.3, 6.6, 3.6))
            axes.set_axis_off()
            words = f"{textwrap.fill(found, 80)}\n\nIn the picture: {textwrap.fill(told(held), 80)}"
            axes.text(0, 0.5, words, va="center", color=figures.VERMILION, transform=axes.transAxes)
            return figure
        picture, written, likeliest, attention = found
        boxes = [(0.1, 1.75, 2.0, 2.0), (4.4, 0.4, 2.3, 0.9), (0.1, 0.2, 3.2, 1.3)]
        boxes += [(2.35 + 1.65 * number, 1.75, 1.55, 1.55) for number in range(len(attention))]
        figure, (left, below, text, *maps) = figures.placed(width, height, *boxes)
        figures.picture(picture, title="the picture", axes=left)
        for number, axes in enumerate(maps):
            title = f"layer {number + 1}: {attention[number].sum():.0%}"
            figures.attention_map(picture, attention[number], limit=float(attention.max()), title=title, colour_bar=False, axes=axes)
        maps[0].text(0, 1.2, "attention of the last word of the question", va="bottom", transform=maps[0].transAxes)
        figures.bars([word for word, _ in likeliest], [share for _, share in likeliest], title="likeliest first word", axes=below)
        text.set_axis_off()
        text.text(0, 0.85, textwrap.fill(question, 34), va="top", transform=text.transAxes)
        text.text(0, 0.35, textwrap.fill(f"→ {written}", 34), va="top", fontweight="bold", color=figures.BLUE, transform=text.transAxes)
        return figure

    def alt(question: str, **held: str) -> str:
        found = tried(question, **held)
        if isinstance(found, str):
            return f"In place of an answer to “{question}” about {told(held)}: {found}"
        _, written, likeliest, attention = found
        words = ", ".join(f"{word} {share:.1%}" for word, share in likeliest)
        shares = ", ".join(f"{share:.1%}" for share in attention.sum(dim=1).tolist())
        return (
            f"A picture of {told(held)}; the question “{question}”; the answer “{written}”. Likeliest first words: {words}. Before "
            f"answering, the last word of the question gives the picture these shares of its attention, layer by layer: {shares}."
        )

    menus = {name: ipywidgets.Dropdown(options=["nothing", *offered], value=held, layout={"width": "32em"}) for name, held in cells.items()}
    field = ipywidgets.Text(question, continuous_update=False, layout={"width": "40em"})
    return explore(draw, alt, question=field, **menus)


def _slider_at(stops: Sequence[float], start: float) -> ipywidgets.SelectionSlider:
    stops = list(stops)
    value = start if start in stops else stops[len(stops) // 2]
    return ipywidgets.SelectionSlider(options=stops, value=value, layout={"width": "32em"})
