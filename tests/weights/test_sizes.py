"""What a config asks for is held against the files before anything of that size is made: a refusal is quick, small, and names its cause."""

import json
import os
import re
import resource
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file
from tiny_llama_vision import theirs as tiny_mllama

from minimllm import CLIP, CLIPConfig, LanguageModel, LanguageModelConfig, LlamaVision, UnifiedConfig, UnifiedMLLM, ViT, ViTConfig, load
from minimllm.models import shipped

MODELS = {
    "vit": lambda folder: ViT(ViTConfig.tiny()).save_pretrained(folder),
    "clip": lambda folder: CLIP(CLIPConfig.tiny()).save_pretrained(folder),
    "llama": lambda folder: LanguageModel(LanguageModelConfig.tiny(50)).save_pretrained(folder),
    "llava": lambda folder: UnifiedMLLM(UnifiedConfig.tiny(50)).save_pretrained(folder),
    "mllama": lambda folder: tiny_mllama().save_pretrained(folder),
    "shipped": lambda folder: shipped.save(folder, LanguageModel(LanguageModelConfig.tiny(50)), None, {}),
}
OPENED = {
    "vit": ViT.from_pretrained,
    "clip": CLIP.from_pretrained,
    "llama": LanguageModel.from_pretrained,
    "llava": UnifiedMLLM.from_pretrained,
    "mllama": LlamaVision.from_pretrained,
    "shipped": load,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for name, save in MODELS.items():
        save(folder / name)
    return folder


@contextmanager
def small_and_quick():
    """Some seconds of the processor's own time and half a gigabyte more than now are far above what a refusal takes."""
    before, started = resource.getrlimit(resource.RLIMIT_AS), time.process_time()
    if sys.platform == "linux":
        held = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
        resource.setrlimit(resource.RLIMIT_AS, (held + 500_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - started < 10


def options(values, path=()):
    """Where every option lies that is a number, in the parts too."""
    for name, value in values.items():
        if isinstance(value, dict) and name not in ("id2label", "label2id"):
            yield from options(value, (*path, name))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, name)


def changed(values, path, value):
    part = copy = json.loads(json.dumps(values))
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return json.dumps(copy)


# Options that say nothing of the files' sizes.
FREE = re.compile(
    r".*(_eps|_id|theta|base|factor|max_position_embeddings|context_length|_std|_range|dropout|logit_scale_init_value)|image_seq.*"
)
UNREAD = {"text_config.projection_dim", "vision_config.projection_dim", "encoder_stride", "pooler_output_size"}


@pytest.mark.parametrize("model", MODELS)
def test_sizes_that_the_files_do_not_hold_are_refused(model, saved):
    path = saved / model / "config.json"
    written = path.read_text()
    values = json.loads(written)
    sizes = [option for option in options(values) if not FREE.fullmatch(option[-1]) and ".".join(option) not in UNREAD]
    assert len(sizes) > 4 and len([size for size in sizes if "layers" in size[-1]]) > 0
    try:
        for option in sizes:
            for value in (2**40, 10**400, -(2**40), True, float("nan")):
                path.write_text(changed(values, option, value))
                if option[-1] == "image_token_index":  # LLaVA's may lie outside of the vocabulary
                    continue
                with small_and_quick(), pytest.raises(ValueError) as error:
                    OPENED[model](saved / model)
                assert "config.json" in str(error.value) or "tensor" in str(error.value), (option, value, str(error.value))
    finally:
        path.write_text(written)
    OPENED[model](saved / model)


@pytest.mark.parametrize("model", MODELS)
def test_a_depth_that_the_files_do_not_hold_is_named(model, saved, tmp_path):
    folder = shutil.copytree(saved / model, tmp_path / "copy")
    values = json.loads((folder / "config.json").read_text())
    option = next(option for option in options(values) if option[-1] in ("num_hidden_layers", "layers"))
    (folder / "config.json").write_text(changed(values, option, 2**40))
    with small_and_quick(), pytest.raises(ValueError, match=f"{option[-1]} = {2**40} describes more than .* holds \\d+"):
        OPENED[model](folder)


def test_a_few_layers_too_many_are_named_as_missing(saved, tmp_path):
    folder = shutil.copytree(saved / "llama", tmp_path / "copy")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(changed(values, ("num_hidden_layers",), 5))
    with pytest.raises(ValueError, match="18 missing: model.layers.3.input_layernorm.weight"):
        LanguageModel.from_pretrained(folder)


def test_epsilons_and_bases_that_are_no_numbers_are_refused(saved):
    for model in ("vit", "clip", "llama", "llava", "mllama"):
        path = saved / model / "config.json"
        written = path.read_text()
        values = json.loads(written)
        try:
            for option in options(values):
                if not re.fullmatch(r".*_eps|norm_eps|rope_theta|.*_freq_factor|factor", option[-1]):
                    continue
                for value in (float("nan"), float("inf"), -1.0, 10**400, True, "1", None, [1e-5]):
                    path.write_text(changed(values, option, value))
                    with pytest.raises(ValueError, match=option[-1]):
                        OPENED[model](saved / model)
                path.write_text(changed(values, option, 1))  # a whole number is one, where an epsilon may be 1
                if option[-1].endswith("eps"):
                    OPENED[model](saved / model)
        finally:
            path.write_text(written)


def test_configs_that_are_no_file_or_nested_without_end(saved, tmp_path):
    folder = shutil.copytree(saved / "vit", tmp_path / "copy")
    (folder / "config.json").write_text('{"a":' * 100_000)
    with small_and_quick(), pytest.raises(ValueError, match="config.json cannot be read as JSON"):
        ViT.from_pretrained(folder)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    with pytest.raises(ValueError, match="config.json cannot be read as JSON: it is no file"):
        ViT.from_pretrained(folder)
    if hasattr(os, "mkfifo"):
        for name, words in (("config.json", "cannot be read as JSON"), ("model.safetensors", "is damaged or cut short")):
            folder = shutil.copytree(saved / "vit", tmp_path / name)
            (folder / name).unlink()
            os.mkfifo(folder / name)
            with small_and_quick(), pytest.raises(ValueError, match=f"{name} {words}"):
                ViT.from_pretrained(folder)


@pytest.mark.parametrize("name", ["a\0.safetensors", "a" * 5000 + ".safetensors", "\ud800.safetensors", "sub/../../x.safetensors"])
def test_names_of_shards_that_no_file_can_have(name, saved, tmp_path):
    folder = shutil.copytree(saved / "vit", tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(ValueError, match="safetensors"):
        ViT.from_pretrained(folder)


@pytest.mark.parametrize(
    "spelling", [{}, {"vision_tower.vision_model.": "model.vision_tower.", "language_model.model.": "model.language_model."}]
)
def test_what_is_missing_is_named_as_the_file_at_hand_spells_it(spelling, saved, tmp_path):
    folder = shutil.copytree(saved / "llava", tmp_path / "copy")
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for ours, theirs in spelling.items():
            name = name.replace(ours, theirs)
        tensors[name.replace("multi_modal", "model.multi_modal") if spelling else name] = tensor
    for gone in [name for name in tensors if "layers.1." in name and "q_proj" in name] + [
        name for name in tensors if "linear_2.bias" in name
    ]:
        save_file({name: tensor for name, tensor in tensors.items() if name != gone}, folder / "model.safetensors")
        with pytest.raises(ValueError, match=f"1 missing: {gone}; 0 unexpected"):
            UnifiedMLLM.from_pretrained(folder)
    assert len(tensors) > 60


@pytest.mark.parametrize("layout", ["language_model.model.", "model.language_model."])
def test_a_missing_output_layer_is_named_as_the_rest_is(layout, tmp_path):
    model = UnifiedMLLM(replace(UnifiedConfig.tiny(50), language=LanguageModelConfig.tiny(50, tied=False)))
    folder = model.save_pretrained(tmp_path / "llava")
    tensors = {name.replace("language_model.model.", layout): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    del tensors["language_model.lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    expected = "language_model.lm_head.weight" if layout == "language_model.model." else "lm_head.weight"
    with pytest.raises(ValueError, match=f"1 missing: {expected}; 0"):
        UnifiedMLLM.from_pretrained(folder)
