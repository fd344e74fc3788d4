"""Batches from pictures with texts of one's own, decoded where and when they are needed."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from minimllm.data.pairs import Pair, Pairs
from minimllm.data.preprocessing import prepare_pictures
from minimllm.data.tokenizer import Tokenizer
from minimllm.training import processes
from minimllm.training.batches import batch_indices, to_device
from minimllm.training.parts import Part, whole


@dataclass(frozen=True)
class PairBatch:
    """Rows of a batch that are not decoded yet: a process, and a part of its rows, decodes its own alone.

    Attributes:
        pairs: where they come from.
        numbers: of the pairs of these rows.
        every: of the pairs of the whole batch.
        make: what tensors are made of the decoded rows: ``make(pairs, numbers, every)``.
    """

    pairs: Pairs
    numbers: tuple[int, ...]
    every: tuple[int, ...]
    make: Callable[[list[Pair], tuple[int, ...], tuple[int, ...]], Any]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.numbers)

    def cut(self, first: int, last: int) -> "PairBatch":
        """The rows from ``first`` to ``last``."""
        return replace(self, numbers=self.numbers[first:last])

    @cached_property
    def made(self) -> Any:
        """The tensors of these rows."""
        return self.make([self.pairs[number] for number in self.numbers], self.numbers, self.every)

    def to(self, device: torch.device | str) -> Any:
        """The tensors of these rows on a device."""
        return to_device(self.made, device)


def pair_batches(pairs: Pairs, make: Callable, batch_size: int, seed: int) -> Callable[[int], PairBatch]:
    """Batch ``k`` for :func:`minimllm.training.train`, a function of seed and ``k``: the pairs, shuffled anew in each epoch."""

    def make_batch(step: int) -> PairBatch:
        numbers = tuple(batch_indices(len(pairs), batch_size, seed, step).tolist())
        return PairBatch(pairs, numbers, numbers, make)

    return make_batch


def clip_batches(model: nn.Module, tokenizer: Tokenizer, pairs: Pairs, batch_size: int, seed: int = 0) -> Callable[[int], PairBatch]:
    """What :func:`~minimllm.training.contrastive.clip_loss` takes; pairs with equal texts are no negatives of each other.

    Args:
        model: the CLIP, whose config says how pictures are prepared.
        tokenizer: the model's.
        pairs: what to train on.
        batch_size: over all processes.
        seed: of the order.
    """
    codes = {text: code for code, text in enumerate(dict.fromkeys(pairs.texts))}

    def make(rows: list[Pair], numbers: tuple[int, ...], every: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mine, others = (torch.tensor([codes[pairs.texts[number]] for number in each]) for each in (numbers, every))
        pictures = prepare_pictures(model, [row.picture for row in rows])
        return pictures, *tokenizer([row.text for row in rows]), mine[:, None] == others[None]

    return pair_batches(pairs, make, batch_size, seed)


def class_batches(model: nn.Module, pairs: Pairs, batch_size: int, seed: int = 0) -> Callable[[int], PairBatch]:
    """What :func:`~minimllm.training.loop.classification_loss` takes: pictures, and the number of the class that each text names.

    The arguments are those of :func:`clip_batches`; ``model.config.class_names`` numbers the classes.
    """
    labels = {name: label for label, name in enumerate(model.config.class_names)}

    def make(rows: list[Pair], numbers: tuple[int, ...], every: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return prepare_pictures(model, [row.picture for row in rows]), torch.tensor([labels[row.text] for row in rows])

    return pair_batches(pairs, make, batch_size, seed)


class Ahead:
    """The batches of ``make_batch``, the next ones decoded in worker processes while the model computes.

    Args:
        make_batch: gives a :class:`PairBatch`.
        steps: of the training.
        workers: how many, on Linux; 0, or another system, decodes when a batch is asked for.

    Attributes:
        waited: seconds that the model has waited for batches.
    """

    def __init__(self, make_batch: Callable[[int], PairBatch], steps: int, workers: int):
        self.make_batch, self.steps, self.workers, self.waited = make_batch, steps, workers, 0.0
        self._next, self._coming = None, None

    def __call__(self, step: int) -> Part:
        started = time.perf_counter()
        if self._next != step:
            own = _Own(self.make_batch, processes.rank(), processes.count())
            # A batch is made by functions of this process, which only a copy of it has; elsewhere it decodes itself.
            how = {"num_workers": self.workers, "multiprocessing_context": "fork"} if self.workers and sys.platform == "linux" else {}
            self._coming = iter(DataLoader(own, None, sampler=range(step, self.steps), collate_fn=_as_it_is, **how))
        part = next(self._coming)
        self._next = step + 1
        self.waited += time.perf_counter() - started
        return part


class _Own(Dataset):
    """One process's rows of each batch, decoded."""

    def __init__(self, make_batch: Callable[[int], PairBatch], rank: int, count: int):
        self.make_batch, self.rank, self.count = make_batch, rank, count

    def __getitem__(self, step: int) -> Part:
        part = whole(self.make_batch(step)).split(self.count)[self.rank]
        return part._replace(batch=part.batch.made)


def _as_it_is(part: Part) -> Part:
    return part
