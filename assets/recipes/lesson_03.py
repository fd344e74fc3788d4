"""Every number that lesson 03 reads from ``assets/results/lesson_03.json``, and how it is made. Its live model is that of ``clip.py``.

``python assets/recipes/lesson_03.py`` does all runs that the file lacks, about a quarter of an hour on two cores; with beginnings of
names, only those (``python assets/recipes/lesson_03.py "batches of"``); with ``--seconds=200``, as many as begin within that time.

``live`` is the lesson's own training, from three seeds. To save time, the other runs take fewer steps, each from seed 0. They all see the
same number of pictures, with the same learning rates and schedule. ``look-alikes`` is what ``shuffled captions``, ``true cells as
negatives`` and ``ResNet`` differ from in the one thing that they are called by; ``batches of 192`` is the same without hard negatives put
in by hand.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from minimllm import (
    CLIP,
    CLIPConfig,
    Scenes,
    TrainingConfig,
    captions,
    changed,
    clamp_temperature,
    clip_loss,
    count_parameters,
    derive_seed,
    described,
    generator_for,
    join,
    load_recipe,
    look_alikes,
    normalise,
    pair_names,
    rearranged,
    render,
    run_missing,
    scenes,
    train,
    zero_shot,
)

COURSE = load_recipe("clip")
TOKENIZER = COURSE.make_tokenizer()
MEAN = STD = (0.5, 0.5, 0.5)  # pictures go from [0, 1] to [-1, 1]
STEPS = 200
TEST_SEED = 64_205_118  # drawn after everything else here was fixed
MakeBatch = Callable[[int], tuple[Tensor, Tensor, Tensor, Tensor]]


def config(steps: int = STEPS, batch_size: int = 192) -> TrainingConfig:
    return TrainingConfig(steps=steps, batch_size=batch_size, seed=0)


def shuffled(make_batch: MakeBatch) -> MakeBatch:
    """The control: the captions of each batch in another random order, so that no picture keeps its own but by chance."""

    def make(step: int):
        images, ids, mask, _ = make_batch(step)
        order = torch.randperm(len(ids), generator=generator_for(0, "shuffle", step))
        return images, ids[order], mask[order], torch.eye(len(ids), dtype=torch.bool)

    return make


def all_negatives(make_batch: MakeBatch) -> MakeBatch:
    """Every cell off the diagonal counts as a negative, true or not."""

    def make(step: int):
        images, ids, mask, fits = make_batch(step)
        return images, ids, mask, torch.eye(len(fits), dtype=torch.bool)

    return make


def told(world: Scenes, step: int, details: tuple[str, ...] = ("plain", "size", "place", "full")) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures and captions of these scenes: one object in any detail, several in full."""
    texts, fits = described(world, derive_seed(0, "details", step), details, several="full")
    pictures = COURSE.in_other_light(render(world), generator_for(0, "light", step))
    return normalise(pictures, MEAN, STD), *TOKENIZER(texts), fits


