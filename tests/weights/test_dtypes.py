"""Files of several types are cast to the config's, as transformers does, or refused by name; every model then computes."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import largest_difference, randomise
from tiny_llama_vision import FOUR
from transformers import (
    CLIPModel,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    MllamaForConditionalGeneration,
    ViTForImageClassification,
)

from minimllm import (
    CLIP,
    CLIPConfig,
    LanguageModel,
    LanguageModelConfig,
    LlamaVision,
    LlamaVisionConfig,
    UnifiedConfig,
    UnifiedMLLM,
    ViT,
    ViTConfig,
    load,
)
from minimllm.models import shipped

IMAGES, IDS, SEEN = torch.rand(1, 3, 32, 32), torch.tensor([[1, 7, 9, 3]]), torch.tensor([[1, *[2] * 16, 7, 9]])
MODELS = {
    ViTForImageClassification: (lambda: ViT(ViTConfig.tiny()), lambda model, to: model(to(IMAGES))),
    CLIPModel: (lambda: CLIP(CLIPConfig.tiny()), lambda model, to: model(to(IMAGES), IDS)),
    LlamaForCausalLM: (lambda: LanguageModel(LanguageModelConfig.tiny(50, tied=False)), lambda model, to: model(IDS)),
    LlavaForConditionalGeneration: (lambda: UnifiedMLLM(UnifiedConfig.tiny(50)), lambda model, to: model(SEEN, to(IMAGES))),
    MllamaForConditionalGeneration: (
        lambda: LlamaVision(LlamaVisionConfig.tiny(50, reference="transformers")),
        lambda model, to: model(torch.tensor([[1, 2, 5]]), model.prepare_tiles([[FOUR]])),
    ),
}


def opened(kind, folder):
    """By transformers, which must find every tensor it wants and no other."""
    model, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for kind, (build, _) in MODELS.items():
        randomise(build(), std=0.1).save_pretrained(folder / kind.__name__)
    return folder


def retyped(folder, change, **values):
    """The tensors of a folder in the types that ``change(name)`` gives, and other values in its config."""
    path = folder / "model.safetensors"
    save_file({name: tensor.to(change(name) or tensor.dtype) for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    config = {**json.loads((folder / "config.json").read_text()), **values}
    (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


MIXTURES = {
    "norms in full": lambda name: None if "norm" in name else torch.bfloat16,
    "the output in full": lambda name: None if re.search("head|classifier|projection|projector", name) else torch.bfloat16,
    "eight bits inside": lambda name: torch.float8_e4m3fn if re.search(r"\.1\..*(mlp|dense).*weight", name) else torch.bfloat16,
    "halves of two kinds": lambda name: torch.float16 if "bias" in name or "norm" in name else torch.bfloat16,
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("mixture", MIXTURES)
@torch.no_grad()
def test_files_of_several_types_are_cast_to_the_configs(kind, mixture, saved, tmp_path):
    build, run = MODELS[kind]
    ours = type(build())
    options = dict(reference="transformers") if ours is LlamaVision else {}
    first_two = mixture in list(MIXTURES)[:2]
    for spelled, dtype in (("dtype", torch.bfloat16),) if first_two else (("torch_dtype", torch.float32),):
        folder = shutil.copytree(saved / kind.__name__, tmp_path / spelled)
        retyped(folder, MIXTURES[mixture], **{"dtype": ..., spelled: str(dtype).removeprefix("torch.")})
        model, theirs = ours.from_pretrained(folder, **options), opened(kind, folder)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype} == {theirs.dtype}
        assert run(model, lambda x, dtype=dtype: x.to(dtype)).isfinite().all()
        weights = dict(theirs.named_parameters())
        first = next(
            name for name in weights if "1.mlp.up_proj" in name or "1.mlp.fc1.weight" in name or "layers.1" in name and "fc1" in name
        )
        mine = [parameter for parameter in model.parameters() if parameter.shape == weights[first].shape]
        assert any(torch.equal(parameter, weights[first]) for parameter in mine), "the very numbers of transformers"


@torch.no_grad()
def test_what_agrees_is_kept_and_a_type_may_be_asked_for(saved, tmp_path):
    folder = shutil.copytree(saved / "LlamaForCausalLM", tmp_path / "llama")
    retyped(folder, lambda name: torch.float16, dtype="bfloat16")
    assert {p.dtype for p in LanguageModel.from_pretrained(folder).parameters()} == {torch.float16}, "as the files are"
    retyped(folder, lambda name: None if "norm" in name else torch.float32, dtype=...)
    with pytest.raises(ValueError, match=r"torch.float16 \(model.norm.weight\).*torch_dtype = None.*say which"):
        LanguageModel.from_pretrained(folder)
    assert {p.dtype for p in LanguageModel.from_pretrained(folder, dtype=torch.float64).parameters()} == {torch.float64}
    retyped(folder, lambda name: None, dtype="float64", torch_dtype="bfloat16")
    assert (
        {p.dtype for p in LanguageModel.from_pretrained(folder).parameters()} == {torch.float64} == {opened(LlamaForCausalLM, folder).dtype}
    )


@pytest.mark.parametrize("named", ["float8_e4m3fn", "int8", "fp32", "Tensor", 32, None, ["float32"]])
def test_types_in_which_no_model_is_run_are_refused(named, saved, tmp_path):
    folder = shutil.copytree(saved / "ViTForImageClassification", tmp_path / "vit")
    retyped(folder, lambda name: torch.float8_e5m2, dtype=named)
    with pytest.raises(ValueError, match="are of torch.float8_e5m2 .*dtype = "):
        ViT.from_pretrained(folder)
    assert ViT.from_pretrained(folder, dtype=torch.float32)(IMAGES).isfinite().all()
    for dtype in (torch.float8_e5m2, torch.int8, torch.complex64):
        with pytest.raises(ValueError, match="dtype must be"):
            ViT.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("part", ["norm", "bias", "q_proj", "mlp"])
def test_whole_numbers_are_no_weights_wherever_they_are(dtype, part, saved, tmp_path):
    folder = shutil.copytree(saved / "CLIPModel", tmp_path / "clip")
    retyped(folder, lambda name: dtype if part in name else None)
    with pytest.raises(ValueError, match=rf"tensor .*{part}.* is {dtype} .*expected floats"):
        CLIP.from_pretrained(folder)


def test_the_course_s_own_folders(tmp_path):
    model = randomise(LanguageModel(LanguageModelConfig.tiny(50)), std=0.1)
    folder = shipped.save(tmp_path / "model", model, None, {})
    path = folder / "model.safetensors"
    save_file({name: t if "norm" in name else t.bfloat16() for name, t in load_file(path).items()}, path)
    again, _ = load(folder)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32} and again(IDS).isfinite().all()
    save_file({name: t.to(torch.int8) if "norm" in name else t for name, t in load_file(path).items()}, path)
    with pytest.raises(ValueError, match="norm.*is of torch.int8, expected torch.float32"):
        load(folder)


def test_models_in_types_that_none_can_open_are_not_saved(tmp_path):
    model = LanguageModel(LanguageModelConfig.tiny(50)).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="float8_e4m3fn, in which no model can be run"):
        model.save_pretrained(tmp_path / "llama")
    assert not list(tmp_path.iterdir())


def test_a_cast_differs_from_the_whole_by_rounding_alone(saved, tmp_path):
    folder = shutil.copytree(saved / "CLIPModel", tmp_path / "clip")
    whole = CLIP.from_pretrained(folder)
    retyped(folder, lambda name: None if "norm" in name else torch.float16, dtype="float32")
    assert largest_difference(CLIP.from_pretrained(folder)(IMAGES, IDS), whole(IMAGES, IDS)) < 0.05
