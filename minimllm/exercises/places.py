"""Where a learner's forward pass leaves the right way: place by place, from the picture to the logits.

A forward pass is written by calling modules that are given. What goes into them and comes out of them is noted by hooks while the right one
runs, and while the learner's does; the first place that differs is named.
"""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minimllm.models.cross_attention import CrossAttentionMLLM
from minimllm.models.unified import UnifiedMLLM
from minimllm.models.unified_config import UnifiedConfig

from .symptoms import kind

TOLERANCE = 1e-4  # of the largest number, up to which a difference is rounding


class Place(NamedTuple):
    """A place on the way: what goes into a module (``side`` 0) or comes out of it (1), in words, and advice for who is wrong there."""

    words: str
    module: Callable[..., nn.Module]
    side: int
    advice: str


class Parts(NamedTuple):
    """What a multimodal model of the unified design is made of: the last arguments of the forward pass that a learner writes."""

    vision: nn.Module
    linear: nn.Linear
    language_model: nn.Module
    image_token_id: int
    merge: int


class CourseParts(NamedTuple):
    """The same of lesson 06's model."""

    vision: nn.Module
    projector: nn.Module
    language_model: nn.Module
    image_token_id: int
    merge: int


class GatedParts(NamedTuple):
    """The same of lesson 07's model, whose forward pass begins with the encoder's features."""

    projector: nn.Module
    language_model: nn.Module
    cross_blocks: nn.ModuleList
    cross_before: tuple[int, ...]
    image_token_id: int


AnyParts = Parts | CourseParts | GatedParts


def parts_of(model: UnifiedMLLM | CrossAttentionMLLM) -> AnyParts:
    """The parts of a model in the form of lesson 06, of lesson 07, or of SmolVLM; a ``ValueError`` if it has another."""
    if isinstance(model, CrossAttentionMLLM):
        if model.thumbnail is not None:
            raise ValueError("the forward pass of the exercise is that of a model without a thumbnail in the text")
        return GatedParts(model.projector, model.language_model, model.cross_blocks, model.config.cross_before, model.image_token_id)
    if model.config.shared_position and model.config.normalise_features:
        if model.config.keep_class_token or model.config.image_prefix or not model.config.vision.class_token:
            raise ValueError("the forward pass of the exercise leaves the class token out, and its decoder is causal throughout")
        return CourseParts(model.vision, model.projector, model.language_model, model.image_token_id, model.config.merge)
    config = model.config
    plain = UnifiedConfig(config.vision, config.language, config.image_token_id, -1, True, projector="linear", projector_bias=False)
    same = ("merge", "image_mean", "image_std", "preparation")
    plain = dataclasses.replace(plain, **{name: getattr(config, name) for name in same})
    other = [field.name for field in dataclasses.fields(config) if getattr(config, field.name) != getattr(plain, field.name)]
    if other or config.vision.class_token:
        told = ", ".join(f"{name} = {getattr(config, name)!r}" for name in other) or "a class token"
        raise ValueError(f"the forward pass of the exercise is that of a model in SmolVLM's form, and this one has {told}")
    return Parts(model.vision, model.projector.down, model.language_model, config.image_token_id, config.merge)


DECODER_PLACES = (
    Place(
        "what comes out of the decoder's first block",
        lambda parts: parts.language_model.blocks[0],
        1,
        "What went into it is right, so it is the mask or the rotary angles: language_model.decode(x) gives both to every block.",
    ),
    Place(
        "what comes out of the decoder's last block",
        lambda parts: parts.language_model.blocks[-1],
        1,
        "The first block is right: each later one takes what the one before it gave.",
    ),
    Place(
        "what goes into the head",
        lambda parts: parts.language_model.head,
        0,
        "Between the last block and the head stands one norm, language_model.norm, once; decode has applied it.",
    ),
)
EMBEDDED = Place(
    "what goes into the decoder's first block",
    lambda parts: parts.language_model.blocks[0],
    0,
    "These are the words' embeddings, with the visual tokens in the places of image_token_id, in reading order, and nothing else changed.",
)
PLACES = (
    Place(
        "what the encoder gives",
        lambda parts: parts.vision.norm,
        1,
        "Its patches after the last norm are asked for, of all pictures: vision.encode(images).",
    ),
    Place(
        "what goes into the linear layer",
        lambda parts: parts.linear,
        0,
        "Patches are merged in squares of merge times merge, and those of a square stand one after another, row by row; the grid is "
        "vision.config.grid, which need not be square.",
    ),
    EMBEDDED,
    *DECODER_PLACES,
)
COURSE_PLACES = (
    Place(
        "what the encoder's last block gives",
        lambda parts: parts.vision.blocks[-1],
        1,
        "All pictures go through the encoder, in their order: vision.encode(images).",
    ),
    Place(
        "what goes into the projector",
        lambda parts: parts.projector,
        0,
        "The class token is left out; each patch is brought to a common size, F.rms_norm(patches, patches.shape[-1:]); then squares of "
        "merge times merge patches are joined, row by row.",
    ),
    EMBEDDED,
    DECODER_PLACES[0]._replace(
        advice="What went into it is right, so it is the mask or the rotary angles: language_model.decode(x, positions=...) gives both to "
        "every block, and all tokens of a picture have the same position.",
    ),
    *DECODER_PLACES[1:],
)
GATED_PLACES = (
    Place(
        "what the projector gives",
        lambda parts: parts.projector,
        1,
        "It takes the features of all pictures as they are: projector(features).",
    ),
    Place(
        "what goes into the first gated block",
        lambda parts: parts.cross_blocks[0],
        0,
        "These are the words' embeddings, the image token's own among them, as far as the decoder's blocks before it have brought them; "
        "cross_before says before which block each gated block stands.",
    ),
    Place(
        "what comes out of the first gated block",
        lambda parts: parts.cross_blocks[0],
        1,
        "What went into it is right, so it is what is looked at, or the mask: every row's own picture, seen from its image token on, "
        "cross_block(x, tokens, visible) with visible of shape (batch, length, tokens).",
    ),
    Place(
        "what comes out of the decoder's last block",
        lambda parts: parts.language_model.blocks[-1],
        1,
        "Each gated block takes what the decoder's block before it gave, and gives to the next; attend and rotary of "
        "language_model.prepare(x) go into every one of the decoder's own blocks.",
    ),
    DECODER_PLACES[-1]._replace(advice="Between the last block and the head stands one norm, language_model.norm, once."),
)


