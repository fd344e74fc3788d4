"""The sizes of a decoder, and how they are read from the ``config.json`` of a Llama folder."""

import math
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from minimllm.layers.rotary import RotaryScaling
from minimllm.weights import pretrained, saving


@dataclass(frozen=True)
class LanguageModelConfig:
    """The sizes of a decoder. ``LanguageModelConfig.tiny(vocab_size=100)`` takes a preset and changes what is named.

    Attributes:
        vocab_size: number of token ids.
        dim, layers, heads, mlp_dim: width of a token, number of blocks, query heads per block, width inside the MLP.
        key_value_heads: key and value heads per block; ``None``: as many as ``heads``.
        head_dim: width of a head; ``None``: ``dim // heads``.
        context_length: number of positions.
        norm_eps: epsilon of the RMS norms.
        rotary_base, rotary_scaling: see :func:`~minimllm.layers.rotary.rotary_frequencies`.
        tied: whether the embedding table is the output layer as well.
        embedding_std: standard deviation of the embeddings at the start.
        normalise_heads: epsilon of an RMS norm on queries and keys, which Llama does not have; ``None``: no norm.
        start_token_id, pad_token_id: the ids of the start token and of padding, where there are such.
        eos_token_id: the id of the end token, or a tuple of several, each of which ends a text.

    Raises:
        ValueError: for a value outside its range.
    """

    vocab_size: int
    dim: int = 4096
    layers: int = 32
    heads: int = 32
    mlp_dim: int = 11008
    key_value_heads: int | None = None
    head_dim: int | None = None
    context_length: int = 2048
    norm_eps: float = 1e-5
    rotary_base: float = 10_000.0
    rotary_scaling: RotaryScaling | None = None
    tied: bool = False
    embedding_std: float = 0.02
    normalise_heads: float | None = None
    start_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    def __post_init__(self):
        for name in ("vocab_size", "dim", "layers", "heads", "mlp_dim", "context_length", "key_value_heads", "head_dim"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if isinstance(self.eos_token_id, list):  # as the files write them
            object.__setattr__(self, "eos_token_id", tuple(self.eos_token_id))
        head_dim = self.head_dim or self.dim / self.heads
        if head_dim % 2:
            raise ValueError(f"rotary positions need heads of even width, got {head_dim:g} (dim {self.dim}, {self.heads} heads)")
        if not 0 < self.rotary_base < math.inf:
            raise ValueError(f"rotary_base must be above 0, got {self.rotary_base}")

    @classmethod
    def tiny(cls, vocab_size: int, **changes: Any) -> "LanguageModelConfig":
        """The course size: 96 wide, 3 deep, 4 query heads sharing 2 key and value heads."""
        sizes = dict(dim=96, layers=3, heads=4, mlp_dim=256, key_value_heads=2, context_length=256, rotary_base=1000.0, tied=True)
        return replace(cls(vocab_size, **sizes, embedding_std=0.1), **changes)

    @classmethod
    def llama_3_2_1b(cls, **changes: Any) -> "LanguageModelConfig":
        """Llama 3.2 1B: 1.24 billion parameters; the smallest one, and the only preset here whose embedding is tied to the output."""
        sizes = dict(dim=2048, layers=16, heads=32, mlp_dim=8192, key_value_heads=8, head_dim=64, context_length=131_072, tied=True)
        return replace(cls(128_256, **sizes, rotary_base=500_000.0, rotary_scaling=RotaryScaling(factor=32.0)), **changes)

    @classmethod
    def llama_3_1_8b(cls, **changes: Any) -> "LanguageModelConfig":
        """Llama 3.1 8B: 8,030,261,248 parameters, all of which Llama 3.2 Vision 11B contains."""
        sizes = dict(dim=4096, layers=32, heads=32, mlp_dim=14_336, key_value_heads=8, context_length=131_072)
        return replace(cls(128_256, **sizes, rotary_base=500_000.0, rotary_scaling=RotaryScaling()), **changes)


def config_from_transformers(values: dict[str, Any]) -> LanguageModelConfig:
    """Our config from the values of a ``config.json``; what a file leaves out has the default of transformers.

    Raises:
        ValueError: an option that is not implemented or has no meaning; the message names it and its value.
    """
    for name, only in (("attention_bias", False), ("mlp_bias", False), ("hidden_act", "silu"), ("quantization_config", None)):
        pretrained.option(values, name, only, allowed=(only,))
    heads = pretrained.option(values, "num_attention_heads", 32, kind=int)
    key_value_heads = whole(values, "num_key_value_heads")
    base, scaling = rotary_from_transformers(values)
    with pretrained.told_by_file(values, **SIZES):
        return LanguageModelConfig(
            vocab_size=pretrained.option(values, "vocab_size", 32_000, kind=int),
            dim=pretrained.option(values, "hidden_size", 4096, kind=int),
            layers=pretrained.option(values, "num_hidden_layers", 32, kind=int),
            heads=heads,
            mlp_dim=pretrained.option(values, "intermediate_size", 11_008, kind=int),
            key_value_heads=heads if key_value_heads is None else key_value_heads,
            head_dim=whole(values, "head_dim"),
            context_length=pretrained.option(values, "max_position_embeddings", 2048, kind=int),
            norm_eps=pretrained.number(values, "rms_norm_eps", 1e-6, least=0),
            rotary_base=base,
            rotary_scaling=scaling,
            tied=pretrained.option(values, "tie_word_embeddings", False, kind=bool),
            start_token_id=token_id(values, "bos_token_id", 1),
            eos_token_id=end_token_ids(values, 2),
            pad_token_id=token_id(values, "pad_token_id", None),
        )


def with_generation_config(config: LanguageModelConfig, folder: Path | None) -> LanguageModelConfig:
    """The same with the end tokens and the padding that ``generation_config.json`` names, where a folder has one.

    As in transformers, that file governs what is written and not ``config.json``, which may know fewer ends. What it leaves out stays;
    how it would sample is said to ``generate`` anew.

    Raises:
        ValueError: a damaged file, an id that is none; the message names the file.
    """
    path = None if folder is None else folder / "generation_config.json"
    if path is None or not path.exists():
        return config
    values = pretrained.read_json(path)
    ends, pad = end_token_ids(values, None, path.name), token_id(values, "pad_token_id", None, path.name)
    return replace(
        config,
        eos_token_id=config.eos_token_id if ends is None else ends,
        pad_token_id=config.pad_token_id if pad is None else pad,
    )


# What our sizes are called in the files.
SIZES = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "key_value_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "context_length": "max_position_embeddings",
    "rotary_base": "rope_theta",
}


