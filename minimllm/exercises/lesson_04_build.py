"""Lesson 04's model, to be built by oneself: a classifier of the learner's own words, from CLIP's two encoders."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minimllm.data.composing import compose
from minimllm.data.preprocessing import normalise
from minimllm.data.rendering import render
from minimllm.models.clip import CLIP
from minimllm.models.shipped import load

from . import Exercise, Wrong


class Words:
    """A tokenizer for cases: the shipped one, equal to its copies."""

    def __init__(self, tokenizer: Callable[[Sequence[str]], tuple[Tensor, Tensor]]):
        self.tokenizer = tokenizer

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Words)

    def __repr__(self) -> str:
        return "its tokenizer"

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        return self.tokenizer(texts)


def classifier_cases() -> list[tuple]:
    clip, tokenizer = load("clip")
    pictures = render(
        compose(
            [[("large", "red", "star", "top left")], [("small", "cyan", "ring", "bottom right")], [("large", "blue", "heart", "top right")]]
        )
    )
    lists = (
        (pictures, ["star", "heart", "ring", "cross"], ["a {}", "a red {}", "picture of a {}"]),
        (pictures[:2], ["red star", "blue heart"], ["a {}"]),
        (pictures[1:], ["red", "green", "blue"], ["a {} object", "a small {} star", "a large {} ring at the top left"]),
    )
    return [(clip.eval(), Words(tokenizer), *each) for each in lists]


def own_words(
    clip: CLIP,
    tokenizer: Callable,
    pictures: Tensor,
    names: Sequence[str],
    templates: Sequence[str],
    *,
    prepared: Callable[[Tensor, CLIP], Tensor] = lambda pictures, clip: normalise(pictures, clip.config.image_mean, clip.config.image_std),
    mean: Callable[[Tensor], Tensor] = lambda vectors: F.normalize(vectors.mean(dim=1), dim=-1),
    scale: Callable[[Tensor], Tensor] = torch.exp,
    last: Callable[[Tensor], Tensor] = lambda logits: logits.softmax(dim=-1),
    by_template: bool = False,
) -> Tensor:
    """The classifier, with what people get wrong as options."""
    if by_template:
        filled = [template.format(name) for template in templates for name in names]
    else:
        filled = [template.format(name) for name in names for template in templates]
    with torch.no_grad():
        ids, mask = tokenizer(filled)
        vectors = clip.encode_text(ids, mask).unflatten(0, (len(names), len(templates)))
        return last(scale(clip.logit_scale) * clip.encode_image(prepared(pictures, clip)) @ mean(vectors).T)


BUILD_CLASSIFIER = Exercise(
    reference=own_words,
    cases=classifier_cases,
    mistakes=dict(
        pictures_as_they_are=Wrong(partial(own_words, prepared=lambda pictures, clip: pictures)).hint("""
            The pictures go in as they are, in [0, 1]. The encoder was trained on normalised ones: normalise(pictures,
            clip.config.image_mean, clip.config.image_std)."""),
        mean_not_normalised=Wrong(partial(own_words, mean=lambda vectors: vectors.mean(dim=1))).hint("""
            The mean of a name's vectors is shorter than 1, the more so the more they differ. Bring it back to length 1."""),
        first_template_only=Wrong(partial(own_words, mean=lambda vectors: vectors[:, 0])).hint("""
            Only the first template is used. Average the vectors of all of them."""),
        in_another_order=Wrong(partial(own_words, by_template=True)).hint("""
            The sentences are written template by template and taken apart name by name. Write all templates of the first name, then those
            of the second; or take them apart as (templates, names)."""),
        scale_forgotten=Wrong(partial(own_words, scale=torch.ones_like)).hint("""
            The scale is missing: the cosines times clip.logit_scale.exp(). Without it the softmax is nearly flat."""),
        scale_not_exponentiated=Wrong(partial(own_words, scale=lambda log_scale: log_scale)).hint("""
            clip.logit_scale is the logarithm of the scale: multiply by its exp()."""),
        softmax_over_pictures=Wrong(partial(own_words, last=lambda logits: logits.softmax(dim=0))).hint("""
            The softmax runs over the pictures. It is each picture that chooses among the names: dim=-1."""),
        logits_given=Wrong(partial(own_words, last=lambda logits: logits)).hint("""
            These are the logits. Probabilities are their softmax over the names."""),
        names_given=Wrong(partial(own_words, last=lambda logits: logits.argmax(dim=-1))).hint("""
            These are the numbers of the nearest names. Asked for are the probabilities of all names."""),
    ),
    afterthought="Something to think of: which of its lines would change for a list of ten thousand names?",
)

EXERCISES = {"build_classifier": BUILD_CLASSIFIER}
