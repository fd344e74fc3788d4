"""Exercises of lesson 04: the zero-shot head, and a prompt that breaks it."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimllm.data.composing import compose
from minimllm.data.rendering import render
from minimllm.inference.transfer import zero_shot
from minimllm.models.shipped import load

from . import Exercise, Wrong

# ---- the head ---------------------------------------------------------------------------------------------------------


def head_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(6)

    def case(count: int, classes: int, templates: int, dim: int, log_scale: float) -> tuple[Tensor, Tensor, Tensor]:
        images = torch.randn(count, dim, generator=generator) * (torch.rand(count, 1, generator=generator) * 2 + 0.3)
        texts = torch.randn(classes, 1, dim, generator=generator) + 0.6 * torch.randn(classes, templates, dim, generator=generator)
        return images, texts * (torch.rand(classes, templates, 1, generator=generator) * 3 + 0.2), torch.tensor(log_scale)

    return [case(4, 3, 5, 6, 1.2), case(3, 6, 2, 4, 2.0), case(1, 4, 3, 5, 0.7)]


unit = partial(F.normalize, dim=-1)
softmax = partial(torch.softmax, dim=-1)
same = nn.Identity()


def head(images: Tensor, texts: Tensor, log_scale: Tensor, *, image=unit, prompt=unit, mean=unit, last=softmax) -> Tensor:
    """The head, with what people get wrong as options; without them it is right."""
    return last(log_scale.exp() * image(images) @ mean(prompt(texts).mean(dim=1)).T)


def mean_of_probabilities(images, texts, log_scale):
    return softmax(log_scale.exp() * torch.einsum("id, ctd -> itc", unit(images), unit(texts))).mean(dim=1)


HEAD = Exercise(
    reference=head,
    cases=head_cases,
    batched=(0,),
    mistakes=dict(
        mean_not_normalised=Wrong(partial(head, mean=same)).hint("""
            You average the templates' vectors and leave the mean as it is. A mean of directions is shorter than 1, the more so the more
            they differ: a class whose prompts disagree would be punished for it. Bring the mean back to length 1. (Averaging the templates'
            logits does the same thing, and has the same fault.)"""),
        mean_of_any_length=Wrong(partial(head, prompt=same)).hint("""
            You average the texts before they have length 1, so that a prompt with a long vector counts for more than the others. Normalise
            each prompt first, average, and normalise again."""),
        texts_never_normalised=Wrong(partial(head, prompt=same, mean=same)).hint("""
            The texts keep their lengths: a class with long vectors gets large logits, for pictures it fits and for those it does not.
            Normalise each prompt, average, and normalise again."""),
        images_not_normalised=Wrong(partial(head, image=same)).hint("""
            The texts are right, and the images keep their lengths: a long image vector makes its own softmax sharper, as if it had a
            temperature of its own. F.normalize(images, dim=-1)."""),
        nothing_normalised=Wrong(partial(head, image=same, prompt=same, mean=same)).hint("""
            Nothing has length 1, so these are no cosines. Normalise the images, each prompt, and once more the mean over the
            templates."""),
        scale_forgotten=Wrong(lambda again: again(log_scale=torch.zeros(()))).hint("""
            The scale is missing. The order of the classes is right, but cosines lie between −1 and 1, and a softmax over so narrow a range
            is nearly flat: multiply by log_scale.exp()."""),
        scale_not_exponentiated=Wrong(lambda again, log_scale: again(log_scale=log_scale.log())).hint("""
            The scale is stored as its logarithm: multiply by log_scale.exp(), not by log_scale."""),
        divided_by_the_scale=Wrong(lambda again, log_scale: again(log_scale=-log_scale)).hint("""
            You divide by the scale, as one would by a temperature. The scale is 1 / temperature: multiply, and the softmax gets
            sharper."""),
        softmax_over_images=Wrong(partial(head, last=lambda logits: logits.softmax(dim=0))).hint("""
            The softmax runs over the images: each *class* would spread 100% over the pictures, and a picture's answer would change with the
            others in the batch. It is each picture that chooses among classes: dim=-1."""),
        logits_given=Wrong(partial(head, last=same)).hint("These are the logits. Probabilities are their softmax over the classes."),
        cosines_given=Wrong(lambda again: again(log_scale=torch.zeros(()), last=same)).hint("""
            These are the cosines. Multiply by log_scale.exp(), and take the softmax over the classes."""),
        mean_over_classes=Wrong(lambda again, texts: again(texts=texts.transpose(0, 1))).hint("""
            You average over the classes and keep the templates apart. texts is (classes, templates, dim): the mean goes over dim=1."""),
        first_template_only=Wrong(lambda again, texts: again(texts=texts[:, :1])).hint("""
            Only the first template of each class is used. Average over all of them: .mean(dim=1)."""),
        mean_of_probabilities=Wrong(mean_of_probabilities).hint("""
            You make a classifier of every template and average their probabilities. That is an ensemble, too, but it costs a softmax a
            template and picture; CLIP averages the *vectors*, once, and is left with one weight vector a class."""),
    ),
    afterthought="Something to think of: with one template, which of the three normalisations can you leave out?",
)

# ---- a prompt that breaks it ------------------------------------------------------------------------------------------

OBJECTS = (("large", "red", "star", "top left"), ("large", "blue", "ring", "bottom right"))
DIRECTIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
PLACES = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}
NUMBERS = {"two": 2, "three": 3, "four": 4}
KNOWN = (
    ("small", "large"),
    ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white"),
    ("circle", "ring", "square", "triangle", "diamond", "cross", "star", "heart", "object"),
)
Found = list[tuple[str, str, str, str]]


def phrase(text: str) -> Found | None:
    """The objects of the picture that ``a large red star at the top left`` may mean; ``None`` if it is no such phrase."""
    text, at, place = text.partition(" at the ")
    article, *rest = text.split() or [""]
    if article not in ("a", "an", "the") or not rest or rest[-1] not in KNOWN[2] or (at and place not in PLACES):
        return None
    found = list(OBJECTS)
    for kind, known in enumerate(KNOWN):
        if rest and rest[0] in known:
            word = rest.pop(0)
            found = [thing for thing in found if word in ("object", thing[kind])]
    return None if rest else [thing for thing in found if not place or thing[3] == place]


def counted(number: str, text: str) -> bool | None:
    """Whether the picture has so many: ``two`` and ``red objects``."""
    things, at, place = text.partition(" at the ")
    found = phrase("the " + things.removesuffix("es" if things.endswith("crosses") else "s") + at + place)
    return None if found is None or not things.endswith("s") else len(found) == NUMBERS[number]


def lies(one: tuple, other: tuple, direction: str) -> bool:
    """Whether an object lies ``left of``, ``right of``, ``above`` or ``below`` another."""
    (row, column), (other_row, other_column), (down, right) = PLACES[one[3]], PLACES[other[3]], DIRECTIONS[direction]
    return (row - other_row) * down + (column - other_column) * right > 0


def truth(sentence: str) -> bool | None:
    """Whether a sentence is true of the exercise's picture; ``None`` for one that this little grammar cannot read.

    It reads ``a large red star at the top left``, two of these joined by ``and``, by ``left of``, ``right of``, ``above`` or ``below``,
    ``no red star``, and ``two red objects``.
    """
    sentence = " ".join(sentence.lower().split())
    word, _, rest = sentence.partition(" ")
    if word == "no":
        found = phrase("a " + rest)
        return None if found is None else not found
    if word in NUMBERS:
        return counted(word, rest)
    direction = next((direction for direction in DIRECTIONS if f" {direction} " in sentence), None)
    parts = [phrase(part) for part in sentence.split(f" {direction or 'and'} ")]
    if None in parts or (direction and len(parts) != 2):
        return None
    if len(parts) != 2:
        return all(parts)
    return any(one != other and (direction is None or lies(one, other, direction)) for one in parts[0] for other in parts[1])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a pair of sentences."""

    kind: str


