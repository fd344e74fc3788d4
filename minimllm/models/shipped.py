"""The small trained models that come with the course: a folder each, with config, weights, tokenizer and a card."""

import dataclasses
from collections.abc import Callable, Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from minimllm.data.tokenizer import Tokenizer
from minimllm.layers.lora import check_merged
from minimllm.weights.fitting import build_empty
from minimllm.weights.folders import reading, whole_folder
from minimllm.weights.released import RELEASES, released
from minimllm.weights.saving import write_json, write_tensors
from minimllm.weights.tensors import held_tensors, read_json, read_tensors

CHECKPOINTS = Path(__file__).resolve().parents[2] / "assets" / "checkpoints"
NAMES = (
    *("vit", "clip", "clip_digits", "language_model", "unified", "cross_attention", "llama_vision"),
    *("eyes_encoder", "eyes_unified", "eyes_cross_attention"),
)

# Where each config class lives, and the model that is built from it; parts of a config have no model of their own here.
CONFIGS: dict[str, tuple[str, str | None]] = {
    "ViTConfig": ("minimllm.models.vit", "ViT"),
    "ResNetConfig": ("minimllm.models.resnet", None),
    "TextConfig": ("minimllm.models.text_encoder", None),
    "CLIPConfig": ("minimllm.models.clip", "CLIP"),
    "Preparation": ("minimllm.data.preprocessing", None),
    "RotaryScaling": ("minimllm.layers.rotary", None),
    "LanguageModelConfig": ("minimllm.models.language_model", "LanguageModel"),
    "UnifiedConfig": ("minimllm.models.unified", "UnifiedMLLM"),
    "CrossAttentionConfig": ("minimllm.models.cross_attention", "CrossAttentionMLLM"),
    "TileEncoderConfig": ("minimllm.models.llama_vision.vision", None),
    "LlamaVisionConfig": ("minimllm.models.llama_vision.model", "LlamaVision"),
}

# What a folder of transformers' form calls its model, and ours.
PRETRAINED: dict[str, tuple[str, str]] = {
    "vit": ("minimllm.models.vit", "ViT"),
    "clip": ("minimllm.models.clip", "CLIP"),
    "llama": ("minimllm.models.language_model", "LanguageModel"),
    **{kind: ("minimllm.models.unified", "UnifiedMLLM") for kind in ("llava", "smolvlm", "idefics3")},
    "mllama": ("minimllm.models.llama_vision.model", "LlamaVision"),
}


def load(name: str | PathLike) -> tuple[nn.Module, Any]:
    """A trained model and its tokenizer.

    Args:
        name: of a checkpoint that comes with the course (``vit``, ``clip``, ``clip_digits`` ...), or a folder that :func:`save` wrote, or
            a model's ``save_pretrained``.

    Returns:
        The model in evaluation mode, and its tokenizer: that of the course, or of transformers for a model on a released language model;
        ``None`` for a model that reads no text.

    Raises:
        ValueError: an unknown name; a file that is missing, damaged, or does not fit the others; released weights that are not installed.
            The message names it.
    """
    folder = place(name)
    if not folder.is_dir():
        if str(name) not in NAMES:
            raise ValueError(f"there is no checkpoint {str(name)!r} and no folder of that name; checkpoints are {', '.join(NAMES)}")
        if not folder.is_dir():
            raise ValueError(f"the checkpoint {str(name)!r} is not in {CHECKPOINTS}; 'make assets' trains it")
    with reading(folder) as folder:
        return open_checkpoint(folder)


def open_checkpoint(folder: Path) -> tuple[nn.Module, Any]:
    """The model and the tokenizer of a folder; errors as :func:`load`."""
    values = read_json(folder / "config.json")
    if "type" not in values and values.get("model_type") in PRETRAINED:
        return open_pretrained(folder, PRETRAINED[values["model_type"]])
    parts = values.pop("parts", {})
    if not isinstance(parts, dict) or not all(isinstance(source, str) for source in parts.values()):
        raise ValueError(f"{folder / 'config.json'} has parts = {parts!r}, expected a name for each module that comes from elsewhere")
    config = config_from_dict(values, folder / "config.json")
    home, model_name = CONFIGS[type(config).__name__]
    if model_name is None:
        raise ValueError(f"{folder / 'config.json'} holds a {type(config).__name__}, which is a part of a model and no model")
    build = getattr(import_module(home), model_name)
    path = folder / "model.safetensors"
    tied = check_weights(build, config, path, parts)
    if not parts:
        model = build(config)
        read_weights(model, path)
    else:
        model = build_empty(build, config, folder, None)
        written = {name: tensor.float() for name, tensor, _ in read_tensors(folder)}
        model.load_state_dict(written, strict=False, assign=True)
        for second, first in tied.items():  # which lies in the file under its first name alone
            if first in written:
                holder, _, name = second.rpartition(".")
                setattr(model.get_submodule(holder), name, model.get_parameter(first))
        for name, source in parts.items():
            put_part(model, name, source)
    path = folder / "tokenizer.json"
    talking = next((source for source in parts.values() if source in RELEASES), None)
    tokenizer = Tokenizer.load(path) if path.exists() else None if talking is None else tokenizer_of(talking)
    vocabulary = vocabulary_of(config)
    if isinstance(tokenizer, Tokenizer) and vocabulary is not None and tokenizer.vocab_size > vocabulary:
        raise ValueError(
            f"{path} has {tokenizer.vocab_size} tokens, and the model of {folder / 'config.json'} reads {vocabulary}: not its own"
        )
    return model.eval(), tokenizer


