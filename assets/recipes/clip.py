"""The CLIP that ships with the course: pictures of the generated world and their captions. Lesson 03 trains one live, for less long.

``python assets/recipes/clip.py`` trains it again and writes ``assets/checkpoints/clip``; how long it took is in the card there.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minimllm import (
    CHECKPOINTS,
    CLIP,
    WORDS,
    CLIPConfig,
    History,
    Scenes,
    Tokenizer,
    TrainingConfig,
    captions,
    clamp_temperature,
    clip_loss,
    derive_seed,
    described,
    generator_for,
    join,
    normalise,
    pair_names,
    render,
    render_differently,
    save,
    scenes,
    train,
    wilson_interval,
    zero_shot,
)

SEED = 0
TEST_SEED = 72249620  # drawn after everything else here was fixed
SINGLE = 0.25  # the share of the steps with pictures of one object only
EMBED_DIM = 128  # with 64, 96.4% of the pairs never seen against 98.5% (validation split, one seed, SINGLE 0.5)
TRAINING = TrainingConfig(steps=600, seed=SEED)
# As many as in the lesson. With 1500 steps pairs never seen are named a little better, but the patches lose what they show: a small
# network tells the shape in a cell from its four patches, after two blocks, for 99.5% of the objects here, for 77% after 1500 steps, for
# 60% after 3000. The loss reads the class token alone and does not care; what is built on the patches later (lesson 06) does.
SHIPPED_STEPS = TRAINING.steps
SHIPPED_TEST_SEED = 84798841  # drawn after that was chosen, on the splits for training and validation

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def make_tokenizer() -> Tokenizer:
    """The words of the generated world."""
    return Tokenizer.from_words(WORDS)


def make_model(seed: int = SEED, preset: Callable[..., CLIPConfig] = CLIPConfig.tiny, **changes: Any) -> CLIP:
    """The course size; pictures go from [0, 1] to [-1, 1]."""
    tokenizer = make_tokenizer()
    text = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_token_id}
    if preset == CLIPConfig.tiny_resnet:
        text = {"text": make_model().config.text}
    changes = {"embed_dim": EMBED_DIM, **changes}
    return CLIP(preset(**text, image_mean=(0.5,) * 3, image_std=(0.5,) * 3, **changes), seed=seed)


def in_other_light(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with a brighter or darker ground, slanted and blotched, and with their colours slightly off: what our renderer never draws.

    It adds little light, and up to 5% of colour; without it a model takes the even ground of our renderer for granted.
    """
    count, _, height, width = images.shape

    def amounts(size: float, *shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * 2 - 1) * size

    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    ground = 0.04 + amounts(0.07, 1, 1, 1) + amounts(0.02, 3, 1, 1) + amounts(0.04, 1, 1, 1) * x + amounts(0.04, 1, 1, 1) * y
    ground = ground + F.interpolate(amounts(0.04, 1, 5, 5), size=(height, width), mode="bicubic")
    return ((images + ground) * (1 + amounts(0.05, 3, 1, 1))).clamp(0, 1)


def compose_batch(step: int, seed: int, steps: int) -> Scenes:
    """The scenes of one batch: at first single objects, then scenes of several, too.

    They are drawn without any plan, because it takes many different scenes to learn to tell scenes apart; chance puts enough of them side
    by side that differ in one thing alone.
    """
    if step < SINGLE * steps:
        return scenes(192, seed, "train", objects=1, start=step * 192)
    alone = scenes(64, derive_seed(seed, "alone"), "train", objects=1, start=step * 64)
    several = scenes(128, derive_seed(seed, "several"), "train", objects=(2, 4), start=step * 128)
    return join([alone, several])


def make_batches(tokenizer: Tokenizer, config: TrainingConfig, details: tuple[str, ...] = ("plain", "size", "place", "full")):
    """Pictures, captions and which captions are true of which pictures. One object is described in any detail, several in full."""

    def make_batch(step: int) -> Batch:
        world = compose_batch(step, config.seed, config.steps)
        texts, fits = described(world, derive_seed(config.seed, "details", step), details, several="full")
        pictures = in_other_light(render(world), generator_for(config.seed, "light", step))
        return normalise(pictures, (0.5,) * 3, (0.5,) * 3), *tokenizer(texts), fits

    return make_batch


