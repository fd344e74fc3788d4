"""Llama 3.2 Vision from weights as Meta distributes them: under other names, and some of the numbers in another order.

Names and shapes are those of ``models/llama3/multimodal/model.py`` in meta-llama/llama-models; what becomes of them is what transformers'
``convert_mllama_weights_to_hf.py`` makes of the released files.
"""

import re
from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from minimllm.models.llama_vision.config import LlamaVisionConfig
from minimllm.models.llama_vision.model import LlamaVision
from minimllm.models.llama_vision.tiles import arrangements
from minimllm.weights.pretrained import enumerate_names, file_names

GATES = re.compile(r"text_model\.cross_attention_layers\.\d+\.gate_(attn|ffwd)")
VISION = "vision_model.vision_encoder."
NEW_TOKENS = "text_model.learnable_embedding.weight"  # the rows behind the vocabulary, which are a table of their own there
COMPUTED = {"text_model.rope.freqs"}  # older files carry it; it follows from the config

TILE_BLOCK_NAMES = {
    "attention_norm": "ln_1",
    "attention.query": "attn.wq",
    "attention.key": "attn.wk",
    "attention.value": "attn.wv",
    "attention.output": "attn.wo",
    "attention_gate": "gate_attn",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
    "mlp_gate": "gate_ffn",
}
TEXT_BLOCK_NAMES = {
    "attention_norm": "attention_norm",
    "attention.query": "attention.wq",
    "attention.key": "attention.wk",
    "attention.value": "attention.wv",
    "attention.output": "attention.wo",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "feed_forward.w1",
    "mlp.up": "feed_forward.w3",
    "mlp.down": "feed_forward.w2",
}
CROSS_BLOCK_NAMES = {
    **TEXT_BLOCK_NAMES,
    "attention.query_norm": "attention.q_norm",
    "attention.key_norm": "attention.k_norm",
    "attention_gate": "gate_attn",
    "mlp_gate": "gate_ffwd",
}
# Blocks of each kind are a list of their own, as ours are, so that none is numbered anew.
BLOCKS = {
    "vision.blocks": (VISION + "transformer.resblocks", TILE_BLOCK_NAMES),
    "vision.global_blocks": (VISION + "global_transformer.resblocks", TILE_BLOCK_NAMES),
    "language_model.blocks": ("text_model.layers", TEXT_BLOCK_NAMES),
    "cross_blocks": ("text_model.cross_attention_layers", CROSS_BLOCK_NAMES),
}
META_NAMES = {
    "vision.patches.projection": VISION + "conv1._linear",
    "vision.class_token": VISION + "class_embedding",
    "vision.positions.gate": VISION + "gated_positional_embedding_gate",
    "vision.positions.local": VISION + "positional_embedding",
    "vision.positions.table": VISION + "gated_positional_embedding",
    "vision.pre_tile.gate": VISION + "pre_tile_pos_embed.gate",
    "vision.pre_tile.table": VISION + "pre_tile_pos_embed.embedding",
    "vision.post_tile.gate": VISION + "post_tile_pos_embed.gate",
    "vision.post_tile.table": VISION + "post_tile_pos_embed.embedding",
    "vision.pre_norm": VISION + "ln_pre",
    "vision.norm": VISION + "ln_post",
    "projector": "vision_model.vision_projection",
    "language_model.tokens": "text_model.tok_embeddings",
    "language_model.norm": "text_model.norm",
    "language_model.head": "text_model.output",
    **{f"{ours}.{{i}}.{part}": f"{meta}.{{i}}.{name}" for ours, (meta, names) in BLOCKS.items() for part, name in names.items()},
}


def from_meta(weights: Mapping[str, Tensor], config: LlamaVisionConfig) -> LlamaVision:
    """A model with Meta's weights: ``from_meta(safetensors.torch.load_file(path), LlamaVisionConfig.llama_3_2_11b())``.

    Meta's own files, ``consolidated.pth``, are pickles. Nothing here opens them: write their tensors to a safetensors file once.

    Args:
        weights: Meta's name -> tensor, all of them, those that were split among several processors joined. What needs no other order is
            not copied: the model shares the memory of these tensors, and their dtype.
        config: the sizes, with ``extra_tokens`` rows in Meta's second embedding, and the positions of ``vision.tile_size``, to which
            Meta's code resizes others.

    Raises:
        ValueError: a tensor is missing, unexpected, of another shape or not of floats; the message has Meta's name of it. A config whose
            output layer is the embedding.
    """
    if config.language.tied:
        raise ValueError("the config has language.tied = True, and Meta's models have an output layer of their own: give tied=False")
    with torch.device("meta"):  # torch's device without memory, which has its name by chance
        model = LlamaVision(config)
    parameters = dict(model.named_parameters())
    names = {ours: meta_name(ours) for ours in parameters}
    shapes = {names[ours]: meta_shape(ours, tuple(parameter.shape), config) for ours, parameter in parameters.items()}
    if config.extra_tokens:
        shapes[NEW_TOKENS] = (config.extra_tokens, config.language.dim)
    if not isinstance(weights, Mapping):
        raise ValueError(f"expected a mapping of Meta's names to tensors, such as a file's state dict; got a {type(weights).__name__}")
    weights = {name: first_number(value) if GATES.fullmatch(name) else value for name, value in weights.items()}
    check_weights(weights, shapes)
    for ours, parameter in parameters.items():
        value = weights[names[ours]]
        if ours == "language_model.tokens.weight" and config.extra_tokens:
            value = torch.cat([value, weights[NEW_TOKENS]])
        owner, _, leaf = ours.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(in_our_order(ours, value, config).reshape(parameter.shape)))
    return model.eval()


