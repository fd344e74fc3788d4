"""Preparing photographs for Llama 3.2 Vision: ours against the two processors of transformers, at its tile size of 560 pixels.

The photographs are scikit-learn's, 427 x 640, also resized to the shapes of a camera's pictures. ``MllamaImageProcessorPil`` is what ours
equals to the last digit; ``MllamaImageProcessor`` resizes with torchvision, up to a grey level off. Target: no slower than the former.

python tests/benchmarks/bench_tiles.py
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from paired import paired, report
from PIL import Image
from sklearn.datasets import load_sample_images
from transformers import MllamaImageProcessor
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from minimllm import prepare_tiles
from minimllm.models.clip_config import MEAN, STD

TILE = 560


def photographs() -> dict[str, list[list[Image.Image]]]:
    """Batches of photographs by name; the large ones are the small ones enlarged."""
    originals = [Image.fromarray(picture) for picture in load_sample_images().images]

    def enlarged(width: int, height: int) -> list[list[Image.Image]]:
        return [[picture.resize((width, height), Image.Resampling.BICUBIC)] for picture in originals]

    return {
        "2 photographs of 640 x 427, a list each": [[picture] for picture in originals],
        "2 of 320 x 213": enlarged(320, 213),
        "2 of 1920 x 1280": enlarged(1920, 1280),
        "2 of 4032 x 3024": enlarged(4032, 3024),
        "2 panoramas of 6000 x 1200": enlarged(6000, 1200),
        "4 samples: none, one, two, one": [[], originals[:1], originals, originals[1:]],
    }


def main() -> None:
    print(f"{torch.get_num_threads()} threads, tiles of {TILE} pixels")
    options = dict(size={"height": TILE, "width": TILE}, image_mean=list(MEAN), image_std=list(STD))
    pil, vision = MllamaImageProcessorPil(**options), MllamaImageProcessor(**options)
    for title, images in photographs().items():
        expected, got = pil(images, return_tensors="pt"), prepare_tiles(images, TILE)
        difference = (got.pixel_values - expected["pixel_values"]).abs().max().item()
        assert difference < 1e-6, f"{title}: off by {difference}"
        contestants = {
            "ours": lambda images=images: prepare_tiles(images, TILE),
            "transformers, Pillow": lambda images=images: pil(images, return_tensors="pt"),
        }
        if all(images):  # torchvision's processor cannot take a sample without pictures at the edge of a batch
            contestants["transformers, torchvision"] = lambda images=images: vision(images, return_tensors="pt")
        report(title, paired(contestants, rounds=9), "ours")


if __name__ == "__main__":
    main()
