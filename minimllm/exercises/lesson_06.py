"""Exercises of lesson 06: pictures into the sentence, labels of a dialogue, and the collator whose loss falls to zero."""

import torch
from torch import Tensor

from . import Exercise, Mistake

# ---- splicing ---------------------------------------------------------------------------------------------------------

PLACEHOLDER = 2


def splicing_cases() -> list[tuple[Tensor, Tensor, int, Tensor]]:
    generator = torch.Generator().manual_seed(6)

    def case(rows: list[list[int]], tokens: int, dim: int, image_token_id: int) -> tuple[Tensor, Tensor, int, Tensor]:
        ids = torch.tensor(rows)
        pictures = int((ids == image_token_id).sum()) // tokens
        words = torch.randn(*ids.shape, dim, generator=generator)
        return words, ids, image_token_id, torch.randn(pictures, tokens, dim, generator=generator)

    p = PLACEHOLDER
    return [
        case([[1, p, p, p, p, 7, 8], [1, 9, p, p, p, p, 3], [1, 5, 6, 7, 3, 0, 0]], 4, 6, p),  # another place, and a row of text alone
        case([[1, p, p, p, 9, p, p, p, 3], [5, 4, 1, p, p, p, 7, 8, 3]], 3, 4, p),  # two pictures in a row, one in the next
        case([[1, 40, 40, 40, 40, 6]], 2, 5, 40),  # two pictures side by side
    ]


