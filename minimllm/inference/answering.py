"""Asking a model about pictures, in the form in which it was trained: one question and one picture to a row, or none."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from minimllm.data.pictures import as_pictures
from minimllm.data.preprocessing import as_pillow
from minimllm.data.tokenizer import Tokenizer
from minimllm.inference.generation import check_language_model, end_tokens, generate

Pictures = Float[Tensor, "pictures channels height width"] | Image.Image | Sequence[Image.Image]


def answer(
    model: nn.Module,
    tokenizer: Tokenizer,
    images: Pictures | None,
    questions: str | Sequence[str],
    *,
    max_new_tokens: int = 16,
    batch_size: int = 64,
) -> list[str]:
    """Answers one question about each picture, by greedy writing.

    Args:
        model: a multimodal model of the course, or a language model; it resizes and normalises the pictures as its config says.
        tokenizer: the model's own.
        images: ``(questions, channels, height, width)`` floats in [0, 1] of any size, or Pillow pictures; ``None``: questions without
            pictures, all that a language model takes.
        questions: one for each picture.
        max_new_tokens: longest answer, its end token included.
        batch_size: rows answered at a time.

    Returns:
        A text for each question, without the special tokens.

    Raises:
        ValueError: different numbers of pictures and questions, none of them, pictures for a language model, a word that the tokenizer
            does not know, a question longer than the model's positions; and as :func:`~minimllm.data.preprocessing.prepare_pictures`.
    """
    questions = [questions] if isinstance(questions, str) else list(questions)
    images = as_list(images)
    if not questions or not all(isinstance(question, str) and question.strip() for question in questions):
        raise ValueError(f"expected questions, at least one and none empty; got {questions[:3]!r}")
    if images is not None and len(images) != len(questions):
        raise ValueError(f"expected one picture for each question, got {len(images)} pictures and {len(questions)} questions")
    return _write(model, tokenizer, images, questions, max_new_tokens, batch_size)


def describe_pictures(
    model: nn.Module, tokenizer: Tokenizer, images: Pictures, *, max_new_tokens: int = 64, batch_size: int = 64
) -> list[str]:
    """A caption for each picture: what the model writes when a picture is all it is given. Arguments and errors as of :func:`answer`."""
    images = as_list(images)
    if images is None or len(images) == 0:
        raise ValueError("expected pictures, at least one; got none")
    return _write(model, tokenizer, images, [""] * len(images), max_new_tokens, batch_size)


@torch.no_grad()
def _write(
    model: nn.Module, tokenizer: Tokenizer, images: Pictures | None, texts: list[str], max_new_tokens: int, batch_size: int
) -> list[str]:
    check_language_model(model)
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(f"answer asks with the course's own Tokenizer, got a {type(tokenizer).__name__}; minimllm.chat takes that one")
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
    if images is not None and model.image_token_id is None:
        raise ValueError(f"a {type(model).__name__} reads text alone and got {len(images)} pictures; give images=None")
    image_tokens = 0 if images is None else getattr(model, "image_tokens", 1)  # one where pictures do not stand in the sentence
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        written = []
        for first in range(0, len(texts), batch_size):
            ids, mask = prompts(tokenizer, texts[first : first + batch_size], image_tokens)
            pictures = {} if images is None else picture_inputs(model, images[first : first + batch_size])
            ends, pad = end_tokens(model, tokenizer), tokenizer.pad_token_id
            ids, mask = ids.to(device), mask.to(device)
            whole = generate(model, ids, max_new_tokens, mask=mask, eos_token_id=ends, pad_token_id=pad, **pictures)
            written += tokenizer.decode(whole[:, ids.shape[1] :])
        return written
    finally:
        model.train(was_training)


def prompts(tokenizer: Tokenizer, texts: Sequence[str], image_tokens: int) -> tuple[Tensor, Tensor]:
    """``<start> <|image|> ... question``, padded behind: ids and mask, as training has them before an answer (see ``packing.py``)."""
    ids, mask = tokenizer(texts, end=False)
    pictures = torch.full((len(ids), image_tokens), tokenizer.image_token_id)
    return torch.cat([ids[:, :1], pictures, ids[:, 1:]], dim=1), torch.cat([mask[:, :1], pictures > -1, mask[:, 1:]], dim=1)


def as_list(images: Pictures | Sequence[Tensor] | None) -> Any:
    """One Pillow picture as a list of one, and ``None`` as it is; errors as :func:`~minimllm.data.pictures.as_pictures`."""
    return None if images is None else as_pictures(images)


def picture_inputs(model: nn.Module, images: Any, one_row: bool = False) -> dict[str, Any]:
    """Pictures as the model's ``forward`` takes them, one for each row, or all for ``one_row``.

    ``{"images": ...}``, or ``{"tiles": ...}`` for Llama 3.2 Vision.
    """
    if hasattr(model, "picture_inputs"):
        return model.picture_inputs(images)
    images = as_pillow(images)
    rows = [images] if one_row else [[picture] for picture in images]
    return {"tiles": model.prepare_tiles(rows).to(next(model.parameters()).device)}
