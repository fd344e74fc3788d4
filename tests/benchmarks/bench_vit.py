"""A training step and a forward pass of the ViT beside transformers and timm: same weights' shapes, same optimizer, same threads.

At the course's size a plain ViT spends some 60% of a step in matrix products, which run near the machine's rate. The rest, in a
profile: the fused attention kernel 10% (it is made for longer sequences than 17), GELU 7%, AdamW over many small tensors 4%,
copies 4%, layer norms 3%, sums of bias gradients 3%, additions 2%. Ours is faster because it does less: the head reads the class
token alone, so the last block computes that one token (EncoderBlock's keep), with the same logits. The share of the matmul rate
counts the operations of the full model for everybody, so for ours it is a rate of useful work, not of operations done.

python tests/benchmarks/bench_vit.py            both sizes
python tests/benchmarks/bench_vit.py course     the course's size alone
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import timm
import torch
import torch.nn.functional as F
from paired import matmul_rate, paired, report
from transformers import ViTConfig as TheirConfig
from transformers import ViTForImageClassification

from minimllm import ViT, ViTConfig

SIZES = {"course": (ViTConfig.tiny(classes=64), 192, 15), "ViT-B/16": (ViTConfig.base_16(), 4, 7)}


def models(config: ViTConfig) -> dict[str, torch.nn.Module]:
    sizes = dict(image_size=config.image_size, patch_size=config.patch_size, num_labels=config.classes, hidden_size=config.dim)
    theirs = TheirConfig(
        **sizes, num_hidden_layers=config.layers, num_attention_heads=config.heads, intermediate_size=config.mlp_dim, layer_norm_eps=1e-6
    )
    return {
        "minimllm": ViT(config),
        "timm": timm.models.vision_transformer.VisionTransformer(
            img_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.dim,
            depth=config.layers,
            num_heads=config.heads,
            mlp_ratio=config.mlp_dim / config.dim,
            num_classes=config.classes,
        ),
        "transformers": ViTForImageClassification(theirs),
    }


def forward_operations(config: ViTConfig, batch: int) -> float:
    """Two operations for each multiply-add of the matrix products of one forward pass."""
    patches = config.grid[0] * config.grid[1]
    tokens, dim = patches + 1, config.dim
    per_block = tokens * (4 * dim * dim + 2 * dim * config.mlp_dim) + 2 * tokens * tokens * dim
    return 2 * batch * (patches * config.channels * config.patch_size**2 * dim + config.layers * per_block + dim * config.classes)


def training_step(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        logits = model(images)
        F.cross_entropy(getattr(logits, "logits", logits), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def forward_pass(model: torch.nn.Module, images: torch.Tensor):
    def run():
        with torch.inference_mode():
            model(images)

    return run


if __name__ == "__main__":
    rate = matmul_rate()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, matmul rate {rate / 1e9:.0f} GFLOP/s")
    for name, (config, batch, rounds) in SIZES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        size = config.image_size
        images, labels = torch.randn(batch, config.channels, size, size), torch.randint(config.classes, (batch,))
        contestants, operations = models(config), forward_operations(config, batch)
        # The backward pass makes two products for each of the forward pass: towards the input and towards the weight.
        steps = {key: training_step(model, images, labels) for key, model in contestants.items()}
        report(f"{name}: training step, batch {batch}", paired(steps, rounds), "minimllm", 3 * operations, rate)
        passes = {key: forward_pass(model.eval(), images) for key, model in contestants.items()}
        report(f"{name}: forward pass, batch {batch}", paired(passes, rounds), "minimllm", operations, rate)
