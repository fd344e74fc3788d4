"""Many texts about one picture in one row: the picture is read once, and the texts do not see each other.

A row is ``<start> <|image|> ... | caption <end> | question answer <end> | question answer <end> | ...``. What stands before the first bar
is the prefix; each part behind it is a segment. Every segment sees the prefix and itself
(:func:`~minimllm.layers.masks.segment_mask`) and is counted on from the prefix (:func:`~minimllm.layers.segments.segment_positions`), so
that the model computes for it what it would compute for the prefix and that segment alone. Scored are the tokens that the model shall
learn to write: answers and captions, each with its end token. Questions are never scored, nor the start token, images and padding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minimllm.data.asking import Questions
from minimllm.data.tokenizer import Tokenizer
from minimllm.data.words import WORDS
from minimllm.layers.masks import segment_mask
from minimllm.layers.segments import predecessors, segment_positions
from minimllm.training.parts import cut

ANSWER, CAPTION = 1, 2


class Packed(NamedTuple):
    """A batch of rows, padded behind.

    Attributes:
        ids: token ids, ``(rows, length)``.
        segments: which segment a token belongs to, counted from 1, ``(rows, length)``; 0 in the prefix, -1 on padding.
        scored: ``ANSWER`` (1) or ``CAPTION`` (2) on the tokens that are scored, 0 on all others, ``(rows, length)``.
        images: normalised pictures of all rows in reading order, or their ``Tiles``; ``None`` without.
        features: what the model's ``features`` made of the pictures, in place of ``images``.
        pictures: how many of the pictures belong to each row, ``(rows,)``; ``None``: one to each.
        counts: of a part of a batch, by what :func:`packed_loss` divides: the whole's number of scored tokens of each kind, times the
            part's share of the rows. The mean over all tokens is then the mean over the parts, each by its share of the rows.
    """

    ids: Int[Tensor, "rows length"]
    segments: Int[Tensor, "rows length"]
    scored: Int[Tensor, "rows length"]
    images: Any = None
    features: Float[Tensor, "pictures tokens width"] | None = None
    pictures: Int[Tensor, " rows"] | None = None
    counts: dict[int, float] | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.ids)

    def cut(self, first: int, last: int) -> "Packed":
        """The rows from ``first`` to ``last`` with their pictures, which still count as a part of all.

        Raises:
            ValueError: as many pictures as belong to no one knows which row.
        """
        rows, share = slice(first, last), (last - first) / self.rows
        ends = F.pad((torch.ones(self.rows, dtype=torch.long) if self.pictures is None else self.pictures).cumsum(0), (1, 0)).tolist()
        held = {"images": self.images, "features": self.features}
        for name, value in held.items():
            if isinstance(value, Tensor):
                if len(value) != ends[-1]:
                    raise ValueError(f"{name} holds {len(value)} pictures, and {self.rows} rows have {ends[-1]} by the field pictures")
                held[name] = value[ends[first] : ends[last]]
            elif value is not None:
                held[name] = cut(value, first, last)
        counts = {kind: count * share for kind, count in self.count().items()}
        pictures = None if self.pictures is None else self.pictures[rows]
        return Packed(self.ids[rows], self.segments[rows], self.scored[rows], **held, pictures=pictures, counts=counts)

    def count(self) -> dict[int, float]:
        """By what the loss of each kind of token is divided."""
        return {kind: int((self.scored == kind).sum()) for kind in (ANSWER, CAPTION)} if self.counts is None else self.counts


def pack(
    tokenizer: Tokenizer,
    questions: Questions | None = None,
    captions: Sequence[str] | None = None,
    *,
    image_tokens: int,
    pictures: int | Int[Tensor, " rows"] = 1,
    images: Float[Tensor, "pictures channels height width"] | None = None,
    earlier: Questions | None = None,
) -> Packed:
    """What a multimodal model trains on, from questions and captions about the same pictures, row by row.

    A caption comes first and is segment 1; the questions follow in their order.

    Args:
        tokenizer: one that knows the words of the generated world.
        questions: of :func:`~minimllm.data.asking.sample_questions`; ``None`` for captions alone.
        captions: a sentence for each row; ``None`` for questions alone.
        image_tokens: placeholders for a picture: the model's ``image_tokens``.
        pictures: how many pictures a row begins with, one number for all or one for each; 0 for text alone.
        images: normalised pictures in reading order, which are passed on.
        earlier: what was asked and answered before, a question about a picture of its own for each turn: the prefix is then
            ``<start> <|image|> question answer <end> ... <|image|>``. These answers are scored as well.

    Raises:
        ValueError: neither questions nor captions, different numbers of them, a negative number of pictures, a word that the tokenizer
            does not know.
    """
    if questions is None and captions is None:
        raise ValueError("there is nothing to pack: give questions, captions, or both")
    rows = len(captions) if questions is None else len(questions.question)
    if captions is not None and len(captions) != rows:
        raise ValueError(f"{rows} rows of questions need {rows} captions, got {len(captions)}")
    pictures = torch.as_tensor(pictures)
    if rows == 0 or image_tokens < 1 or pictures.min() < 0 or pictures.shape not in ((), (rows,)):
        raise ValueError(
            "expected at least one row, image_tokens of 1 or more, and pictures of 0 or more, one number or one for each row; "
            f"got {rows} rows, image_tokens {image_tokens}, pictures {pictures.tolist()}"
        )
    most = int(pictures.max()) * image_tokens
    placeholders = torch.where(torch.arange(most) < (pictures * image_tokens).expand(rows)[:, None], tokenizer.image_token_id, -1)
    parts = [_part(torch.full((rows, 1), tokenizer.start_token_id), 0, 0)]
    if earlier is not None:
        pictured = torch.full((*earlier.kind.shape, image_tokens), tokenizer.image_token_id)
        parts.append(torch.cat([_part(pictured, 0, 0), *_turns(earlier, 0, tokenizer)], dim=-1).flatten(2))
    parts.append(_part(placeholders, 0, 0))
    if captions is not None:
        ids, mask = tokenizer(captions, start=False)
        parts.append(_part(ids.masked_fill(~mask, -1), 1, CAPTION))
    if questions is not None:
        number = torch.arange(questions.kind.shape[1])[:, None] + (1 if captions is None else 2)
        parts.append(torch.cat(_turns(questions, number, tokenizer), dim=-1).flatten(2))
    turns = 0 if earlier is None else earlier.kind.shape[1]
    return Packed(*_close_up(torch.cat(parts, dim=-1), tokenizer.pad_token_id), images, pictures=pictures.expand(rows) + turns)


def _turns(questions: Questions, segment: int | Tensor, tokenizer: Tokenizer) -> list[Int[Tensor, "3 rows texts words"]]:
    """Questions, their answers, and the end behind each."""
    end = torch.where(questions.kind >= 0, tokenizer.eos_token_id, -1)[..., None]
    asked, answered = _to_ids(questions.question, tokenizer), _to_ids(questions.answer, tokenizer)
    return [_part(asked, segment, 0), _part(answered, segment, ANSWER), _part(end, segment, ANSWER)]


def _part(ids: Tensor, segment: int | Tensor, scored: int) -> Int[Tensor, "3 rows *texts words"]:
    """Ids, segments and scores of a part of all rows, one upon the other; where the ids are -1 there is nothing."""
    return torch.stack([ids, torch.as_tensor(segment).expand_as(ids), torch.full_like(ids, scored)])


def _close_up(parts: Int[Tensor, "3 rows length"], pad: int) -> list[Tensor]:
    """Moves what is empty behind all else, and cuts to the longest row."""
    empty = parts[0] < 0
    order = empty.to(torch.uint8).argsort(dim=1, stable=True)[:, : int((~empty).sum(dim=1).max())]
    empty = empty.gather(1, order)
    return [part.gather(1, order).masked_fill(empty, fill) for part, fill in zip(parts, (pad, -1, 0), strict=True)]


def _to_ids(words: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Token ids of words of the generated world, given by their index; -1, padding, stays -1."""
    known = {word: number for number, word in enumerate(tokenizer.words)}
    ids = torch.tensor([known.get(word, -2) for word in WORDS] + [-1])[words]  # index -1 is the last
    if (ids == -2).any():
        word = WORDS[int(words[ids == -2][0])]
        raise ValueError(f"this tokenizer does not know the word {word!r} of the generated world; make it with Tokenizer.from_words(WORDS)")
    return ids


