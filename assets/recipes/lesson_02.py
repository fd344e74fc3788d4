"""Every number that lesson 02 reads from ``assets/results/lesson_02.json``, and how it is made.

``python assets/recipes/lesson_02.py`` does all runs that the file lacks, about half an hour on two cores; with beginnings of names, only
those (``python assets/recipes/lesson_02.py "digits, ViT"``); with ``--seconds=200``, as many as begin within that time. A function here
is one training run: it takes its seed and what it changes, and returns the model with what was measured.

How the recipes were chosen is in ``lesson_02.md`` beside this file: on the validation splits. The test split of the digits and the test
seed of the world were first used when nothing was changed any more.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minimllm import (
    History,
    SmallCNN,
    TrainingConfig,
    ViT,
    ViTConfig,
    accuracy,
    batch_indices,
    classification_loss,
    count_parameters,
    digits,
    generator_for,
    load_recipe,
    patchify,
    random_affine,
    run_missing,
    train,
    unpatchify,
)

Result = tuple[nn.Module, dict[str, Any]]

SEEDS = (0, 1, 2)
WORLD = load_recipe("vit")  # its pictures, labels and loss: two times eight logits, added up to 64 pairs of shape and colour
WORLD_TEST_SEED = 51_930_726  # drawn after everything else here was fixed
AUGMENTATION = {"shift": 1.0, "rotation": 12.0, "scale": 0.1, "shear": 0.1}  # pixels, degrees, shares
DIGITS_SIZES = (50, 100, 200, 400, 800)
WORLD_SIZES = (50, 200, 800, 3200)


def digits_config(seed: int, **changes: Any) -> TrainingConfig:
    """About 25 s on two cores."""
    return TrainingConfig(**{"steps": 600, "muon_learning_rate": 0.01, "seed": seed} | changes)


def world_config(seed: int, **changes: Any) -> TrainingConfig:
    """About 15 s on two cores."""
    return TrainingConfig(**{"steps": 300, "seed": seed} | changes)


# ---- handwritten digits ------------------------------------------------------------------------------------------------


def centred(images: Tensor) -> Tensor:
    """From [0, 1] to [-1, 1]."""
    return (images - 0.5) / 0.5


def digits_batches(images: Tensor, labels: Tensor, config: TrainingConfig, augment: bool = True) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Shuffled batches of the digits, each digit moved, turned, stretched and slanted a little, in another way each time it comes."""

    def make_batch(step: int) -> tuple[Tensor, Tensor]:
        rows = batch_indices(len(images), config.batch_size, config.seed, step)
        changes = AUGMENTATION if augment else {}
        return centred(random_affine(images[rows], generator_for(config.seed, "affine", step), **changes)), labels[rows]

    return make_batch


def digits_vit(seed: int, **changes: Any) -> ViT:
    return ViT(ViTConfig.digits(**changes), seed=seed)


def digits_cnn(seed: int) -> SmallCNN:
    return SmallCNN.matching(digits_vit(0), image_size=8, channels=1, classes=10, seed=seed)


def train_on_digits(
    model: nn.Module,
    seed: int,
    size: int | None = None,
    augment: bool = True,
    shuffled: bool = False,
    progress: bool = False,
    **changes: Any,
) -> Result:
    """Train on the first ``size`` digits of the training split (default: all); measure on the test split.

    ``shuffled`` deals the labels out anew, so that there is nothing to learn and only memory helps.
    """
    images, labels = digits("train")
    images, labels = images[:size], labels[:size]
    if shuffled:
        labels = labels[torch.randperm(len(labels), generator=generator_for(seed, "shuffled labels"))]
    config = digits_config(seed, **changes)
    history = train(model, digits_batches(images, labels, config, augment), classification_loss, config, progress=progress)
    test_images, test_labels = digits("test")
    measured = {
        "accuracy": accuracy(model, centred(test_images), test_labels),
        "n": len(test_labels),
        "training_accuracy": accuracy(model, centred(images), labels),
        "training_images": len(images),
    }
    return model, {**measured, **_facts(model, config, history)}


def digits_with_patches_shuffled(seed: int) -> Result:
    """The trained ViT tested on digits whose patches were moved about: one and the same way for all, then each in its own."""
    model, result = train_on_digits(digits_vit(seed), seed)
    images, labels = digits("test")
    generator = generator_for(seed, "patches")
    one = torch.randperm(16, generator=generator).expand(len(images), 16)
    own = torch.rand(len(images), 16, generator=generator).argsort(dim=1)
    for name, order in (("same_order", one), ("own_order", own)):
        result[f"accuracy_{name}"] = accuracy(model, shuffle_patches(centred(images), order), labels)
    return model, result


def shuffle_patches(images: Tensor, order: Tensor, patch_size: int = 2) -> Tensor:
    """Images with their patches in another ``order``, ``(batch, patches)``."""
    patches = patchify(images, patch_size)
    patches = patches.gather(1, order[:, :, None].expand_as(patches))
    return unpatchify(patches, patch_size, *images.shape[2:])


# ---- the generated world -----------------------------------------------------------------------------------------------


def world_vit(seed: int, **changes: Any) -> ViT:
    return ViT(ViTConfig.tiny(classes=16, **changes), seed=seed)


def world_cnn(seed: int, stages: int = 4) -> SmallCNN:
    return SmallCNN.matching(world_vit(0), image_size=32, channels=3, classes=16, stages=stages, seed=seed)


