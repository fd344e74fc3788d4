"""Exercises of lesson 04: the zero-shot head, each mistake with its hint."""

import torch
import torch.nn.functional as F
from torch import Tensor

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

EXERCISES = {"zero_shot_head": HEAD}