def meta_name(ours: str) -> str:
    return file_names(ours, {name: (meta,) for name, meta in META_NAMES.items()})[0]


def meta_shape(ours: str, shape: tuple[int, ...], config: LlamaVisionConfig) -> tuple[int, ...]:
    """The shape that one of our parameters has in Meta's files."""
    tiles = config.vision.max_tiles
    if ours == "language_model.tokens.weight":
        return config.language.vocab_size, config.language.dim
    if ours == "vision.positions.table":
        return tiles, tiles, *shape[2:]
    if ours in ("vision.pre_tile.table", "vision.post_tile.table"):
        return tiles, tiles, 1, config.vision.dim
    return shape


def first_number(gate: Tensor) -> Tensor:
    """Of a gate that is stored as a row of equal numbers, or with more axes: Meta's code, too, takes one."""
    alike = torch.is_tensor(gate) and not gate.is_meta and (gate.numel() == 1 or gate.ndim == 1 and bool((gate == gate[:1]).all()))
    return gate.flatten()[:1] if alike else gate


def check_weights(weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise a ``ValueError`` unless there is a tensor of floats in each of these shapes, all of one dtype, and no other."""
    missing = sorted(shapes.keys() - weights.keys())
    unexpected = sorted(weights.keys() - shapes.keys() - COMPUTED)
    if missing or unexpected:
        found = f"{enumerate_names('missing', missing)}; {enumerate_names('unexpected', unexpected)}"
        raise ValueError(f"these weights are not those of Meta's code for this config: {found}")
    if strange := sorted(name for name in shapes if not torch.is_tensor(weights[name]) or weights[name].is_meta):
        raise ValueError(f"expected tensors with values; {strange[0]} is a {type(weights[strange[0]]).__name__} without")
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape or not weights[name].is_floating_point():
            got = f"{weights[name].dtype} {tuple(weights[name].shape)}"
            raise ValueError(f"tensor {name} is {got}, expected floats of shape {shape}; compare the sizes in the config")
    if len(kinds := {str(weights[name].dtype): name for name in shapes}) > 1:
        told = ", ".join(f"{kind} ({name})" for kind, name in sorted(kinds.items()))
        raise ValueError(f"the weights are of several dtypes: {told}; bring them to one")


def in_our_order(ours: str, value: Tensor, config: LlamaVisionConfig) -> Tensor:
    """The numbers of one of Meta's tensors as our parameter has them, if not in its shape yet."""
    language = config.language
    if ours.startswith("language_model.blocks.") and ours.endswith(".attention.query.weight"):
        return halves(value, language.heads)
    if ours.startswith("language_model.blocks.") and ours.endswith(".attention.key.weight"):
        return halves(value, language.key_value_heads or language.heads)
    if ours.startswith("vision.") and ours.endswith(".table"):
        return by_arrangement(value, config.vision.max_tiles)
    return value


def halves(weight: Float[Tensor, "rows width"], heads: int) -> Float[Tensor, "rows width"]:
    """Rows of queries or keys for the rotation of halves.

    Meta's rotary positions turn neighbours of a head together, numbers ``2 i`` and ``2 i + 1``; ours turn ``i`` and ``i + head_dim / 2``.
    Scores are sums over a head, and do not change where queries and keys are put into another order alike. Cross-attention has no
    rotation, and keeps its order.
    """
    return rearrange(weight, "(heads pairs two) width -> (heads two pairs) width", heads=heads, two=2)


def by_arrangement(
    grid: Float[Tensor, "rows columns tokens dim"], max_tiles: int
) -> Float[Tensor, "arrangements_and_none {max_tiles} tokens dim"]:
    """A vector for each place of a grid of tiles -> those of each arrangement, in the order of its tiles.

    Meta's code cuts the picture's own rows and columns out of the grid at every call. A place without a tile gets 0 there and here.
    """
    grids = arrangements(max_tiles)
    table = grid.new_zeros(len(grids) + 1, max_tiles, *grid.shape[2:])
    for number, (rows, columns) in enumerate(grids, start=1):
        table[number, : rows * columns] = grid[:rows, :columns].flatten(0, 1)
    return table
