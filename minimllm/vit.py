"""The Vision Transformer (Dosovitskiy et al. 2021), numerically equal to ``ViTForImageClassification`` of transformers."""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minimllm import pretrained, saving
from minimllm.blocks import ACTIVATIONS, EncoderBlock
from minimllm.patches import LearnedPositions, PatchEmbedding, check_divides, check_images, check_patch_size


@dataclass(frozen=True)
class ViTConfig:
    """The sizes of a ViT. ``ViTConfig.tiny(classes=10)`` takes a preset and changes what is named.

    Attributes:
        image_size: side of the images in pixels, or ``(height, width)``.
        patch_size: side of a patch in pixels.
        channels: channels of an image.
        dim, layers, heads, mlp_dim: width of a token, number of blocks, heads per block, width inside the MLP.
        classes: number of classes; 0 for no head.
        activation: see :class:`~minimllm.blocks.MLP`.
        norm_eps: epsilon of the layer norms (1e-6 in the paper's code and timm, 1e-12 in transformers).
        query_key_value_bias: biases of the query, key and value projections.
        patch_bias: bias of the patch embedding; CLIP has none.
        pre_norm: a layer norm before the first block, as in CLIP.
        position_std: standard deviation of the positions and the class token at the start.
    """

    image_size: int | tuple[int, int] = 32
    patch_size: int = 8
    channels: int = 3
    dim: int = 96
    layers: int = 3
    heads: int = 4
    mlp_dim: int = 384
    classes: int = 10
    activation: str = "gelu"
    norm_eps: float = 1e-6
    query_key_value_bias: bool = True
    patch_bias: bool = True
    pre_norm: bool = False
    position_std: float = 0.5

    def __post_init__(self):
        check_patch_size(self.patch_size)
        if len(self.size) != 2:
            raise ValueError(f"image_size must be a side or (height, width), got {self.image_size}")
        check_divides(*self.size, self.patch_size)
        for name in ("channels", "dim", "layers", "heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.classes < 0:
            raise ValueError(f"classes must be 0 (no head) or more, got {self.classes}")

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the images, in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else tuple(self.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """``(rows, columns)`` of patches."""
        return self.size[0] // self.patch_size, self.size[1] // self.patch_size

    @classmethod
    def tiny(cls, **changes) -> "ViTConfig":
        """The course size: 16 patches of 8 x 8 from 32 x 32 pixels, 96 wide, 3 deep; 0.36 million parameters."""
        return replace(cls(), **changes)

    @classmethod
    def digits(cls, **changes) -> "ViTConfig":
        """For scikit-learn's handwritten digits: 8 x 8 grey pixels in 16 patches of 2 x 2."""
        return replace(cls(image_size=8, patch_size=2, channels=1), **changes)

    @classmethod
    def base_16(cls, **changes) -> "ViTConfig":
        """ViT-B/16: 224 pixels, 12 layers of 768, 12 heads; 86.6 million parameters with 1000 classes."""
        base = cls(image_size=224, patch_size=16, dim=768, layers=12, heads=12, mlp_dim=3072, classes=1000, position_std=0.02)
        return replace(base, **changes)

    @classmethod
    def large_16(cls, **changes) -> "ViTConfig":
        """ViT-L/16: 224 pixels, 24 layers of 1024, 16 heads; 304 million parameters with 1000 classes."""
        return replace(cls.base_16(dim=1024, layers=24, heads=16, mlp_dim=4096), **changes)

    @classmethod
    def huge_14(cls, **changes) -> "ViTConfig":
        """ViT-H/14: 224 pixels, 32 layers of 1280, 16 heads; 632 million parameters with 1000 classes."""
        return replace(cls.base_16(patch_size=14, dim=1280, layers=32, heads=16, mlp_dim=5120), **changes)


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
            self.class_token = nn.Parameter(torch.empty(config.dim).normal_(std=config.position_std))
            self.positions = LearnedPositions(config.grid, config.dim, class_token=True, std=config.position_std)
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
        """All tokens after the final norm, the class token first: ``(batch, 1 + patches, dim)``.

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
        x = self.patches(images)
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        x = self.pre_norm(self.positions(x, grid=(height // self.config.patch_size, width // self.config.patch_size)))
        for block in self.blocks[:-1]:
            x = block(x)
        return self.norm(self.blocks[-1](x, keep=keep))

    def forward(self, images: Float[Tensor, "batch channels height width"], interpolate: bool = False) -> Float[Tensor, "batch classes"]:
        """``(batch, channels, height, width)`` -> ``(batch, classes)`` logits, read from the class token; errors as :meth:`encode`."""
        return self.head(self.encode(images, interpolate, keep=1)[:, 0])

    @classmethod
    def from_pretrained(cls, folder: str | PathLike, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "ViT":
        """Load a folder (or hub name) written by ``ViTForImageClassification.save_pretrained``.

        Args:
            folder: the folder, with ``config.json`` and safetensors, or the name of a repository on the Hugging Face hub.
            dtype: of the weights; ``None`` keeps the files'.
            device: where to; ``None``: the processor's memory, where the weights are the files' own pages.

        Raises:
            ValueError: another kind of model, an option that is not implemented, a missing, unexpected or wrongly shaped
                tensor, a damaged file; the message names it.
        """
        folder = pretrained.resolve(folder)
        config = config_from_transformers(pretrained.read_config(folder, model_type="vit"))
        return pretrained.load(cls, config, folder, WEIGHT_NAMES, dtype, device, file_shapes(config))

    def save_pretrained(
        self, folder: str | PathLike, image_mean: tuple[float, ...] | None = None, image_std: tuple[float, ...] | None = None
    ) -> Path:
        """Write a folder that ``ViTForImageClassification`` opens, with equal logits; :func:`minimllm.saving.save` says how.

        Args:
            folder: where to; a folder written so before is replaced.
            image_mean, image_std: by which images in [0, 1] are normalised for this model, which itself does not know; with both,
                ``preprocessor_config.json`` is written, too.

        Raises:
            ValueError: an option that transformers cannot express, by name; and what :func:`~minimllm.saving.save` refuses.
        """
        values = config_to_transformers(self.config)
        pictures = None
        if image_mean is not None and image_std is not None:
            size = dict(zip(("height", "width"), self.config.size, strict=True))
            pictures = saving.picture_config("ViTImageProcessor", image_mean, image_std, size=size, resample=2)
        return saving.save(folder, self, values, WEIGHT_NAMES, shapes=file_shapes(self.config), preprocessor=pictures)


def file_shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Our name -> shape in the files, where they fold the same numbers otherwise."""
    return {
        "class_token": (1, 1, config.dim),
        "positions.table": (1, 1 + config.grid[0] * config.grid[1], config.dim),
        "patches.projection.weight": (config.dim, config.channels, config.patch_size, config.patch_size),
    }


def config_to_transformers(config: ViTConfig) -> dict[str, Any]:
    """The values of a ``config.json``; a ``ValueError`` names an option that transformers cannot express."""
    saving.only(config, "ViTForImageClassification", patch_bias=True, pre_norm=False)
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": config.image_size if isinstance(config.image_size, int) else list(config.image_size),
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "id2label": {str(number): f"LABEL_{number}" for number in range(config.classes)},
        "label2id": {f"LABEL_{number}": number for number in range(config.classes)},
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_eps,
        "qkv_bias": config.query_key_value_bias,
    }


def config_from_transformers(values: dict) -> ViTConfig:
    """Our config from the values of a ``config.json``; what a file leaves out has the default of transformers."""
    size = values.get("image_size", 224)
    size = (
        pretrained.whole_numbers(values, "image_size", ())
        if isinstance(size, list)
        else pretrained.option(values, "image_size", 224, kind=int)
    )
    with pretrained.told_by_file(values, **SIZES):
        return ViTConfig(
            image_size=size,
            patch_size=pretrained.option(values, "patch_size", 16, kind=int),
            channels=pretrained.option(values, "num_channels", 3, kind=int),
            dim=pretrained.option(values, "hidden_size", 768, kind=int),
            layers=pretrained.option(values, "num_hidden_layers", 12, kind=int),
            heads=pretrained.option(values, "num_attention_heads", 12, kind=int),
            mlp_dim=pretrained.option(values, "intermediate_size", 3072, kind=int),
            classes=pretrained.number_of_classes(values),
            activation=pretrained.option(values, "hidden_act", "gelu", allowed=tuple(ACTIVATIONS)),
            norm_eps=pretrained.option(values, "layer_norm_eps", 1e-12, kind=float),
            query_key_value_bias=pretrained.option(values, "qkv_bias", True, kind=bool),
        )


# What the sizes of a transformer are called in the files.
SIZES = {
    "dim": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "channels": "num_channels",
    "patch_size": "patch_size",
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
