"""A small CLIP that reads real handwriting: digits with captions. It ships with the course; lesson 04 turns prompts into its classifier.

``python assets/recipes/clip_digits.py`` trains it again, in about a minute on two cores, and writes ``assets/checkpoints/clip_digits``.
"""

from typing import Any

import torch
from torch import Tensor

from minimllm import (
    CHECKPOINTS,
    CLIP,
    DIGIT_WORDS,
    CLIPConfig,
    History,
    Tokenizer,
    TrainingConfig,
    batch_indices,
    clamp_temperature,
    clip_loss,
    clip_vit,
    digits,
    generator_for,
    normalise,
    random_affine,
    save,
    train,
    wilson_interval,
    zero_shot,
)

SEED = 0
TEMPLATES = (
    "a photo of the digit {}",
    "a photo of the number {}",
    "the digit {} , written by hand",
    "the number {} , written by hand",
    "a handwritten {}",
    "this is a {}",
    "{}",
)
"""What the captions look like in training; each digit is named by its word or its numeral."""
NAMES = tuple((word, str(number)) for number, word in enumerate(DIGIT_WORDS))
AUGMENTATION = {"shift": 1.0, "rotation": 12.0, "scale": 0.1, "shear": 0.1}  # pixels, degrees, shares
TRAINING = TrainingConfig(steps=600, batch_size=128, muon_learning_rate=0.01, seed=SEED)


def make_tokenizer() -> Tokenizer:
    """All words of the templates, the ten words and the ten numerals."""
    return Tokenizer.from_texts([*TEMPLATES, *(name for names in NAMES for name in names)], context_length=16)


def make_model(tokenizer: Tokenizer, seed: int = SEED) -> CLIP:
    """The course's ViT for 16 patches of 2 x 2 grey pixels, and its text encoder."""
    image = clip_vit(image_size=8, patch_size=2, channels=1, dim=96, layers=3, heads=4, mlp_dim=384, position_std=0.5)
    sizes = {"image": image, "image_mean": (0.5,), "image_std": (0.5,)}
    return CLIP(CLIPConfig.tiny(tokenizer.vocab_size, tokenizer.eos_token_id, **sizes), seed=seed)


def make_batches(tokenizer: Tokenizer, config: TrainingConfig):
    """Shuffled batches of the training split, moved and turned a little, each digit with a caption; and which captions fit which digits."""
    images, labels = digits("train")

    def make_batch(step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = batch_indices(len(images), config.batch_size, config.seed, step)
        generator = generator_for(config.seed, "captions", step)
        luck = torch.randint(len(TEMPLATES) * 2, (len(rows),), generator=generator).tolist()
        captions = [TEMPLATES[n // 2].format(NAMES[digit][n % 2]) for n, digit in zip(luck, labels[rows].tolist(), strict=True)]
        pictures = random_affine(images[rows], generator_for(config.seed, "affine", step), **AUGMENTATION)
        return normalise(pictures, (0.5,), (0.5,)), *tokenizer(captions), labels[rows, None] == labels[None, rows]

    return make_batch


loss = clip_loss  # a digit's other captions, and other pictures of it, are no negatives


@torch.no_grad()
def measure(model: CLIP, tokenizer: Tokenizer, split: str, templates=TEMPLATES, names=DIGIT_WORDS) -> dict[str, Any]:
    """The share of a split that is classified rightly by ten prompts, with its 95% interval."""
    images, labels = digits(split)
    hits = int((zero_shot(model, tokenizer, images, names, templates).argmax(dim=1) == labels).sum())
    return {
        "accuracy": round(hits / len(labels), 4),
        "n": len(labels),
        "interval": [round(end, 4) for end in wilson_interval(hits, len(labels))],
    }


def train_digits(seed: int = SEED, progress: bool = False, **changes: Any) -> tuple[CLIP, Tokenizer, History]:
    config = TrainingConfig(**{**vars(TRAINING), "seed": seed, **changes})
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed)
    history = train(
        model, make_batches(tokenizer, config), loss, config, after_step=lambda model, step: clamp_temperature(model), progress=progress
    )
    return model, tokenizer, history


def main() -> None:
    model, tokenizer, history = train_digits()
    card = {
        "what": "real handwritten digits (scikit-learn's, 8 x 8 grey pixels in [0, 1]) and captions such as 'a photo of the digit seven'",
        "recipe": "assets/recipes/clip_digits.py",
        "seed": SEED,
        "steps": TRAINING.steps,
        "batch_size": TRAINING.batch_size,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "accuracy": {
            "zero-shot, test, all templates": measure(model, tokenizer, "test"),
            "zero-shot, test, 'a photo of the digit {}'": measure(model, tokenizer, "test", TEMPLATES[:1]),
            "zero-shot, validation, all templates": measure(model, tokenizer, "validation"),
        },
    }
    save(CHECKPOINTS / "clip_digits", model, tokenizer, card)
    print(card)


if __name__ == "__main__":
    main()
