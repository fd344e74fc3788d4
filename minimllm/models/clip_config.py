"""The sizes of a CLIP, and how they are read from and written to the ``config.json`` of a CLIP folder."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minimllm.data.preprocessing import Preparation
from minimllm.layers.blocks import ACTIVATIONS
from minimllm.models.resnet import ResNetConfig
from minimllm.models.text_encoder import TextConfig
from minimllm.models.vit_config import SIZES, ViTConfig, check_normalisation
from minimllm.weights import pretrained, processors, saving
from minimllm.weights.processors import MEAN, STD


def clip_vit(**sizes: Any) -> ViTConfig:
    """A ViT as CLIP uses it: no head, a norm before the first block, no bias in the patch embedding, QuickGELU."""
    clip = dict(classes=0, activation="quick_gelu", norm_eps=1e-5, patch_bias=False, pre_norm=True, image_size=224, position_std=0.02)
    return ViTConfig(**clip | sizes)


@dataclass(frozen=True)
class CLIPConfig:
    """The sizes of a CLIP. ``CLIPConfig.tiny()`` takes a preset; ``CLIPConfig.tiny(embed_dim=32)`` changes what is named.

    Attributes:
        image: of the image encoder: a :class:`~minimllm.models.vit.ViTConfig` or a :class:`~minimllm.models.resnet.ResNetConfig`.
        text: of the text encoder.
        embed_dim: width of the space in which images and texts meet.
        initial_logit_scale: the logarithm of the similarities' scale at the start; the paper starts at a temperature of 0.07.
        initial_logit_bias: what is added to the logits at the start, for the loss of SigLIP (-10, beside a scale of 10); ``None``: nothing,
            as in CLIP, whose softmax would not notice.
        image_mean, image_std: by which images in [0, 1] are normalised, per channel.
        preparation: what else is done to pictures, as :func:`~minimllm.data.preprocessing.prepare_pictures` does it.
    """

    image: ViTConfig | ResNetConfig
    text: TextConfig
    embed_dim: int = 512
    initial_logit_scale: float = math.log(1 / 0.07)
    initial_logit_bias: float | None = None
    image_mean: tuple[float, ...] = MEAN
    image_std: tuple[float, ...] = STD
    preparation: Preparation = Preparation()

    def __post_init__(self):
        if self.embed_dim < 1:
            raise ValueError(f"embed_dim must be 1 or more, got {self.embed_dim}")
        check_normalisation(self.image_mean, self.image_std, self.image.channels)

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


def config_from_transformers(values: dict, folder: Path | None = None, processor: str = "CLIPImageProcessor") -> CLIPConfig:
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
            norm_eps=pretrained.number(part, "layer_norm_eps", 1e-5, least=0),
        )

    image, text = section("vision_config"), section("text_config")
    channels = pretrained.option(image, "num_channels", 3, kind=int)
    if folder is not None and channels != 3:
        pretrained.check_width(folder, "num_channels", channels)
    with pretrained.told_by_file(image, image_size="image_size", **SIZES):
        image_config = clip_vit(
            **tower(image, 768, 3072, 12),
            image_size=pretrained.option(image, "image_size", 224, kind=int),
            patch_size=pretrained.option(image, "patch_size", 32, kind=int),
            channels=channels,
        )
    pictures = {} if channels == 3 else dict(image_mean=(0.0,) * channels, image_std=(1.0,) * channels)
    if folder is not None:
        pictures |= processors.read_preparation(folder, processor, image_config.size, channels)
    with pretrained.told_by_file(text, vocab_size="vocab_size", context_length="max_position_embeddings", **SIZES):
        text_config = TextConfig(
            **tower(text, 512, 2048, 8),
            vocab_size=pretrained.option(text, "vocab_size", 49408, kind=int),
            context_length=pretrained.option(text, "max_position_embeddings", 77, kind=int),
            eos_token_id=pretrained.option(text, "eos_token_id", 49407, kind=int),
        )
    with pretrained.told_by_file(values, embed_dim="projection_dim"):
        return CLIPConfig(image_config, text_config, pretrained.option(values, "projection_dim", 512, kind=int), **pictures)


def config_to_transformers(config: CLIPConfig) -> dict[str, Any]:
    """The values of a ``config.json``; a ``ValueError`` names an option that transformers cannot express."""
    saving.only(config, "CLIPModel", initial_logit_bias=None)
    text = {
        "model_type": "clip_text_model",
        "vocab_size": config.text.vocab_size,
        "max_position_embeddings": config.text.context_length,
        "bos_token_id": None,
        "eos_token_id": config.text.eos_token_id,
        "pad_token_id": None,
        **tower_to_transformers(config.text),
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "text_config": {**text, "projection_dim": config.embed_dim},
        "vision_config": {**vision_to_transformers(config.image), "projection_dim": config.embed_dim},
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": config.initial_logit_scale,
    }


def vision_to_transformers(image: ViTConfig | ResNetConfig) -> dict[str, Any]:
    """The section ``vision_config``; errors as :func:`config_to_transformers`."""
    if isinstance(image, ResNetConfig):
        raise ValueError("the image encoder is a ResNet, and CLIPModel of transformers can only express a ViT")
    saving.only(image, "CLIPModel", patch_bias=False, pre_norm=True, query_key_value_bias=True, class_token=True, classes=0)
    height, width = image.size
    if height != width:
        raise ValueError(f"the image encoder has image_size = {image.image_size!r}, and CLIPModel of transformers can only express squares")
    vision = {"model_type": "clip_vision_model", "image_size": height, "patch_size": image.patch_size, "num_channels": image.channels}
    return {**vision, **tower_to_transformers(image)}


def tower_to_transformers(config: ViTConfig | TextConfig) -> dict[str, Any]:
    """What both encoders of a CLIP have in their section."""
    return {
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": config.activation,
        "layer_norm_eps": float(config.norm_eps),
    }


def pictures_to_transformers(config: Any, image: ViTConfig) -> dict[str, Any]:
    """The values of ``preprocessor_config.json`` for a model whose config has mean, deviation and preparation."""
    how = config.preparation, image.size, config.image_mean, config.image_std
    return processors.preparation_to_transformers("CLIPImageProcessor", *how)
