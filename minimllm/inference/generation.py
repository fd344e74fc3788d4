"""Writing text with a language model: one token at a time, the likeliest or a sampled one, with the keys and values of the past kept."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from minimllm.layers.masks import check_mask
from minimllm.layers.threads import threads_for

SMALLEST = torch.finfo(torch.float32).tiny  # of a temperature that logits are divided by


@torch.no_grad()
def generate(
    model: nn.Module,
    ids: Int[Tensor, "batch length"],
    max_new_tokens: int,
    *,
    mask: Shaped[Tensor, "batch length"] | None = None,
    images: Tensor | None = None,
    tiles: object | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_token_id: Integral | Iterable[Integral] | Tensor | None = None,
    pad_token_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
    on_token: Callable[[Int[Tensor, " batch"]], Any] | None = None,
) -> Int[Tensor, "batch length_and_new"]:
    """Continue each prompt by up to ``max_new_tokens`` tokens.

    Args:
        model: a language model of the course, with or without pictures.
        ids: the prompts, ``(batch, length)``, padded to one length, anywhere.
        max_new_tokens: how many tokens to write at most; 0 returns the prompts.
        mask: 1 on real tokens, 0 on padding; each row comes out as it would alone.
        images, tiles: the pictures, as the model's ``forward`` takes them.
        temperature: divides the logits before sampling; 0 takes the likeliest token always (greedy).
        top_k: sample among the ``top_k`` likeliest tokens only.
        top_p: sample among the likeliest tokens that together reach this probability (nucleus sampling, Holtzman et al. 2020).
        eos_token_id: the end token, or several; after it a row holds ``pad_token_id``, and when all rows have ended, writing ends.
            ``None``: no end.
        pad_token_id: ``None``: the model's config says, else the (first) end token, else 0.
        seed: of a random generator of its own; ``None``: torch's global one.
        use_cache: whether to keep keys and values. Without, the whole text is read again for each token, to the same result.
        on_token: is given each new column of ids, ``(batch,)``, as soon as it is written.

    Returns:
        The prompts as given and the new ids, ``(batch, length + new)``. The id of an image is never written.

    Raises:
        ValueError: an empty prompt, one with no real token, more tokens than the model has positions, a negative temperature or number
            of tokens, ``top_k`` below 1, ``top_p`` outside (0, 1], logits that are NaN or infinite; and the errors of the model.
    """
    check_language_model(model)
    _check(ids, mask, max_new_tokens, temperature, top_k, top_p)
    if max_new_tokens == 0:
        return ids
    positions = _setting(model.config, "context_length")
    text, real = (ids, None) if mask is None or bool(mask.all()) else _padding_in_front(ids, mask.bool())
    if (needed := text.shape[1] + max_new_tokens) > positions:
        raise ValueError(
            f"a prompt of {text.shape[1]} tokens and {max_new_tokens} new ones need {needed} positions, "
            f"and this model has {positions}; shorten the prompt or ask for fewer tokens"
        )
    ends = _end_tokens(eos_token_id)
    if pad_token_id is None:
        pad_token_id = next((each for each in (_setting(model.config, "pad_token_id"), *ends) if each is not None and each >= 0), 0)
    generator = None if seed is None else torch.Generator(ids.device).manual_seed(seed)
    takes = inspect.signature(model.forward).parameters
    pictures = {name: value for name, value in (("images", images), ("tiles", tiles)) if value is not None}
    for name in pictures:
        if name not in takes:
            known = next((f"give pictures as {other}=" for other in ("images", "tiles") if other in takes), "it reads text alone")
            raise ValueError(f"a {type(model).__name__} takes no {name}; {known}")
    short = {"only_last": True} if "only_last" in takes else {}  # saves work, nothing else
    # The most multiply-adds that a token can take in one product, pictures' encoders among them; their own tokens are not counted.
    largest = max((weight.numel() for weight in model.parameters() if weight.ndim == 2), default=0)

    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    cache = model.new_cache() if use_cache else None
    with threads_for(text.numel() * largest, ids.device):
        logits = model(text, **pictures, mask=real, cache=cache, **short)[:, -1]
    written = []
    while True:
        _check_finite(model, logits, ended, len(written))
        if model.image_token_id is not None and 0 <= model.image_token_id < logits.shape[-1]:
            logits[:, model.image_token_id] = float("-inf")
        token = choose(logits, temperature, top_k, top_p, generator)
        # A row that has ended goes on unread: what the model gets need not be the padding, whose id may be no word of its vocabulary.
        written.append(token.masked_fill(ended, pad_token_id) if ends else token)
        if on_token is not None:
            on_token(written[-1])
        for end in ends:
            ended = ended | (token == end)
        if len(written) == max_new_tokens or (ends and bool(ended.all())):
            return torch.cat([ids, torch.stack(written, dim=1)], dim=1)
        if use_cache:
            with torch.inference_mode(), threads_for(len(ids) * largest, ids.device):  # the former is faster still than no gradients
                logits = model(token[:, None], cache=cache, **short)[:, -1]
            logits = logits.clone()  # an ordinary tensor again
        else:
            text = torch.cat([text, token[:, None]], dim=1)
            real = None if real is None else torch.cat([real, real.new_ones(len(real), 1)], dim=1)
            logits = model(text, **pictures, mask=real, **short)[:, -1]


def choose(
    logits: Float[Tensor, "batch vocab"],
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " batch"]:
    """The next token of each row: the likeliest at temperature 0 (or next to it), else one drawn from :func:`next_probabilities`."""
    if temperature < SMALLEST:
        return logits.argmax(dim=-1)
    return torch.multinomial(next_probabilities(logits, temperature, top_k, top_p), 1, generator=generator)[:, 0]


def next_probabilities(
    logits: Float[Tensor, "batch vocab"], temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "batch vocab"]:
    """What the next token is drawn from: the softmax of ``logits / temperature`` over the tokens that ``top_k`` and ``top_p`` leave.

    ``top_p`` counts the probabilities that ``top_k`` has left, and always leaves the likeliest token. Of equally likely tokens at the
    border, those with the lower id stay.
    """
    logits = logits.float()
    # At most 0, so that no temperature is too low for the exponential.
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / max(temperature, SMALLEST)
    probabilities, order = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        probabilities[:, top_k:] = float("-inf")
    probabilities = probabilities.softmax(dim=-1)
    if top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities  # what the likelier tokens hold together
        probabilities = probabilities.masked_fill((before >= top_p) & (before > 0), 0.0)  # a top_p may be 0 in float32
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter(-1, order, probabilities)


def _setting(config: Any, name: str) -> Any:
    """A value of a model's config, or of one of the configs inside it: a multimodal model holds a decoder."""
    if hasattr(config, name):
        return getattr(config, name)
    inside = (_setting(part, name) for part in vars(config).values() if is_dataclass(part))
    return next((value for value in inside if value is not None), None)


