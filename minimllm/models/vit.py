"""The Vision Transformer (Dosovitskiy et al. 2021), numerically equal to ``ViTForImageClassification`` of transformers."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minimllm.layers.blocks import EncoderBlock
from minimllm.layers.patches import LearnedPositions, PatchEmbedding, check_images
from minimllm.models.vit_config import ViTConfig, config_from_transformers, config_to_transformers, pictures_to_transformers
from minimllm.weights import pretrained, saving


class ViT(nn.Module):
    """Patches, a class token, positions, a stack of pre-norm blocks, a final norm, and one linear layer on the class token.

    Args:
        config: the sizes.
        seed: of the random weights; the global random state is neither read nor changed.
    """

    def __init__(self, config: ViTConfig, seed: int = 0):
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.patches = PatchEmbedding(config.patch_size, config.channels, config.dim, bias=config.patch_bias)
            if config.class_token:
                self.class_token = nn.Parameter(torch.empty(config.dim).normal_(std=config.position_std))
            self.positions = LearnedPositions(config.grid, config.dim, config.class_token, config.position_std)
            self.pre_norm = nn.LayerNorm(config.dim, eps=config.norm_eps) if config.pre_norm else nn.Identity()
            self.blocks = nn.ModuleList(
                EncoderBlock(config.dim, config.heads, config.mlp_dim, config.activation, config.norm_eps, config.query_key_value_bias)
                for _ in range(config.layers)
            )
            self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
            self.head = nn.Linear(config.dim, config.classes) if config.classes else nn.Identity()

    def encode(
        self, images: Float[Tensor, "batch channels height width"], interpolate: bool = False, keep: int | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        """All tokens after the final norm, the class token first, if there is one: ``(batch, 1 + patches, dim)``.

        Args:
            images: ``(batch, channels, height, width)`` floats, normalised as in training.
            interpolate: accept another image size and stretch the learned positions to its grid.
            keep: how many leading tokens to return, 1 for the class token alone; the last block then computes only those.

        Raises:
            ValueError: another size (without ``interpolate``), a size that the patches do not divide, another number of
                channels, integer images, an empty batch.
        """
        check_images(images, self.config.channels)
        height, width = images.shape[2:]
        if (height, width) != self.config.size and not interpolate:
            raise ValueError(
                f"this model was made for images of {self.config.size[0]} x {self.config.size[1]} pixels and got {height} x {width}; "
                "resize them, or stretch the learned positions with interpolate=True"
            )
        grid = rows, columns = height // self.config.patch_size, width // self.config.patch_size
        if self.config.drop_margin:
            images = images[:, :, : rows * self.config.patch_size, : columns * self.config.patch_size]
        x = self.patches(images)
        if self.config.class_token:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        x = self.pre_norm(self.positions(x, grid=grid))
        for block in self.blocks[:-1]:
            x = block(x)
        return self.norm(self.blocks[-1](x, keep=keep))

    def forward(self, images: Float[Tensor, "batch channels height width"], interpolate: bool = False) -> Float[Tensor, "batch classes"]:
        """``(batch, channels, height, width)`` -> ``(batch, classes)`` logits; errors as :meth:`encode`.

        They are read from the class token; without one, from the mean of the patches.
        """
        if not self.config.class_token:
            return self.head(self.encode(images, interpolate).mean(dim=1))
        return self.head(self.encode(images, interpolate, keep=1)[:, 0])

    @classmethod
    def from_pretrained(cls, folder: str | PathLike, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "ViT":
        """Load a folder (or hub name) written by ``ViTForImageClassification.save_pretrained``.

        Args:
            folder: the folder, with ``config.json`` and safetensors, or the name of a repository on the Hugging Face hub.
            dtype: of the weights; ``None`` keeps the files', or takes the config's where they are of several types.
            device: where to; ``None``: the processor's memory, where the weights are the files' own pages.

        Raises:
            ValueError: another kind of model, an option that is not implemented, a missing, unexpected or wrongly shaped
                tensor, a damaged file; the message names it.
        """
        with pretrained.opened(folder) as folder:
            config = config_from_transformers(pretrained.read_config(folder, "vit"), folder)
            return pretrained.load(cls, config, folder, WEIGHT_NAMES, dtype, device, file_shapes(config))

    def save_pretrained(
        self, folder: str | PathLike, image_mean: tuple[float, ...] | None = None, image_std: tuple[float, ...] | None = None
    ) -> Path:
        """Write a folder that ``ViTForImageClassification`` opens, with equal logits; :func:`minimllm.weights.saving.save` says how.

        Args:
            folder: where to; a folder written so before is replaced.
            image_mean, image_std: by which images in [0, 1] are normalised for this model; ``None``: as its config has them. With both,
                ``preprocessor_config.json`` is written, too.

        Raises:
            ValueError: an option that transformers cannot express, by name; and what :func:`~minimllm.weights.saving.save` refuses.
        """
        values = config_to_transformers(self.config)
        given, channels = [each for each in (image_mean, image_std) if each is not None], self.config.channels
        if len(given) == 1 or any(len(each) != channels for each in given):
            raise ValueError(
                f"image_mean and image_std need one number for each of {channels} channels, or neither is given; "
                f"got {image_mean} and {image_std}"
            )
        known = {"image_mean": image_mean or self.config.image_mean, "image_std": image_std or self.config.image_std}
        pictures = pictures_to_transformers(replace(self.config, **known))
        return saving.save(folder, self, values, WEIGHT_NAMES, shapes=file_shapes(self.config), preprocessor=pictures)


def file_shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Our name -> shape in the files, where they fold the same numbers otherwise."""
    return {
        "class_token": (1, 1, config.dim),
        "positions.table": (1, 1 + config.grid[0] * config.grid[1], config.dim),
        "patches.projection.weight": (config.dim, config.channels, config.patch_size, config.patch_size),
    }


# Ours on the left; on the right the name in the files, then the name in memory, which transformers 5 also accepts in a file.
WEIGHT_NAMES: pretrained.WeightNames = {
    "class_token": ("vit.embeddings.cls_token",),
    "positions.table": ("vit.embeddings.position_embeddings",),
    "patches.projection": ("vit.embeddings.patch_embeddings.projection",),
    "blocks.{i}.attention_norm": ("vit.encoder.layer.{i}.layernorm_before", "vit.layers.{i}.layernorm_before"),
    "blocks.{i}.attention.query": ("vit.encoder.layer.{i}.attention.attention.query", "vit.layers.{i}.attention.q_proj"),
    "blocks.{i}.attention.key": ("vit.encoder.layer.{i}.attention.attention.key", "vit.layers.{i}.attention.k_proj"),
    "blocks.{i}.attention.value": ("vit.encoder.layer.{i}.attention.attention.value", "vit.layers.{i}.attention.v_proj"),
    "blocks.{i}.attention.output": ("vit.encoder.layer.{i}.attention.output.dense", "vit.layers.{i}.attention.o_proj"),
    "blocks.{i}.mlp_norm": ("vit.encoder.layer.{i}.layernorm_after", "vit.layers.{i}.layernorm_after"),
    "blocks.{i}.mlp.up": ("vit.encoder.layer.{i}.intermediate.dense", "vit.layers.{i}.mlp.fc1"),
    "blocks.{i}.mlp.down": ("vit.encoder.layer.{i}.output.dense", "vit.layers.{i}.mlp.fc2"),
    "norm": ("vit.layernorm",),
    "head": ("classifier",),
}
