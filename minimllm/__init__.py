"""minimllm: the tested building blocks behind a notebook course on multimodal language models.

Every public name is importable from here. The modules load on first use, so that ``import minimllm`` costs next to nothing.
"""

from importlib import import_module

_HOME = {
    "patchify": "patches",
    "unpatchify": "patches",
    "PatchEmbedding": "patches",
    "LearnedPositions": "patches",
    "interpolate_positions": "patches",
    "Attention": "attention",
    "EncoderBlock": "blocks",
    "DecoderBlock": "blocks",
    "RotaryScaling": "rotary",
    "LanguageModel": "language_model",
    "LanguageModelConfig": "language_model",
    "generate": "generation",
    "UnifiedMLLM": "unified",
    "UnifiedConfig": "unified_config",
    "CrossAttentionMLLM": "cross_attention",
    "CrossAttentionConfig": "cross_attention_config",
    "picture_bytes": "cross_attention",
    "answer": "answering",
    "describe_pictures": "answering",
    "Packed": "packing",
    "pack": "packing",
    "packed_loss": "packing",
    "GatedCrossAttentionBlock": "blocks",
    "cross_attention_mask": "masks",
    "LlamaVision": "llama_vision.model",
    "LlamaVisionConfig": "llama_vision.config",
    "Tiles": "llama_vision.tiles",
    "prepare_tiles": "llama_vision.tiles",
    "ViT": "vit",
    "ViTConfig": "vit",
    "CLIP": "clip",
    "CLIPConfig": "clip",
    "TextConfig": "text_encoder",
    "TextEncoder": "text_encoder",
    "ResNet": "resnet",
    "ResNetConfig": "resnet",
    "contrastive_loss": "contrastive",
    "clamp_temperature": "contrastive",
    "gather_embeddings": "contrastive",
    "preprocess": "preprocessing",
    "normalise": "preprocessing",
    "zero_shot": "transfer",
    "class_weights": "transfer",
    "load": "shipped",
    "Tokenizer": "data.tokenizer",
    "Recorder": "recording",
    "rollout": "recording",
    "Scenes": "data.scenes",
    "scenes": "data.scenes",
    "render": "data.scenes",
    "captions": "data.scenes",
    "questions": "data.scenes",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'minimllm' has no attribute {name!r}")
    value = getattr(import_module(f"minimllm.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
