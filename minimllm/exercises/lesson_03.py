"""Exercises of lesson 03: the contrastive loss, pooling at the end token, masking pairs that are no negatives."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from minimllm.training.contrastive import contrastive_loss

from . import Exercise, Wrong

# ---- the loss ---------------------------------------------------------------------------------------------------------


def loss_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)

    def case(pairs: int, dim: int, log_scale: float) -> tuple[Tensor, Tensor, Tensor]:
        images, noise = torch.randn(2, pairs, dim, generator=generator)
        lengths = torch.rand(2, pairs, 1, generator=generator) * 3 + 0.2  # what the encoders give has no particular length
        return images * lengths[0], (images + noise) * lengths[1], torch.tensor(log_scale)

    return [case(4, 6, 1.5), case(7, 3, 2.0), case(2, 5, 0.3)]


def logits(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    return log_scale.exp() * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T


def rows(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)))


def loss(images: Tensor, texts: Tensor, log_scale: Tensor, *, of=contrastive_loss) -> Tensor:
    return of(logits(images, texts, log_scale))


CONTRASTIVE_LOSS = Exercise(
    reference=loss,
    cases=loss_cases,
    mistakes=dict(
        rows_only=Wrong(partial(loss, of=rows)).hint("""
            This is half of it: each picture looks for its sentence. Each sentence must look for its picture, too: the same cross-entropy
            over the columns (of the transposed matrix), and the mean of the two."""),
        columns_only=Wrong(partial(loss, of=lambda logits: rows(logits.T))).hint("""
            This is half of it: each sentence looks for its picture. Each picture must look for its sentence, too: the same cross-entropy
            over the rows, and the mean of the two."""),
        not_normalised=Wrong(lambda images, texts, log_scale: contrastive_loss(log_scale.exp() * images @ texts.T)).hint("""
            The vectors are compared with their lengths: a product of long vectors is large whatever their directions. Bring each to length
            1 first (F.normalize(..., dim=-1)); the product is then the cosine."""),
        one_side_not_normalised=Wrong(
            lambda images, texts, log_scale: contrastive_loss(log_scale.exp() * images @ F.normalize(texts, dim=-1).T),
            texts_not_normalised=lambda images, texts, log_scale: contrastive_loss(log_scale.exp() * F.normalize(images, dim=-1) @ texts.T),
        ).hint("""One side is normalised, the other keeps its lengths: then a product is no cosine. Both images and texts need
            F.normalize(..., dim=-1)."""),
        normalised_over_the_batch=Wrong(
            lambda images, texts, log_scale: contrastive_loss(log_scale.exp() * F.normalize(images, dim=0) @ F.normalize(texts, dim=0).T)
        ).hint("""The normalisation runs along the wrong axis: over the batch, so that each *number* has length 1 over all pictures. It is
            each vector that must have length 1: dim=-1."""),
        scale_not_exponentiated=Wrong(lambda again, log_scale: again(log_scale=log_scale.log())).hint("""
            The scale is learned as its logarithm, so that it stays positive whatever the optimizer does: multiply by log_scale.exp(), not
            by log_scale itself."""),
        divided_by_the_scale=Wrong(lambda again, log_scale: again(log_scale=-log_scale)).hint("""
            You divide by the scale. A *temperature* would divide; the scale is 1 / temperature and multiplies. Divided, the softmax becomes
            flatter where it should become sharper."""),
        scale_forgotten=Wrong(lambda again: again(log_scale=torch.zeros(()))).hint("""
            The scale is missing. Cosines lie between −1 and 1, and a softmax over so narrow a range is nearly flat."""),
        softmax_over_all=Wrong(
            partial(loss, of=lambda logits: -logits.flatten().log_softmax(dim=0).view_as(logits).diagonal().mean())
        ).hint("""One softmax runs over all cells of the matrix at once. There must be one for each row (which of the sentences?) and one
            for each column (which of the pictures?)."""),
        binary_cross_entropy=Wrong(
            partial(loss, of=lambda logits: F.binary_cross_entropy_with_logits(logits, torch.eye(len(logits)))),
            binary_cross_entropy_of_signs=partial(
                loss, of=lambda logits: -F.logsigmoid(logits * (2 * torch.eye(len(logits)) - 1)).sum() / len(logits)
            ),
        ).hint("""
            Each cell of the matrix is judged by itself, with a sigmoid: pair or no pair. (SigLIP does so.) CLIP lets the cells of a row
            compete: a softmax over the row, and the cross-entropy with the diagonal."""),
        sign_forgotten=Wrong(lambda right: -right).hint("""
            The sign is missing: the loss is *minus* the logarithm of the probability of the right answer. Yours falls without end as the
            model gets worse."""),
        added_not_averaged=Wrong(lambda right: 2 * right).hint("""
            Everything is right but a factor of two: the two directions are averaged, not added."""),
        summed_over_the_batch=Wrong(lambda right, images: len(images) * right).hint("""
            You add up over the pairs. Take the mean: otherwise a larger batch means larger gradients, and the learning rate has to be
            chosen anew for each batch size."""),
        softmax_twice=Wrong(partial(loss, of=lambda logits: (rows(logits.softmax(dim=1)) + rows(logits.T.softmax(dim=1))) / 2)).hint("""
            There are two softmaxes, one after the other: F.cross_entropy takes logits and does its own. Give it the scaled
            similarities."""),
        wrong_axis=Wrong(
            partial(loss, of=lambda logits: (rows(logits.softmax(dim=0).log()) + rows(logits.T.softmax(dim=0).log())) / 2)
        ).hint("""
            The softmax runs along one axis and the loss reads along the other. For 'which sentence belongs to this picture' the numbers of
            one *row* must add up to 1: dim=1 (or simply F.cross_entropy, which does the softmax over the last axis itself)."""),
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


def ends(ids: Tensor, end: int) -> Tensor:
    return (ids == end).int().argmax(dim=1)


def at(tokens: Tensor, positions: Tensor) -> Tensor:
    return tokens[torch.arange(len(tokens)), positions]


def pool(tokens: Tensor, ids: Tensor, end: int) -> Tensor:
    return at(tokens, ends(ids, end))


def mean_of_real(tokens, ids, end):
    real = (torch.arange(ids.shape[1]) <= ends(ids, end)[:, None])[..., None]
    return (tokens * real).sum(dim=1) / real.sum(dim=1)


POOLING = Exercise(
    reference=pool,
    cases=pooling_cases,
    batched=(0, 1),
    mistakes=dict(
        last_position=Wrong(lambda tokens: tokens[:, -1]).hint("""
            That is the last position of the *padded* row, which is padding for every text but the longest. Look for the end token: (ids ==
            end)."""),
        first_position=Wrong(lambda tokens: tokens[:, 0]).hint("""
            Position 0 is the start token. In a causal encoder it has seen nothing but itself, and is the same for every text. (A class
            token in front works in the image encoder, where every token sees all others.)"""),
        mean_of_all=Wrong(lambda tokens: tokens.mean(dim=1)).hint("""
            That is the mean over all positions, padding counted: the same sentence would differ in a batch with a longer one."""),
        mean_of_real=Wrong(mean_of_real).hint("""
            That is the mean over the text without padding. Sensible, and some models do so; CLIP reads the end token alone, the only one
            that has seen the whole text."""),
        before_the_end=Wrong(lambda tokens, ids, end: at(tokens, ends(ids, end) - 1)).hint("""
            One position too early: that is the last word. The end token itself is read; it has seen the last word, too."""),
        last_end_token=Wrong(lambda tokens, ids, end: at(tokens, ids.shape[1] - 1 - ends(ids.flip(1), end))).hint("""
            Where the padding consists of end tokens (as transformers pads), you read the last of them. It is the first that ends the text:
            .argmax() on (ids == end).int() finds the first of several equal values."""),
        highest_id=Wrong(lambda tokens, ids: at(tokens, ids.argmax(dim=1))).hint("""
            That is the position of the highest id. OpenAI's code does so, because in its vocabulary the end token is the last of all; here
            it is not. Compare with end."""),
        all_positions_of_the_batch=Wrong(lambda tokens, ids, end: tokens[:, ends(ids, end)]).hint("""
            tokens[:, positions] takes *every* text at *every* one of the positions. Pair them: tokens[torch.arange(batch), positions]."""),
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
        ["a star", "a ring and a star", "a star", "a ring"],  # one caption inside another
    ]
    return [(torch.randn(len(row), len(row), generator=generator) * 2 + 1.5, row) for row in texts]


def table(captions: list[str], fits=lambda one, other: one == other) -> Tensor:
    return torch.tensor([[fits(one, other) for other in captions] for one in captions])


def mask_duplicates(logits: Tensor, captions: list[str], *, fits=lambda one, other: one == other, value: float = float("-inf")) -> Tensor:
    return logits.masked_fill(table(captions, fits) & ~torch.eye(len(logits), dtype=torch.bool), value)


def no_duplicates_at_all(logits, captions):
    repeated = torch.tensor([captions.index(text) < place for place, text in enumerate(captions)])
    return logits[~repeated][:, ~repeated]


MASK_DUPLICATES = Exercise(
    reference=mask_duplicates,
    cases=masking_cases,
    mistakes=dict(
        diagonal_masked_too=Wrong(lambda logits, captions: logits.masked_fill(table(captions), float("-inf"))).hint("""
            The pair itself is masked, too: every caption equals itself. No right answer is left, and the loss is infinite. Leave the
            diagonal: & ~torch.eye(n, dtype=torch.bool)."""),
        set_to_zero=Wrong(partial(mask_duplicates, value=0.0)).hint("""
            A logit of 0 is not nothing: the softmax gives it exp(0) = 1, more than any negative logit. What shall not count must be
            float('-inf'), of which the exponential is 0."""),
        others_masked=Wrong(lambda logits, captions: logits.masked_fill(~table(captions), float("-inf"))).hint("""
            The wrong way round: you keep the duplicates and remove the real negatives. Then nothing is left to tell apart."""),
        above_the_diagonal=Wrong(lambda logits, captions: logits.masked_fill(table(captions).triu(1), float("-inf"))).hint("""
            Only one half is masked. If picture 0 fits caption 2, picture 2 fits caption 0: mask below the diagonal, too."""),
        below_the_diagonal=Wrong(lambda logits, captions: logits.masked_fill(table(captions).tril(-1), float("-inf"))).hint("""
            Only one half is masked. If picture 2 fits caption 0, picture 0 fits caption 2: mask above the diagonal, too."""),
        one_inside_the_other=Wrong(
            partial(mask_duplicates, fits=lambda one, other: one in other),
            the_other_inside_the_one=partial(mask_duplicates, fits=lambda one, other: other in one),
            either_inside_the_other=partial(mask_duplicates, fits=lambda one, other: one in other or other in one),
        ).hint("""`in` asks whether one string stands somewhere inside another: "a ring" is in "a ring and a star", which is another caption
            and a real negative. Asked for are equal captions: ==."""),
        no_duplicates_at_all=Wrong(no_duplicates_at_all).hint("""
            You remove the repeated pairs from the batch altogether. Their pictures are different and worth learning from: keep the matrix's
            size, and mask only the cells in question."""),
        plus_infinity=Wrong(partial(mask_duplicates, value=float("inf"))).hint("""
            The sign is wrong: exp(+inf) swallows the whole row. It must be float('-inf')."""),
        nothing_masked=Wrong(lambda logits: logits.clone()).hint("Nothing is masked yet: two equal captions are still told apart."),
    ),
    afterthought="Something to think of: 'a ring' is true of the picture of a red ring as well. Which cells should be masked, really?",
)

EXERCISES = {"contrastive_loss": CONTRASTIVE_LOSS, "pool_at_end": POOLING, "mask_duplicates": MASK_DUPLICATES}