def train_clip(
    seed: int = SEED,
    progress: bool = False,
    preset: Callable[..., CLIPConfig] = CLIPConfig.tiny,
    steps: int = TRAINING.steps,
    checkpoints: str | None = None,
) -> tuple[CLIP, Tokenizer, History]:
    """A trained model, its tokenizer, and what the training went through."""
    config, tokenizer = TrainingConfig(**{**vars(TRAINING), "seed": seed, "steps": steps}), make_tokenizer()
    model = make_model(seed, preset)
    history = train(
        model,
        make_batches(tokenizer, config),
        clip_loss,
        config,
        after_step=lambda model, step: clamp_temperature(model),
        checkpoints=checkpoints,
        progress=progress,
    )
    return model, tokenizer, history


# ---- measuring ---------------------------------------------------------------------------------------------------------


def share(hits: Tensor) -> dict[str, Any]:
    """The share of True, with its 95% interval."""
    count, n = int(hits.sum()), hits.numel()
    return {"accuracy": round(count / n, 4), "n": n, "interval": [round(end, 4) for end in wilson_interval(count, n)]}


@torch.no_grad()
def naming(model: CLIP, tokenizer: Tokenizer, split: str, n: int = 3000, seed: int = TEST_SEED, draw: Callable = render) -> dict[str, Any]:
    """Zero-shot: which of the 64 names ``a red star`` fits a picture of one object."""
    world = scenes(n, seed, split, objects=1)
    return share(zero_shot(model, tokenizer, draw(world), pair_names).argmax(dim=1) == world.pair[:, 0])


@torch.no_grad()
def retrieval(model: CLIP, tokenizer: Tokenizer, split: str, seed: int = TEST_SEED, objects: tuple[int, int] = (1, 4), sets: int = 8):
    """R@1: is the sentence nearest to a picture its own, among 256 different full captions? And the picture nearest to a sentence?"""
    to_text, to_image = [], []
    for number in range(sets):
        world = scenes(400, derive_seed(seed, "retrieval", number), split, objects=objects)
        rows = sorted({text: row for row, text in enumerate(captions(world, "full"))}.values())[:256]
        world = world[rows]
        images = model.encode_image(normalise(render(world), (0.5,) * 3, (0.5,) * 3))
        cosines = images @ model.encode_text(*tokenizer(captions(world, "full"))).T
        own = torch.arange(len(rows))
        to_text.append(cosines.argmax(dim=1) == own)
        to_image.append(cosines.argmax(dim=0) == own)
    return {"image to text": share(torch.cat(to_text)), "text to image": share(torch.cat(to_image))}


def measure(model: CLIP, tokenizer: Tokenizer, seed: int = TEST_SEED, test: str = "test") -> dict[str, Any]:
    """All that the card tells."""
    return {
        "naming, seen pairs": naming(model, tokenizer, test, seed=seed),
        "naming, held-out pairs": naming(model, tokenizer, "held_out", seed=seed),
        "naming, drawn by another renderer, seen pairs": naming(model, tokenizer, test, 1500, seed, render_differently),
        "naming, drawn by another renderer, held-out pairs": naming(model, tokenizer, "held_out", 1500, seed, render_differently),
        "retrieval among 256, 1 to 4 objects": retrieval(model, tokenizer, test, seed),
        "retrieval among 256, 2 to 4 objects": retrieval(model, tokenizer, test, seed, (2, 4)),
    }


def main() -> None:
    model, tokenizer, history = train_clip(steps=SHIPPED_STEPS)
    card = {
        "what": "pictures of the generated world, 32 x 32 pixels in [0, 1], and captions such as 'a large red star at the top left'",
        "recipe": "assets/recipes/clip.py",
        "seed": SEED,
        "steps": SHIPPED_STEPS,
        "pairs a batch": 192,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "test_seed": SHIPPED_TEST_SEED,
        "accuracy": measure(model, tokenizer, SHIPPED_TEST_SEED),
    }
    save(CHECKPOINTS / "clip", model, tokenizer, card)
    print(card)


if __name__ == "__main__":
    main()