def scored_logits(model: nn.Module, batch: Packed) -> tuple[Float[Tensor, "scored vocab"], tuple[Tensor, Tensor]]:
    """The logits about every scored token, row by row, and which tokens those are: ``(rows, places)``.

    Args:
        model: a language model, or a multimodal one.
        batch: for a language model, packed with ``pictures=0``.

    Raises:
        ValueError: if nothing is scored, and the errors of the model.
    """
    rows, places = batch.scored.nonzero(as_tuple=True)
    if len(rows) == 0 and not any(batch.count().values()):
        raise ValueError("no token of this batch is scored, so there is nothing to learn from; are there answers or captions in it?")
    where = rows, predecessors(batch.segments)[rows, places]
    if model.image_token_id is None:
        x = model.tokens(batch.ids)
        x = model.decode(x, attend=segment_mask(batch.segments), positions=segment_positions(batch.segments), places=where)
        return model.logits(x), (rows, places)
    logits = model(batch.ids, batch.images, segments=batch.segments, features=batch.features, places=where)
    return logits, (rows, places)


def packed_loss(model: nn.Module, batch: Packed, caption_weight: float = 0.5) -> tuple[Float[Tensor, ""], dict[str, Any]]:
    """Mean cross-entropy of the answers' tokens plus ``caption_weight`` times that of the captions', for :func:`minimllm.training.train`.

    Returns:
        The loss, and ``answers`` and ``captions``: the share of their tokens that are the likeliest, each where there are any.

    Raises:
        ValueError: as :func:`scored_logits`.
    """
    logits, where = scored_logits(model, batch)
    targets, kinds = batch.ids[where], batch.scored[where]
    losses, right = F.cross_entropy(logits, targets, reduction="none"), logits.argmax(dim=-1) == targets
    loss, metrics = logits.new_zeros(()), {}
    for kind, name, weight in ((ANSWER, "answers", 1.0), (CAPTION, "captions", caption_weight)):
        of_kind, count = kinds == kind, batch.count()[kind]
        if count:
            loss = loss + weight * losses[of_kind].sum() / count
            metrics[name] = right[of_kind].float().sum() / count
    return loss, metrics


@torch.no_grad()
def exact_matches(model: nn.Module, batch: Packed) -> Bool[Tensor, "rows segments"]:
    """For each segment whether each of its scored tokens is the likeliest: whether greedy writing gives exactly this text and its end.

    Every token is judged with the right ones before it, which comes to the same: up to its first mistake, greedy writing has written them.
    Column 0 is segment 1; answers in the prefix do not count. A segment that a row lacks counts as right.
    """
    logits, (rows, places) = scored_logits(model, batch)
    if model.image_token_id is not None and 0 <= model.image_token_id < logits.shape[-1]:
        logits[:, model.image_token_id] = float("-inf")  # which is never written
    wrong = (logits.argmax(dim=-1) != batch.ids[rows, places]) & (batch.segments[rows, places] > 0)
    matches = torch.ones(len(batch.ids), int(batch.segments.max()), dtype=torch.bool, device=batch.ids.device)
    matches[rows[wrong], batch.segments[rows, places][wrong] - 1] = False
    return matches
