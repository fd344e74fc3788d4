"""Exercises of lesson 03: the contrastive loss, pooling at the end token, masking pairs that are no negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minimllm.training.contrastive import contrastive_loss

from . import Exercise, Mistake

# ---- the loss ---------------------------------------------------------------------------------------------------------


def loss_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)

    def case(pairs: int, dim: int, log_scale: float) -> tuple[Tensor, Tensor, Tensor]:
        images, noise = torch.randn(2, pairs, dim, generator=generator)
        lengths = torch.rand(2, pairs, 1, generator=generator) * 3 + 0.2  # what the encoders give has no particular length
        return images * lengths[0], (images + noise) * lengths[1], torch.tensor(log_scale)

    return [case(4, 6, 1.5), case(7, 3, 2.0), case(2, 5, 0.3)]


def _logits(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return log_scale.exp() * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T


def _rows(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)))


def loss(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return contrastive_loss(_logits(images, texts, log_scale))


def rows_only(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return _rows(_logits(images, texts, log_scale))


def columns_only(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return _rows(_logits(images, texts, log_scale).T)


def not_normalised(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return contrastive_loss(log_scale.exp() * images @ texts.T)


def normalised_over_the_batch(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return contrastive_loss(log_scale.exp() * F.normalize(images, dim=0) @ F.normalize(texts, dim=0).T)


def scale_not_exponentiated(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return contrastive_loss(log_scale * _logits(images, texts, torch.zeros(())))


def divided_by_the_scale(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return contrastive_loss(_logits(images, texts, -log_scale))


def scale_forgotten(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return contrastive_loss(_logits(images, texts, torch.zeros(())))


def softmax_over_all(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    logits = _logits(images, texts, log_scale)
    return -logits.flatten().log_softmax(dim=0).view_as(logits).diagonal().mean()


def added_not_averaged(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return 2 * loss(images, texts, log_scale)


def summed_over_the_batch(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return len(images) * loss(images, texts, log_scale)


def softmax_twice(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    logits = _logits(images, texts, log_scale)
    return (_rows(logits.softmax(dim=1)) + _rows(logits.T.softmax(dim=1))) / 2


def wrong_axis(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    logits = _logits(images, texts, log_scale)
    return (_rows(logits.softmax(dim=0).log()) + _rows(logits.T.softmax(dim=0).log())) / 2


CONTRASTIVE_LOSS = Exercise(
    reference=loss,
    cases=loss_cases,
    mistakes=(
        Mistake(
            rows_only,
            "This is half of it: each picture looks for its sentence. Each sentence must look for its picture, too: the same "
            "cross-entropy over the columns (of the transposed matrix), and the mean of the two.",
        ),
        Mistake(
            columns_only,
            "This is half of it: each sentence looks for its picture. Each picture must look for its sentence, too: the same "
            "cross-entropy over the rows, and the mean of the two.",
        ),
        Mistake(
            not_normalised,
            "The vectors are compared with their lengths: a product of long vectors is large whatever their directions. Bring each to "
            "length 1 first (F.normalize(..., dim=-1)); the product is then the cosine.",
        ),
        Mistake(
            normalised_over_the_batch,
            "The normalisation runs along the wrong axis: over the batch, so that each *number* has length 1 over all pictures. It is "
            "each vector that must have length 1: dim=-1.",
        ),
        Mistake(
            scale_not_exponentiated,
            "The scale is learned as its logarithm, so that it stays positive whatever the optimizer does: multiply by log_scale.exp(), "
            "not by log_scale itself.",
        ),
        Mistake(
            divided_by_the_scale,
            "You divide by the scale. A *temperature* would divide; the scale is 1 / temperature and multiplies. Divided, the softmax "
            "becomes flatter where it should become sharper.",
        ),
        Mistake(
            scale_forgotten,
            "The scale is missing. Cosines lie between −1 and 1, and a softmax over so narrow a range is nearly flat.",
        ),
        Mistake(
            softmax_over_all,
            "One softmax runs over all cells of the matrix at once. There must be one for each row (which of the sentences?) and one for "
            "each column (which of the pictures?).",
        ),
        Mistake(added_not_averaged, "Everything is right but a factor of two: the two directions are averaged, not added."),
        Mistake(
            summed_over_the_batch,
            "You add up over the pairs. Take the mean: otherwise a larger batch means larger gradients, and the learning rate has to be "
            "chosen anew for each batch size.",
        ),
        Mistake(
            softmax_twice,
            "There are two softmaxes, one after the other: F.cross_entropy takes logits and does its own. Give it the scaled similarities.",
        ),
        Mistake(
            wrong_axis,
            "The softmax runs along one axis and the loss reads along the other. For 'which sentence belongs to this picture' the numbers "
            "of one *row* must add up to 1: dim=1 (or simply F.cross_entropy, which does the softmax over the last axis itself).",
        ),
    ),
    afterthought="Something to think of: what is the loss of a model that gives all vectors the same direction?",
)

# ---- pooling ----------------------------------------------------------------------------------------------------------


def pooling_cases() -> list[tuple[Tensor, Tensor, int]]:
    generator = torch.Generator().manual_seed(4)
    end, pad = 3, 0

    def case(rows: list[list[int]], dim: int, end: int) -> tuple[Tensor, Tensor, int]:
        ids = torch.tensor(rows)
        return torch.randn(*ids.shape, dim, generator=generator), ids, end

    return [
        case([[1, 9, 8, 7, end], [1, 6, end, pad, pad], [1, 5, 9, end, pad]], 6, end),
        case([[1, 4, 7, end, end, end], [1, 6, 5, 8, 4, end]], 4, end),  # padded with the end token, as transformers does
        case([[1, 2, 2], [1, 8, 2]], 3, 2),
    ]


def _at(tokens: Tensor, positions: Tensor) -> Tensor:
    return tokens[torch.arange(len(tokens)), positions]


def pool(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return _at(tokens, (ids == end).int().argmax(dim=1))


def last_position(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return tokens[:, -1]


def first_position(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return tokens[:, 0]


def mean_of_all(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return tokens.mean(dim=1)


def mean_of_real(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    real = (torch.arange(ids.shape[1]) <= (ids == end).int().argmax(dim=1)[:, None])[..., None]
    return (tokens * real).sum(dim=1) / real.sum(dim=1)


def before_the_end(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return _at(tokens, (ids == end).int().argmax(dim=1) - 1)


def last_end_token(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return _at(tokens, ids.shape[1] - 1 - (ids == end).flip(1).int().argmax(dim=1))


def highest_id(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return _at(tokens, ids.argmax(dim=1))


def all_positions_of_the_batch(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return tokens[:, (ids == end).int().argmax(dim=1)]


POOLING = Exercise(
    reference=pool,
    cases=pooling_cases,
    batched=(0, 1),
    mistakes=(
        Mistake(
            last_position,
            "That is the last position of the *padded* row, which is padding for every text but the longest. Look for the end token: "
            "(ids == end).",
        ),
        Mistake(
            first_position,
            "Position 0 is the start token. In a causal encoder it has seen nothing but itself, and is the same for every text. (A class "
            "token in front works in the image encoder, where every token sees all others.)",
        ),
        Mistake(
            mean_of_all,
            "That is the mean over all positions, padding counted: the same sentence would differ in a batch with a longer one.",
        ),
        Mistake(
            mean_of_real,
            "That is the mean over the text without padding. Sensible, and some models do so; CLIP reads the end token alone, the only one "
            "that has seen the whole text.",
        ),
        Mistake(
            before_the_end,
            "One position too early: that is the last word. The end token itself is read; it has seen the last word, too.",
        ),
        Mistake(
            last_end_token,
            "Where the padding consists of end tokens (as transformers pads), you read the last of them. It is the first that ends the "
            "text: .argmax() on (ids == end).int() finds the first of several equal values.",
        ),
        Mistake(
            highest_id,
            "That is the position of the highest id. OpenAI's code does so, because in its vocabulary the end token is the last of all; "
            "here it is not. Compare with end.",
        ),
        Mistake(
            all_positions_of_the_batch,
            "tokens[:, positions] takes *every* text at *every* one of the positions. Pair them: tokens[torch.arange(batch), positions].",
        ),
    ),
    afterthought="Something to think of: what would your function give for a text without an end token, and would anybody notice?",
)

# ---- pairs that are no negatives --------------------------------------------------------------------------------------


def masking_cases() -> list[tuple[Tensor, list[str]]]:
    generator = torch.Generator().manual_seed(5)
    texts = [
        ["a red star", "a blue ring", "a red star", "a red heart"],
        ["a white cross", "a white cross", "a white cross"],
        ["a ring", "a red ring", "a blue ring", "a ring", "a red ring"],
    ]
    return [(torch.randn(len(row), len(row), generator=generator) * 2 + 1.5, row) for row in texts]


def _equal(captions: list[str]) -> Tensor:
    return torch.tensor([[one == other for other in captions] for one in captions])


def _own(logits: Tensor) -> Tensor:
    return torch.eye(len(logits), dtype=torch.bool)


def mask_duplicates(logits: Tensor, captions: list[str]) -> Tensor:
    return logits.masked_fill(_equal(captions) & ~_own(logits), float("-inf"))


def diagonal_masked_too(logits: Tensor, captions: list[str]) -> Tensor:
    return logits.masked_fill(_equal(captions), float("-inf"))


def set_to_zero(logits: Tensor, captions: list[str]) -> Tensor:
    return logits.masked_fill(_equal(captions) & ~_own(logits), 0.0)


def others_masked(logits: Tensor, captions: list[str]) -> Tensor:
    return logits.masked_fill(~_equal(captions), float("-inf"))


def above_the_diagonal(logits: Tensor, captions: list[str]) -> Tensor:
    return logits.masked_fill(_equal(captions).triu(1), float("-inf"))


def below_the_diagonal(logits: Tensor, captions: list[str]) -> Tensor:
    return logits.masked_fill(_equal(captions).tril(-1), float("-inf"))


def no_duplicates_at_all(logits: Tensor, captions: list[str]) -> Tensor:
    repeated = torch.tensor([captions.index(text) < place for place, text in enumerate(captions)])
    return logits[~repeated][:, ~repeated]


def plus_infinity(logits: Tensor, captions: list[str]) -> Tensor:
    return logits.masked_fill(_equal(captions) & ~_own(logits), float("inf"))


def nothing_masked(logits: Tensor, captions: list[str]) -> Tensor:
    return logits.clone()


MASK_DUPLICATES = Exercise(
    reference=mask_duplicates,
    cases=masking_cases,
    mistakes=(
        Mistake(
            diagonal_masked_too,
            "The pair itself is masked, too: every caption equals itself. No right answer is left, and the loss is infinite. Leave the "
            "diagonal: & ~torch.eye(n, dtype=torch.bool).",
        ),
        Mistake(
            set_to_zero,
            "A logit of 0 is not nothing: the softmax gives it exp(0) = 1, more than any negative logit. What shall not count must be "
            "float('-inf'), of which the exponential is 0.",
        ),
        Mistake(
            others_masked,
            "The wrong way round: you keep the duplicates and remove the real negatives. Then nothing is left to tell apart.",
        ),
        Mistake(
            above_the_diagonal,
            "Only one half is masked. If picture 0 fits caption 2, picture 2 fits caption 0: mask below the diagonal, too.",
        ),
        Mistake(
            below_the_diagonal,
            "Only one half is masked. If picture 2 fits caption 0, picture 0 fits caption 2: mask above the diagonal, too.",
        ),
        Mistake(
            no_duplicates_at_all,
            "You remove the repeated pairs from the batch altogether. Their pictures are different and worth learning from: keep the "
            "matrix's size, and mask only the cells in question.",
        ),
        Mistake(plus_infinity, "The sign is wrong: exp(+inf) swallows the whole row. It must be float('-inf')."),
        Mistake(nothing_masked, "Nothing is masked yet: two equal captions are still told apart."),
    ),
    afterthought="Something to think of: 'a ring' is true of the picture of a red ring as well. Which cells should be masked, really?",
)

EXERCISES = {"contrastive_loss": CONTRASTIVE_LOSS, "pool_at_end": POOLING, "mask_duplicates": MASK_DUPLICATES}