@functools.cache
def model() -> tuple:
    return load("clip")


def ask(right: str, wrong: str) -> Outcome:
    """Shows the shipped CLIP the picture and both sentences, and tells which it prefers; first, whether they are what they should be."""
    for sentence, wanted in ((right, True), (wrong, False)):
        if truth(sentence) is None:
            return Outcome("unread")
        if truth(sentence) is not wanted:
            return Outcome("not true" if wanted else "not false")
    shares = zero_shot(*model(), picture(), [right, wrong], ["{}"])[0]
    return Outcome("broken" if shares[1] > shares[0] else "right")


def picture() -> Tensor:
    """What the sentences are about, ``(1, 3, 32, 32)``: a large red star at the top left and a large blue ring at the bottom right."""
    return render(compose([list(OBJECTS)]))


def break_it(ask: Callable[[str, str], Outcome]) -> Outcome:
    return ask("no blue star", "no red star")


BREAK_IT = Exercise(
    reference=break_it,
    cases=lambda: [(ask,)],
    mistakes=dict(
        says_something_false=Wrong(lambda ask: ask("a red ring", "a blue star")).hint("""
            Your first sentence is not true of the picture: a large red star at the top left, a large blue ring at the bottom right. If the
            model finds it unlikely, it is right."""),
        says_two_true_things=Wrong(lambda ask: ask("a red star", "a blue ring")).hint("""
            Your second sentence is true as well, so there is no mistake to make. It must be false."""),
        is_seen_through=Wrong(lambda ask: ask("a red star and a blue ring", "a green heart")).hint("""
            The model prefers your true sentence: this one it can do. Its captions denied nothing, and named the left object first. Try a
            pair in which the *false* sentence keeps to that, and the true one does not."""),
        cannot_be_read=Wrong(lambda ask: ask("there is a star", "there is a heart")).hint("""
            This check cannot tell whether that is true. It reads sentences such as "a large red star at the top left", two of these joined
            by and, left of, right of, above or below, "no red star", and "two red objects"."""),
    ),
    afterthought="Something to think of: what would the training captions have to be like for the model to learn what you used?",
)

EXERCISES = {"zero_shot_head": HEAD, "break_it": BREAK_IT}