def config_to_transformers(config: LanguageModelConfig, extra_rows: int = 0) -> dict[str, Any]:
    """The values of a ``config.json``; a ``ValueError`` names an option that transformers cannot express.

    ``extra_rows`` stand in the embedding behind the vocabulary.
    """
    rows = config.vocab_size + extra_rows
    saving.only(config, "LlamaForCausalLM", normalise_heads=None)
    if config.dim % config.heads:
        raise ValueError(f"the decoder has dim = {config.dim} and heads = {config.heads}, and transformers opens only what divides evenly")
    if config.pad_token_id is not None and not 0 <= config.pad_token_id < rows:
        raise ValueError(
            f"the decoder has pad_token_id = {config.pad_token_id}, for which transformers keeps a row of the embedding; "
            f"it must be one of the {rows} rows, 0 to {rows - 1}, or None"
        )
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(config.rotary_base)}
    if (scaling := config.rotary_scaling) is not None:
        rope |= {"rope_type": "llama3", **dict(zip(SCALING_OPTIONS, astuple(scaling), strict=True))}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads or config.heads,
        "head_dim": config.head_dim or config.dim // config.heads,
        "intermediate_size": config.mlp_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": float(config.norm_eps),
        "rope_parameters": rope,
        "tie_word_embeddings": config.tied,
        **generation_to_transformers(config),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


def generation_to_transformers(config: LanguageModelConfig) -> dict[str, Any]:
    """The values of a ``generation_config.json``: where a text begins and ends."""
    ends = list(config.eos_token_id) if isinstance(config.eos_token_id, tuple) else config.eos_token_id
    return {"bos_token_id": config.start_token_id, "eos_token_id": ends, "pad_token_id": config.pad_token_id}


# In the order of the fields of RotaryScaling.
SCALING_OPTIONS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def rotary_from_transformers(values: dict[str, Any]) -> tuple[float, RotaryScaling | None]:
    """Base and scaling, from ``rope_parameters`` as transformers 5 writes it, or ``rope_theta`` and ``rope_scaling`` of older files.

    Where a file has both, all of ``rope_scaling`` counts and nothing of ``rope_parameters``, as in transformers.
    """
    name = "rope_scaling" if values.get("rope_scaling") else "rope_parameters"
    rope = values.get(name) or {}
    if not isinstance(rope, dict) or any(isinstance(part, dict) for part in rope.values()):
        raise ValueError(f"config.json has {name} = {rope!r}, expected one object with the options of all layers")
    base = pretrained.number(rope if "rope_theta" in rope else values, "rope_theta", 10_000.0)
    if base <= 0:
        raise ValueError(f"config.json has rope_theta = {base!r}: rotary_base must be above 0")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"config.json has {name} with rope_type {kind!r}, which is not implemented; implemented: 'default', 'llama3'")
    partial = rope.get("partial_rotary_factor", values.get("partial_rotary_factor", 1.0))
    if partial not in (None, 1.0):
        raise ValueError(f"config.json has partial_rotary_factor = {partial!r}, which is not implemented; implemented: 1.0")
    if kind == "default":
        return base, None
    absent = [option for option in SCALING_OPTIONS if option not in rope]
    if absent:
        raise ValueError(f"config.json has {name} of rope_type 'llama3' without {absent[0]}")
    try:
        return base, RotaryScaling(*(pretrained.number(rope, option, 0) for option in SCALING_OPTIONS))
    except ValueError as error:
        raise ValueError(f"config.json has {name} = {rope!r}: {error}") from error


def whole(values: dict[str, Any], name: str) -> int | None:
    """A whole number of a config that may be left out or null."""
    return None if values.get(name) is None else pretrained.option(values, name, None, kind=int)


def token_id(values: dict[str, Any], name: str, default: int | None, file: str = "config.json") -> int | None:
    """The id of a special token; of several that a file lists, the first."""
    value = _token_ids(values.get(name, default), name, file)
    return value[0] if isinstance(value, tuple) else value


def end_token_ids(values: dict[str, Any], default: int | None, file: str = "config.json") -> int | tuple[int, ...] | None:
    """The id of the end token, or all of them where a file lists several."""
    return _token_ids(values.get("eos_token_id", default), "eos_token_id", file)


def _token_ids(value: Any, name: str, file: str) -> int | tuple[int, ...] | None:
    ids = value if isinstance(value, list) else [value]
    if value is not None and not (ids and all(isinstance(each, int) and not isinstance(each, bool) for each in ids)):
        raise ValueError(f"{file} has {name} = {value!r}, expected a token's id or a list of such")
    return tuple(value) if isinstance(value, list) else value
