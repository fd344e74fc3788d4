"""Opens malformed folders, and judges what comes back beside the files' own contents, read by the safetensors library."""

import dataclasses
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from soak import folder_configs, folder_places, folder_weights, folders  # noqa: F401 (each adds its kinds)
from soak.pool import Fault, Log
from support import randomise
from torch import Tensor, nn

from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModel,
    LanguageModelConfig,
    LlamaVision,
    LlamaVisionConfig,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    ViT,
    ViTConfig,
    clip_vit,
    load,
    read_card,
    save,
)
from minimllm.models.clip_config import MEAN, STD
from minimllm.models.llama_vision.vision import TileEncoderConfig

COUNT, KINDS = 500, folders.KINDS
WORDS = [f"word{number}" for number in range(27)]
IDS = torch.tensor([[1, 5, 9, 30]])


@dataclasses.dataclass
class Base:
    """A whole folder, what opens it, and what it gives then."""

    folder: Path
    open: Callable[[Any], nn.Module]
    use: Callable[[nn.Module], Tensor]
    model: nn.Module
    names: dict[str, list[str]]  # of a tensor in the files -> the parameters of ours that are equal to it
    expected: Tensor


BASES: dict[str, Base] = {}


def prepare(folder: Path) -> None:
    """Write all whole folders once; the cases are forked from here."""
    tokenizer = Tokenizer.from_words(WORDS)
    size, image, end = tokenizer.vocab_size, tokenizer.image_token_id, tokenizer.eos_token_id
    vision = clip_vit(image_size=8, patch_size=4, dim=8, layers=2, heads=2, mlp_dim=12)
    language = LanguageModelConfig(size, dim=16, layers=2, heads=4, mlp_dim=24, key_value_heads=2, context_length=64, pad_token_id=0)
    text = dataclasses.replace(CLIPConfig.tiny(size, end).text, dim=8, layers=1, heads=2, mlp_dim=12)
    tiles = TileEncoderConfig.tiny(tile_size=8, patch_size=4, dim=8, layers=3, global_layers=1, heads=2, mlp_dim=12, collected=(1, 2))
    half = dict(image_mean=(0.5,) * 3, image_std=(0.5,) * 3)
    models = {
        "vit": ViT(ViTConfig(image_size=8, patch_size=4, dim=8, layers=2, heads=2, mlp_dim=12, classes=3)),
        "clip": CLIP(CLIPConfig(vision, text, embed_dim=6)),
        "language_model": LanguageModel(dataclasses.replace(language, tied=True)),
        "unified": UnifiedMLLM(UnifiedConfig(vision, language, image, **half)),
        "cross_attention": CrossAttentionMLLM(CrossAttentionConfig(vision, language, image, (1,), **half)),
        "llama_vision": LlamaVision(LlamaVisionConfig(tiles, language, (1,), image, extra_tokens=0, reference="transformers", **half)),
    }
    pixels = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)
    seen = torch.tensor([[1, *[image] * models["unified"].image_tokens, 5, 9], [1, *[image] * models["unified"].image_tokens, 7, 30]])
    asked = torch.tensor([[1, image, 5, 9], [1, image, 7, 30]])
    drawn = [[Image.new("RGB", (12, 7), "red")], [Image.new("RGB", (5, 9), "blue")]]
    uses = {
        "vit": lambda model: model(pixels),
        "clip": lambda model: model(pixels, IDS),
        "language_model": lambda model: model(IDS),
        "unified": lambda model: model(seen, pixels),
        "cross_attention": lambda model: model(asked, pixels),
        "llama_vision": lambda model: model(asked, model.prepare_tiles(drawn)),
    }
    theirs = {"llama": "language_model", "llava": "unified", "mllama": "llama_vision"}
    for name, model in models.items():
        randomise(model, seed=len(name), std=0.3)
        for number, gate in enumerate(parameter for parameter in model.parameters() if parameter.numel() == 1):
            nn.init.constant_(gate, 0.5 + number / 10)  # no two tensors are equal
    for form in folders.FORMS:
        name = theirs.get(form.split()[0], form.split()[0])
        model, options = models[name], {"max_shard_size": "4KB"} if "shards" in form else {}
        model.save_pretrained(folder / form, **options)
        if name == "llama_vision":
            add(form, folder, lambda where: LlamaVision.from_pretrained(where, reference="transformers"), uses[name])
        else:
            add(form, folder, type(model).from_pretrained, uses[name])
    for form in folders.SHIPPED:
        name = form.split()[1]
        save(folder / form, models[name], None if name == "vit" else tokenizer, {"made": "for a test"})
        add(form, folder, lambda where: load(where)[0], uses[name])


def add(form: str, folder: Path, opens: Callable, use: Callable) -> None:
    model = opens(folder / form)
    held, tensors = dict(model.named_parameters()), files(folder / form)
    names = {name: [ours for ours, parameter in held.items() if same(parameter, tensor)] for name, tensor in tensors.items()}
    named = {ours for listed in names.values() for ours in listed}
    if len(named) < len(held) - ("mllama" in form or "llama_vision" in form):  # its embedding has rows more in the file
        raise Fault(f"{form}: {sorted(held.keys() - named)} is in no file")
    with torch.no_grad():
        BASES[form] = Base(folder / form, opens, use, model, names, use(model))


