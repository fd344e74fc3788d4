"""Real handwriting: the 1,797 digits that come with scikit-learn, 8 x 8 pixels each, in a fixed split.

They are the test part of *Optical Recognition of Handwritten Digits* (E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning Repository),
from 13 writers. Which digit is whose is not recorded, so the split is by image: a writer's hand may be in all three parts.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

DIGIT_SPLITS = ("train", "validation", "test")
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEST, _VALIDATION = 36, 15
_SEED = 0


def digits(split: str) -> tuple[Float[Tensor, "n 1 8 8"], Int[Tensor, "n"]]:
    """Images in [0, 1], white on black, and their labels 0 to 9.

    Of every digit 36 images are for testing and 15 for validation: 360 and 150 in all; the other 1,287 are for training. Which is which is
    drawn once with a fixed seed and the same on every machine. Within a split the digits stand in random order.

    Args:
        split: ``train``, ``validation`` or ``test``.

    Raises:
        ValueError: another split.
    """
    if split not in DIGIT_SPLITS:
        raise ValueError(f"unknown split {split!r}; the digits have {', '.join(DIGIT_SPLITS)}")
    images, labels = _all_digits()
    rows = _rows(tuple(labels.tolist()))[split]
    return images[rows], labels[rows]


@lru_cache(maxsize=1)
def _all_digits() -> tuple[Float[Tensor, "n 1 8 8"], Int[Tensor, "n"]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(bunch.images).float()[:, None] / 16, torch.from_numpy(bunch.target.astype(np.int64))


@lru_cache(maxsize=1)
def _rows(labels: tuple[int, ...]) -> dict[str, list[int]]:
    """The images of each split: a shuffle, of which each digit's first are for testing, the next for validation."""
    from minimllm.data import chance

    shuffled = chance.draws(chance.scene_keys(_SEED, 0, 0, len(labels)), 1)[:, 0].argsort(kind="stable").tolist()
    seen = [0] * 10
    rows: dict[str, list[int]] = {split: [] for split in DIGIT_SPLITS}
    for row in shuffled:
        digit = labels[row]
        split = "test" if seen[digit] < _TEST else "validation" if seen[digit] < _TEST + _VALIDATION else "train"
        seen[digit] += 1
        rows[split].append(row)
    return rows
