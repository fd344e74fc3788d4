"""Exercises of lesson 13: which rows a process takes, the loss of a half among all pairs, and a mean over tokens in several processes."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from minimllm.training.parts import spans

from . import Exercise, Wrong

# ---- rows -------------------------------------------------------------------------------------------------------------


def rows_cases() -> list[tuple[int, int, int]]:
    sizes = ((7, 3), (8, 4), (10, 4), (5, 5), (23, 2), (9, 1), (11, 4))
    return [(rows, processes, rank) for rows, processes in sizes for rank in range(processes)]


def rows_of_process(rows: int, processes: int, rank: int) -> tuple[int, int]:
    return spans(rows, processes)[rank]


def in_sizes(rows: int, processes: int, rank: int, *, size: Callable[[int, int], int], rest: bool = False) -> tuple[int, int]:
    """Parts of one size, as people cut at first."""
    each = size(rows, processes)
    last = rows if rest and rank == processes - 1 else each * (rank + 1)
    return min(each * rank, rows), min(last, rows)


def larger_first(rows: int, processes: int, rank: int) -> tuple[int, int]:
    each, over = divmod(rows, processes)
    first = rank * each + min(rank, over)
    return first, first + each + (rank < over)


def floor(rows: int, processes: int) -> int:
    return rows // processes


def ceiling(rows: int, processes: int) -> int:
    return -(-rows // processes)


ROWS_OF_PROCESS = Exercise(
    reference=rows_of_process,
    cases=rows_cases,
    mistakes=dict(
        rows_lost=Wrong(partial(in_sizes, size=floor)).hint("""
            The size is rounded down first, and the last rows belong to nobody: of 7 rows, three processes would train on 6, and nothing
            would say so. Multiply first, then divide: where a part begins is rounded, not how long it is."""),
        rest_to_the_last=Wrong(partial(in_sizes, size=floor, rest=True)).hint("""
            No row is lost, but the last process takes all that is left over: of 11 rows in four parts it would have 5, and the others wait
            for it. Multiply first, then divide."""),
        size_rounded_up=Wrong(partial(in_sizes, size=ceiling)).hint("""
            The size is rounded up, so that the last process has too few rows, or none at all (10 rows in four parts: 3, 3, 3, 1). Multiply
            first, then divide."""),
        last_row_included=Wrong(lambda right: (right[0], right[1] - 1)).hint("""
            Your second number is the last row itself. Slices end before it: rows[first:last] leaves out the row last."""),
        how_many=Wrong(lambda right: (right[0], right[1] - right[0])).hint("""
            Your second number is how many rows there are; asked for is where they end."""),
        counted_from_one=Wrong(lambda rows, processes, rank: (rows * (rank - 1) // processes, rows * rank // processes)).hint("""
            You count the processes from 1. torchrun counts from 0: process 0 begins at row 0."""),
        larger_first=Wrong(larger_first).hint("""
            A fair cut, too: no part is more than a row larger than another. But the larger parts come first with you, and every process has
            to cut alike. Here part r begins at rows * r // processes."""),
        rows_alternate=Wrong(lambda rows, processes, rank: list(range(rank, rows, processes))).hint("""
            You deal the rows out in turn, as DistributedSampler does. Here a process has rows that follow each other: first and last."""),
    ),
    afterthought="Something to think of: what should happen with 3 rows and 4 processes?",
)

# ---- the loss of a half -----------------------------------------------------------------------------------------------


def half_cases() -> list[tuple[Tensor, Tensor, int, int, float]]:
    generator = torch.Generator().manual_seed(3)
    cases = []
    for pairs, width, first, last, scale in ((6, 3, 0, 3, 2.0), (6, 3, 3, 6, 2.0), (7, 4, 2, 4, 5.0), (5, 2, 1, 5, 1.0), (4, 3, 3, 4, 3.0)):
        images, texts = (F.normalize(torch.randn(pairs, width, generator=generator), dim=-1) for _ in range(2))
        cases.append((images, texts, first, last, scale))
    return cases


def half_loss(images: Tensor, texts: Tensor, first: int, last: int, scale: float) -> Tensor:
    return half(images, texts, first, last, scale)


def half(
    images: Tensor,
    texts: Tensor,
    first: int,
    last: int,
    scale: float,
    *,
    others: Callable[[Tensor, int, int], Tensor] = lambda every, first, last: every,
    begin: Callable[[int], int] = lambda first: first,
    ways: int = 2,
    reduction: str = "mean",
) -> Tensor:
    """The rule, with what people get wrong as options."""
    own = torch.arange(begin(first), begin(first) + last - first)
    losses = [
        F.cross_entropy(scale * one[first:last] @ others(other, first, last).T, own, reduction=reduction)
        for one, other in ((images, texts), (texts, images))[:ways]
    ]
    return sum(losses) / ways


