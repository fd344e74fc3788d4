"""Exercises of lesson 06: pictures into the sentence, labels of a dialogue, and the collator whose loss falls to zero."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from . import Exercise, Wrong

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


def splice(words: Tensor, ids: Tensor, image_token_id: int, patches: Tensor, *, row=lambda patches: patches.flatten(0, 1)) -> Tensor:
    """``row`` makes one row of all patches, in the order in which they go into the text."""
    spliced = words.clone()
    spliced[ids == image_token_id] = row(patches)
    return spliced


def first_pictures_in_every_row(words, ids, image_token_id, patches):
    spliced = words.clone()
    for row, places in zip(spliced, ids == image_token_id, strict=True):
        row[places] = patches.flatten(0, 1)[: int(places.sum())]
    return spliced


def always_behind_the_start(words, patches):
    spliced, given = words.clone(), patches[: len(words)]
    spliced[: len(given), 1 : 1 + patches.shape[1]] = given
    return spliced


SPLICE = Exercise(
    reference=splice,
    cases=splicing_cases,
    mistakes=dict(
        added=Wrong(lambda right, words, ids, image_token_id: right + words * (ids == image_token_id)[..., None]).hint("""
            The patches are added to the placeholder's own embedding. They take its place: what the table holds for the placeholder means
            nothing."""),
        first_pictures_in_every_row=Wrong(first_pictures_in_every_row).hint("""
            Every row begins again with the first picture. Pictures come in reading order over the whole batch: the second row goes on where
            the first one stopped. A mask over the batch, ids == image_token_id, counts in just that order."""),
        in_front=Wrong(lambda words, patches: torch.cat([patches[: len(words)].expand(len(words), -1, -1), words], dim=1)).hint("""
            The patches are put in front of the words, so the sequence gets longer and the placeholders stay. They mark where the picture
            stands: replace them."""),
        always_behind_the_start=Wrong(always_behind_the_start).hint("""
            You take it that every picture stands right behind the start token. It stands where its placeholders are; a row may have none,
            or those of two pictures."""),
        one_token_for_a_picture=Wrong(
            partial(splice, row=lambda patches: patches.mean(dim=1).repeat_interleave(patches.shape[1], dim=0))
        ).hint("""
            Every placeholder gets the mean of the picture's patches. Then all of them say the same, and where in the picture something is,
            is lost: the first placeholder gets the first patch, and so on."""),
        pictures_interleaved=Wrong(partial(splice, row=lambda patches: patches.transpose(0, 1).flatten(0, 1))).hint("""
            The patches of different pictures are mixed: you take the first patch of each picture, then the second of each. Flatten (images,
            tokens, dim) as it is, without a transpose."""),
        backwards=Wrong(partial(splice, row=lambda patches: patches.flatten(0, 1).flip(0))).hint("""
            The order is reversed: the first placeholder gets the last patch. Reading order starts with the first one."""),
        column_by_column=Wrong(lambda again, words, ids: again(words=words.transpose(0, 1), ids=ids.T).transpose(0, 1)).hint("""
            You go through the batch column by column, so that the rows take turns. Reading order is row by row."""),
        text_replaced=Wrong(lambda again, words: again(words=0 * words)).hint("""
            The patches are in their places, and the words are gone: only the placeholders change. Start from a copy of the words."""),
    ),
    afterthought="Something to think of: what would your function do with a placeholder too many, and what should it do?",
)

# ---- labels -----------------------------------------------------------------------------------------------------------

QUESTION, END = 5, 3


def label_cases() -> list[tuple[Tensor, Tensor, int, int]]:
    def case(rows: list[list[int]], masks: list[str], question_mark: int, end: int) -> tuple[Tensor, Tensor, int, int]:
        return torch.tensor(rows), torch.tensor([[int(real) for real in mask] for mask in masks]), question_mark, end

    q, e = QUESTION, END
    two_questions = [1, 2, 2, 9, q, 31, e, 8, 7, q, 32, 33, e]
    return [
        case([two_questions, [1, 2, 2, 8, 9, 7, q, 34, 35, 36, e, 0, 0]], ["1" * 13, "1" * 11 + "00"], q, e),
        case([[e, e, e, 1, 2, 2, 9, q, 31, e], [1, 2, 2, 9, 8, q, 32, 33, e, e]], ["0001111111", "1111111110"], q, e),  # padded with ends
        case([[1, 9, 9, 50, 20, 21, 60, 8, 50, 22, 60]], ["1" * 11], 50, 60),
        case([[q, q, 1, 2, 9, q, 31, e], [1, 9, 8, q, 32, e, q, q]], ["00111111", "11111100"], q, e),  # padded with question marks
        case([[1, 2, 9, q, 31, 32, 0, 0], [1, 8, q, 33, 34, 35, 36, 37]], ["11111100", "1" * 8], q, e),  # answers cut off
    ]


def before(places: Tensor) -> Tensor:
    """How many there are before each token, itself not counted."""
    return places.long().cumsum(dim=1) - places.long()


def with_itself(places: Tensor) -> Tensor:
    return places.cumsum(dim=1)


def mask_labels(ids: Tensor, mask: Tensor, question_mark: int, end: int, *, count: Callable[[Tensor], Tensor] = before) -> Tensor:
    real = mask.bool()
    answers = (count((ids == question_mark) & real) > count((ids == end) & real)) & real
    return ids.masked_fill(~answers, -100)


def opened_and_not_closed(ids, question_mark, end):
    """By what came last before each token, a question mark or an end, whether real or padding."""
    places = torch.arange(1, ids.shape[1] + 1)
    asked, answered = ((torch.where(ids == token, places, 0).cummax(dim=1).values).roll(1, dims=1) for token in (question_mark, end))
    return torch.where((asked > answered) & (places > 1), ids, -100)


def last_answer_only(right, ids, question_mark):
    asked = before(ids == question_mark)
    return right.masked_fill(asked < asked[:, -1:], -100)


MASK_LABELS = Exercise(
    reference=mask_labels,
    cases=label_cases,
    batched=(0, 1),
    mistakes=dict(
        everything_scored=Wrong(lambda ids, mask: ids.masked_fill(~mask.bool(), -100)).hint("""
            Only padding is ignored: the model would be trained to write placeholders and questions as well. The answers alone are scored:
            all from behind a question mark up to the end token."""),
        nothing_ignored=Wrong(lambda ids: ids.clone()).hint("Nothing is ignored yet. Everything but the answers gets the label -100."),
        without_the_end=Wrong(lambda right, ids, end: right.masked_fill(ids == end, -100)).hint("""
            The end tokens are not scored, so the model never learns to stop. This happens in practice where padding is masked by its id,
            and the padding *is* the end token: take the mask, not the id."""),
        with_the_question_mark=Wrong(
            lambda right, ids, question_mark: torch.where(ids == question_mark, ids, right),
            _but_not_in_the_padding=lambda right, ids, mask, question_mark: torch.where((ids == question_mark) & mask.bool(), ids, right),
        ).hint("""The question mark itself is scored. Labels belong to the token that is to be *predicted*; the loss shifts by one, so the
            first answer word is predicted at the question mark already."""),
        counted_with_itself=Wrong(
            partial(mask_labels, count=with_itself),
            _and_padding=lambda again, mask: again(mask=torch.ones_like(mask), count=with_itself),
            _and_padding_in_front=lambda again, mask: again(mask=torch.ones_like(mask), count=with_itself).masked_fill(mask == 0, -100),
        ).hint("""
            The running counts include the token itself: the question mark already counts as asked, and is scored, and the end token as
            answered, and is not. Count what stands *before* each token: counts.cumsum(dim=1) - counts."""),
        mask_not_read=Wrong(lambda again, mask: again(mask=torch.ones_like(mask)), _by_what_came_last=opened_and_not_closed).hint("""
            You never read the mask. Padding is whatever the tokenizer pads with: it may be a question mark or an end token, which then open
            or close answers, and where an answer was cut off it would be scored as a part of it. Count real tokens only, and score no
            others."""),
        after_the_first_question=Wrong(
            lambda ids, mask, question_mark: ids.masked_fill((before(ids == question_mark) == 0) | (mask == 0), -100)
        ).hint("""Everything after the first question mark is scored, the second question too. An end token closes an answer; what follows
            is the next question."""),
        last_answer_only=Wrong(last_answer_only).hint("""
            Only the last answer of a row is scored. Each question mark opens an answer, each end token closes it."""),
        first_answer_only=Wrong(lambda right, ids, question_mark: right.masked_fill(before(ids == question_mark) > 1, -100)).hint("""
            Only the first answer of a row is scored. Every question mark opens an answer, every end token closes it."""),
        shifted=Wrong(lambda right: torch.cat([right[:, 1:], torch.full_like(right[:, :1], -100)], dim=1)).hint("""
            The labels are shifted by one. By convention labels stand at their tokens' own places and the loss shifts; shifted twice, the
            model would learn to skip a word."""),
        filled_with_zero=Wrong(lambda right: right.masked_fill(right == -100, 0)).hint("""
            0 is the id of a real token, and would be trained as one. -100 is what F.cross_entropy ignores."""),
        questions_scored=Wrong(lambda right, ids, mask: ids.masked_fill((right != -100) | (mask == 0), -100)).hint("""
            The wrong way round: the questions are scored and the answers ignored."""),
        padding_in_front_counted=Wrong(lambda again, mask: again(mask=torch.ones_like(mask)).masked_fill(mask == 0, -100)).hint("""
            Right but for padding in front that consists of end tokens: you count them as ends of answers. Count real tokens only: (ids ==
            end) & mask.bool()."""),
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

    def ids(length: int) -> list[int]:
        return torch.randint(4, 50, (length,), generator=generator).tolist()

    examples = [(ids(question), [*ids(answer), END]) for question, answer in ((5, 2), (7, 1), (6, 4), (5, 1))]
    # Words that come twice: "twenty twenty" is its own next word here and there.
    repeated = [([9, 8, 11], [11, 11, END]), ([9, 7, 12], [12, 12, 12, END])]
    whole = torch.tensor([[*ids(6), END], [*ids(6), END]])  # everything scored: the place's own token, the next one, the one before
    return [collated(rows, END) for rows in (examples, repeated) for collated in (collate_a, collate_b, collate_c, collate)] + [
        (whole, whole.clone()),
        (whole[:, :-1], whole[:, 1:]),
        (whole[:, 1:], whole[:, :-1]),
    ]


def loss_falls_to_zero(inputs: Tensor, labels: Tensor) -> bool:
    scored = labels != -100
    return bool(scored.any()) and bool((labels == inputs)[scored].all())


LOSS_FALLS_TO_ZERO = Exercise(
    reference=loss_falls_to_zero,
    cases=collated_cases,
    mistakes=dict(
        nothing_scored=Wrong(lambda labels: not bool((labels != -100).any())).hint("""
            You find the collator that scores nothing at all. Its loss is a mean over nothing, 0 / 0 = NaN, which is not zero. Look for the
            one where the model is *given* what it is to predict."""),
        nothing_counts_as_all=Wrong(lambda inputs, labels: bool((labels == inputs)[labels != -100].all())).hint("""
            Nearly: where nothing is scored, there is nothing that could differ, and .all() of nothing is True. Ask first whether anything
            is scored."""),
        one_suffices=Wrong(lambda inputs, labels: bool((labels == inputs).any())).hint("""
            A single place where label and input are equal proves nothing: a word may come twice in a row. They must be equal wherever
            something is scored."""),
        ignored_compared_too=Wrong(lambda inputs, labels: bool((labels == inputs).all())).hint("""
            You compare the ignored places as well, where the label is -100 and never equals an input. Leave them out: [labels !=
            -100]."""),
        shifted_once_more=Wrong(
            lambda inputs, labels: loss_falls_to_zero(inputs[:, 1:], labels[:, :-1]),
            _and_ignored_compared=lambda inputs, labels: bool((labels[:, :-1] == inputs[:, 1:]).all()),
            _or_nothing_scored=lambda inputs, labels: bool((labels[:, :-1] == inputs[:, 1:])[labels[:, :-1] != -100].all()),
        ).hint("That is how right labels look: each is the *next* input. Look for labels that equal the input of their own place."),
        shifted_the_other_way=Wrong(
            lambda inputs, labels: loss_falls_to_zero(inputs[:, :-1], labels[:, 1:]),
            _and_ignored_compared=lambda inputs, labels: bool((labels[:, 1:] == inputs[:, :-1]).all()),
            _or_nothing_scored=lambda inputs, labels: bool((labels[:, 1:] == inputs[:, :-1])[labels[:, 1:] != -100].all()),
        ).hint("""
            You compare each label with the input one place before it. A collator has shifted already, or should have: what the model is
            asked for at a place is the label of that place, and what it is given there is the input of that place."""),
        never=Wrong(lambda: False).hint("""
            You answer False to every collator. One of them gives the model, at each scored place, the very token that it is to
            predict."""),
        always=Wrong(lambda: True).hint("""
            You answer True to every collator. A right one asks for the *next* token, and its loss does not become zero."""),
        no_end=Wrong(lambda labels: not bool((labels == END).any())).hint("""
            You find collators that never score the end token. Such a model does not learn to stop, but its loss does not become zero."""),
    ),
    afterthought="Something to think of: which of the other two mistakes would you notice from the loss, and which only when it answers?",
)

EXERCISES = {"splice": SPLICE, "mask_labels": MASK_LABELS, "loss_falls_to_zero": LOSS_FALLS_TO_ZERO}
