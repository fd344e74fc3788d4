"""The sizes of Llama 3.2 Vision, as presets and as read from a ``config.json`` of transformers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minimllm.data.preprocessing import STRETCHED, Preparation
from minimllm.layers.blocks import check_reference
from minimllm.models import language_model_config
from minimllm.models.clip_config import MEAN, STD
from minimllm.models.language_model_config import LanguageModelConfig
from minimllm.models.llama_vision.tiles import arrangements
from minimllm.models.llama_vision.vision import TileEncoderConfig
from minimllm.weights import pretrained, processors, saving

EXTRA_TOKENS = 8  # rows of the embedding behind the vocabulary, in the released models and always in transformers


@dataclass(frozen=True)
class LlamaVisionConfig:
    """The parts of Llama 3.2 Vision. ``LlamaVisionConfig.tiny(vocab_size=100)`` takes a preset and changes what is named.

    Attributes:
        vision: the image encoder.
        language: the decoder, without its cross-attention blocks: Llama 3.1.
        cross_layers: where the cross-attention blocks stand, numbered from 0 among all blocks.
        image_token_id: the id that stands for a picture, one for each.
        extra_tokens: rows of the embedding behind the vocabulary, to which no logits belong; the image token is one of them.
        reference: whose code is followed where the two depart from each other: ``meta`` or ``transformers``. It changes which states of
            the image encoder are collected, and what the attention gives a token that may see no picture.
        image_mean, image_std: by which images in [0, 1] are normalised, per channel.
        preparation: of its options those that tiles have: ``resample``, ``rescale_factor`` and ``convert_rgb``.
    """

    vision: TileEncoderConfig
    language: LanguageModelConfig
    cross_layers: tuple[int, ...]
    image_token_id: int
    extra_tokens: int = EXTRA_TOKENS
    reference: str = "meta"
    image_mean: tuple[float, ...] = MEAN
    image_std: tuple[float, ...] = STD
    preparation: Preparation = STRETCHED

    def __post_init__(self):
        check_reference(self.reference)
        if len(set(self.cross_layers)) != len(self.cross_layers) or any(not 0 <= number < self.layers for number in self.cross_layers):
            raise ValueError(
                f"cross_layers {self.cross_layers} must be different numbers from 0 to {self.layers - 1}: "
                f"with {self.language.layers} blocks of the language model there are {self.layers}"
            )
        if not 0 <= self.image_token_id < self.vocabulary:
            raise ValueError(f"image_token_id {self.image_token_id} lies outside the embedding of {self.vocabulary} rows")
        if self.extra_tokens < 0 or (self.extra_tokens and self.language.tied):
            raise ValueError(f"extra_tokens must be 0 or more, and 0 where the output layer is the embedding; got {self.extra_tokens}")

    @property
    def layers(self) -> int:
        """Number of blocks of both kinds."""
        return self.language.layers + len(self.cross_layers)

    @property
    def vocabulary(self) -> int:
        """Number of ids that may stand in a text."""
        return self.language.vocab_size + self.extra_tokens

    @classmethod
    def tiny(cls, vocab_size: int, **changes: Any) -> "LlamaVisionConfig":
        """The course size: up to four tiles of 32 pixels, the course's decoder with a cross-attention block after each but the last."""
        language = LanguageModelConfig.tiny(vocab_size, start_token_id=1, eos_token_id=3, pad_token_id=0)
        half = (0.5, 0.5, 0.5)
        return replace(cls(TileEncoderConfig.tiny(), language, (1, 3), 2, extra_tokens=0, image_mean=half, image_std=half), **changes)

    @classmethod
    def llama_3_2_11b(cls, **changes: Any) -> "LlamaVisionConfig":
        """Llama 3.2 11B Vision: 10,670,220,835 parameters, 8,030,261,248 of them those of Llama 3.1 8B."""
        language = LanguageModelConfig.llama_3_1_8b(start_token_id=128_000, eos_token_id=128_001, pad_token_id=128_004)
        return replace(cls(TileEncoderConfig(), language, tuple(range(3, 40, 5)), 128_256), **changes)

    @classmethod
    def llama_3_2_90b(cls, **changes: Any) -> "LlamaVisionConfig":
        """Llama 3.2 90B Vision: 88,593,355,323 parameters, with the image encoder of the 11B model."""
        language = replace(cls.llama_3_2_11b().language, dim=8192, layers=80, heads=64, mlp_dim=28_672)
        return cls.llama_3_2_11b(**{"language": language, "cross_layers": tuple(range(3, 100, 5)), **changes})