def with_look_alikes(step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mostly hard negatives: 27 objects with six look-alikes each; in the second half fewer, and scenes of several, some rearranged."""
    if step < STEPS / 2:
        return told(look_alikes(27, 0, step), step)
    several = scenes(48, derive_seed(0, "several"), "train", objects=(2, 4), start=step * 48)
    return told(join([look_alikes(8, 0, step), rearranged(24, 0, step), several]), step)


def by_chance(settings: TrainingConfig, only_scenes: bool = False) -> MakeBatch:
    """No hard negatives but those that chance brings: single objects, in the second half of the training scenes of several as well.

    ``only_scenes``: scenes of two to four objects from the start, told in full.
    """
    size = settings.batch_size

    def make(step: int):
        if only_scenes:
            return told(scenes(size, 0, "train", objects=(2, 4), start=step * size), step, ("full",))
        if step < settings.steps / 2:
            return told(scenes(size, 0, "train", objects=1, start=step * size), step)
        half = size // 2
        several = scenes(half, derive_seed(0, "several"), "train", objects=(2, 4), start=step * half)
        return told(join([scenes(half, 0, "train", objects=1, start=step * half), several]), step)

    return make


# ---- measuring ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def names(model: CLIP, split: str, n: int = 1000, seed: int = TEST_SEED) -> dict[str, float]:
    """Zero-shot: which of the 64 names is nearest to a picture of one object?"""
    world = scenes(n, seed, split, objects=1)
    guesses, truth = zero_shot(model, TOKENIZER, render(world), pair_names).argmax(dim=1), world.pair[:, 0]
    hits = {"shape": guesses // 8 == truth // 8, "colour": guesses % 8 == truth % 8, "both": guesses == truth}
    return {name: hit.double().mean().item() for name, hit in hits.items()}


def distinct(n: int, seed: int, split: str) -> tuple[Scenes, list[str]]:
    """Scenes of two to four objects, no two with the same full caption, and their captions."""
    world = scenes(2 * n, seed, split, objects=(2, 4))
    rows = list({text: row for row, text in enumerate(captions(world, "full"))}.values())[:n]
    return world[rows], captions(world[rows], "full")


@torch.no_grad()
def recall(model: CLIP, split: str = "test", n: int = 256, seed: int = TEST_SEED) -> float:
    """Retrieval: the share of pictures whose own sentence is the nearest of ``n``."""
    world, texts = distinct(n, seed, split)
    images = model.encode_image(normalise(render(world), MEAN, STD))
    nearest = (images @ model.encode_text(*TOKENIZER(texts)).T).argmax(dim=1)
    return (nearest == torch.arange(n)).double().mean().item()


@torch.no_grad()
def one_word(model: CLIP, what: str, n: int = 1000, seed: int = TEST_SEED) -> float:
    """How often a scene's picture is nearer to its caption than to that of the scene with its ``what`` changed in one object."""
    world = scenes(n, seed, "test", objects=(2, 4))
    image = model.encode_image(normalise(render(world), MEAN, STD))
    true, false = (model.encode_text(*TOKENIZER(captions(each, "full"))) for each in (world, changed(world, what, seed)))
    return ((image * true).sum(dim=1) > (image * false).sum(dim=1)).double().mean().item()


def measured(make_batch: MakeBatch, settings: TrainingConfig, preset: Callable[..., CLIPConfig] = CLIPConfig.tiny) -> dict[str, Any]:
    """Train on these batches, and measure."""
    model = COURSE.make_model(0, preset)
    history = train(model, make_batch, clip_loss, settings, after_step=lambda model, step: clamp_temperature(model), progress=False)
    seen, held_out = names(model, "test"), names(model, "held_out")
    return {
        "recall": recall(model),
        **{f"seen_{name}": share for name, share in seen.items()},
        **{f"held_out_{name}": share for name, share in held_out.items()},
        **{f"another_{what}": one_word(model, what) for what in ("colour", "place", "size", "shape")},
        "n": 1000,
        "n_recall": 256,
        "loss": round(float(torch.tensor(history.losses[-10:]).mean()), 3),
        "steps": settings.steps,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "image_parameters": count_parameters(model.image_encoder) + count_parameters(model.image_projection),
    }


def batches_of(size: int) -> dict[str, Any]:
    """Smaller batches and more of them, as many pictures in all; no hard negatives put in by hand."""
    settings = config(STEPS * 192 // size, size)
    return measured(by_chance(settings), settings)


def live(seed: int) -> dict[str, Any]:
    """The training of the lesson itself, measured as the card of the shipped model is."""
    model, tokenizer, history = COURSE.train_clip(seed)
    accuracy = COURSE.measure(model, tokenizer)
    return {**accuracy, "steps": COURSE.TRAINING.steps, "seconds": round(history.seconds, 1), "threads": torch.get_num_threads()}


RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"live, seed {seed}": partial(live, seed) for seed in range(3)},
    "look-alikes, seed 0": lambda: measured(with_look_alikes, config()),
    "scenes only, seed 0": lambda: measured(by_chance(config(), only_scenes=True), config()),
    "batches of 192, seed 0": lambda: batches_of(192),
    "shuffled captions, seed 0": lambda: measured(shuffled(with_look_alikes), config()),
    "ResNet, seed 0": lambda: measured(with_look_alikes, config(), CLIPConfig.tiny_resnet),
    "true cells as negatives, seed 0": lambda: measured(all_negatives(with_look_alikes), config()),
    "batches of 24, seed 0": lambda: batches_of(24),
    "batches of 96, seed 0": lambda: batches_of(96),
}

if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--seconds=")]
    limit = {"seconds": float(options[-1].partition("=")[2])} if options else {}
    run_missing("lesson_03", RUNS, [argument for argument in sys.argv[1:] if argument not in options], **limit)
