"""Widget of lesson 10: what the released models weigh, part by part, and what their caches add."""

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import nn

from minimllm import figures
from minimllm.inspection.costs import cache_bytes
from minimllm.models.clip import CLIP, CLIPConfig
from minimllm.models.language_model import LanguageModel, LanguageModelConfig
from minimllm.models.llama_vision.model import LlamaVision, LlamaVisionConfig
from minimllm.models.unified import UnifiedConfig, UnifiedMLLM
from minimllm.models.vit import ViT, ViTConfig

from .explorer import Explorer, explore

MODELS: dict[str, tuple[Callable[..., nn.Module], object]] = {
    "ViT-B/16": (ViT, ViTConfig.base_16()),
    "CLIP ViT-B/32": (CLIP, CLIPConfig.base_32()),
    "CLIP ViT-L/14": (CLIP, CLIPConfig.large_14()),
    "Llama 3.2 1B": (LanguageModel, LanguageModelConfig.llama_3_2_1b()),
    "Llama 3.1 8B": (LanguageModel, LanguageModelConfig.llama_3_1_8b()),
    "LLaVA-1.5 7B": (UnifiedMLLM, UnifiedConfig.llava_1_5_7b()),
    "Llama 3.2 11B Vision": (LlamaVision, LlamaVisionConfig.llama_3_2_11b()),
    "Llama 3.2 90B Vision": (LlamaVision, LlamaVisionConfig.llama_3_2_90b()),
}
FORMATS = {"float32, 4 bytes": 4, "bfloat16, 2 bytes": 2}
# Where a parameter belongs, by how its name begins; the first that fits.
PARTS = {
    "embedding of the words": ("tokens.", "language_model.tokens.", "text_encoder.tokens."),
    "text encoder": ("text_encoder.", "text_projection."),
    "output layer": ("head.", "language_model.head."),
    "blocks of the decoder": ("language_model.",),
    "cross-attention blocks": ("cross_blocks.",),
    "projector": ("projector.", "image_projection."),
}
COLOURS = dict(zip(PARTS, (figures.ORANGE, figures.PURPLE, figures.GREY, figures.BLUE, figures.VERMILION, figures.GREEN), strict=True))
COLOURS |= {"image encoder": figures.SKY, "cache": figures.INK}


@functools.cache
def parameters_by_part(name: str) -> dict[str, int]:
    """Parameters of each part of one of ``MODELS``, counted on the model itself, which is built without memory for its weights."""
    kind, config = MODELS[name]
    with torch.device("meta"):
        model = kind(config)
    counts: dict[str, int] = {}
    for parameter, tensor in model.named_parameters():
        part = next((part for part, starts in PARTS.items() if parameter.startswith(starts)), None)
        part = part or ("blocks of the decoder" if kind is LanguageModel else "image encoder")
        counts[part] = counts.get(part, 0) + tensor.numel()
    return counts


def cache_of(name: str, words: int, pictures: int, bytes_per_number: int = 2) -> int:
    """Bytes of the keys and values that one of ``MODELS`` keeps of a text and pictures; 0 for models that do not write."""
    _, config = MODELS[name]
    language = config if isinstance(config, LanguageModelConfig) else getattr(config, "language", None)
    if language is None:
        return 0
    heads, dim = language.key_value_heads or language.heads, language.head_dim or language.dim // language.heads
    visual = config.image_tokens if isinstance(config, UnifiedConfig) else int(isinstance(config, LlamaVisionConfig))
    kept = cache_bytes(language.layers, heads, dim, words + pictures * visual, bytes_per_number=bytes_per_number)
    if isinstance(config, LlamaVisionConfig):  # keys and values of every tile, in the cross-attention blocks alone
        tokens = pictures * config.vision.max_tiles * config.vision.tokens
        kept += cache_bytes(len(config.cross_layers), heads, dim, tokens, bytes_per_number=bytes_per_number)
    return kept


def longest_text(name: str) -> int:
    """Positions of the decoder of one of ``MODELS``; 0 for models that do not write."""
    config = MODELS[name][1]
    return getattr(config if isinstance(config, LanguageModelConfig) else getattr(config, "language", None), "context_length", 0)


def size_explorer(
    models: Sequence[str] = tuple(MODELS),
    words: Sequence[int] = (0, 1000, 4000, 16_000, 64_000, 128_000),
    pictures: Sequence[int] = (0, 1, 4),
) -> Explorer:
    """Lesson 10: choose a model, a number format, a length of text and a number of pictures, and see how much memory that takes.

    Raises:
        ValueError: for a name that is not in ``MODELS``.
    """
    unknown = [name for name in models if name not in MODELS]
    if unknown or not models:
        raise ValueError(f"there is no model {unknown[:1]}; there are {', '.join(MODELS)}")

    def amounts(model: str, numbers: int, words: int, pictures: int) -> Mapping[str, float]:
        gigabytes = {part: count * numbers / 1e9 for part, count in parameters_by_part(model).items()}
        pictures = pictures if isinstance(MODELS[model][1], UnifiedConfig | LlamaVisionConfig) else 0
        return {**gigabytes, "cache": cache_of(model, min(words, longest_text(model)), pictures, numbers) / 1e9}

    def told(model: str, words: int, pictures: int) -> str:
        kind, read = MODELS[model][0], longest_text(model)
        limit = "" if words <= read else f" (it reads {read:,})" if read else " (it keeps nothing of them)"
        blind = " (which it cannot see)" if kind is LanguageModel and pictures else ""
        return f"{words:,} tokens of text{limit} and {pictures} {'picture' if pictures == 1 else 'pictures'}{blind}"

    def draw(model: str, numbers: int, words: int, pictures: int) -> Figure:
        given = amounts(model, numbers, words, pictures)
        names = [name for name in given if given[name]]
        height = 0.1 + 0.36 * len(names)
        figure, (axes,) = figures.placed(7.2, 1.45 + height, (1.9, 0.55, 4.4, height))
        axes.barh(range(len(names)), [given[name] for name in names], height=0.62, color=[COLOURS[name] for name in names])
        for row, name in enumerate(names):
            axes.annotate(f"{given[name]:,.3g} GB", (given[name], row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, max(given.values()) * 1.18), ylim=(len(names) - 0.5, -0.5), xlabel="memory, GB (thousand million bytes)")
        count, together = sum(parameters_by_part(model).values()), sum(given.values())
        lines = (f"{model}: {count:,} parameters", f"{together:,.3g} GB, {numbers} bytes each,", f"with {told(model, words, pictures)}")
        axes.set_title("\n".join(lines), loc="left", x=-0.4)
        return figure

    def alt(model: str, numbers: int, words: int, pictures: int) -> str:
        given = amounts(model, numbers, words, pictures)
        listed = "; ".join(f"{name} {amount:,.3g} GB" for name, amount in given.items() if amount)
        return (
            f"Bars: the memory of {model} in numbers of {numbers} bytes, with {told(model, words, pictures)}. {listed}. "
            f"In all {sum(given.values()):,.3g} GB."
        )

    numbers = {name: size for name, size in reversed(FORMATS.items())}
    return explore(draw, alt, model=list(models), numbers=numbers, words=list(words), pictures=list(pictures))
