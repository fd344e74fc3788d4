"""LLaVA (Liu et al. 2023) as options of the unified decoder, and its folders: a CLIP vision tower and a Llama decoder."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimllm.data.tokenizer import IMAGE
from minimllm.models import clip, clip_config, language_model, language_model_config
from minimllm.models.unified_config import UnifiedConfig, check_image_token
from minimllm.models.vit import ViT
from minimllm.weights import pretrained, saving

MODEL_TYPES = ("llava",)

# LLaVA's own image encoder, CLIP ViT-L/14 at 336 pixels, where a config.json has no vision_config at all.
_DEFAULT_VISION = dict(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14, image_size=336
)


def config_from_transformers(values: dict[str, Any], folder: Path | None = None) -> UnifiedConfig:
    """Our config from the values of a ``config.json``; what a file leaves out has the default of transformers."""
    parts = {}
    for name, kind, default in (("vision_config", "clip_vision_model", _DEFAULT_VISION), ("text_config", "llama", {})):
        part = default if values.get(name) is None else values[name]
        if not isinstance(part, dict):
            raise ValueError(f"config.json has {name} = {part!r}, expected an object with the options of that part")
        if part.get("model_type", kind) != kind:
            raise ValueError(
                f"config.json has {name} of model_type {part['model_type']!r}, which is not implemented; implemented: {kind!r}"
            )
        parts[name] = part
    pretrained.option(values, "projector_hidden_act", "gelu", allowed=("gelu",))
    layer = values.get("vision_feature_layer", -2)
    if isinstance(layer, list) and len(layer) == 1:
        layer = layer[0]
    if not isinstance(layer, int) or isinstance(layer, bool):
        raise ValueError(f"config.json has vision_feature_layer = {layer!r}; only one layer is implemented")
    strategy = pretrained.option(values, "vision_feature_select_strategy", "default", allowed=("default", "full"))
    text = dict(parts["text_config"])
    tied = [pretrained.option(part, "tie_word_embeddings", False, allowed=(True, False, None)) for part in (values, text)]
    text["tie_word_embeddings"] = any(tied)
    if text.get("pad_token_id") is None:
        text["pad_token_id"] = values.get("pad_token_id")
    images = clip_config.config_from_transformers({"vision_config": parts["vision_config"]}, folder, "LlavaImageProcessor")
    name = "image_token_id" if "image_token_id" in values else "image_token_index"
    with pretrained.told_by_file(values, feature_layer="vision_feature_layer", image_token_id=name):
        return UnifiedConfig(
            vision=images.image,
            language=language_model_config.with_generation_config(language_model_config.config_from_transformers(text), folder),
            image_token_id=pretrained.option(values, name, 32_000, kind=int),
            feature_layer=layer,
            keep_class_token=strategy == "full",
            projector_bias=pretrained.option(values, "multimodal_projector_bias", True, kind=bool),
            image_mean=images.image_mean,
            image_std=images.image_std,
            preparation=images.preparation,
        )


def config_to_transformers(config: UnifiedConfig) -> dict[str, Any]:
    """The values of a ``config.json``; a ``ValueError`` names an option that transformers cannot express.

    The encoder's blocks behind ``feature_layer`` are not in the model: the file describes an encoder that ends there.
    """
    llava, text = "LlavaForConditionalGeneration", config.language
    saving.only(config, llava, projector="mlp", merge=1, normalise_features=False, projector_positions=None, token_scale=None)
    saving.only(config, llava, projector_dim=(None, text.dim), shared_position=False, image_prefix=False, final_norm=False)
    check_image_token(config, llava)
    return {
        "architectures": [llava],
        "model_type": "llava",
        "vision_config": clip_config.vision_to_transformers(config.vision_used),
        "text_config": language_model_config.config_to_transformers(text),
        "image_token_index": config.image_token_id,
        "image_seq_length": config.image_tokens,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full" if config.keep_class_token else "default",
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": config.projector_bias,
        "tie_word_embeddings": text.tied,
        "pad_token_id": text.pad_token_id,
    }


def pictures_to_transformers(config: UnifiedConfig) -> dict[str, Any]:
    """The values of ``preprocessor_config.json``."""
    return clip_config.pictures_to_transformers(config, config.vision)


def processor_to_transformers(config: UnifiedConfig) -> dict[str, Any]:
    """The values of ``processor_config.json``, by which ``LlavaProcessor`` writes as many placeholders as a picture has tokens."""
    return {
        "processor_class": "LlavaProcessor",
        "patch_size": config.vision.patch_size,
        "vision_feature_select_strategy": "full" if config.keep_class_token else "default",
        "num_additional_image_tokens": 1,  # CLIP's class token, which "default" takes off again
        "image_token": IMAGE,
    }


def unread(vision: ViT) -> dict[str, Tensor]:
    """The norm behind the last block, which transformers expects in a file and nothing reads, as it would start."""
    like, name = vision.class_token, "vision_tower.vision_model.post_layernorm"
    return {f"{name}.weight": torch.ones_like(like), f"{name}.bias": torch.zeros_like(like)}


def is_unused(config: UnifiedConfig, name: str) -> bool:
    """Whether a tensor of a file belongs to the image encoder behind ``feature_layer``, which is never computed."""
    found = re.fullmatch(r"(model\.)?vision_tower\.(vision_model\.)?(post_layernorm|encoder\.layers\.(?P<layer>\d{1,6}))\..*", name)
    return found is not None and (found["layer"] is None or config.blocks_used <= int(found["layer"]) < config.vision.layers)


_VISION = ("vision_tower.vision_model", "model.vision_tower", "model.vision_tower.vision_model", "vision_tower")

# Ours on the left; on the right the names in the files, then those in memory, which transformers 5 also accepts in a file.
WEIGHT_NAMES: pretrained.WeightNames = {
    **{
        name.replace("image_encoder", "vision"): tuple(theirs[0].replace("vision_model", prefix, 1) for prefix in _VISION)
        for name, theirs in clip.WEIGHT_NAMES.items()
        if name.startswith("image_encoder.")
    },
    "projector.up": ("multi_modal_projector.linear_1", "model.multi_modal_projector.linear_1"),
    "projector.down": ("multi_modal_projector.linear_2", "model.multi_modal_projector.linear_2"),
    **language_model.decoder_names(
        "language_model.", "language_model.model.", "model.language_model.", head=("language_model.lm_head", "lm_head")
    ),
}
