"""Every number that lesson 07 reads from ``assets/results/lesson_07.json``, and how it is made. Its live model is ``cross_attention.py``'s.

``python assets/recipes/lesson_07.py`` does all runs that the file lacks; with beginnings of names, only those; with ``--seconds=200``, as
many as begin within that time.

``live`` is the lesson's own training, from three seeds; the other runs differ from that of seed 0 in the one thing that they are called by.
Those beside the ``frozen decoder`` have the options ``FROZEN`` of ``cross_attention.py`` as well, and the steps of lesson 06, or ``four
times as long``, as the shipped models.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from minimllm import (
    History,
    captions,
    load,
    load_recipe,
    run_missing,
)

COURSE, LANGUAGE = load_recipe("cross_attention"), load_recipe("language_model")
TEST_SEED = 11470043  # drawn after everything else here was fixed, the places of the gated blocks too
N = 1000


def result(model: Any, tokenizer: Any, history: History, **more: Any) -> dict[str, Any]:
    return {
        **COURSE.measure(model, tokenizer, "test", N, TEST_SEED),
        "held-out pairs": COURSE.measure(model, tokenizer, "held_out", N, TEST_SEED),
        "steps": len(history.losses),
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "gates": {name: round(values[-1], 3) for name, values in history.metrics.items() if "gate" in name},
        **more,
    }


def live(seed: int) -> dict[str, Any]:
    """The training of the lesson, and all that the card of the shipped model tells."""
    model, tokenizer, history = COURSE.train_cross(seed)
    other = COURSE.measure(model, tokenizer, "test", N, TEST_SEED, COURSE.UNIFIED.render_differently)
    shuffled = COURSE.measure(model, tokenizer, "test", N, TEST_SEED, shuffled=True)
    return result(model, tokenizer, history, **{"other renderer": other, "shuffled": shuffled})


def changed(**changes: Any) -> dict[str, Any]:
    """The same training with other options."""
    return result(*COURSE.train_cross(**changes))


def told(decoder: Any, tokenizer: Any) -> float:
    """The share of text-only questions answered rightly that follow a description, by the decoder alone."""
    world, asked = LANGUAGE.draw_test(N, TEST_SEED)
    return LANGUAGE.by_kind(LANGUAGE.right(decoder, tokenizer, asked, captions(world, "full")), asked.kind)["accuracy"]


def frozen(steps: int = COURSE.UNIFIED.TRAINING.steps) -> dict[str, Any]:
    """Beside the decoder of lesson 05, which is left as it is."""
    model, tokenizer, history = COURSE.train_cross(steps=steps, frozen=True)
    text = {"text before": told(load("language_model")[0], tokenizer), "text after": told(model.language_model, tokenizer)}
    return result(model, tokenizer, history, **text)


RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"live, seed {seed}": partial(live, seed) for seed in range(3)},
    "blind, seed 0": partial(changed, blind=True),
    "frozen decoder, seed 0": frozen,
    "frozen decoder, four times as long, seed 0": partial(frozen, COURSE.SHIPPED_STEPS),
    "with the MLP, seed 0": partial(changed, cross_mlp=True),
    "without head norm, seed 0": partial(changed, cross_norm=None),
}

if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--seconds=")]
    limit = {"seconds": float(options[-1].partition("=")[2])} if options else {}
    run_missing("lesson_07", RUNS, [argument for argument in sys.argv[1:] if argument not in options], **limit)
