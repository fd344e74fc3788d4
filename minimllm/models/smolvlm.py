"""SmolVLM (Marafioti et al. 2025) and Idefics3 (Laurençon et al. 2024) as options of the unified decoder, and their folders.

SigLIP's encoder with its final norm, neighbouring patches merged, one linear layer without bias, Llama. Numerically equal to
``SmolVLMForConditionalGeneration`` and ``Idefics3ForConditionalGeneration`` of transformers with a Llama decoder.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimllm.layers.blocks import ACTIVATIONS
from minimllm.models import clip, clip_config, language_model, language_model_config
from minimllm.models.unified_config import UnifiedConfig, check_image_token
from minimllm.models.vit import ViT
from minimllm.models.vit_config import SIZES, ViTConfig
from minimllm.weights import pretrained, processors, saving

MODEL_TYPES = ("smolvlm", "idefics3")


def config_from_transformers(values: dict[str, Any], folder: Path | None = None) -> UnifiedConfig:
    """Our config from the values of a ``config.json``; what a file leaves out has the default of transformers."""
    parts = {}
    for name, default in (("vision_config", {}), ("text_config", {"rms_norm_eps": 1e-5})):
        parts[name] = default if values.get(name) is None else values[name]
        if not isinstance(parts[name], dict):
            raise ValueError(f"config.json has {name} = {parts[name]!r}, expected an object with the options of that part")
    kind = parts["text_config"].get("model_type", "llama")
    if kind != "llama":
        raise ValueError(f"config.json has text_config of model_type {kind!r}, which is not implemented; implemented: 'llama'")
    # The decoder's own word on this has no effect in transformers.
    tied = pretrained.option(values, "tie_word_embeddings", False, kind=bool)
    text = language_model_config.config_from_transformers({**parts["text_config"], "tie_word_embeddings": tied})
    vision = vision_from_transformers(parts["vision_config"])
    pictures = dict(image_mean=processors.HALF, image_std=processors.HALF)
    if folder is not None:
        pictures |= processors.read_splitting(folder, vision.size[0])
    with pretrained.told_by_file({"scale_factor": 2, **values}, merge="scale_factor"):
        return UnifiedConfig(
            vision=vision,
            language=language_model_config.with_generation_config(text, folder),
            image_token_id=pretrained.option(values, "image_token_id", 128_257, kind=int),
            merge=pretrained.option(values, "scale_factor", 2, kind=int),
            feature_layer=-1,
            final_norm=True,
            projector="linear",
            projector_bias=False,
            **pictures,
        )


def vision_from_transformers(values: dict[str, Any]) -> ViTConfig:
    """The image encoder of a section ``vision_config``, whose ``model_type`` means nothing: released files have several."""
    size, patch_size = (pretrained.option(values, name, default, kind=int) for name, default in (("image_size", 224), ("patch_size", 32)))
    pretrained.option(values, "num_channels", 3, allowed=(3,))
    with pretrained.told_by_file(values, image_size="image_size", **SIZES):
        config = ViTConfig(
            image_size=size,
            patch_size=patch_size,
            dim=pretrained.option(values, "hidden_size", 1152, kind=int),
            layers=pretrained.option(values, "num_hidden_layers", 12, kind=int),
            heads=pretrained.option(values, "num_attention_heads", 16, kind=int),
            mlp_dim=pretrained.option(values, "intermediate_size", 3072, kind=int),
            classes=0,
            activation=pretrained.option(values, "hidden_act", "gelu_pytorch_tanh", allowed=tuple(ACTIVATIONS)),
            norm_eps=pretrained.number(values, "layer_norm_eps", 1e-6, least=0),
            class_token=False,
            drop_margin=patch_size > 0 and size % patch_size > 0,
        )
    check_places(config, f"config.json has image_size = {size} and patch_size = {patch_size}")
    return config


def check_places(config: ViTConfig, told: str) -> None:
    """Raise a ``ValueError`` where transformers, which computes the place of a patch in float32, does not find its own place for each.

    So it is with grids of 19, 25, 29, 31, 38 and some more patches to a side, none of which a released model has.
    """
    side = config.grid[0]
    places = (torch.arange(side, dtype=torch.float32) * (1.0 / torch.tensor(side))).clamp(max=1.0 - 1e-6)
    found = torch.bucketize(places, torch.arange(1 / side, 1.0, 1 / side), right=True)
    if not torch.equal(found, torch.arange(side)):
        raise ValueError(
            f"{told}, a grid of {side} x {side} patches, in which SmolVLM of transformers takes the positions of some patches for those of "
            "their neighbours; this is not implemented"
        )


def config_to_transformers(config: UnifiedConfig) -> dict[str, Any]:
    """The values of a ``config.json``; a ``ValueError`` names an option that transformers cannot express."""
    smolvlm, image, text = "SmolVLMForConditionalGeneration", config.vision, config.language
    saving.only(config, smolvlm, projector="linear", projector_bias=False, final_norm=True, normalise_features=False)
    saving.only(config, smolvlm, projector_positions=None, token_scale=None, shared_position=False, image_prefix=False)
    saving.only(image, smolvlm, class_token=False, patch_bias=True, pre_norm=False, query_key_value_bias=True, channels=3)
    height, width = image.size
    if height != width:
        raise ValueError(f"the image encoder has image_size = {image.image_size!r}, and {smolvlm} of transformers can only express squares")
    check_places(image, f"the image encoder has image_size = {height} and patch_size = {image.patch_size}")
    check_image_token(config, smolvlm)
    vision = {"model_type": "smolvlm_vision", "image_size": height, "patch_size": image.patch_size, "num_channels": image.channels}
    return {
        "architectures": [smolvlm],
        "model_type": "smolvlm",
        "vision_config": {**vision, **clip_config.tower_to_transformers(image)},
        "text_config": language_model_config.config_to_transformers(text),
        "image_token_id": config.image_token_id,
        "scale_factor": config.merge,
        "tie_word_embeddings": text.tied,
        "pad_token_id": text.pad_token_id,
    }


def pictures_to_transformers(config: UnifiedConfig) -> dict[str, Any]:
    """The values of ``preprocessor_config.json``: SmolVLM's own, or for a model that sees whole pictures those of a processor of such."""
    if config.preparation.longest_edge is None:
        return clip_config.pictures_to_transformers(config, config.vision)
    return processors.splitting_to_transformers(config.preparation, config.vision.size[0], config.image_mean, config.image_std)


def processor_to_transformers(config: UnifiedConfig) -> dict[str, Any] | None:
    """The values of ``processor_config.json``, by which ``SmolVLMProcessor`` writes the text of a picture; none for whole pictures."""
    if config.preparation.longest_edge is None:
        return None
    return {"processor_class": "SmolVLMProcessor", "image_seq_len": config.image_tokens}


def unread(vision: ViT) -> dict[str, Tensor]:
    """What transformers expects in a file and nothing reads: nothing."""
    return {}


def is_unused(config: UnifiedConfig, name: str) -> bool:
    """Whether a file may hold a tensor that is never read: none is."""
    return False


# Ours on the left; on the right the names in the files, which are those in memory as well.
WEIGHT_NAMES: pretrained.WeightNames = {
    "vision.patches.projection": ("model.vision_model.embeddings.patch_embedding",),
    "vision.positions.table": ("model.vision_model.embeddings.position_embedding.weight",),
    **clip.block_names("vision", "model.vision_model"),
    "vision.norm": ("model.vision_model.post_layernorm",),
    "projector.down": ("model.connector.modality_projection.proj",),
    **language_model.decoder_names("language_model.", "model.text_model.", head=("lm_head",)),
}