def world_batches(config: TrainingConfig, size: int | None = None) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Pictures with one object and their pairs: new ones at every step, or shuffled batches of the first ``size``."""
    if size is None:
        return lambda step: WORLD.pictures(config.batch_size, config.seed, "train", start=step * config.batch_size)
    images, pairs = WORLD.pictures(size, config.seed, "train")

    def make_batch(step: int) -> tuple[Tensor, Tensor]:
        rows = batch_indices(size, config.batch_size, config.seed, step)
        return images[rows], pairs[rows]

    return make_batch


class Pairs(nn.Module):
    """A model of 16 logits seen as one of 64."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return logits if logits.shape[1] == 64 else WORLD.pair_logits(logits)


def train_on_world(model: nn.Module, seed: int, size: int | None = None, progress: bool = False, **changes: Any) -> Result:
    """Train on ``size`` pictures (default: new ones at every step); measure on 2000 of pairs seen, and 2000 of pairs held out."""
    config = world_config(seed, **changes)
    pairs = Pairs(model)
    history = train(pairs, world_batches(config, size), classification_loss, config, progress=progress)
    measured: dict[str, Any] = {"training_images": size or config.steps * config.batch_size}
    for split, name in (("test", "accuracy"), ("held_out", "held_out")):
        measured[name] = accuracy(pairs, *WORLD.pictures(2000, WORLD_TEST_SEED, split))
    return model, {**measured, "n": 2000, **_facts(model, config, history)}


# ---- all of them -------------------------------------------------------------------------------------------------------


def _facts(model: nn.Module, config: TrainingConfig, history: History) -> dict[str, Any]:
    return {
        "parameters": count_parameters(model),
        "steps": config.steps,
        "batch_size": config.batch_size,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
    }


def all_runs() -> dict[str, Callable[[], dict[str, Any]]]:
    """Every run by its name, ``"WHAT, seed S"``: three seeds for what the lesson's claims rest on, one for single changes."""
    adamw = {"muon_learning_rate": None}
    one_logit_each = ViTConfig.tiny(classes=64)
    headline: dict[str, Callable[[int], Result]] = {
        "digits, ViT": digits_with_patches_shuffled,
        "digits, CNN": lambda seed: train_on_digits(digits_cnn(seed), seed),
        "digits, ViT, positions from 0.02": lambda seed: train_on_digits(digits_vit(seed, position_std=0.02), seed),
        "world, ViT": lambda seed: train_on_world(world_vit(seed), seed),
        "world, CNN": lambda seed: train_on_world(world_cnn(seed), seed),
        "world, CNN, in the seconds of the ViT": lambda seed: train_on_world(world_cnn(seed), seed, steps=120),
    }
    swaps: dict[str, Callable[[int], Result]] = {
        "digits, ViT, no augmentation": lambda seed: train_on_digits(digits_vit(seed), seed, augment=False),
        "digits, ViT, shuffled labels": lambda seed: train_on_digits(digits_vit(seed), seed, size=400, augment=False, shuffled=True),
        "digits, ViT, AdamW alone": lambda seed: train_on_digits(digits_vit(seed), seed, **adamw),
        "digits, ViT, AdamW alone, positions from 0.02": lambda seed: train_on_digits(digits_vit(seed, position_std=0.02), seed, **adamw),
        "world, ViT, AdamW alone": lambda seed: train_on_world(world_vit(seed), seed, **adamw),
        "world, ViT, positions from 0.02": lambda seed: train_on_world(world_vit(seed, position_std=0.02), seed),
        "world, ViT, one logit for each pair": lambda seed: train_on_world(ViT(one_logit_each, seed=seed), seed),
        # The same as the headline's, to be run with nothing else on the machine: other runs may share it, and take longer.
        "digits, ViT, timed alone": lambda seed: train_on_digits(digits_vit(seed), seed),
        "world, ViT, timed alone": lambda seed: train_on_world(world_vit(seed), seed),
        "world, CNN, timed alone": lambda seed: train_on_world(world_cnn(seed), seed),
        "world, CNN of 3 stages": lambda seed: train_on_world(world_cnn(seed, stages=3), seed),  # slow: half the size once less
    }
    for size in DIGITS_SIZES:
        for name, model in (("ViT", digits_vit), ("CNN", digits_cnn)):
            run = functools.partial(lambda seed, model, size: train_on_digits(model(seed), seed, size, steps=300), model=model, size=size)
            swaps[f"digits, {name}, {size} images"] = run
    for size in WORLD_SIZES:
        for name, model in (("ViT", world_vit), ("CNN", world_cnn)):
            run = functools.partial(lambda seed, model, size: train_on_world(model(seed), seed, size), model=model, size=size)
            swaps[f"world, {name}, {size} images"] = run
    seeded = [(name, run, seed) for seed in SEEDS for name, run in headline.items()] + [(name, run, 0) for name, run in swaps.items()]
    return {f"{name}, seed {seed}": functools.partial(lambda run, seed: run(seed)[1], run, seed) for name, run, seed in seeded}


def main(arguments: list[str]) -> None:
    seconds = [float(argument.removeprefix("--seconds=")) for argument in arguments if argument.startswith("--seconds=")]
    wanted = [argument for argument in arguments if not argument.startswith("--")]
    run_missing("lesson_02", all_runs(), wanted, *seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
