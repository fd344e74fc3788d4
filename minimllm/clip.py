"""CLIP (Radford et al. 2021): two encoders learn to agree. Numerically equal to ``CLIPModel`` of transformers, and to open_clip."""

import math
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from minimllm import pretrained
from minimllm.blocks import ACTIVATIONS
from minimllm.resnet import ResNet, ResNetConfig
from minimllm.text_encoder import TextConfig, TextEncoder
from minimllm.vit import ViT, ViTConfig

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of the pictures that OpenAI trained on


def clip_vit(**sizes: Any) -> ViTConfig:
    """A ViT as CLIP uses it: no head, a norm before the first block, no bias in the patch embedding, QuickGELU."""
    clip = dict(classes=0, activation="quick_gelu", norm_eps=1e-5, patch_bias=False, pre_norm=True, image_size=224, position_std=0.02)
    return ViTConfig(**clip | sizes)


@dataclass(frozen=True)
class CLIPConfig:
    """The sizes of a CLIP. ``CLIPConfig.tiny()`` takes a preset; ``CLIPConfig.tiny(embed_dim=32)`` changes what is named.

    Attributes:
        image: of the image encoder: a :class:`~minimllm.vit.ViTConfig` or a :class:`~minimllm.resnet.ResNetConfig`.
        text: of the text encoder.
        embed_dim: width of the space in which images and texts meet.
        initial_logit_scale: the logarithm of the similarities' scale at the start; the paper starts at a temperature of 0.07.
        image_mean, image_std: by which images in [0, 1] are normalised, per channel.
    """

    image: ViTConfig | ResNetConfig
    text: TextConfig
    embed_dim: int = 512
    initial_logit_scale: float = math.log(1 / 0.07)
    image_mean: tuple[float, ...] = MEAN
    image_std: tuple[float, ...] = STD

    def __post_init__(self):
        if self.embed_dim < 1:
            raise ValueError(f"embed_dim must be 1 or more, got {self.embed_dim}")
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != self.image.channels:
                raise ValueError(f"{name} needs one number for each of {self.image.channels} channels, got {getattr(self, name)}")
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std must be above 0, got {self.image_std}")

    @classmethod
    def tiny(cls, vocab_size: int = 128, eos_token_id: int = 3, **changes) -> "CLIPConfig":
        """The course size: images of 32 pixels, the course's ViT (96 wide, 3 deep), texts 64 wide, 2 deep; 0.48 million parameters."""
        image = clip_vit(image_size=32, patch_size=8, dim=96, layers=3, heads=4, mlp_dim=384, position_std=0.5)
        text = TextConfig(vocab_size, dim=64, layers=2, heads=4, mlp_dim=256, eos_token_id=eos_token_id, embedding_std=0.5)
        return replace(cls(image, text, embed_dim=64), **changes)

    @classmethod
    def tiny_resnet(cls, **changes) -> "CLIPConfig":
        """As :meth:`tiny` with a ResNet of as many parameters."""
        return replace(cls.tiny(image=ResNetConfig.tiny()), **changes)

    @classmethod
    def base_32(cls, **changes) -> "CLIPConfig":
        """CLIP ViT-B/32: 151 million parameters."""
        image = clip_vit(patch_size=32, dim=768, layers=12, heads=12, mlp_dim=3072)
        return replace(cls(image, TextConfig()), **changes)

    @classmethod
    def base_16(cls, **changes) -> "CLIPConfig":
        """CLIP ViT-B/16: 150 million parameters."""
        return replace(cls.base_32(image=clip_vit(patch_size=16, dim=768, layers=12, heads=12, mlp_dim=3072)), **changes)

    @classmethod
    def large_14(cls, **changes) -> "CLIPConfig":
        """CLIP ViT-L/14: 428 million parameters. The text encoder is wider than that of the base models."""
        image = clip_vit(patch_size=14, dim=1024, layers=24, heads=16, mlp_dim=4096)
        return replace(cls(image, TextConfig(dim=768, heads=12, mlp_dim=3072), embed_dim=768), **changes)

    @classmethod
    def resnet_50(cls, **changes) -> "CLIPConfig":
        """CLIP RN50: 102 million parameters."""
        return replace(cls(ResNetConfig.resnet_50(), TextConfig(), embed_dim=1024), **changes)


