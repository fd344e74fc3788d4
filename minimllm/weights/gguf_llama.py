"""A Llama in a GGUF file: what its tensors and sizes are called there, and how llama.cpp lays them out otherwise than transformers.

Two things differ beside the names. The rows of queries and keys are permuted (:func:`undo_permutation`), and the frequencies of
Llama 3.1's long rotary positions lie in a tensor (:func:`scaling_of_factors`). Everything comes out under the names of transformers.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from minimllm.layers.rotary import RotaryScaling, rotary_frequencies
from minimllm.weights import pretrained
from minimllm.weights.gguf import GGUFFile

# Name in a GGUF file -> name in transformers; {i} is a layer's number.
GGUF_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "blk.{i}.attn_norm.weight": "model.layers.{i}.input_layernorm.weight",
    "blk.{i}.attn_q.weight": "model.layers.{i}.self_attn.q_proj.weight",
    "blk.{i}.attn_k.weight": "model.layers.{i}.self_attn.k_proj.weight",
    "blk.{i}.attn_v.weight": "model.layers.{i}.self_attn.v_proj.weight",
    "blk.{i}.attn_output.weight": "model.layers.{i}.self_attn.o_proj.weight",
    "blk.{i}.ffn_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
    "blk.{i}.ffn_gate.weight": "model.layers.{i}.mlp.gate_proj.weight",
    "blk.{i}.ffn_up.weight": "model.layers.{i}.mlp.up_proj.weight",
    "blk.{i}.ffn_down.weight": "model.layers.{i}.mlp.down_proj.weight",
}
ROTARY_FACTORS = "rope_freqs.weight"

# What a Llama may ask for and the course's does not do, with the value that asks for nothing.
NOT_READ = {
    "llama.expert_count": 0,
    "llama.rope.scaling.type": "none",
    "llama.rope.scale_linear": 1.0,
    "llama.attention.sliding_window": 0,
}


def undo_permutation(rows: Shaped[Tensor, "rows *width"], heads: int) -> Shaped[Tensor, "rows *width"]:
    """Rows of a query or key projection, from llama.cpp's order into that of transformers and of this course.

    Rotary positions turn two numbers of a head at a time. llama.cpp, as Meta's code, pairs neighbours, rows 2i and 2i + 1; transformers
    pairs number i of the first half with number i of the second. In a head of width 6, rows 0 1 2 3 4 5 of the file become 0 2 4 1 3 5.

    Args:
        rows: ``(heads * head_dim, width)``.
        heads: as many as these rows have: key and value heads for a key projection.

    Raises:
        ValueError: if the rows do not divide into heads of even width.
    """
    if heads < 1 or len(rows) % (2 * heads):
        raise ValueError(f"{len(rows)} rows do not divide into {heads} heads of even width")
    return rearrange(rows, "(heads pairs two) ... -> (heads two pairs) ...", heads=heads, two=2)


def scaling_of_factors(factors: Float[Tensor, " pairs"], base: float) -> RotaryScaling | None:
    """The scaling of Llama 3.1 behind the tensor ``rope_freqs.weight``, by whose numbers llama.cpp divides the frequencies.

    Its converter writes 1 for pairs that turn fast, ``factor`` for those that turn slowly, and between them the inverse of a straight
    line in the frequency. Through that line's two ends go ``high_frequency_factor`` and ``low_frequency_factor``; a longer original
    length with both larger in proportion is the same scaling, so of all that fit Llama's own comes first.

    Raises:
        ValueError: for factors that no such scaling has.
    """
    frequencies = rotary_frequencies(2 * len(factors), base).double()
    factor = factors.max().item()
    if not (torch.isfinite(factors).all() and (factors >= 1).all()):
        raise ValueError(f"{ROTARY_FACTORS} holds {factors.min().item()}; expected factors of 1 and more")
    if factor == 1:
        return None
    kept = (1 / factors.double() - 1 / factor) / (1 - 1 / factor)  # 1: the frequency is kept, 0: divided by the factor
    candidates = [RotaryScaling(factor)]
    ends = line_ends(frequencies, kept)
    if ends is not None:
        length = round(2 * math.pi / ends[0])
        if length:
            low, high = (length * end / (2 * math.pi) for end in ends)
            candidates += [RotaryScaling(factor, round(low, 3), round(high, 3), length), RotaryScaling(factor, low, high, length)]
    for scaling in candidates:
        if torch.allclose(frequencies / rotary_frequencies(2 * len(factors), base, scaling), factors.double(), rtol=1e-5, atol=0):
            return scaling
    raise ValueError(f"{ROTARY_FACTORS} holds {factors.tolist()}, which is no scaling of Llama 3.1's kind, and no other is implemented")


def line_ends(frequencies: Float[Tensor, " pairs"], kept: Float[Tensor, " pairs"]) -> tuple[float, float] | None:
    """The frequencies, which fall, where the line ``kept`` is 0 and where it is 1; where fewer than two points fix it, a steep one."""
    points, inside = list(zip(frequencies.tolist(), kept.tolist(), strict=True)), ((kept > 1e-6) & (kept < 1 - 1e-6)).nonzero().flatten()
    if len(inside) > 1:
        (x, y), (other, below) = points[inside[0]], points[inside[-1]]
        slope = (y - below) / (x - other)
    elif len(inside) == 1:
        (x, y), at = points[inside[0]], int(inside[0])
        slope = max((y - below) / (x - other) for other, below in points[max(at - 1, 0) : at + 2] if other != x)
    else:
        at = int((kept < 0.5).nonzero()[0])
        if at == 0:
            return None
        (x, y), slope = points[at], 2 / (points[at - 1][0] - points[at][0])
        x += 1 / (2 * slope)  # in the middle of the gap, away from both
    zero = x - y / slope if slope > 0 else 0.0
    return (zero, zero + 1 / slope) if zero > 0 else None


def config_values(file: GGUFFile) -> dict[str, Any]:
    """The values of a ``config.json`` of transformers, from those of the file.

    Raises:
        ValueError: another architecture, a value that is missing or senseless, an option that is not implemented; by name.
    """
    architecture = file.values.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{file.path} has general.architecture = {architecture!r}, expected 'llama'")
    for key, neutral in NOT_READ.items():
        if file.values.get(key, neutral) != neutral:
            raise ValueError(f"{file.path} has {key} = {file.values[key]!r}, which is not implemented")
    dim, heads = whole(file, "llama.embedding_length"), whole(file, "llama.attention.head_count")
    head_dim = whole(file, "llama.attention.key_length", whole(file, "llama.rope.dimension_count", dim // heads or 1))
    for key in ("llama.rope.dimension_count", "llama.attention.value_length"):
        if whole(file, key, head_dim) != head_dim or head_dim % 2:
            raise ValueError(
                f"{file.path} has {key} = {file.values.get(key)!r} and heads of width {head_dim}; expected one even width for all of it"
            )
    key_value_heads = whole(file, "llama.attention.head_count_kv", heads)
    if heads % key_value_heads:
        raise ValueError(
            f"{file.path} has llama.attention.head_count_kv = {key_value_heads}, which does not divide llama.attention.head_count = {heads}"
        )
    base = number(file, "llama.rope.freq_base", 10_000.0)
    embedding = file.tensors.get("token_embd.weight")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": base}
    if ROTARY_FACTORS in file.tensors:
        rope |= rotary_options(file, head_dim, base)
    ends = [token_id(file, f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    ends = list(dict.fromkeys(each for each in ends if each is not None))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": whole(file, "llama.vocab_size", embedding.shape[0] if embedding else 1),
        "hidden_size": dim,
        "num_hidden_layers": whole(file, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "head_dim": head_dim,
        "intermediate_size": whole(file, "llama.feed_forward_length"),
        "max_position_embeddings": whole(file, "llama.context_length"),
        "rms_norm_eps": number(file, "llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": token_id(file, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None),
        "pad_token_id": token_id(file, "tokenizer.ggml.padding_token_id"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


def read_llama(file: GGUFFile) -> tuple[dict[str, Any], Iterator[tuple[str, Tensor, Path]]]:
    """A Llama from its file, as transformers has it.

    Returns:
        The values of ``config.json``, and, as they are asked for, every tensor in float32: its name, its numbers, the file.

    Raises:
        ValueError: what :func:`config_values` refuses; a tensor that is missing, unexpected or of another shape, by its name in the file.
    """
    values = config_values(file)
    if values["num_hidden_layers"] > len(file.tensors):
        raise ValueError(f"{file.path} has llama.block_count = {values['num_hidden_layers']}, and {len(file.tensors)} tensors")
    expected = shapes(values)
    missing = [name for name in expected if name not in file.tensors]
    unexpected = [name for name in file.tensors if name not in expected and name != ROTARY_FACTORS]
    if missing or unexpected:
        raise ValueError(
            f"the tensors of {file.path} do not fit its sizes: "
            f"{pretrained.enumerate_names('missing', missing)}; {pretrained.enumerate_names('unexpected', unexpected)}"
        )
    for name, shape in expected.items():
        if file.tensors[name].shape != shape:
            raise ValueError(f"{file.path}: tensor {name} has shape {file.tensors[name].shape}, expected {shape} by the file's sizes")
    return values, renamed(file, values)


def renamed(file: GGUFFile, values: dict[str, Any]) -> Iterator[tuple[str, Tensor, Path]]:
    for template, other in GGUF_NAMES.items():
        if template != "output.weight" or not values["tie_word_embeddings"]:
            for layer in range(values["num_hidden_layers"]) if "{i}" in template else (0,):
                numbers = file.tensor(template.format(i=layer))
                if "attn_q" in template:
                    numbers = undo_permutation(numbers, values["num_attention_heads"])
                if "attn_k" in template:
                    numbers = undo_permutation(numbers, values["num_key_value_heads"])
                yield other.format(i=layer), numbers, file.path


def shapes(values: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors that a Llama of these sizes has, by their names in the file, and their shapes."""
    dim, hidden = values["hidden_size"], values["intermediate_size"]
    queries, keys = (values["head_dim"] * values[key] for key in ("num_attention_heads", "num_key_value_heads"))
    sizes = {"attn_q": (queries, dim), "attn_k": (keys, dim), "attn_v": (keys, dim), "attn_output": (dim, queries)}
    sizes |= {"ffn_gate": (hidden, dim), "ffn_up": (hidden, dim), "ffn_down": (dim, hidden)}
    sizes |= {"token_embd": (values["vocab_size"], dim), "output": (values["vocab_size"], dim)}
    return {
        template.format(i=layer): sizes.get(template.split(".")[-2], (dim,))
        for template in GGUF_NAMES
        if template != "output.weight" or not values["tie_word_embeddings"]
        for layer in (range(values["num_hidden_layers"]) if "{i}" in template else (0,))
    }


