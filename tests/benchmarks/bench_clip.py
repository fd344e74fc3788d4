"""A training step of CLIP beside transformers and open_clip: same sizes, same optimizer, same threads, in turn in one process.

python tests/benchmarks/bench_clip.py            both sizes
python tests/benchmarks/bench_clip.py course     the course's size alone
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import open_clip
import torch
from paired import matmul_rate, paired, report
from transformers import CLIPConfig as TheirConfig
from transformers import CLIPModel

from minimllm import CLIP, CLIPConfig, clamp_temperature, contrastive_loss

# Name -> sizes, pairs in a batch, length of the texts, rounds.
SIZES = {"course": (CLIPConfig.tiny(), 192, 16, 15), "ViT-B/32": (CLIPConfig.base_32(), 8, 77, 7)}


def models(config: CLIPConfig) -> dict[str, torch.nn.Module]:
    image, text = config.image, config.text

    def tower(part):
        return dict(hidden_size=part.dim, num_hidden_layers=part.layers, num_attention_heads=part.heads, intermediate_size=part.mlp_dim)

    theirs = TheirConfig(
        text_config=tower(text) | dict(vocab_size=text.vocab_size, eos_token_id=text.eos_token_id, bos_token_id=1, pad_token_id=0),
        vision_config=tower(image) | dict(image_size=image.image_size, patch_size=image.patch_size),
        projection_dim=config.embed_dim,
    )
    vision = open_clip.CLIPVisionCfg(
        layers=image.layers, width=image.dim, head_width=image.dim // image.heads, patch_size=image.patch_size, image_size=image.image_size
    )
    # open_clip computes all positions of its context, so it gets a context of the texts' length.
    return {
        "minimllm": CLIP(config).train(),
        "transformers": CLIPModel(theirs).train(),
        "open_clip": lambda length: open_clip.CLIP(
            config.embed_dim,
            vision,
            open_clip.CLIPTextCfg(length, text.vocab_size, width=text.dim, heads=text.heads, layers=text.layers),
            quick_gelu=True,
        ).train(),
    }


def forward_operations(config: CLIPConfig, batch: int, length: int) -> float:
    """Two operations for each multiply-add of the matrix products of one forward pass."""

    def tower(part, tokens):
        return part.layers * (tokens * (4 * part.dim**2 + 2 * part.dim * part.mlp_dim) + 2 * tokens**2 * part.dim)

    image = config.image
    patches = image.grid[0] * image.grid[1]
    per_pair = tower(image, patches + 1) + tower(config.text, length) + patches * image.channels * image.patch_size**2 * image.dim
    return 2 * batch * (per_pair + config.embed_dim * (image.dim + config.text.dim) + batch * config.embed_dim)


def losses(contestants, images, ids):
    def minimllm():
        return contrastive_loss(contestants["minimllm"](images, ids))

    def transformers():
        return contestants["transformers"](input_ids=ids, pixel_values=images, return_loss=True).loss

    their_loss = open_clip.ClipLoss()

    def theirs():
        return their_loss(*contestants["open_clip"](images, ids))

    return {"minimllm": minimllm, "transformers": transformers, "open_clip": theirs}


def training_step(model, loss):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        clamp_temperature(model)

    return step


if __name__ == "__main__":
    rate = matmul_rate()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, matmul rate {rate / 1e9:.0f} GFLOP/s")
    for name, (config, batch, length, rounds) in SIZES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        size = config.image.image_size
        images, ids = torch.randn(batch, 3, size, size), torch.randint(10, config.text.vocab_size - 1, (batch, length))
        ids[:, -1] = config.text.eos_token_id
        contestants = models(config)
        contestants["open_clip"] = contestants["open_clip"](length)
        steps = {key: training_step(contestants[key], loss) for key, loss in losses(contestants, images, ids).items()}
        operations = 3 * forward_operations(config, batch, length)
        report(f"{name}: training step, {batch} pairs, texts of {length}", paired(steps, rounds), "minimllm", operations, rate)
