"""Every number that lesson 06 reads from ``assets/results/lesson_06.json``, and how it is made. Its live model is that of ``unified.py``.

``python assets/recipes/lesson_06.py`` does all runs that the file lacks, about an hour on two cores; with beginnings of names, only those
(``python assets/recipes/lesson_06.py live blind``); with ``--seconds=200``, as many as begin within that time.

``live`` is the lesson's own training, from three seeds. All other runs take half as many steps: ``half as long`` is the same training cut
so, from three seeds, and the rest differ from it in the one thing that they are called by. ``plain LLaVA`` has none of the departures, each
``without ...`` lacks one of them, and ``with ...`` has something else. ``pretrained decoder`` begins with the language model of lesson 05;
in ``two stages`` the projector then learns alone for a fifth of the steps, as in LLaVA.
"""

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from minimllm import (
    History,
    UnifiedConfig,
    captions,
    count_parameters,
    load,
    load_recipe,
    run_missing,
    train,
)

COURSE, LANGUAGE = load_recipe("unified"), load_recipe("language_model")
TEST_SEED = 88607184  # drawn after everything else here was fixed
N = 1000
HALF = COURSE.TRAINING.steps // 2


def result(model: Any, tokenizer: Any, history: History, **more: Any) -> dict[str, Any]:
    return {
        **COURSE.measure(model, tokenizer, "test", N, TEST_SEED),
        "held-out pairs": COURSE.measure(model, tokenizer, "held_out", N, TEST_SEED),
        "steps": len(history.losses),
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "trainable": count_parameters(model) - count_parameters(model.vision),
        "image_tokens": model.image_tokens,
        **more,
    }


def live(seed: int) -> dict[str, Any]:
    """The training of the lesson, and all that the card of the shipped model tells."""
    model, tokenizer, history = COURSE.train_unified(seed)
    other = COURSE.measure(model, tokenizer, "test", N, TEST_SEED, COURSE.render_differently)
    shuffled = COURSE.measure(model, tokenizer, "test", N, TEST_SEED, shuffled=True)
    return result(model, tokenizer, history, **{"other renderer": other, "shuffled": shuffled})


def changed(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Half the training, with another config; ``blind=True``: with pictures of other scenes, so that only the words can tell."""
    return result(*COURSE.train_unified(seed, HALF, **changes))


def other_decoder(**changes: Any) -> dict[str, Any]:
    """Half the training, with another config of the decoder."""

    def config(vocab_size: int, *arguments: Any, **others: Any) -> UnifiedConfig:
        ours = UnifiedConfig.course(vocab_size, *arguments, **others)
        return dataclasses.replace(ours, language=dataclasses.replace(ours.language, **changes))

    return changed(config=config)


def told(model: Any, tokenizer: Any) -> float:
    """The share of text-only questions answered rightly that follow a description, by the decoder alone."""
    world, asked = LANGUAGE.draw_test(N, TEST_SEED)
    hits = LANGUAGE.right(model, tokenizer, asked, captions(world, "full"))
    return LANGUAGE.by_kind(hits, asked.kind)["accuracy"]


def pretrained(stages: int) -> dict[str, Any]:
    """The decoder of lesson 05 to begin with; in two stages the projector first learns alone."""
    decoder, _ = load("language_model")
    model, tokenizer = COURSE.make_model(language=decoder.config)
    model.language_model.load_state_dict(decoder.state_dict())
    before = told(model.language_model, tokenizer)
    settings, losses, seconds = dataclasses.replace(COURSE.TRAINING, steps=HALF), [], 0.0
    if stages == 2:
        first = dataclasses.replace(settings, steps=settings.steps // 5)
        model.language_model.requires_grad_(False)
        history = train(model, COURSE.make_batches(model, tokenizer, first), COURSE.loss, first, progress=False)
        model.language_model.requires_grad_(True)
        settings = dataclasses.replace(settings, steps=settings.steps - first.steps, seed=settings.seed + 1)
        losses, seconds = history.losses, history.seconds
        stage_one = COURSE.measure(model, tokenizer, "test", N, TEST_SEED)
    history = train(model, COURSE.make_batches(model, tokenizer, settings), COURSE.loss, settings, progress=False)
    history = History(losses=losses + history.losses, seconds=seconds + history.seconds)
    forgot = {"text before": before, "text after": told(model.language_model, tokenizer)}
    return result(model, tokenizer, history, **forgot, **({"stage one": stage_one} if stages == 2 else {}))


RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"live, seed {seed}": partial(live, seed) for seed in range(3)},
    **{f"half as long, seed {seed}": partial(changed, seed) for seed in range(3)},
    "blind, seed 0": partial(changed, blind=True),
    "plain LLaVA, seed 0": partial(changed, config=UnifiedConfig.tiny),
    "without head norm, seed 0": partial(other_decoder, normalise_heads=None),
    "with grouped keys, seed 0": partial(other_decoder, key_value_heads=2),
    "with a rotary base of 1000, seed 0": partial(other_decoder, rotary_base=1000.0),
    "without shared position, seed 0": partial(changed, shared_position=False),
    "without merge, seed 0": partial(changed, merge=1),
    "without projector positions, seed 0": partial(changed, projector_positions=None),
    "without norms at the projector, seed 0": partial(changed, normalise_features=False, token_scale=None),
    "linear projector, seed 0": partial(changed, projector="linear", projector_dim=None, projector_positions="after"),
    "image prefix, seed 0": partial(changed, image_prefix=True),
    "pretrained decoder, seed 0": partial(pretrained, 1),
    "two stages, seed 0": partial(pretrained, 2),
}

if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--seconds=")]
    limit = {"seconds": float(options[-1].partition("=")[2])} if options else {}
    run_missing("lesson_06", RUNS, [argument for argument in sys.argv[1:] if argument not in options], **limit)