def rotary_options(file: GGUFFile, head_dim: int, base: float) -> dict[str, Any]:
    """The ``rope_parameters`` of transformers for the file's factors; nothing where they are all 1."""
    shape = file.tensors[ROTARY_FACTORS].shape
    if shape != (head_dim // 2,):
        raise ValueError(f"{file.path}: tensor {ROTARY_FACTORS} has shape {shape}, expected {(head_dim // 2,)}")
    try:
        scaling = scaling_of_factors(file.tensor(ROTARY_FACTORS), base)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    if scaling is None:
        return {}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_frequency_factor,
        "high_freq_factor": scaling.high_frequency_factor,
        "original_max_position_embeddings": scaling.original_length,
    }


def value_of(file: GGUFFile, key: str, default: Any = None) -> Any:
    value = file.values.get(key, default)
    if value is None:
        raise ValueError(f"{file.path} has no {key}, which a Llama's file must say")
    return value


def whole(file: GGUFFile, key: str, default: int | None = None) -> int:
    """A whole number above 0 of the file."""
    value = value_of(file, key, default)
    if type(value) is not int or value < 1:
        raise ValueError(f"{file.path} has {key} = {value!r}, expected a whole number above 0")
    return value


def number(file: GGUFFile, key: str, default: float | None = None) -> float:
    """A number above 0 of the file."""
    value = value_of(file, key, default)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{file.path} has {key} = {value!r}, expected a number above 0")
    return float(value)


def token_id(file: GGUFFile, key: str) -> int | None:
    value = file.values.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{file.path} has {key} = {value!r}, expected a token's id")
    return value