def splice(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = words.clone()
    spliced[ids == image_token_id] = patches.flatten(0, 1)
    return spliced


def added(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = words.clone()
    spliced[ids == image_token_id] += patches.flatten(0, 1)
    return spliced


def first_pictures_in_every_row(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = words.clone()
    for row, places in zip(spliced, ids == image_token_id, strict=True):
        row[places] = patches.flatten(0, 1)[: int(places.sum())]
    return spliced


def in_front(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    return torch.cat([patches[: len(words)].expand(len(words), -1, -1), words], dim=1)


def always_behind_the_start(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = words.clone()
    given = patches[: len(words)]
    spliced[: len(given), 1 : 1 + patches.shape[1]] = given
    return spliced


def one_token_for_a_picture(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = words.clone()
    spliced[ids == image_token_id] = patches.mean(dim=1).repeat_interleave(patches.shape[1], dim=0)
    return spliced


def pictures_interleaved(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = words.clone()
    spliced[ids == image_token_id] = patches.transpose(0, 1).flatten(0, 1)
    return spliced


def backwards(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = words.clone()
    spliced[ids == image_token_id] = patches.flatten(0, 1).flip(0)
    return spliced


def column_by_column(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = words.clone().transpose(0, 1)
    spliced[(ids == image_token_id).T] = patches.flatten(0, 1)
    return spliced.transpose(0, 1)


def text_replaced(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor) -> Tensor:
    spliced = torch.zeros_like(words)
    spliced[ids == image_token_id] = patches.flatten(0, 1)
    return spliced


SPLICE = Exercise(
    reference=splice,
    cases=splicing_cases,
    mistakes=(
        Mistake(
            added,
            "The patches are added to the placeholder's own embedding. They take its place: what the table holds for the placeholder "
            "means nothing.",
        ),
        Mistake(
            first_pictures_in_every_row,
            "Every row begins again with the first picture. Pictures come in reading order over the whole batch: the second row goes on "
            "where the first one stopped. A mask over the batch, ids == image_token_id, counts in just that order.",
        ),
        Mistake(
            in_front,
            "The patches are put in front of the words, so the sequence gets longer and the placeholders stay. They mark where the picture "
            "stands: replace them.",
        ),
        Mistake(
            always_behind_the_start,
            "You take it that every picture stands right behind the start token. It stands where its placeholders are; a row may have "
            "none, or those of two pictures.",
        ),
        Mistake(
            one_token_for_a_picture,
            "Every placeholder gets the mean of the picture's patches. Then all of them say the same, and where in the picture something "
            "is, is lost: the first placeholder gets the first patch, and so on.",
        ),
        Mistake(
            pictures_interleaved,
            "The patches of different pictures are mixed: you take the first patch of each picture, then the second of each. Flatten "
            "(images, tokens, dim) as it is, without a transpose.",
        ),
        Mistake(backwards, "The order is reversed: the first placeholder gets the last patch. Reading order starts with the first one."),
        Mistake(
            column_by_column,
            "You go through the batch column by column, so that the rows take turns. Reading order is row by row.",
        ),
        Mistake(
            text_replaced,
            "The patches are in their places, and the words are gone: only the placeholders change. Start from a copy of the words.",
        ),
    ),
    afterthought="Something to think of: what would your function do with a placeholder too many, and what should it do?",
)

# ---- labels -----------------------------------------------------------------------------------------------------------

QUESTION, END = 5, 3


def label_cases() -> list[tuple[Tensor, Tensor, int, int]]:
    def case(rows: list[list[int]], masks: list[list[int]], question_mark: int, end: int) -> tuple[Tensor, Tensor, int, int]:
        return torch.tensor(rows), torch.tensor(masks), question_mark, end

    q, e = QUESTION, END
    return [
        case(  # padded behind; two questions in the first row
            [[1, 2, 2, 9, q, 31, e, 8, 7, q, 32, 33, e], [1, 2, 2, 8, 9, 7, q, 34, 35, 36, e, 0, 0]],
            [[1] * 13, [1] * 11 + [0] * 2],
            q,
            e,
        ),
        case(  # padded with the end token, in front and behind
            [[e, e, e, 1, 2, 2, 9, q, 31, e], [1, 2, 2, 9, 8, q, 32, 33, e, e]],
            [[0] * 3 + [1] * 7, [1] * 9 + [0]],
            q,
            e,
        ),
        case([[1, 9, 9, 50, 20, 21, 60, 8, 50, 22, 60]], [[1] * 11], 50, 60),
    ]


def _before(places: Tensor) -> Tensor:
    """How many there are before each token, itself not counted."""
    return places.long().cumsum(dim=1) - places.long()


def _answers(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    real = mask.bool()
    return (_before((ids == question_mark) & real) > _before((ids == end) & real)) & real


def mask_labels(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    return ids.masked_fill(~_answers(ids, mask, question_mark, end), -100)


def everything_scored(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    return ids.masked_fill(~mask.bool(), -100)


def nothing_ignored(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    return ids.clone()


def without_the_end(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    return mask_labels(ids, mask, question_mark, end).masked_fill(ids == end, -100)


def with_the_question_mark(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    scored = _answers(ids, mask, question_mark, end) | (ids == question_mark)
    return ids.masked_fill(~scored, -100)


def after_the_first_question(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    scored = (_before(ids == question_mark) > 0) & mask.bool()
    return ids.masked_fill(~scored, -100)


def last_answer_only(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    asked = _before(ids == question_mark)
    return mask_labels(ids, mask, question_mark, end).masked_fill(asked < asked[:, -1:], -100)


def first_answer_only(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    return mask_labels(ids, mask, question_mark, end).masked_fill(_before(ids == question_mark) > 1, -100)


def shifted(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    labels = mask_labels(ids, mask, question_mark, end)
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)


def filled_with_zero(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    return ids.masked_fill(~_answers(ids, mask, question_mark, end), 0)


def questions_scored(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    return ids.masked_fill(_answers(ids, mask, question_mark, end) | ~mask.bool(), -100)


def padding_in_front_counted(ids: Tensor, mask: Tensor, question_mark: int, end: int) -> Tensor:
    scored = (_before(ids == question_mark) > _before(ids == end)) & mask.bool()
    return ids.masked_fill(~scored, -100)


MASK_LABELS = Exercise(
    reference=mask_labels,
    cases=label_cases,
    batched=(0, 1),
    mistakes=(
        Mistake(
            everything_scored,
            "Only padding is ignored: the model would be trained to write placeholders and questions as well. The answers "
            "alone are scored: all from behind a question mark up to the end token.",
        ),
        Mistake(nothing_ignored, "Nothing is ignored yet. Everything but the answers gets the label -100."),
        Mistake(
            without_the_end,
            "The end tokens are not scored, so the model never learns to stop. This happens in practice where padding is masked by its id, "
            "and the padding *is* the end token: take the mask, not the id.",
        ),
        Mistake(
            with_the_question_mark,
            "The question mark itself is scored. Labels belong to the token that is to be *predicted*; the loss shifts by one, so the "
            "first answer word is predicted at the question mark already.",
        ),
        Mistake(
            after_the_first_question,
            "Everything after the first question mark is scored, the second question too. An end token closes an answer; what follows is "
            "the next question.",
        ),
        Mistake(last_answer_only, "Only the last answer of a row is scored. Each question mark opens an answer, each end token closes it."),
        Mistake(
            first_answer_only, "Only the first answer of a row is scored. Every question mark opens an answer, every end token closes it."
        ),
        Mistake(
            shifted,
            "The labels are shifted by one. By convention labels stand at their tokens' own places and the loss shifts; shifted twice, the "
            "model would learn to skip a word.",
        ),
        Mistake(
            filled_with_zero,
            "0 is the id of a real token, and would be trained as one. -100 is what F.cross_entropy ignores.",
        ),
        Mistake(questions_scored, "The wrong way round: the questions are scored and the answers ignored."),
        Mistake(
            padding_in_front_counted,
            "Right but for padding in front that consists of end tokens: you count them as ends of answers. Count real tokens only: "
            "(ids == end) & mask.bool().",
        ),
    ),
    afterthought="Something to think of: whose loss counts more now, that of a row with one answer or with eight?",
)

# ---- three collators --------------------------------------------------------------------------------------------------

Example = tuple[list[int], list[int]]
"""The ids of a question, and those of its answer with the end token."""


def _padded(examples: list[Example], padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ids of all rows, ``(rows, length)``, and where each row's answer begins and ends, ``(rows, 1)``."""
    rows = [question + answer for question, answer in examples]
    longest = max(map(len, rows))
    begins = torch.tensor([[len(question)] for question, _ in examples])
    ends = torch.tensor([[len(row)] for row in rows])
    return torch.tensor([row + [padding] * (longest - len(row)) for row in rows]), begins, ends


def collate_a(examples: list[Example], end: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels: ``F.cross_entropy(model(inputs), labels)`` compares them place by place. Padded with the end token."""
    ids, begins, ends = _padded(examples, end)
    place = torch.arange(ids.shape[1])
    labels = ids.masked_fill((place < begins) | (ids == end), -100)
    return ids[:, :-1], labels[:, 1:]


def collate_b(examples: list[Example], end: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels: ``F.cross_entropy(model(inputs), labels)`` compares them place by place. Padded with the end token."""
    ids, begins, ends = _padded(examples, end)
    place = torch.arange(ids.shape[1])
    labels = ids.masked_fill((place < begins) | (place >= ends), -100)
    return ids[:, :-1], labels[:, :-1]


def collate_c(examples: list[Example], end: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels: ``F.cross_entropy(model(inputs), labels)`` compares them place by place. Padded with the end token."""
    ids, begins, ends = _padded(examples, end)
    place = torch.arange(ids.shape[1])
    labels = ids.masked_fill((place < ends) | (place >= begins), -100)
    return ids[:, :-1], labels[:, 1:]


def collate(examples: list[Example], end: int) -> tuple[Tensor, Tensor]:
    """As it should be."""
    ids, begins, ends = _padded(examples, end)
    place = torch.arange(ids.shape[1])
    labels = ids.masked_fill((place < begins) | (place >= ends), -100)
    return ids[:, :-1], labels[:, 1:]


def collated_cases() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    examples = [
        (torch.randint(4, 50, (questions,), generator=generator).tolist(), torch.randint(4, 50, (answers,), generator=generator).tolist())
        for questions, answers in ((5, 2), (7, 1), (6, 4), (5, 1))
    ]
    examples = [(question, [*answer, END]) for question, answer in examples]
    # Words that come twice: "twenty twenty" is its own next word here and there.
    repeated = [([9, 8, 11], [11, 11, END]), ([9, 7, 12], [12, 12, 12, END])]
    return [collated(rows, END) for rows in (examples, repeated) for collated in (collate_a, collate_b, collate_c, collate)]


def loss_falls_to_zero(inputs: Tensor, labels: Tensor) -> bool:
    scored = labels != -100
    return bool(scored.any()) and bool((labels == inputs)[scored].all())


def nothing_scored(inputs: Tensor, labels: Tensor) -> bool:
    return not bool((labels != -100).any())


def nothing_counts_as_all(inputs: Tensor, labels: Tensor) -> bool:
    return bool((labels == inputs)[labels != -100].all())


def one_suffices(inputs: Tensor, labels: Tensor) -> bool:
    return bool((labels == inputs).any())


def ignored_compared_too(inputs: Tensor, labels: Tensor) -> bool:
    return bool((labels == inputs).all())


def shifted_once_more(inputs: Tensor, labels: Tensor) -> bool:
    scored = labels[:, :-1] != -100
    return bool(scored.any()) and bool((labels[:, :-1] == inputs[:, 1:])[scored].all())


def no_end(inputs: Tensor, labels: Tensor) -> bool:
    return not bool((labels == END).any())


LOSS_FALLS_TO_ZERO = Exercise(
    reference=loss_falls_to_zero,
    cases=collated_cases,
    mistakes=(
        Mistake(
            nothing_scored,
            "You find the collator that scores nothing at all. Its loss is a mean over nothing, 0 / 0 = NaN, which is not zero. Look for "
            "the one where the model is *given* what it is to predict.",
        ),
        Mistake(
            nothing_counts_as_all,
            "Nearly: where nothing is scored, there is nothing that could differ, and .all() of nothing is True. Ask first whether "
            "anything is scored.",
        ),
        Mistake(
            one_suffices,
            "A single place where label and input are equal proves nothing: a word may come twice in a row. They must be equal wherever "
            "something is scored.",
        ),
        Mistake(
            ignored_compared_too,
            "You compare the ignored places as well, where the label is -100 and never equals an input. Leave them out: [labels != -100].",
        ),
        Mistake(
            shifted_once_more,
            "That is how right labels look: each is the *next* input. Look for labels that equal the input of their own place.",
        ),
        Mistake(
            no_end,
            "You find collators that never score the end token. Such a model does not learn to stop, but its loss does not become zero.",
        ),
    ),
    afterthought="Something to think of: which of the other two mistakes would you notice from the loss, and which only when it answers?",
)

EXERCISES = {"splice": SPLICE, "mask_labels": MASK_LABELS, "loss_falls_to_zero": LOSS_FALLS_TO_ZERO}