# What a text_config may leave out, where transformers takes another value than for Llama.
TEXT_DEFAULTS = dict(
    vocab_size=128_256,
    num_hidden_layers=40,
    num_key_value_heads=8,
    intermediate_size=14_336,
    rms_norm_eps=1e-5,
    max_position_embeddings=131_072,
    rope_theta=500_000.0,
    eos_token_id=128_001,
    pad_token_id=128_004,
    bos_token_id=128_000,
)


def config_from_transformers(values: dict[str, Any], folder: Path | None = None, reference: str = "meta") -> LlamaVisionConfig:
    """Our config from the values of a ``config.json``; what a file leaves out has the default of transformers."""
    check_reference(reference)
    text = TEXT_DEFAULTS | section(values, "text_config", "mllama_text_model")
    cross_layers = pretrained.whole_numbers(text, "cross_attention_layers", tuple(range(3, 40, 5)))
    number = pretrained.option(text, "num_hidden_layers", 40, kind=int)
    if any(not 0 <= layer < number for layer in cross_layers):
        raise ValueError(f"config.json has cross_attention_layers = {list(cross_layers)} among num_hidden_layers = {number}")
    for name, only in (("dropout", 0), ("tie_word_embeddings", False)):
        pretrained.option(text, name, only, allowed=(only,))
    language = language_model_config.with_generation_config(language_model_config.config_from_transformers(text), folder)
    if language.head_dim not in (None, width := language.dim // language.heads):
        raise ValueError(f"config.json has head_dim = {language.head_dim!r}, which is not implemented; implemented: {width}")
    vision = vision_from_transformers(section(values, "vision_config", "mllama_vision_model"))
    pictures = {} if folder is None else processors.read_tiling(folder, vision.tile_size, vision.max_tiles, vision.channels)
    name = "image_token_id" if "image_token_id" in values else "image_token_index"  # with both, the first counts in transformers as well
    with pretrained.told_by_file(values | text, image_token_id=name, layers="num_hidden_layers"):
        return LlamaVisionConfig(
            vision=vision,
            language=replace(language, layers=number - len(set(cross_layers))),
            cross_layers=tuple(sorted(set(cross_layers))),
            image_token_id=pretrained.option(values, name, 128_256, kind=int),
            reference=reference,
            **pictures,
        )


# What our sizes of the image encoder are called in the files.
VISION_SIZES = {
    "dim": "hidden_size",
    "layers": "num_hidden_layers",
    "global_layers": "num_global_layers",
    "mlp_dim": "intermediate_size",
    "channels": "num_channels",
    "patch_size": "patch_size",
    "tile_size": "image_size",
    "max_tiles": "max_num_tiles",
    "collected": "intermediate_layers_indices",
}


def vision_from_transformers(values: dict[str, Any]) -> TileEncoderConfig:
    """The image encoder of a ``config.json``."""
    pretrained.option(values, "hidden_act", "gelu", allowed=("gelu",))
    heads = "num_attention_heads" if "num_attention_heads" in values else "attention_heads"  # with both, as in transformers
    with pretrained.told_by_file(values, **VISION_SIZES, heads=heads):
        config = TileEncoderConfig(
            tile_size=pretrained.option(values, "image_size", 448, kind=int),
            patch_size=pretrained.option(values, "patch_size", 14, kind=int),
            channels=pretrained.option(values, "num_channels", 3, kind=int),
            dim=pretrained.option(values, "hidden_size", 1280, kind=int),
            layers=pretrained.option(values, "num_hidden_layers", 32, kind=int),
            global_layers=pretrained.option(values, "num_global_layers", 8, kind=int),
            heads=pretrained.option(values, heads, 16, kind=int),
            mlp_dim=pretrained.option(values, "intermediate_size", 5120, kind=int),
            collected=pretrained.whole_numbers(values, "intermediate_layers_indices", (3, 7, 15, 23, 30)),
            max_tiles=pretrained.option(values, "max_num_tiles", 4, kind=int),
            norm_eps=pretrained.number(values, "norm_eps", 1e-5, least=0),
        )
    width = pretrained.option(values, "vision_output_dim", 7680, kind=int)
    if width != config.features:
        parts = f"{1 + len(config.collected)} states of {config.dim} numbers"
        raise ValueError(f"config.json has vision_output_dim = {width}, and {parts} make {config.features}")
    grids = values.get("supported_aspect_ratios")
    if grids is not None and grids != [list(grid) for grid in arrangements(config.max_tiles)]:
        implemented = [list(grid) for grid in arrangements(config.max_tiles)]
        raise ValueError(f"config.json has supported_aspect_ratios = {grids}, which is not implemented; implemented: {implemented}")
    return config


def section(values: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    """A part of a config, which must be of this ``model_type``."""
    part = values.get(name)
    part = {} if part is None else part
    if not isinstance(part, dict):
        raise ValueError(f"config.json has {name} = {part!r}, expected an object")
    if part.get("model_type", kind) != kind:
        raise ValueError(f"config.json has {name} of model_type {part['model_type']!r}, which is not implemented; implemented: {kind!r}")
    return part


def config_to_transformers(config: LlamaVisionConfig) -> dict[str, Any]:
    """The values of a ``config.json``; a ``ValueError`` names an option that transformers cannot express."""
    name, vision, text = "MllamaForConditionalGeneration", config.vision, config.language
    saving.only(text, name, head_dim=(None, text.dim // text.heads))
    if not 0 <= config.extra_tokens <= EXTRA_TOKENS:
        raise ValueError(f"the model has extra_tokens = {config.extra_tokens}, and {name} of transformers has {EXTRA_TOKENS}")
    if not vision.collected or vision.global_layers < 1:
        what = "collected = ()" if not vision.collected else "global_layers = 0"
        raise ValueError(f"the image encoder has {what}, and {name} of transformers needs one at least")
    text_values = language_model_config.config_to_transformers(text, EXTRA_TOKENS)
    del text_values["architectures"], text_values["head_dim"]
    if text_values["bos_token_id"] is None:  # the one that may not be null there; nothing is computed from it
        text_values["bos_token_id"] = 0
    own = {"model_type": "mllama_text_model", "num_hidden_layers": config.layers, "cross_attention_layers": sorted(config.cross_layers)}
    return {
        "architectures": [name],
        "model_type": "mllama",
        "vision_config": {
            "model_type": "mllama_vision_model",
            "image_size": vision.tile_size,
            "patch_size": vision.patch_size,
            "num_channels": vision.channels,
            "hidden_size": vision.dim,
            "num_hidden_layers": vision.layers,
            "num_global_layers": vision.global_layers,
            "attention_heads": vision.heads,
            "intermediate_size": vision.mlp_dim,
            "intermediate_layers_indices": list(vision.collected),
            "max_num_tiles": vision.max_tiles,
            "supported_aspect_ratios": [list(grid) for grid in arrangements(vision.max_tiles)],
            "vision_output_dim": vision.features,
            "norm_eps": float(vision.norm_eps),
            "hidden_act": "gelu",
        },
        "text_config": {**text_values, **own, "tie_word_embeddings": False},
        "image_token_index": config.image_token_id,
        "tie_word_embeddings": False,
    }
