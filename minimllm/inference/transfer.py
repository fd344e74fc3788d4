"""A prompt becomes a classifier (Radford et al. 2021, section 3.1): class names are written out, encoded, and used as weights."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn

from minimllm.data.pictures import as_pictures
from minimllm.data.preprocessing import prepare_pictures
from minimllm.data.words import article

Template = str | Callable[[str], str]
TextTokenizer = Callable[[list[str]], tuple[Int[Tensor, "texts length"], Bool[Tensor, "texts length"]]]


def with_article(name: str) -> str:
    """``"red star"`` -> ``"a red star"``, ``"orange star"`` -> ``"an orange star"``: as the generated world's captions say it."""
    return f"{article(name.split()[0]) if name.split() else ''} {name}".strip()


def fill(template: Template, name: str) -> str:
    """A template with the class name in it: ``"a photo of {}"`` and ``"cat"``, or a function of the name.

    Raises:
        ValueError: if the template has no place for the name.
    """
    if callable(template):
        return template(name)
    if template.count("{}") != 1:
        raise ValueError(f"the template {template!r} needs one {{}} where the class name goes")
    return template.replace("{}", name)


@torch.no_grad()
def class_weights(
    model: nn.Module, tokenizer: TextTokenizer, classes: Sequence[str], templates: Sequence[Template] = (with_article,)
) -> Float[Tensor, "classes embed_dim"]:
    """One vector a class: the mean of its templates' embeddings, brought back to length 1. These are the weights of a linear classifier.

    Raises:
        ValueError: no classes or templates, a template without a place for the name, a word that the tokenizer does not know.
    """
    classes, templates = ([value] if isinstance(value, str) or callable(value) else list(value) for value in (classes, templates))
    if not classes or not templates:
        raise ValueError(f"at least one class and one template are needed; got {len(classes)} classes and {len(templates)} templates")
    ids, mask = tokenizer([fill(template, name) for name in classes for template in templates])
    device = model.logit_scale.device
    embeddings = model.encode_text(ids.to(device), mask.to(device)).unflatten(0, (len(classes), len(templates)))
    return F.normalize(embeddings.mean(dim=1), dim=-1)


@torch.no_grad()
def zero_shot(
    model: nn.Module,
    tokenizer: TextTokenizer,
    images: Float[Tensor, "images channels height width"] | Image.Image | Sequence[Image.Image],
    classes: Sequence[str],
    templates: Sequence[Template] = (with_article,),
    batch_size: int = 256,
) -> Float[Tensor, "images classes"]:
    """Classify images by comparing them with written class names.

    Args:
        model: pictures are made ready as its config says, by :func:`~minimllm.data.preprocessing.prepare_pictures`.
        tokenizer: ``tokenizer(texts) -> (ids, mask)``.
        images: ``(images, 3, height, width)`` floats in [0, 1] of any size, or Pillow pictures.
        classes: their names.
        templates: sentences with ``{}`` for the name, or functions from a name to a sentence; the embeddings of several are averaged.
        batch_size: images encoded at a time.

    Returns:
        Probabilities ``(images, classes)``: the softmax over the classes of the similarities times the model's learned scale.

    Raises:
        ValueError: as :func:`class_weights` and :func:`~minimllm.data.preprocessing.prepare_pictures`.
    """
    if not hasattr(model, "encode_text"):
        raise ValueError(f"a {type(model).__name__} has no text encoder to make class weights with; expected a CLIP")
    if not isinstance(classes, str) and not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes are names, such as 'a red star'; got {classes!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
    was_training = model.training
    model.eval()
    try:
        weights = class_weights(model, tokenizer, classes, templates)
        images = as_pictures(images)
        if len(images) == 0:
            raise ValueError("got no images")
        logits = []
        for first in range(0, len(images), batch_size):
            prepared = prepare_pictures(model, images[first : first + batch_size])
            logits.append(model.logit_scale.exp() * model.encode_image(prepared.to(weights)) @ weights.T)
        return torch.cat(logits).softmax(dim=-1)
    finally:
        model.train(was_training)