def open_pretrained(folder: Path, home: tuple[str, str]) -> tuple[nn.Module, Any]:
    """As :func:`open_checkpoint`, of a folder in transformers' form; a tokenizer that is not the course's own is one of transformers."""
    model = getattr(import_module(home[0]), home[1]).from_pretrained(folder)
    path, tokenizer = folder / "tokenizer.json", None
    if path.exists():
        try:
            tokenizer = Tokenizer.load(path)
        except ValueError:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder)
    return model.eval(), tokenizer


def source_model(source: str) -> nn.Module:
    """A released language model, or a checkpoint that comes with the course."""
    if source in RELEASES:
        from minimllm.models.language_model import LanguageModel

        return LanguageModel.from_pretrained(released(source))
    if source in NAMES:
        return load(source)[0]
    raise ValueError(f"no weights {source!r} are known; known are {', '.join((*RELEASES, *NAMES))}")


def put_part(model: nn.Module, name: str, source: str) -> None:
    """Give one of the model's modules the weights of another checkpoint, whose end (a head, a last norm) it may leave out; all frozen."""
    whole, module = source_model(source), model.get_submodule(name)
    given, state = whole.state_dict(), module.state_dict()
    for key, tensor in state.items():
        if key not in given or given[key].shape != tensor.shape:
            raise ValueError(f"{source!r} does not fit as the model's {name}: {key} is missing there, or of another shape")
    if given.keys() == state.keys():
        model.set_submodule(name, whole)  # as it is: its weights may be pages of a file, and tied
    else:
        module.load_state_dict({key: given[key] for key in state}, assign=True)
    model.get_submodule(name).requires_grad_(False)


def tokenizer_of(source: str) -> Any:
    """The tokenizer of a released model, with its chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(released(source))


def vocabulary_of(config: Any) -> int | None:
    """The number of ids that a model may read, from its config or the one inside it that says so; ``None`` for a model of pictures."""
    for name in ("vocabulary", "vocab_size"):
        if hasattr(config, name):
            return getattr(config, name)
    inside = [getattr(config, field.name) for field in dataclasses.fields(config)]
    return next((found for part in inside if dataclasses.is_dataclass(part) if (found := vocabulary_of(part)) is not None), None)


def place(name: str | PathLike) -> Path:
    """Where a checkpoint lies: the names of those that come with the course go before folders that are called alike."""
    return CHECKPOINTS / name if isinstance(name, str) and name in NAMES else Path(name)


def read_card(name: str | PathLike) -> dict[str, Any]:
    """The card of a checkpoint: its recipe, seed, seconds and measured accuracies."""
    with reading(place(name)) as folder:
        return read_json(folder / "card.json")


def save(
    folder: str | PathLike,
    model: nn.Module,
    tokenizer: Tokenizer | None,
    card: dict[str, Any],
    parts: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a folder that :func:`load` reads, whole or not at all; one that is there is replaced.

    Args:
        folder: where to.
        model: with a ``config`` from the table above.
        tokenizer: ``None`` for a model that reads no text.
        card: how the model was made and how good it is; any JSON.
        parts: modules that are not written, because they are frozen copies of others: ``{"language_model": "smollm2-135m-instruct"}``, by a
            name that :func:`~minimllm.weights.released.released` knows or that of a checkpoint that comes with the course. :func:`load`
            fetches them there, the tokenizer of a released model too.
        dtype: of the written numbers, ``torch.bfloat16`` for half of the space; ``None``: the model's. A model with ``parts`` is opened in
            float32.

    Raises:
        ValueError: for a model without such a config, a folder that holds other things, a part whose weights are not those of its source,
            LoRA that was not merged.
    """
    folder = Path(folder)
    config = getattr(model, "config", None)
    if type(config).__name__ not in CONFIGS:
        raise ValueError(f"a {type(model).__name__} with a {type(config).__name__} cannot be saved; known are {', '.join(CONFIGS)}")
    check_merged(model)
    parts, state = dict(parts or {}), own_state(model)
    for name, source in parts.items():
        check_part(model, name, source)
        state = {key: tensor for key, tensor in state.items() if not key.startswith(f"{name}.")}
    with whole_folder(folder) as unfinished:
        write_json(unfinished / "config.json", config_to_dict(config) | ({"parts": parts} if parts else {}))
        write_json(unfinished / "card.json", card)
        write_tensors(unfinished / "model.safetensors", {key: converted(tensor, dtype) for key, tensor in state.items()})
        if tokenizer is not None:
            tokenizer.save(unfinished / "tokenizer.json")
    return folder