def files(folder: Path) -> dict[str, Tensor]:
    """Every tensor as the safetensors library reads it: of the single file, else of those that the index names."""
    if (folder / "model.safetensors").exists():
        return load_file(folder / "model.safetensors")
    shards = sorted(set(json.loads((folder / folders.INDEX).read_text())["weight_map"].values()))
    return {name: tensor for shard in shards for name, tensor in load_file(folder / shard).items()}


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, in whatever shape, and where one has another dtype after conversion."""
    a, b = a.detach().reshape(-1), b.reshape(-1)
    return a.numel() == b.numel() and torch.equal(a.nan_to_num(7.25), b.to(a.dtype).nan_to_num(7.25))


def run(seed: int, place: Path, log: Log) -> None:
    form = folders.form_of(seed)
    log.tell(kind=f"{folders.kind_of(seed)} ({form})")
    warnings.simplefilter("ignore")
    base, folder = BASES[form], place / "model"
    shutil.copytree(base.folder, folder)
    damage = folders.damage(seed, folder)
    before = listing(folder)
    if damage.must == "the card":
        card, error = log.call("read_card", lambda: read_card(damage.where))
        return judge("read_card", "refused", error, ["card.json"])
    model, error = log.call("opening", lambda: base.open(damage.where))
    names = [
        str(damage.where),
        repr(str(damage.where)),
        *(path.name for path in base.folder.iterdir()),
        *map(str, damage.option[-1:]),
        "generation_config.json",
    ]
    judge("opening", damage.must, error, names)
    if error is None:
        right(model, base, Path(damage.where), damage, log)
    if listing(folder) != before:
        raise Fault(f"the folder has other files now: {listing(folder)}, before {before}")


def listing(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def judge(where: str, must: str, error: Exception | None, names: list[str]) -> None:
    if error is None and must == "refused":
        raise Fault(f"{where}: took it without a word")
    if error is not None and must == "right":
        raise Fault(f"{where}: refused what is whole: {error}")
    if error is not None and not any(name in str(error) for name in names):
        raise Fault(f"{where}: the message names neither file, tensor nor option: {error}")


def right(model: nn.Module, base: Base, folder: Path, damage: folders.Damage, log: Log) -> None:
    """The model is what the files say: each tensor, and what it computes."""
    try:
        tensors = files(folder)
    except Exception as error:
        raise Fault(f"opening: took files that the safetensors library refuses: {error}") from error
    held, unchanged = dict(model.named_parameters()), True
    dtypes = {parameter.dtype for parameter in held.values()}
    if len(dtypes) > 1:
        raise Fault(f"opening: the model has weights of {dtypes}")
    for name, listed in base.names.items():
        if listed and name not in tensors:
            raise Fault(f"opening: took it without {name}")
        for ours in listed:
            if ours not in held or not same(held[ours], tensors[name]):
                raise Fault(f"opening: {ours} is not {name} of the file")
            unchanged = unchanged and same(base.model.get_parameter(ours), tensors[name])
    with torch.no_grad():
        value, error = log.call("computing", lambda: base.use(model))
    if error is not None:
        raise Fault(f"computing: {error}")
    if damage.must == "whatever its config says" or not unchanged:
        return
    if value.shape == base.expected.shape and torch.allclose(value.float(), base.expected, atol=1e-5, rtol=1e-4):
        return
    if damage.option and (same_but_for(model.config, base.model.config, folder, damage) or same_as_default(value, base, folder, damage)):
        return
    raise Fault(f"opening: took it, and computes something else; the option is {damage.option or 'none'}: {told(folder, damage)!r}")


def told(folder: Path, damage: folders.Damage) -> Any:
    """The value of the option in its file."""
    values = json.loads((folder / damage.file).read_text())
    for key in damage.option:
        values = values.get(key, "not there") if isinstance(values, dict) else values[key]
    return values


def same_but_for(config: Any, base: Any, folder: Path, damage: folders.Damage) -> bool:
    """Whether the one thing that differs is a number that the file says so, such as an epsilon, and that means something."""
    value = told(folder, damage)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return False
    return differing(config, base) == [value]


def differing(config: Any, base: Any) -> list[Any]:
    """Values of a config that are others than in the base, in the configs inside it as well."""
    if dataclasses.is_dataclass(config) and type(config) is type(base):
        return [each for field in dataclasses.fields(config) for each in differing(getattr(config, field.name), getattr(base, field.name))]
    if isinstance(config, tuple) and isinstance(base, tuple) and len(config) == len(base):
        return [each for pair in zip(config, base, strict=True) for each in differing(*pair)]
    return [] if config == base else [config]


def same_as_default(value: Tensor, base: Base, folder: Path, damage: folders.Damage) -> bool:
    """Whether what is missing (or null) counts as the default of transformers, or of our config's class in a folder of the course's."""
    values, whole = (json.loads((each / damage.file).read_text()) for each in (folder, base.folder))
    *way, last = damage.option
    part = values
    for key in way:
        part, whole = part[key], whole[key]
    if not isinstance(part, dict) or part.get(last) is not None or last not in whole:
        return False
    if "type" in whole:
        import minimllm.models.shipped as shipped

        kind = getattr(__import__(shipped.CONFIGS[whole["type"]][0], fromlist=["x"]), whole["type"])
        default = {field.name: field.default for field in dataclasses.fields(kind)}[last]
    elif last in ("image_mean", "image_std"):
        default = {"image_mean": MEAN, "image_std": STD}[last]
    else:
        from transformers import AutoConfig

        theirs = AutoConfig.for_model(whole.get("model_type", values.get("model_type")))
        default = getattr(theirs, last, None)
    part[last] = default
    other = folder.with_name("explicit")
    shutil.copytree(folder, other)
    (other / damage.file).write_text(json.dumps(values))
    with torch.no_grad():
        explicit = base.use(base.open(other))
    return torch.equal(explicit, value)
