"""Widgets of lesson 06: pictures in the sentence."""

import functools
import textwrap
from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from minimllm import figures
from minimllm.data.composing import compose
from minimllm.data.rendering import render
from minimllm.data.tokenizer import Tokenizer
from minimllm.data.words import COLOURS, SHAPES, SIZES
from minimllm.inference.answering import answer, prompts
from minimllm.inspection.recording import Recorder
from minimllm.layers.masks import causal_mask, same_picture_mask, segment_mask

from .explorer import Explorer, explore

LOOKING = ("last word", "last word but one")  # of a question: the ?, and mostly the name of an object
MASK_TEXTS = ("what colour is the star ? red <end>", "where is the ring ? bottom right <end>", "how many objects are there ? two <end>")


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
        """The picture, the answer, the likeliest first words, and what each word of the question attends to, by layer."""
        placed = [(*name.split(), place.replace("_", " ")) for place, name in zip(cells, held, strict=True) if name != "nothing"]
        picture = render(compose([placed]))
        ids, mask = prompts(tokenizer, [question], model.image_tokens)
        with torch.no_grad(), Recorder(model.language_model) as recorder:
            logits = model(ids, **model.picture_inputs(picture), mask=mask)[0, -1]
        logits[model.image_token_id] = float("-inf")
        shares, words = logits.softmax(dim=-1).topk(4)
        likeliest = [(tokenizer.words[word], share) for word, share in zip(words.tolist(), shares.tolist(), strict=True)]
        patches = (ids[0] == model.image_token_id).nonzero()[:, 0]
        asked = slice(int(patches[-1]) + 1, None)
        attention = torch.stack([weights[0].mean(dim=0)[asked, patches] for weights in recorder.attention.values()])
        return picture[0], answer(model, tokenizer, picture, [question])[0], likeliest, attention

    def tried(question: str, looking: str, **held: str) -> tuple | str:
        """What :func:`look` gives, of the attention that of the word that is ``looking``; or what is wrong."""
        if not question.strip():
            return "Type a question, such as: what colour is the star ?"
        try:
            *found, attention = look(question, tuple(held[place] for place in cells))
            return *found, attention[:, -min(attention.shape[1], LOOKING.index(looking) + 1)]
        except ValueError as error:
            return str(error)

    def told(held: Mapping[str, str]) -> str:
        return ", ".join(f"{name} at the {place.replace('_', ' ')}" for place, name in held.items() if name != "nothing") or "nothing"

    def draw(question: str, looking: str, **held: str) -> Figure:
        found = tried(question, looking, **held)
        width, height = 7.2, 4.0
        if isinstance(found, str):
            figure, (axes,) = figures.placed(width, height, (0.3, 0.3, 6.6, 3.6))
            axes.set_axis_off()
            words = f"{textwrap.fill(found, 80)}\n\nIn the picture: {textwrap.fill(told(held), 80)}\nTo be looked at: the {looking}"
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
        maps[0].text(0, 1.2, f"attention of the {looking}", va="bottom", transform=maps[0].transAxes)
        figures.bars([word for word, _ in likeliest], [share for _, share in likeliest], title="likeliest first word", axes=below)
        text.set_axis_off()
        text.text(0, 0.85, textwrap.fill(question, 34), va="top", transform=text.transAxes)
        text.text(0, 0.35, textwrap.fill(f"→ {written}", 34), va="top", fontweight="bold", color=figures.BLUE, transform=text.transAxes)
        return figure

    def alt(question: str, looking: str, **held: str) -> str:
        found = tried(question, looking, **held)
        if isinstance(found, str):
            return f"In place of an answer to “{question}” about {told(held)}, and of the attention of its {looking}: {found}"
        _, written, likeliest, attention = found
        words = ", ".join(f"{word} {share:.1%}" for word, share in likeliest)
        shares = ", ".join(f"{share:.1%}" for share in attention.sum(dim=1).tolist())
        return (
            f"A picture of {told(held)}; the question “{question}”; the answer “{written}”. Likeliest first words: {words}. Before "
            f"answering, the {looking} gives the picture these shares of its attention, layer by layer: {shares}."
        )

    menus = {name: ipywidgets.Dropdown(options=["nothing", *offered], value=held, layout={"width": "32em"}) for name, held in cells.items()}
    field = ipywidgets.Text(question, continuous_update=False, layout={"width": "40em"})
    return explore(draw, alt, question=field, looking=list(reversed(LOOKING)), **menus)
