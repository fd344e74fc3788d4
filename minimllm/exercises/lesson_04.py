"""Exercises of lesson 04: the zero-shot head, and a prompt that breaks it."""

import dataclasses
import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minimllm.data.composing import compose
from minimllm.data.rendering import render
from minimllm.inference.transfer import zero_shot
from minimllm.models.shipped import load

from . import Exercise, Mistake

# ---- the head ---------------------------------------------------------------------------------------------------------


def head_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(6)

    def case(count: int, classes: int, templates: int, dim: int, log_scale: float) -> tuple[Tensor, Tensor, Tensor]:
        images = torch.randn(count, dim, generator=generator) * (torch.rand(count, 1, generator=generator) * 2 + 0.3)
        texts = torch.randn(classes, 1, dim, generator=generator) + 0.6 * torch.randn(classes, templates, dim, generator=generator)
        return images, texts * (torch.rand(classes, templates, 1, generator=generator) * 3 + 0.2), torch.tensor(log_scale)

    return [case(4, 3, 5, 6, 1.2), case(3, 6, 2, 4, 2.0), case(1, 4, 3, 5, 0.7)]


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1)


def _cosines(images: Tensor, texts: Tensor) -> Tensor:
    return _unit(images) @ _unit(_unit(texts).mean(dim=1)).T