def converted(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Numbers in another type; counts stay what they are."""
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def check_part(model: nn.Module, name: str, source: str) -> None:
    """Raise a ``ValueError`` unless a module has the weights of the source that it shall be fetched from."""
    state = source_model(source).state_dict()
    for key, tensor in model.get_submodule(name).state_dict().items():
        if key not in state or not torch.equal(tensor.cpu(), state[key]):
            raise ValueError(f"{name}.{key} is not that of {source!r}, so it cannot be fetched from there: leave {name!r} out of parts")


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config as JSON: its fields, and its class by the name ``type``; configs inside it likewise."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    parts = {name: config_to_dict(value) if dataclasses.is_dataclass(value) else value for name, value in fields.items()}
    return {"type": type(config).__name__, **parts}


def config_from_dict(values: dict[str, Any], path: Path) -> Any:
    """The config that :func:`config_to_dict` wrote; ``path`` is named in a ``ValueError`` if it is of no known kind."""
    name = values.get("type")
    if not isinstance(name, str) or name not in CONFIGS:
        raise ValueError(f"{path} has type {name!r}; known are {', '.join(CONFIGS)}")
    kind = getattr(import_module(CONFIGS[name][0]), name)
    unknown = values.keys() - {field.name for field in dataclasses.fields(kind)} - {"type"}
    if unknown:
        raise ValueError(f"{path} has the option {min(unknown)!r}, which {name} does not have")
    fields, kinds = {}, get_type_hints(kind)
    for key, value in values.items():
        if key != "type":
            part = config_from_dict(value, path) if isinstance(value, dict) and "type" in value else value
            fields[key] = tuple(part) if isinstance(part, list) else part
            if not fits(fields[key], kinds[key]):
                raise ValueError(f"{path} has {key} = {value!r}, and {name} expects {getattr(kinds[key], '__name__', kinds[key])}")
    try:
        return kind(**fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} does not describe a {name}: {error}") from error


def fits(value: Any, kind: Any) -> bool:
    """Whether a value of a file may stand where a config has this annotation: a truth value is no number, and infinity none either."""
    inside = get_args(kind)
    if isinstance(kind, UnionType):
        return any(fits(value, each) for each in inside)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(fits(each, inside[0]) for each in value)
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value) < 2**63 and (kind is float or isinstance(value, int))
    return kind not in (int, float) and isinstance(value, kind)


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model, a tensor that lies in two places (an output layer tied to the embedding) under its first name alone."""
    every = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    second = every - {name for name, _ in model.named_parameters()}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in second}


def check_weights(build: Callable[[Any], nn.Module], config: Any, path: Path, parts: Mapping[str, str]) -> dict[str, str]:
    """Raise a ``ValueError`` that names what does not fit, from the file's header alone: before memory for a model is asked for.

    Returns:
        The second name of each tensor that lies in two places, with its first.
    """
    if not path.is_file():
        raise ValueError(f"{path.parent} holds no {path.name}")
    held = {tensor.name: tensor for tensor in held_tensors([path])}
    model = build_empty(build, config, path.parent, None if parts else len(held))
    for name in parts:
        if name not in dict(model.named_modules()):
            raise ValueError(
                f"{path.parent / 'config.json'} has parts for {name!r}, and a {type(model).__name__} has no module of that name"
            )
    state = own_state(model)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(tuple(f"{each}." for each in parts))}
    for name in sorted(state.keys() ^ held.keys()):
        raise ValueError(f"{path}: tensor {name} is {'missing' if name in state else 'unexpected'}")
    for name, tensor in held.items():
        if tensor.shape != tuple(state[name].shape):
            raise ValueError(f"{path}: tensor {name} has shape {tensor.shape}, expected {tuple(state[name].shape)}")
        if not isinstance(tensor.dtype, torch.dtype) or tensor.dtype.is_floating_point != state[name].is_floating_point():
            raise ValueError(f"{path}: tensor {name} is of {tensor.dtype}, expected {state[name].dtype}")
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}


def read_weights(model: nn.Module, path: Path) -> None:
    """Copy every tensor of the file into the model, which :func:`check_weights` has found to fit."""
    model.load_state_dict({name: tensor for name, tensor, _ in read_tensors(path.parent)}, strict=False)  # tied tensors lie there once
