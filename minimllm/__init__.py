"""minimllm: the tested building blocks behind a notebook course on multimodal language models.

Every public name is importable from here, and so are the modules ``figures``, ``widgets`` and ``exercises``. The folders are floors: what
stands on one imports from those above it in this list alone. Modules load on first use, so that ``import minimllm`` costs next to nothing.
Where ``OMP_WAIT_POLICY`` is not set, importing sets it to ``passive``: threads of torch that have nothing to do give the processor back.
"""

import os
import sys
from importlib import import_module

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded; lessons.server sees to kernels that load it first

_FLOORS: dict[str, dict[str, str]] = {
    "layers": {
        "attention": "Attention rotate",
        "blocks": "DecoderBlock EncoderBlock GatedCrossAttentionBlock MLP SwiGLU quick_gelu",
        "lora": "LoRA add_lora merge_lora",
        "masks": "causal_mask cross_attention_mask segment_mask tile_mask",
        "norms": "RMSNorm",
        "patches": "LearnedPositions PatchEmbedding interpolate_positions patchify unpatchify",
        "rotary": "RotaryScaling rotary_angles rotary_frequencies",
    },
    "data": {
        "seeds": "derive_seed generator_for",
        "words": "COLOURS SHAPES SIZES WORDS WORD_IDS article places",
        "world": "Scenes held_out_pairs pair_names pairs_of scenes",
        "composing": "changed compose in_reading_order join spread",
        "rendering": "PALETTE render render_canvas",
        "other_rendering": "render_differently",
        "captioning": "captions",
        "asking": "KINDS Questions questions sample_questions",
        "pairing": "described look_alikes rearranged",
        "things": "HANDS THINGS Things render_things things",
        "digits": "DIGIT_WORDS digits",
        "photos": "photo",
        "pairs": "Pair Pairs",
        "preprocessing": "Preparation normalise prepare_pictures preprocess",
        "splitting": "SplitPicture picture_text split_grid split_pictures",
        "tokenizer": "Tokenizer",
    },
    "weights": {
        "gguf": "GGUFFile dequantise_q4_1",
        "gguf_llama": "GGUF_NAMES undo_permutation",
        "released": "released",
    },
    "inference": {
        "answering": "answer describe_pictures prompts",
        "chat": "chat",
        "generation": "generate next_probabilities",
        "transfer": "class_weights zero_shot",
    },
    "training": {
        "augmentation": "random_affine",
        "baselines": "SmallCNN count_parameters",
        "batches": "batch_indices to_device",
        "contrastive": "clamp_temperature clip_loss contrastive_loss gather_embeddings siglip_loss sigmoid_loss",
        "history": "History",
        "loop": "accuracy classification_loss train",
        "optimizers": "TrainingConfig learning_rate_factor make_optimizers",
        "packing": "ANSWER CAPTION Packed exact_matches pack packed_loss",
        "pair_batches": "Ahead class_batches clip_batches pair_batches",
        "parts": "Part",
        "run_folder": "RunLog begin fingerprint finished_run memory_expected say_once started_as write_record",
    },
    "models": {
        "vit_config": "ViTConfig",
        "vit": "ViT",
        "resnet": "ResNet ResNetConfig",
        "text_encoder": "TextConfig TextEncoder",
        "clip_config": "CLIPConfig clip_vit",
        "clip": "CLIP",
        "language_model_config": "LanguageModelConfig",
        "language_model": "LLAMA_NAMES LanguageModel",
        "projector": "Projector splice",
        "unified_config": "UnifiedConfig",
        "unified": "UnifiedMLLM",
        "cross_attention_config": "CrossAttentionConfig",
        "cross_attention": "CrossAttentionMLLM picture_bytes",
        "llama_vision.config": "LlamaVisionConfig",
        "llama_vision.tiles": "Tiles arrangements choose_arrangement fit_picture prepare_tiles",
        "llama_vision.vision": "TileEncoder TileEncoderConfig",
        "llama_vision.model": "LlamaVision",
        "shipped": "CHECKPOINTS load read_card save",
    },
    "inspection": {
        "comparison": "compare_layers",
        "costs": "Design cache_bytes layer_multiply_adds",
        "recording": "Recorder rollout",
        "training_costs": "Spread block_kept training_operations",
    },
    "widgets": {"looking": "with_gates"},
    "exercises": {"lesson_06": "collate collate_a collate_b collate_c"},
    "lessons": {
        "intervals": "wilson_interval",
        "recipes": "load_recipe load_results run_missing summary",
    },
}
_MODULES = ("figures", "widgets", "exercises")
_HOME = {name: f"{floor}.{module}" for floor, modules in _FLOORS.items() for module, names in modules.items() for name in names.split()}

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"minimllm.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'minimllm' has no attribute {name!r}")
    if name == "train" and "ipykernel" in sys.modules:
        import_module("minimllm.widgets")  # which puts in what shows a training in a notebook
    value = getattr(import_module(f"minimllm.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