def head(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (log_scale.exp() * _cosines(images, texts)).softmax(dim=-1)


def mean_not_normalised(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (log_scale.exp() * _unit(images) @ _unit(texts).mean(dim=1).T).softmax(dim=-1)


def mean_of_any_length(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (log_scale.exp() * _unit(images) @ _unit(texts.mean(dim=1)).T).softmax(dim=-1)


def texts_never_normalised(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (log_scale.exp() * _unit(images) @ texts.mean(dim=1).T).softmax(dim=-1)


def images_not_normalised(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (log_scale.exp() * images @ _unit(_unit(texts).mean(dim=1)).T).softmax(dim=-1)


def nothing_normalised(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (log_scale.exp() * images @ texts.mean(dim=1).T).softmax(dim=-1)


def scale_forgotten(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return _cosines(images, texts).softmax(dim=-1)


def scale_not_exponentiated(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (log_scale * _cosines(images, texts)).softmax(dim=-1)


def divided_by_the_scale(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (_cosines(images, texts) / log_scale.exp()).softmax(dim=-1)


def softmax_over_images(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return (log_scale.exp() * _cosines(images, texts)).softmax(dim=0)


def logits_given(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return log_scale.exp() * _cosines(images, texts)


def cosines_given(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return _cosines(images, texts)


def mean_over_classes(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return head(images, texts.transpose(0, 1), log_scale)


def first_template_only(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return head(images, texts[:, :1], log_scale)


def mean_of_probabilities(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    cosines = torch.einsum("id, ctd -> itc", _unit(images), _unit(texts))
    return (log_scale.exp() * cosines).softmax(dim=-1).mean(dim=1)


HEAD = Exercise(
    reference=head,
    cases=head_cases,
    batched=(0,),
    mistakes=(
        Mistake(
            mean_not_normalised,
            "You average the templates' vectors and leave the mean as it is. A mean of directions is shorter than 1, the more so the "
            "more they differ: a class whose prompts disagree would be punished for it. Bring the mean back to length 1. "
            "(Averaging the templates' logits does the same thing, and has the same fault.)",
        ),
        Mistake(
            mean_of_any_length,
            "You average the texts before they have length 1, so that a prompt with a long vector counts for more than the others. "
            "Normalise each prompt first, average, and normalise again.",
        ),
        Mistake(
            texts_never_normalised,
            "The texts keep their lengths: a class with long vectors gets large logits, for pictures it fits and for those it does not. "
            "Normalise each prompt, average, and normalise again.",
        ),
        Mistake(
            images_not_normalised,
            "The texts are right, and the images keep their lengths: a long image vector makes its own softmax sharper, as if it had a "
            "temperature of its own. F.normalize(images, dim=-1).",
        ),
        Mistake(
            nothing_normalised,
            "Nothing has length 1, so these are no cosines. Normalise the images, each prompt, and once more the mean over the templates.",
        ),
        Mistake(
            scale_forgotten,
            "The scale is missing. The order of the classes is right, but cosines lie between −1 and 1, and a softmax over so narrow a "
            "range is nearly flat: multiply by log_scale.exp().",
        ),
        Mistake(scale_not_exponentiated, "The scale is stored as its logarithm: multiply by log_scale.exp(), not by log_scale."),
        Mistake(
            divided_by_the_scale,
            "You divide by the scale, as one would by a temperature. The scale is 1 / temperature: multiply, and the softmax gets sharper.",
        ),
        Mistake(
            softmax_over_images,
            "The softmax runs over the images: each *class* would spread 100% over the pictures, and a picture's answer would change with "
            "the others in the batch. It is each picture that chooses among classes: dim=-1.",
        ),
        Mistake(logits_given, "These are the logits. Probabilities are their softmax over the classes."),
        Mistake(cosines_given, "These are the cosines. Multiply by log_scale.exp(), and take the softmax over the classes."),
        Mistake(
            mean_over_classes,
            "You average over the classes and keep the templates apart. texts is (classes, templates, dim): the mean goes over dim=1.",
        ),
        Mistake(first_template_only, "Only the first template of each class is used. Average over all of them: .mean(dim=1)."),
        Mistake(
            mean_of_probabilities,
            "You make a classifier of every template and average their probabilities. That is an ensemble, too, but it costs a softmax a "
            "template and picture; CLIP averages the *vectors*, once, and is left with one weight vector a class.",
        ),
    ),
    afterthought="Something to think of: with one template, which of the three normalisations can you leave out?",
)

# ---- a prompt that breaks it ------------------------------------------------------------------------------------------

OBJECTS = (("large", "red", "star", "top left"), ("large", "blue", "ring", "bottom right"))
_DIRECTIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


def _phrase(words: list[str]) -> list[tuple[str, str, str, str]] | None:
    """The objects of the picture that ``a large red star at the top left`` may mean; ``None`` if it is no such phrase."""
    text = " ".join(words)
    text, _, place = text.partition(" at the ")
    article, *rest = text.split()
    if article not in ("a", "an", "the") or not rest or (place and place not in _PLACES):
        return None
    found = list(OBJECTS)
    for kind, known in enumerate(_KNOWN):
        if rest and rest[0] in known:
            word = rest.pop(0)
            found = [thing for thing in found if word in ("object", thing[kind])]
    if rest or text.split()[-1] not in _KNOWN[2]:
        return None
    return [thing for thing in found if not place or thing[3] == place]


_PLACES = ("top left", "top right", "bottom left", "bottom right")
_KNOWN = (
    ("small", "large"),
    ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white"),
    ("circle", "ring", "square", "triangle", "diamond", "cross", "star", "heart", "object"),
)


def truth(sentence: str) -> bool | None:
    """Whether a sentence is true of the exercise's picture; ``None`` for one that this little grammar cannot read.

    It reads ``a large red star at the top left``, two of these joined by ``and``, by ``left of``, ``right of``, ``above`` or ``below``,
    and ``no red star``.
    """
    sentence = " ".join(sentence.lower().split())
    if sentence.startswith("no "):
        found = _phrase(["a", *sentence.split()[1:]])
        return None if found is None else not found
    for direction, (down, right) in _DIRECTIONS.items():
        first, there, second = sentence.partition(f" {direction} ")
        if there:
            parts = [_phrase(part.split()) if part else None for part in (first, second)]
            if None in parts:
                return None
            rows = {"top": 0, "bottom": 1, "left": 0, "right": 1}
            at = [[[rows[word] for word in thing[3].split()] for thing in part] for part in parts]
            return any((one[0] - other[0]) * down + (one[1] - other[1]) * right > 0 for one in at[0] for other in at[1] if one != other)
    parts = [_phrase(part.split()) if part else None for part in sentence.split(" and ")]
    if None in parts:
        return None
    if len(parts) == 2:
        return any(one != other for one in parts[0] for other in parts[1])
    return all(parts)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a pair of sentences."""

    kind: str


@functools.cache
def _model() -> tuple:
    return load("clip")


def ask(right: str, wrong: str) -> Outcome:
    """Shows the shipped CLIP the picture and both sentences, and tells which it prefers; first, whether they are what they should be."""
    for sentence, wanted in ((right, True), (wrong, False)):
        if truth(sentence) is None:
            return Outcome("unread")
        if truth(sentence) is not wanted:
            return Outcome("not true" if wanted else "not false")
    shares = zero_shot(*_model(), picture(), [right, wrong], ["{}"])[0]
    return Outcome("broken" if shares[1] > shares[0] else "right")


def picture() -> Tensor:
    """What the sentences are about, ``(1, 3, 32, 32)``: a large red star at the top left and a large blue ring at the bottom right."""
    return render(compose([list(OBJECTS)]))


def break_it(ask: Callable[[str, str], Outcome]) -> Outcome:
    return ask("no blue star", "no red star")


def says_something_false(ask: Callable[[str, str], Outcome]) -> Outcome:
    return ask("a red ring", "a blue star")


def says_two_true_things(ask: Callable[[str, str], Outcome]) -> Outcome:
    return ask("a red star", "a blue ring")


def is_seen_through(ask: Callable[[str, str], Outcome]) -> Outcome:
    return ask("a red star and a blue ring", "a green heart")


def cannot_be_read(ask: Callable[[str, str], Outcome]) -> Outcome:
    return ask("there is a star", "there is a heart")


BREAK_IT = Exercise(
    reference=break_it,
    cases=lambda: [(ask,)],
    mistakes=(
        Mistake(
            says_something_false,
            "Your first sentence is not true of the picture: a large red star at the top left, a large blue ring at the "
            "bottom right. If the model finds it unlikely, it is right.",
        ),
        Mistake(says_two_true_things, "Your second sentence is true as well, so there is no mistake to make. It must be false."),
        Mistake(
            is_seen_through,
            "The model prefers your true sentence: this one it can do. Its captions denied nothing, and named the left object first. Try a "
            "pair in which the *false* sentence keeps to that, and the true one does not.",
        ),
        Mistake(
            cannot_be_read,
            'This check cannot tell whether that is true. It reads sentences such as "a large red star at the top left", two '
            'of these joined by and, left of, right of, above or below, and "no red star".',
        ),
    ),
    afterthought="Something to think of: what would the training captions have to be like for the model to learn what you used?",
)

EXERCISES = {"zero_shot_head": HEAD, "break_it": BREAK_IT}