def cut_off(every: Tensor, first: int, last: int) -> Tensor:
    return torch.cat([every[:first].detach(), every[first:last], every[last:].detach()])


HALF_LOSS = Exercise(
    reference=half_loss,
    cases=half_cases,
    mistakes=dict(
        among_own=Wrong(partial(half, others=lambda every, first, last: every[first:last], begin=lambda first: 0)).hint("""
            You compare the own rows with each other. That is the loss of a smaller batch: with half as many sentences to confuse it with, a
            picture is easier to place. Each own picture meets all texts, and each own text all images."""),
        targets_from_zero=Wrong(partial(half, begin=lambda first: 0)).hint("""
            The targets begin at 0 in every process. The text of the own picture 0 is number first among all texts: in every process but the
            first you teach pictures the sentences of others."""),
        rows_only=Wrong(partial(half, ways=1)).hint("""
            Only the pictures look for their texts. The own texts have to find their pictures among all images as well."""),
        without_scale=Wrong(lambda again: again(scale=1.0)).hint("The cosines are not multiplied by the scale, the inverse temperature."),
        summed=Wrong(partial(half, reduction="sum")).hint("""
            You sum over the own rows. Asked for is their mean; the sum over processes then weighs each by its share of the rows."""),
        ways_summed=Wrong(lambda right: 2 * right).hint("Both directions are added up; the loss is their mean."),
        share_twice=Wrong(lambda right, images, first, last: right * (last - first) / len(images)).hint("""
            You have already multiplied by the share of the rows. Here the mean over the own rows is asked for; who adds the processes up
            weighs them."""),
        whole=Wrong(lambda again, images: again(first=0, last=len(images))).hint("""
            That is the loss of the whole batch: right, but every process would compute all of it. Take the rows from first to last."""),
        others_cut_off=Wrong(partial(half, others=cut_off)).hint("""
            The loss is right, but no gradient flows to the others' embeddings: they are detached, as torch.distributed.all_gather leaves
            them. Your loss depends on them as well, and they have to hear of it."""),
    ),
    learning=(0, 1),
    afterthought="Something to think of: no process computes the whole matrix. Who computes which of its cells, and how often?",
)

# ---- a mean over tokens -----------------------------------------------------------------------------------------------


def token_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    cases = []
    for rows, length, others in ((2, 5, [9]), (3, 4, [1, 7]), (1, 6, [0]), (2, 3, [30, 2, 5]), (4, 3, [])):
        losses, scored = 3 * torch.rand(rows, length, generator=generator), torch.rand(rows, length, generator=generator) < 0.6
        scored[0, 0], scored[-1, -1] = True, False
        cases.append((losses, scored, torch.tensor([int(scored.sum()), *others])))
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    return [*cases, (torch.rand(2, 4, generator=generator), nothing, torch.tensor([0, 6]))]


def token_share(losses: Tensor, scored: Tensor, counts: Tensor) -> Tensor:
    return losses[scored].sum() * len(counts) / counts.sum()


def mean_or_zero(losses: Tensor, scored: Tensor) -> Tensor:
    return losses[scored].sum() / max(int(scored.sum()), 1)


TOKEN_SHARE = Exercise(
    reference=token_share,
    cases=token_cases,
    mistakes=dict(
        mean_of_means=Wrong(lambda losses, scored: losses[scored].mean(), _or_zero=mean_or_zero).hint("""
            That is the mean of the own tokens, and the mean over the processes would be a mean of means: a token in a process with few of
            them would weigh more. Divide by all scored tokens."""),
        not_times_processes=Wrong(lambda right, counts: right / len(counts)).hint("""
            Divided by all scored tokens, as it should be. But the results are averaged over the processes, not added up: what comes out is
            too small by their number."""),
        every_token=Wrong(
            lambda losses, counts: losses.sum() * len(counts) / counts.sum(),
            _averaged=lambda losses: losses.mean(),
        ).hint("""Tokens that are not scored (questions, padding) are in your sum. Take losses[scored]."""),
        by_rows=Wrong(lambda losses, scored: losses[scored].sum() / len(losses)).hint("""
            You divide by the rows. A row with a long answer then weighs more in one batch than in another; divide by the tokens."""),
        own_share=Wrong(lambda losses, scored, counts: mean_or_zero(losses, scored) * len(counts) / counts.sum()).hint("""
            You take the mean of the own tokens first, and then divide by all: divided twice. Begin with their sum."""),
        by_the_mean_count=Wrong(lambda right, counts: right / len(counts) ** 2).hint("""
            You divide by the number of processes, but have to multiply by it: whoever averages will divide by it once more."""),
    ),
    afterthought="Something to think of: why may the counts be exchanged before the model has computed anything?",
)

EXERCISES = {"rows_of_process": ROWS_OF_PROCESS, "half_loss": HALF_LOSS, "token_share": TOKEN_SHARE}
