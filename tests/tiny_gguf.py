"""Small Llamas as GGUF files, written with the ``gguf`` package's own writer as llama.cpp's converter writes them, and their reference.

Oblong everywhere: heads are not dim / heads wide, key and value heads are fewer than query heads, and no two sizes are equal.
"""

import math
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

DIM, HEADS, KEY_VALUE_HEADS, HEAD_DIM, HIDDEN, VOCABULARY, LAYERS, CONTEXT = 96, 6, 2, 32, 160, 333, 2, 128

SHAPES = {
    "attn_norm": (DIM,),
    "attn_q": (HEADS * HEAD_DIM, DIM),
    "attn_k": (KEY_VALUE_HEADS * HEAD_DIM, DIM),
    "attn_v": (KEY_VALUE_HEADS * HEAD_DIM, DIM),
    "attn_output": (DIM, HEADS * HEAD_DIM),
    "ffn_norm": (DIM,),
    "ffn_gate": (HIDDEN, DIM),
    "ffn_up": (HIDDEN, DIM),
    "ffn_down": (DIM, HIDDEN),
}
THEIRS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
VALUES = {
    "llama.block_count": LAYERS,
    "llama.context_length": CONTEXT,
    "llama.embedding_length": DIM,
    "llama.feed_forward_length": HIDDEN,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KEY_VALUE_HEADS,
    "llama.attention.layer_norm_rms_epsilon": 1e-3,
    "llama.rope.freq_base": 500.0,
    "llama.rope.dimension_count": HEAD_DIM,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.padding_token_id": 2,
}


def numbers(tied: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    """The tensors of a file, not yet permuted or quantised, by their names there; norms around one."""
    random = np.random.RandomState(seed)
    sizes = {"token_embd": (VOCABULARY, DIM), "output_norm": (DIM,)} | ({} if tied else {"output": (VOCABULARY, DIM)})
    sizes |= {f"blk.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in SHAPES.items()}
    return {f"{name}.weight": (random.standard_normal(shape) * 0.2 + ("norm" in name)).astype(np.float32) for name, shape in sizes.items()}


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """Row 2i + j of a head in the file is its row j * half + i: one row after another, so that nobody can get it wrong in the same way."""
    width = len(rows) // heads
    order = [head * width + j * width // 2 + i for head in range(heads) for i in range(width // 2) for j in range(2)]
    return rows[order]


def kind_of(name: str, kind: str) -> GGMLQuantizationType:
    """Vectors stay in F32, as llama.cpp leaves them."""
    return GGMLQuantizationType["F32" if "norm" in name else kind]


def write(
    path: Path,
    tensors: dict[str, np.ndarray],
    kind: str = "F32",
    values: dict | None = None,
    alignment: int | None = None,
    kinds: dict[str, str] | None = None,
    reverse: bool = False,
) -> Path:
    """A file of these tensors; ``values`` are put over the usual ones, ``None`` among them leaves a key out; ``kinds`` differ by tensor."""
    values = {**VALUES, **(values or {})}
    writer = GGUFWriter(path, values.pop("general.architecture", "llama"))
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in values.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    for name, array in reversed(tensors.items()) if reverse else tensors.items():
        heads = {"attn_q": HEADS, "attn_k": KEY_VALUE_HEADS}.get(name.split(".")[-2])
        array = permuted(array, heads) if heads else array
        chosen = kind_of(name, (kinds or {}).get(name, kind))
        writer.add_tensor(name, quantize(array, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def reference(tensors: dict[str, np.ndarray], kind: str = "F32", rope: dict | None = None) -> LlamaForCausalLM:
    """transformers' Llama with the numbers that remain of the tensors after they are quantised."""
    tied = "output.weight" not in tensors
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        head_dim=HEAD_DIM,
        intermediate_size=HIDDEN,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=float(np.float32(1e-3)),
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, **(rope or {})},
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    state = {}
    for name, array in tensors.items():
        parts, chosen = name.split("."), kind_of(name, kind)
        if parts[0] == "blk":
            theirs = f"model.layers.{parts[1]}.{THEIRS[parts[2]]}.weight"
        else:
            outside = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
            theirs = f"{outside[parts[0]]}.weight"
        state[theirs] = torch.from_numpy(dequantize(quantize(array, chosen), chosen).copy())
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


def llama_factors(head_dim: int, base: float, factor: float, low: float, high: float, length: int) -> np.ndarray:
    """``rope_freqs.weight`` as llama.cpp's converter makes it of Llama 3.1's options: the wavelengths one by one."""
    factors = []
    for pair in range(head_dim // 2):
        wavelength = 2 * math.pi * base ** (2 * pair / head_dim)
        if wavelength < length / high:
            factors.append(1.0)
        elif wavelength > length / low:
            factors.append(factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


def tokenizer_values() -> dict:
    """A byte-level vocabulary of 333 tokens, as a file has it: three control tokens, the 256 bytes, and what 74 merges make."""
    merges = ["Ġ Ġ", *(f"{a} {b}" for a in "aeiou" for b in "bcdfghjklmnpqrst")][:74]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in merges)]
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 3 + [1] * 330,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": template,
    }
