"""What the weights of Llama 3.2 Vision are called in the files of transformers, and in which shape they lie there."""

from minimllm.models.language_model import DECODER_NAMES
from minimllm.models.llama_vision.config import LlamaVisionConfig
from minimllm.models.llama_vision.tiles import arrangements
from minimllm.weights import pretrained


def file_shapes(config: LlamaVisionConfig) -> dict[str, tuple[int, ...]]:
    """Our name -> shape in the files, where they fold the same numbers otherwise."""
    vision = config.vision
    grids = len(arrangements(vision.max_tiles)) + 1
    return {
        "vision.patches.projection.weight": (vision.dim, vision.channels, vision.patch_size, vision.patch_size),
        "vision.positions.table": (grids, vision.max_tiles * vision.tokens * vision.dim),
        "vision.pre_tile.table": (grids, vision.max_tiles * vision.dim),
        "vision.post_tile.table": (grids, vision.max_tiles * vision.dim),
    }


VISION_NAMES = {
    "class_token": "class_embedding",
    "patches.projection": "patch_embedding",
    "positions.gate": "gated_positional_embedding.gate",
    "positions.local": "gated_positional_embedding.embedding",
    "positions.table": "gated_positional_embedding.tile_embedding.weight",
    "pre_tile.gate": "pre_tile_positional_embedding.gate",
    "pre_tile.table": "pre_tile_positional_embedding.embedding.weight",
    "post_tile.gate": "post_tile_positional_embedding.gate",
    "post_tile.table": "post_tile_positional_embedding.embedding.weight",
    "pre_norm": "layernorm_pre",
    "norm": "layernorm_post",
}
VISION_BLOCK_NAMES = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention_gate": "gate_attn",
    "mlp_norm": "post_attention_layernorm",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
    "mlp_gate": "gate_ffn",
}
CROSS_BLOCK_NAMES = {
    "attention_norm": "input_layernorm",
    "attention.query": "cross_attn.q_proj",
    "attention.key": "cross_attn.k_proj",
    "attention.value": "cross_attn.v_proj",
    "attention.output": "cross_attn.o_proj",
    "attention.query_norm": "cross_attn.q_norm",
    "attention.key_norm": "cross_attn.k_norm",
    "attention_gate": "cross_attn_attn_gate",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "mlp_gate": "cross_attn_mlp_gate",
}


def weight_names(config: LlamaVisionConfig) -> pretrained.WeightNames:
    """Our names and those in the files, first as on disk, then as in memory.

    In the files, blocks of both kinds are numbered through; ours are two lists, and the decoder's own blocks stand as in Llama 3.1.
    """
    table = {f"vision.{ours}": f"vision_model.{theirs}" for ours, theirs in VISION_NAMES.items()}
    for ours, theirs in VISION_BLOCK_NAMES.items():
        table[f"vision.blocks.{{i}}.{ours}"] = f"vision_model.transformer.layers.{{i}}.{theirs}"
        table[f"vision.global_blocks.{{i}}.{ours}"] = f"vision_model.global_transformer.layers.{{i}}.{theirs}"
    table = {ours: (theirs, f"model.{theirs}") for ours, theirs in table.items()}
    table["projector"] = ("multi_modal_projector", "model.multi_modal_projector")
    decoders = ("language_model.model.", "model.language_model.")

    def add(ours: str, theirs: str) -> None:
        table[ours] = tuple(prefix + theirs for prefix in decoders)

    own = [number for number in range(config.layers) if number not in config.cross_layers]
    for ours, theirs in DECODER_NAMES.items():
        if "{i}" not in ours:
            add(f"language_model.{ours}", theirs)
            continue
        for index, number in enumerate(own):
            add(f"language_model.{ours.format(i=index)}", theirs.format(i=number))
    for ours, theirs in CROSS_BLOCK_NAMES.items():
        for index, number in enumerate(sorted(config.cross_layers)):
            add(f"cross_blocks.{index}.{ours}", f"layers.{number}.{theirs}")
    table["language_model.head"] = ("language_model.lm_head", "lm_head")
    return table
