"""The ViT that ships with the course: shape and colour of a single object of the generated world. Lesson 02 trains the same one live.

``python assets/recipes/vit.py`` trains it again, in about half a minute on two cores, and writes ``assets/checkpoints/vit``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimllm import (
    CHECKPOINTS,
    TrainingConfig,
    ViT,
    ViTConfig,
    render,
    save,
    scenes,
    train,
    wilson_interval,
)

SEED = 0
TEST_SEED = 7_346_219  # drawn after everything else here was fixed
MODEL = ViTConfig.tiny(classes=16)  # 8 logits for the shape, 8 for the colour
TRAINING = TrainingConfig(steps=350, batch_size=192, seed=SEED)


def pictures(n: int, seed: int, split: str, start: int = 0) -> tuple[Tensor, Tensor]:
    """``n`` pictures of one object each, from -1 to 1, and their pairs ``8 * shape + colour``."""
    world = scenes(n, seed, split, objects=1, start=start)
    return (render(world) - 0.5) / 0.5, world.pair[:, 0]


def pair_logits(logits: Tensor) -> Tensor:
    """``(batch, 16)`` -> ``(batch, 64)``: the logit of a pair is its shape's plus its colour's."""
    shape, colour = logits.split(8, dim=1)
    return (shape[:, :, None] + colour[:, None, :]).flatten(1)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy over the 64 pairs."""
    images, pairs = batch
    logits = pair_logits(model(images))
    return F.cross_entropy(logits, pairs), {"accuracy": (logits.argmax(dim=1) == pairs).float().mean()}


@torch.no_grad()
def measure(model: nn.Module, split: str, n: int = 3000, seed: int = TEST_SEED) -> dict:
    """The share of ``n`` pictures whose pair is right, with its 95% interval."""
    images, pairs = pictures(n, seed, split)
    hits = int((pair_logits(model(images)).argmax(dim=1) == pairs).sum())
    return {"accuracy": round(hits / n, 4), "n": n, "interval": [round(end, 4) for end in wilson_interval(hits, n)]}


def main() -> None:
    model = ViT(MODEL, seed=SEED)
    history = train(model, lambda step: pictures(192, SEED, "train", start=192 * step), loss, TRAINING)
    card = {
        "what": "shape (8) and colour (8) of the single object in a generated picture of 32 x 32 pixels, brought from [0, 1] to [-1, 1]",
        "recipe": "assets/recipes/vit.py",
        "seed": SEED,
        "seeds_trained": 1,
        "steps": TRAINING.steps,
        "batch_size": TRAINING.batch_size,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "test_seed": TEST_SEED,
        "accuracy": {"test": measure(model, "test"), "held_out": measure(model, "held_out")},
    }
    save(CHECKPOINTS / "vit", model, None, card)
    print(card)


if __name__ == "__main__":
    main()