def _check_finite(model: nn.Module, logits: Tensor, ended: Tensor, number: int) -> None:
    """Raise a ``ValueError`` unless each row that goes on has a likeliest token: neither NaN nor infinity; -inf rules a token out."""
    well = logits.amax(dim=-1).isfinite() | ended
    if bool(well.all()):
        return
    row = int(well.int().argmin())
    broken = [name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]
    cause = f"the weights {', '.join(broken[:3])} hold NaN or infinity" if broken else "all weights are finite, so numbers grew too large"
    kind = str(logits.dtype).removeprefix("torch.")
    if broken:
        advice = "load the file again, and look at how it was trained or saved"
    elif logits.dtype == torch.float16:
        advice = "float16 holds numbers up to 65,504: load it with dtype=torch.float32"
    else:
        advice = "look at its outputs block by block"
    raise ValueError(
        f"the logits of row {row} for new token {number} are not finite (NaN or infinity): {cause}; the model computes in {kind}: {advice}"
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _end_tokens(eos_token_id: Any) -> list[int]:
    """The end tokens as a list: of one, of several, as configs of Llama have them, or of none."""
    several = isinstance(eos_token_id, Iterable) and not isinstance(eos_token_id, str) and getattr(eos_token_id, "ndim", 1)
    ends = [] if eos_token_id is None else list(eos_token_id) if several else [eos_token_id]
    ends = [end.item() if isinstance(end, Tensor) and end.numel() == 1 else end for end in ends]
    if not all(map(_is_whole, ends)):
        raise ValueError(f"eos_token_id must be a token's id or a list of such, got {eos_token_id!r}")
    return [int(end) for end in ends]


def end_tokens(model: nn.Module, tokenizer: Any) -> list[int]:
    """All end tokens that a model's config and its tokenizer have."""
    return list(dict.fromkeys([*_end_tokens(_setting(model.config, "eos_token_id")), *_end_tokens(tokenizer.eos_token_id)]))


def check_language_model(model: nn.Module) -> None:
    """Raise a ``ValueError`` for a model that writes nothing, such as a ViT."""
    if not hasattr(model, "image_token_id"):
        raise ValueError(f"a {type(model).__name__} writes no text; expected a language model, with or without pictures")


def _padding_in_front(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same rows with all padding in front, as little as there can be, so that all go on at the same place."""
    longest = int(mask.sum(dim=1).max())
    order = mask.int().argsort(dim=1, stable=True)[:, -longest:]
    return ids.gather(1, order), mask.gather(1, order)


def _check(ids: Tensor, mask: Tensor | None, max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not isinstance(ids, Tensor):
        raise ValueError(f"expected prompts as a tensor (batch, length), got a {type(ids).__name__}; torch.tensor(ids) makes one")
    if ids.ndim != 2 or 0 in ids.shape:
        raise ValueError(f"expected prompts of shape (batch, length) with at least one token, got {tuple(ids.shape)}")
    if ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"expected token ids of int64 or int32, got {ids.dtype}; convert them with ids.long()")
    if mask is not None:
        check_mask(mask)
        if mask.shape != ids.shape:
            raise ValueError(f"the mask has shape {tuple(mask.shape)}, the prompts have {tuple(ids.shape)}; they must be equal")
        if not mask.bool().any(dim=1).all():
            row = int(mask.bool().any(dim=1).int().argmin())
            raise ValueError(f"prompt {row} is empty: its mask has no real token; start it with a start token")
    if not _is_whole(max_new_tokens) or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be a whole number, 0 or more, got {max_new_tokens!r}")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be 0 (greedy) or above, and finite, got {temperature}")
    if top_k is not None and (not _is_whole(top_k) or top_k < 1):
        raise ValueError(f"top_k must be a whole number, 1 or more, got {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
