"""Widgets of lesson 07: words that look at a picture through gated cross-attention."""

import copy
import functools
import textwrap
from collections.abc import Mapping, Sequence

import ipywidgets
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from minimllm import figures
from minimllm.data.tokenizer import Tokenizer
from minimllm.inference.answering import answer, prompts
from minimllm.inspection.recording import Recorder
from minimllm.models.cross_attention import CrossAttentionMLLM

from .encoders import MEAN
from .explorer import Explorer, explore

PLACES = ("top left", "top right", "bottom left", "bottom right")
OPENINGS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # what turns the answer happens early


def with_gates(model: CrossAttentionMLLM, openings: Mapping[int, float]) -> CrossAttentionMLLM:
    """A copy of the model, the gates of whose gated blocks, by number, are open that far: 0 is shut, 1 as far as training opened them."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for number, opening in openings.items():
            for gate in (model.cross_blocks[number].attention_gate, model.cross_blocks[number].mlp_gate):
                if gate is not None and opening < 1:
                    gate.copy_((opening * gate.tanh()).atanh())
    return model


def gate_explorer(
    model: CrossAttentionMLLM,
    tokenizer: Tokenizer,
    pictures: Mapping[str, Tensor],
    question: str = "what colour is the star ?",
    openings: Sequence[float] = OPENINGS,
) -> Explorer:
    """Lesson 07: open the gates little by little, and see what the model answers, and which first words become likely.

    What the model cannot read is told in the figure; it is no error of the program.

    Args:
        model, tokenizer: of the course, with gated cross-attention.
        pictures: by name, each ``(3, height, width)`` in [0, 1].
        question: what the field holds at first; it is read when the reader presses Enter or leaves the field.
        openings: what the slider offers, from 0 to 1.
    """
    blocks = range(len(model.cross_blocks))
    layers = [f"the one before layer {layer + 1}" for layer in model.config.cross_before]
    choice = {"all": tuple(blocks)} | {f"only {layer}": (number,) for number, layer in enumerate(layers)}

    @functools.lru_cache(maxsize=8)
    def opened(moved: tuple[int, ...], opening: float) -> CrossAttentionMLLM:
        return with_gates(model, dict.fromkeys(moved, opening))

    @functools.lru_cache(maxsize=64)
    def shares(question: str, picture: str, moved: tuple[int, ...]) -> Tensor:
        """The probability of every first word at every opening: ``(openings, words)``."""
        ids, mask = prompts(tokenizer, [question], model.image_tokens)
        given, found = model.picture_inputs(pictures[picture][None]), []
        for opening in openings:
            with torch.no_grad():
                logits = with_gates(model, dict.fromkeys(moved, opening))(ids, **given, mask=mask)[0, -1]
            logits[model.image_token_id] = float("-inf")
            found.append(logits.softmax(dim=-1))
        return torch.stack(found)

    @functools.lru_cache(maxsize=64)
    def told(question: str, picture: str, gates: str, opening: float) -> tuple[str, Tensor] | str:
        """The answer and the shares, or what is wrong."""
        if not question.strip():
            return "Type a question, such as: what colour is the star ?"
        try:
            (written,) = answer(opened(choice[gates], opening), tokenizer, pictures[picture][None], [question])
            return written, shares(question, picture, choice[gates])
        except ValueError as error:
            return str(error)

    def draw(question: str, picture: str, gates: str, opening: float) -> Figure:
        found = told(question, picture, gates, opening)
        figure, (left, text, right) = figures.placed(7.2, 3.1, (0.1, 1.0, 1.9, 1.9), (0.1, 0.1, 2.0, 0.8), (2.8, 0.6, 3.4, 2.2))
        figures.picture(pictures[picture], axes=left)
        text.set_axis_off()
        if isinstance(found, str):
            right.set_axis_off()
            right.text(0, 0.5, textwrap.fill(found, 50), va="center", color=figures.VERMILION, transform=right.transAxes)
            return figure
        written, at = found
        text.text(0, 0.95, textwrap.fill(question, 28), va="top", transform=text.transAxes)
        text.text(0, 0.2, f"→ {written}", va="top", fontweight="bold", color=figures.BLUE, transform=text.transAxes)
        best = at.amax(dim=0).topk(4).indices.tolist()
        named = {tokenizer.words[word]: at[:, word].numpy() for word in best}
        titles = {"x_title": "how far the gates are open, of what training made them", "y_title": "probability of the first word"}
        figures.curves(list(openings), named, limits=(0, 1), **titles, axes=right)
        right.axvline(opening, color=figures.INK, linewidth=1.2, linestyle=":")
        return figure

    def alt(question: str, picture: str, gates: str, opening: float) -> str:
        found, state = told(question, picture, gates, opening), f"gates open to {opening:.0%} ({gates})"
        if isinstance(found, str):
            return f"In place of an answer to “{question}” about {picture}, {state}: {found}"
        written, at = found
        share, word = at[list(openings).index(opening)].max(dim=-1)
        return (
            f"{picture}; the question “{question}”; {state}: the answer “{written}”. Likeliest first word here: {tokenizer.words[word]} "
            f"{share:.1%}; shut, {tokenizer.words[at[0].argmax()]} {at[0].max():.1%}; fully open, {tokenizer.words[at[-1].argmax()]} "
            f"{at[-1].max():.1%}."
        )

    field = ipywidgets.Text(question, continuous_update=False, layout={"width": "40em"})
    slider = ipywidgets.SelectionSlider(options=list(openings), value=openings[-1], layout={"width": "32em"})
    return explore(draw, alt, question=field, picture=list(pictures), gates=list(choice), opening=slider)


def looking_explorer(
    model: CrossAttentionMLLM, tokenizer: Tokenizer, pictures: Mapping[str, Tensor], question: str = "is the star left of the ring ?"
) -> Explorer:
    """Lesson 07: ask a question, and see where each of its words, and of the answer, looks in the picture.

    What the model cannot read is told in the figure; it is no error of the program.

    Args:
        model, tokenizer, pictures, question: as in :func:`gate_explorer`.
    """
    layers = {f"before layer {layer + 1}": number for number, layer in enumerate(model.config.cross_before)}
    heads = {MEAN: -1} | {f"head {head}": head for head in range(model.cross_blocks[0].attention.heads)}
    columns, most = 6, 18

    @functools.lru_cache(maxsize=16)
    def looks(question: str, picture: str) -> tuple[list[str], Tensor] | str:
        """The words of the question and of its answer, and their attention ``(blocks, heads, words, visual tokens)``; or what is wrong."""
        if not question.strip():
            return "Type a question, such as: where is the ring ?"
        shown = pictures[picture][None]
        try:
            ids, mask = prompts(tokenizer, [f"{question} {answer(model, tokenizer, shown, [question])[0]}"], model.image_tokens)
            with torch.no_grad(), Recorder(model.cross_blocks) as recorder:
                model(ids, **model.picture_inputs(shown), mask=mask)
        except ValueError as error:
            return str(error)
        words = [tokenizer.words[number] for number in ids[0].tolist()]
        first = words.index(tokenizer.words[model.image_token_id]) + 1
        return words[first:][:most], torch.stack([weights[0, :, first:] for weights in recorder.attention.values()])

    def seen(question: str, picture: str, layer: str, head: str) -> tuple[list[str], Tensor] | str:
        found = looks(question, picture)
        if isinstance(found, str):
            return found
        words, attention = found
        of_layer = attention[layers[layer]]
        return words, of_layer.mean(dim=0) if head == MEAN else of_layer[heads[head]]

    def box(place: int, rows: int) -> tuple[float, float, float, float]:
        row, column = divmod(place, columns)
        return 0.1 + 1.18 * column, 0.1 + 1.35 * (rows - 1 - row), 1.05, 1.05

    def small(axes: Axes, picture: str, weights: Tensor, word: str, is_answer: bool) -> None:
        figures.attention_map(pictures[picture], weights, limit=1.0, colour_bar=False, axes=axes)
        axes.set_title(word, fontsize=10, color=figures.BLUE if is_answer else figures.INK)

    def draw(question: str, picture: str, layer: str, head: str) -> Figure:
        found = seen(question, picture, layer, head)
        if isinstance(found, str):
            figure, (axes,) = figures.placed(7.2, 1.5, (0.2, 0.1, 6.8, 1.3))
            axes.set_axis_off()
            words = f"{textwrap.fill(found, 80)}\n\n({picture}, {layer}, {head})"
            axes.text(0, 0.5, words, va="center", color=figures.VERMILION, transform=axes.transAxes)
            return figure
        words, attention = found
        rows = -(-len(words) // columns)
        figure, places = figures.placed(7.2, 1.35 * rows + 0.1, *(box(place, rows) for place in range(len(words))))
        asked = len(question.split())
        for place, (axes, word) in enumerate(zip(places, words, strict=True)):
            small(axes, picture, attention[place], word, place >= asked)
        return figure

    def told(weights: Tensor) -> str:
        names = PLACES if len(weights) == len(PLACES) else [f"token {place + 1}" for place in range(len(weights))]
        return f"{names[int(weights.argmax())]} {weights.max():.0%}"

    def hover(question: str, picture: str, layer: str, head: str) -> list[tuple[float, float, float, float, str]]:
        found = seen(question, picture, layer, head)
        if isinstance(found, str):
            return []
        words, attention = found
        rows, hints = -(-len(words) // columns), []
        height = 1.35 * rows + 0.1
        for place, (word, weights) in enumerate(zip(words, attention, strict=False)):
            left, bottom, width, side = box(place, rows)
            hints.append((left / 7.2, (height - bottom - side) / height, width / 7.2, side / height, f"{word} → {told(weights)}"))
        return hints

    def alt(question: str, picture: str, layer: str, head: str) -> str:
        found = seen(question, picture, layer, head)
        if isinstance(found, str):
            return f"In place of an answer to “{question}” about {picture}, {layer}, {head}: {found}"
        words, attention = found
        each = ", ".join(f"{word} → {told(weights)}" for word, weights in zip(words, attention, strict=False))
        return f"{picture}, and where each word of “{' '.join(words)}” looks most, in the gated block {layer}, {head}: {each}."

    field = ipywidgets.Text(question, continuous_update=False, layout={"width": "40em"})
    return explore(draw, alt, hover=hover, question=field, picture=list(pictures), layer=list(layers), head=list(heads))
