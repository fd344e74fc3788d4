"""What it costs in accuracy when each process compares only its own rows, for lesson 13.

``python assets/recipes/lesson_13.py`` does the trainings that ``assets/results/lesson_13.json`` lacks, some minutes on two cores. They are
lesson 03's ``batches of 192, seed 0``, measured on the same test scenes, with one difference: the batch is cut into parts, each of which is
compared with itself alone, and the gradient is the mean of theirs, as so many processes with a loss of their own have it.
"""

import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minimllm import clamp_temperature, contrastive_loss, load_recipe, run_missing, train

LAB = load_recipe("lesson_03")
PARTS = (8,)


def local_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor], parts: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of the contrastive losses of ``parts`` parts, each of which knows its own rows alone."""
    images, ids, mask, same = batch
    logits = model(images, ids, mask)
    size = len(logits) // parts
    own = [slice(first, first + size) for first in range(0, len(logits), size)]
    return torch.stack([contrastive_loss(logits[rows, rows], same[rows, rows]) for rows in own]).mean(), {}


def run(parts: int) -> dict[str, Any]:
    """Train with the batch in so many parts, and measure as lesson 03 does."""
    settings = LAB.config()
    model = LAB.COURSE.make_model(0)
    after = lambda model, step: clamp_temperature(model)  # noqa: E731
    history = train(model, LAB.by_chance(settings), partial(local_loss, parts=parts), settings, after_step=after, progress=False)
    return {
        "recall": LAB.recall(model),
        "seen_both": LAB.names(model, "test")["both"],
        "held_out_both": LAB.names(model, "held_out")["both"],
        **{f"another_{what}": LAB.one_word(model, what) for what in ("colour", "place", "size", "shape")},
        "loss": round(sum(history.losses[-10:]) / 10, 3),
        "n": 1000,
        "n_recall": 256,
        "steps": settings.steps,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
    }


RUNS = {f"{parts} parts, seed 0": partial(run, parts) for parts in PARTS}

if __name__ == "__main__":
    run_missing("lesson_13", RUNS, sys.argv[1:])