def places_of(parts: AnyParts) -> Sequence[Place]:
    """The places on the way through a model of these parts."""
    return {Parts: PLACES, CourseParts: COURSE_PLACES, GatedParts: GATED_PLACES}[type(parts)]


MOST = 8  # places that are told one by one
LOGITS = "They are language_model.head of what the last norm gives, at every place."


def compare_forward(forward: Callable, parts: AnyParts, ids: Tensor, images: Tensor, right: Callable[[], Tensor]) -> str | None:
    """As :func:`first_difference`, of ``forward(ids, images, *parts)``; ``right`` gives the right logits by way of the same modules."""
    with torch.no_grad():
        with noted(parts) as theirs:
            expected = right()
        with noted(parts) as mine:
            result = forward(ids.clone(), images.clone(), *parts)
    return first_difference(result, expected, mine, theirs, places_of(parts))


def first_difference(
    result: Any, right: Tensor, mine: dict[str, Tensor], theirs: dict[str, Tensor], places: Sequence[Place], last: str = LOGITS
) -> str | None:
    """The first place at which a forward pass differs from the right one, in words; ``None`` if even the logits agree.

    Args:
        result, right: the learner's logits, and the right ones.
        mine, theirs: what :func:`noted` noted on the way to each.
        places: where, in their order.
        last: advice for who has them all right, but not the logits.
    """
    if isinstance(result, Tensor) and result.shape == right.shape and close(result, right):
        return None
    agree: list[str] = []
    for number, place in enumerate(places):
        if place.words not in mine:
            later = any(other.words in mine for other in places[number + 1 :])
            if not later:  # else it was done without this module, and what follows tells
                return so_far(agree, f"{place.words} is the first place that is not reached: its module is never called. {place.advice}")
        elif (told := differs(mine[place.words], theirs[place.words])) is not None:
            return so_far(agree, f"{place.words} is the first place that differs: {told}. {place.advice}")
        else:
            agree.append(place.words)
    if not isinstance(result, Tensor) or result.shape != right.shape:
        told = f"it returned {kind(result)}, expected {kind(right)}"
    else:
        told = differs(result, right)
    return so_far(agree, f"the logits are the first place that differs: {told}. {last}")


def so_far(agree: list[str], words: str) -> str:
    """What agrees, and then what does not."""
    if not agree:
        return words[0].upper() + words[1:]
    told = "; ".join(agree) if len(agree) <= MOST else f"{len(agree)} places, the last of them {agree[-1]}"
    return f"Right so far: {told}. Then {words}"


def differs(mine: Tensor, theirs: Tensor) -> str | None:
    """How two tensors differ, batches side by side: in width, in the number of vectors, or in numbers; ``None`` if they do not."""
    if mine.shape[-1:] != theirs.shape[-1:]:
        return f"vectors of {mine.shape[-1]} numbers in place of {theirs.shape[-1]}"
    one, other = mine.reshape(-1, theirs.shape[-1]), theirs.reshape(-1, theirs.shape[-1])
    if len(one) != len(other):
        return f"{len(one)} vectors in place of {len(other)}"
    if one.dtype != other.dtype:
        return f"numbers of {str(one.dtype).removeprefix('torch.')} in place of {str(other.dtype).removeprefix('torch.')}"
    if close(one, other):
        return None
    far = TOLERANCE * other.abs().max()
    wrong = ~((one - other).abs().amax(dim=1) <= far)  # NaN is wrong
    told = f"{int(wrong.sum())} of {len(one)} vectors are not right, the first is number {int(wrong.nonzero()[0, 0]) + 1}"
    found = torch.cdist(other[wrong].double(), one[wrong].double()).amin(dim=1) <= far
    return f"{told}; all of them are there, in other places" if found.all() and wrong.sum() > 1 else told


def close(one: Tensor, other: Tensor) -> bool:
    difference = (one.detach().double() - other.detach().double()).abs().max()
    return bool(difference <= TOLERANCE * other.detach().double().abs().max())  # NaN is not


@contextmanager
def noted(parts: Any, places: Sequence[Place] | None = None):
    """While it lasts, note what passes each of the places; several calls are joined along the batch."""
    found: dict[str, Tensor] = {}
    handles = []

    def note(words: str, value: Any) -> None:
        if isinstance(value, Tensor):
            value = value.detach().clone().flatten(0, -2) if value.ndim > 1 else value.detach().clone()[None]
            before = found.get(words)
            if before is None:
                found[words] = value
            elif before.shape[1:] == value.shape[1:]:
                found[words] = torch.cat([before, value])

    for place in places_of(parts) if places is None else places:
        if place.side:
            hook = lambda module, given, out, words=place.words: note(words, out)  # noqa: E731
        else:
            hook = lambda module, given, named, out, words=place.words: note(words, next(iter((*given, *named.values())), None))  # noqa: E731
        handles.append(place.module(parts).register_forward_hook(hook, with_kwargs=not place.side))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