class CLIP(nn.Module):
    """An image encoder, a text encoder, a projection of each into one space, and the temperature with which they are compared.

    Args:
        config: the sizes.
        seed: of the random weights; the global random state is neither read nor changed.
    """

    def __init__(self, config: CLIPConfig, seed: int = 0):
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.text_encoder = TextEncoder(config.text)
            self.text_projection = projection(config.text.dim, config.embed_dim)
            if isinstance(config.image, ResNetConfig):
                self.image_encoder, self.image_projection = ResNet(config.image, config.embed_dim), nn.Identity()
            else:
                self.image_encoder, self.image_projection = ViT(config.image, seed), projection(config.image.dim, config.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(config.initial_logit_scale))

    def encode_image(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch embed_dim"]:
        """``(batch, channels, height, width)`` normalised images -> ``(batch, embed_dim)``, each of length 1.

        Raises:
            ValueError: images of another size or number of channels, of integers, or with values that are not finite.
        """
        if not images.is_meta and images.is_floating_point() and not images.isfinite().all():
            wrong = (~images.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"images {wrong[:8]} of the batch hold values that are not finite (NaN or infinity)")
        return F.normalize(self.image_projection(self.image_encoder(images)), dim=-1)

    def encode_text(
        self, ids: Int[Tensor, "batch length"], mask: Shaped[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch embed_dim"]:
        """``(batch, length)`` token ids -> ``(batch, embed_dim)``, each of length 1; mask and errors as in the text encoder."""
        return F.normalize(self.text_projection(self.text_encoder(ids, mask)), dim=-1)

    def forward(
        self,
        images: Float[Tensor, "images channels height width"],
        ids: Int[Tensor, "texts length"],
        mask: Shaped[Tensor, "texts length"] | None = None,
    ) -> Float[Tensor, "images texts"]:
        """Cosine similarity of each image with each text, times ``exp(logit_scale)``: ``(images, texts)`` logits."""
        return self.logit_scale.exp() * self.encode_image(images) @ self.encode_text(ids, mask).T

    @classmethod
    def from_pretrained(cls, folder: str | PathLike, dtype: torch.dtype | None = None) -> "CLIP":
        """Load a folder (or hub name) written by ``CLIPModel.save_pretrained``.

        Args:
            folder: the folder, with ``config.json`` and safetensors, or the name of a repository on the Hugging Face hub.
            dtype: of the weights; ``None`` keeps the files'.

        Raises:
            ValueError: another kind of model, an option that is not implemented, a missing, unexpected or wrongly shaped
                tensor, a damaged file; the message names it.
        """
        folder = pretrained.resolve(folder)
        config = config_from_transformers(pretrained.read_config(folder, model_type="clip"), folder)
        image = config.image
        shapes = {"image_encoder.patches.projection.weight": (image.dim, image.channels, image.patch_size, image.patch_size)}
        return pretrained.load(cls, config, folder, WEIGHT_NAMES, dtype, shapes)


def projection(dim: int, embed_dim: int) -> nn.Linear:
    linear = nn.Linear(dim, embed_dim, bias=False)
    nn.init.normal_(linear.weight, std=dim**-0.5)
    return linear


def config_from_transformers(values: dict, folder: Path | None = None) -> CLIPConfig:
    """Our config from the values of a ``config.json``; what a file leaves out has the default of transformers."""

    def section(name: str) -> dict:
        # Files of 2022 hold a section twice, and the one called ..._dict counts.
        part = next((values[key] for key in (f"{name}_dict", name) if values.get(key) is not None), {})
        if not isinstance(part, dict):
            raise ValueError(f"config.json has {name} = {part!r}, expected an object with the options of that encoder")
        return part

    def tower(part: dict, hidden_size: int, intermediate_size: int, heads: int) -> dict:
        return dict(
            dim=pretrained.option(part, "hidden_size", hidden_size, kind=int),
            layers=pretrained.option(part, "num_hidden_layers", 12, kind=int),
            heads=pretrained.option(part, "num_attention_heads", heads, kind=int),
            mlp_dim=pretrained.option(part, "intermediate_size", intermediate_size, kind=int),
            activation=pretrained.option(part, "hidden_act", "quick_gelu", allowed=tuple(ACTIVATIONS)),
            norm_eps=pretrained.option(part, "layer_norm_eps", 1e-5, kind=float),
        )

    image, text = section("vision_config"), section("text_config")
    channels = pretrained.option(image, "num_channels", 3, kind=int)
    default_mean, default_std = (MEAN, STD) if channels == 3 else ((0.0,) * channels, (1.0,) * channels)
    normalisation = dict(image_mean=default_mean, image_std=default_std)
    if folder is not None:
        normalisation = pretrained.read_normalisation(folder, channels, default_mean, default_std)
    return CLIPConfig(
        image=clip_vit(
            **tower(image, 768, 3072, 12),
            image_size=pretrained.option(image, "image_size", 224, kind=int),
            patch_size=pretrained.option(image, "patch_size", 32, kind=int),
            channels=channels,
        ),
        text=TextConfig(
            **tower(text, 512, 2048, 8),
            vocab_size=pretrained.option(text, "vocab_size", 49408, kind=int),
            context_length=pretrained.option(text, "max_position_embeddings", 77, kind=int),
            eos_token_id=pretrained.option(text, "eos_token_id", 49407, kind=int),
        ),
        embed_dim=pretrained.option(values, "projection_dim", 512, kind=int),
        **normalisation,
    )


def block_names(ours: str, theirs: str) -> pretrained.WeightNames:
    parts = {
        "attention_norm": "layer_norm1",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.out_proj",
        "mlp_norm": "layer_norm2",
        "mlp.up": "mlp.fc1",
        "mlp.down": "mlp.fc2",
    }
    return {f"{ours}.blocks.{{i}}.{part}": (f"{theirs}.encoder.layers.{{i}}.{name}",) for part, name in parts.items()}


# Ours on the left, theirs on the right. "pre_layrnorm" is how it is spelled there.
WEIGHT_NAMES: pretrained.WeightNames = {
    "logit_scale": ("logit_scale",),
    "text_encoder.tokens": ("text_model.embeddings.token_embedding",),
    "text_encoder.positions": ("text_model.embeddings.position_embedding",),
    **block_names("text_encoder", "text_model"),
    "text_encoder.norm": ("text_model.final_layer_norm",),
    "text_projection": ("text_projection",),
    "image_encoder.class_token": ("vision_model.embeddings.class_embedding",),
    "image_encoder.patches.projection": ("vision_model.embeddings.patch_embedding",),
    "image_encoder.positions.table": ("vision_model.embeddings.position_embedding.weight",),
    "image_encoder.pre_norm": ("vision_model.pre_layrnorm",),
    **block_names("image_encoder", "vision_model"),
    "image_encoder.norm": ("vision_model.post_layernorm",),
    "image_projection": ("visual_projection",),
}
