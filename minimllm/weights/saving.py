"""Writes folders that transformers opens: a ``config.json``, the weights under transformers' names, and what prepares pictures and texts.

The names come from the tables by which the same folders are read; what transformers cannot express is refused by name.
"""

import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from minimllm.layers.lora import check_merged
from minimllm.weights.fitting import COMPUTED, WeightNames, file_names
from minimllm.weights.folders import whole_folder

INDEX = "model.safetensors.index.json"
SHARD_SIZE = "5GB"  # the limit of the Hugging Face hub's own library: a file of such a size can be fetched again if it breaks off


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the library lets its owner alone read it


def write_weights(folder: Path, tensors: Mapping[str, Tensor], max_shard_size: int | str) -> None:
    """``model.safetensors``; or, where that would be larger, shards that are not, and the index that says which of them has which tensor.

    No tensor is divided: one that is larger by itself is a shard of its own.

    Raises:
        ValueError: a size that is neither a number of bytes nor one with its unit.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    written = isinstance(max_shard_size, str) and re.fullmatch(r"[1-9]\d*[KMGT]B", max_shard_size)
    if not written and (type(max_shard_size) is not int or max_shard_size < 1):
        raise ValueError(f"max_shard_size must be a size such as '5GB', or a number of bytes; got {max_shard_size!r}")
    sizes = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}  # tensors that share memory would be kept together
    split = split_torch_state_dict_into_shards(sizes, max_shard_size=max_shard_size)
    for file, names in split.filename_to_tensors.items():
        write_tensors(folder / file, {name: tensors[name] for name in names})
    if split.is_sharded:
        write_json(folder / INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})


def save(
    folder: str | PathLike,
    model: nn.Module,
    values: Mapping[str, Any],
    names: WeightNames,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    changed: Mapping[str, Tensor] | None = None,
    added: Mapping[str, Tensor] | None = None,
    preprocessor: Mapping[str, Any] | None = None,
    processor: Mapping[str, Any] | None = None,
    generation: Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    max_shard_size: int | str = SHARD_SIZE,
) -> Path:
    """Write a folder that transformers opens, whole or not at all; one that was written so before is replaced.

    Args:
        folder: where to.
        model: whose parameters are written, a tied one once.
        values: of ``config.json``, its dtype aside.
        names: our names and those in the file, of which the first is taken.
        shapes: our name -> shape in the file, where the file folds the same numbers otherwise.
        changed: our name -> what is written in place of the parameter.
        added: name in the file -> what transformers expects and the model does not have.
        preprocessor: of ``preprocessor_config.json``.
        processor: of ``processor_config.json``, which says how pictures and texts are put together; written if there is a tokenizer.
        generation: of ``generation_config.json``, which says where a text that is written ends.
        tokenizer: the course's own; ``tokenizer.json`` and ``tokenizer_config.json``, which ``AutoTokenizer`` opens.
        max_shard_size: see :func:`write_weights`.

    Returns:
        The folder.

    Raises:
        ValueError: a folder that holds other things, a file in its place, weights of several dtypes, of one in which no model can be
            run or without values, LoRA that was not merged, a size that is none.
    """
    folder = Path(folder)
    check_merged(model)
    parameters = dict(model.named_parameters())
    kinds = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters.values()})
    if any(parameter.dtype not in COMPUTED for parameter in parameters.values()):
        raise ValueError(f"the weights are of {', '.join(kinds)}, in which no model can be run; model.to(torch.float32) first")
    if len(kinds) > 1 or any(parameter.is_meta for parameter in parameters.values()):
        raise ValueError(f"the weights are of {', '.join(kinds)}; expected one dtype and values: model.to(torch.float32), not on 'meta'")
    tensors = dict(added or {})
    for name, parameter in parameters.items():
        tensor = (changed or {}).get(name, parameter)
        tensors[file_names(name, names)[0]] = tensor.reshape((shapes or {}).get(name, tensor.shape))
    with whole_folder(folder) as unfinished:
        write_json(unfinished / "config.json", {**values, "dtype": kinds[0]})
        if generation is not None:
            write_json(unfinished / "generation_config.json", generation)
        if preprocessor is not None:
            write_json(unfinished / "preprocessor_config.json", preprocessor)
        if tokenizer is not None:
            if hasattr(tokenizer, "transformers_config"):
                tokenizer.save(unfinished / "tokenizer.json")
                write_json(unfinished / "tokenizer_config.json", tokenizer.transformers_config())
            else:  # one of transformers, which writes its files and its chat template itself
                tokenizer.save_pretrained(unfinished)
            if processor is not None:
                write_json(unfinished / "processor_config.json", processor)
        write_weights(unfinished, tensors, max_shard_size)
    return folder


def check_tokenizer(tokenizer: Any, vocabulary: int, image_token_id: int | None = None) -> None:
    """Raise a ``ValueError`` if a model that reads ``vocabulary`` ids cannot read what this tokenizer writes; ``None`` writes nothing."""
    if tokenizer is None:
        return
    size = tokenizer.vocab_size if hasattr(tokenizer, "transformers_config") else len(tokenizer)  # of transformers: added tokens count
    if size > vocabulary:
        raise ValueError(f"the tokenizer has {size} tokens, and the model reads {vocabulary}: not its own")
    its_own = getattr(tokenizer, "image_token_id", image_token_id)  # a tokenizer of transformers need not say
    if image_token_id is not None and its_own != image_token_id:
        raise ValueError(
            f"the tokenizer's image token is {its_own}, and the model has image_token_id = {image_token_id}: not its own"
        )


def only(config: Any, model: str, **allowed: Any) -> None:
    """Raise a ``ValueError`` that names the option unless the config's fields have these values, the only ones that ``model`` can express.

    A tuple lists several.
    """
    for name, values in allowed.items():
        value, values = getattr(config, name), values if isinstance(values, tuple) else (values,)
        if value not in values:
            raise ValueError(
                f"{type(config).__name__} has {name} = {value!r}, and {model} of transformers can only express "
                f"{' or '.join(map(repr, values))}; minimllm.models.shipped.save keeps this model for the course's own load"
            )
