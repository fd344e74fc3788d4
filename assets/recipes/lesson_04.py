"""What lesson 04 reads: handwriting classified by prompts, with three seeds, and two controls.

``python assets/recipes/lesson_04.py`` runs what ``assets/results/lesson_04.json`` lacks, about a minute a run on two cores;
``python assets/recipes/lesson_04.py --seconds=120`` begins no run after two minutes. The training is that of ``clip_digits.py``, whose
settings were chosen on the validation split; the test split is read here alone.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimllm import (
    CLIP,
    DIGIT_WORDS,
    Tokenizer,
    clamp_temperature,
    digits,
    load_recipe,
    run_missing,
    train,
    zero_shot,
)

COURSE = load_recipe("clip_digits")
NUMERALS = tuple(map(str, range(10)))
WITHHELD = 7

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
MakeBatch = Callable[[int], Batch]


def shuffled(make_batch: MakeBatch) -> MakeBatch:
    """The same pictures and captions, paired by chance: nothing can be learned about which is which."""

    def make(step: int) -> Batch:
        images, ids, mask, _ = make_batch(step)
        order = torch.randperm(len(ids), generator=COURSE.generator_for(0, "shuffled captions", step))
        return images, ids[order], mask[order], torch.eye(len(ids), dtype=torch.bool)

    return make


def without(make_batch: MakeBatch, digit: int, tokenizer: Tokenizer) -> MakeBatch:
    """The same batches without one digit: neither a picture nor a caption of it is ever shown."""
    names = torch.tensor([tokenizer(name)[0][0, 1] for name in COURSE.NAMES[digit]])

    def make(step: int) -> Batch:
        images, ids, mask, fits = make_batch(step)
        keep = ~torch.isin(ids, names).any(dim=1)
        return images[keep], ids[keep], mask[keep], fits[keep][:, keep]

    return make


@torch.no_grad()
def hits_by_digit(model: CLIP, tokenizer: Tokenizer, split: str = "test") -> list[int]:
    """Of each digit's images, how many the ten prompts name rightly."""
    images, labels = digits(split)
    right = zero_shot(model, tokenizer, images, DIGIT_WORDS, COURSE.TEMPLATES).argmax(dim=1) == labels
    return torch.bincount(labels[right], minlength=10).tolist()


def measured(seed: int, change: Callable[[MakeBatch, Tokenizer], MakeBatch] = lambda make_batch, tokenizer: make_batch) -> dict[str, Any]:
    """Train on the course's batches, or on changed ones, and classify the test split by ten prompts, written in several ways."""
    settings = COURSE.TrainingConfig(**{**vars(COURSE.TRAINING), "seed": seed})
    tokenizer = COURSE.make_tokenizer()
    model = COURSE.make_model(tokenizer, seed)
    make_batch = change(COURSE.make_batches(tokenizer, settings), tokenizer)
    history = train(model, make_batch, COURSE.loss, settings, after_step=lambda model, step: clamp_temperature(model), progress=False)

    def share(templates: tuple[str, ...], names: tuple[str, ...] = DIGIT_WORDS) -> float:
        return COURSE.measure(model, tokenizer, "test", templates, names)["accuracy"]

    whole = COURSE.measure(model, tokenizer, "test")
    return {
        **whole,
        "validation": COURSE.measure(model, tokenizer, "validation")["accuracy"],
        "numerals": share(COURSE.TEMPLATES, NUMERALS),
        "templates": {template: share((template,)) for template in COURSE.TEMPLATES},
        "hits_by_digit": hits_by_digit(model, tokenizer),
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
    }


RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"digits by prompts, seed {seed}": lambda seed=seed: measured(seed) for seed in range(3)},
    "captions shuffled, seed 0": lambda: measured(0, lambda make_batch, tokenizer: shuffled(make_batch)),
    "seven withheld, seed 0": lambda: measured(0, lambda make_batch, tokenizer: without(make_batch, WITHHELD, tokenizer)),
}

if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--seconds=")]
    limit = {"seconds": float(options[-1].partition("=")[2])} if options else {}
    run_missing("lesson_04", RUNS, [argument for argument in sys.argv[1:] if argument not in options], **limit)
