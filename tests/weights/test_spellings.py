"""Options that a config spells twice: the one counts that counts in transformers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import largest_difference, randomise
from tiny_llama_vision import theirs as tiny_mllama
from transformers import LlamaForCausalLM, LlavaForConditionalGeneration, MllamaForConditionalGeneration

from minimllm import LanguageModel, LanguageModelConfig, LlamaVision, UnifiedConfig, UnifiedMLLM, ViT, ViTConfig

IDS = torch.randint(4, 50, (2, 40), generator=torch.Generator().manual_seed(0))
PLAIN, SLOW = dict(rope_type="default", rope_theta=100.0), dict(rope_type="default", rope_theta=7777.0)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)


def edit(folder, **values):
    path = folder / "config.json"
    written = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in written.items() if value is not ...}))
    return folder


@pytest.fixture
def folder(tmp_path):
    return randomise(LanguageModel(LanguageModelConfig.tiny(50))).save_pretrained(tmp_path / "llama")


ROTARY = {
    "both": dict(rope_parameters=PLAIN, rope_scaling=SLOW),
    "both, the other way round": dict(rope_parameters=SLOW, rope_scaling=PLAIN),
    "scaled in the old one": dict(rope_parameters=PLAIN, rope_scaling={**LLAMA3, "rope_theta": 500.0}),
    "scaled in the new one": dict(rope_parameters={**LLAMA3, "rope_theta": 500.0}, rope_scaling=PLAIN),
    "the base beside the old one": dict(rope_parameters=PLAIN, rope_scaling=LLAMA3, rope_theta=300.0),
    "the base in the new one alone": dict(rope_parameters=PLAIN, rope_scaling=LLAMA3),
    "the base inside and beside": dict(rope_parameters=PLAIN, rope_theta=300.0),
    "the base beside alone": dict(rope_parameters=..., rope_theta=300.0),
    "null": dict(rope_parameters=PLAIN, rope_scaling=None),
    "empty": dict(rope_parameters=PLAIN, rope_scaling={}),
    "an empty new one": dict(rope_parameters={}, rope_scaling=SLOW),
    "two names of the type": dict(rope_parameters=..., rope_scaling={**LLAMA3, "type": "default"}),
    "the old name of the type": dict(rope_parameters=..., rope_scaling={**LLAMA3, "rope_type": ..., "type": "llama3"}),
}


@pytest.mark.parametrize("name", ROTARY)
@torch.no_grad()
def test_rotary_positions(name, folder):
    values = {
        key: {part: number for part, number in value.items() if number is not ...} if isinstance(value, dict) else value
        for key, value in ROTARY[name].items()
    }
    edit(folder, **values)
    ours, theirs = LanguageModel.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder).eval()
    assert largest_difference(ours(IDS), theirs(input_ids=IDS).logits) < 1e-4
    edit(folder, rope_scaling=..., rope_theta=..., rope_parameters=dict(rope_type="default", rope_theta=9.0))
    assert largest_difference(ours(IDS), LanguageModel.from_pretrained(folder)(IDS)) > 0.1, "the positions show in the logits"


def test_the_old_one_is_named_where_it_counts(folder):
    edit(folder, rope_parameters=PLAIN, rope_scaling=dict(rope_type="linear", factor=2.0))
    with pytest.raises(ValueError, match="rope_scaling with rope_type 'linear'"):
        LanguageModel.from_pretrained(folder)
    edit(folder, rope_parameters=dict(rope_type="yarn", factor=2.0), rope_scaling=PLAIN)
    assert LanguageModel.from_pretrained(folder).config.rotary_base == 100.0


@torch.no_grad()
def test_the_image_token_of_llava_by_two_names(tmp_path):
    model = randomise(UnifiedMLLM(UnifiedConfig.tiny(50)), std=0.1)
    folder, images = model.save_pretrained(tmp_path / "llava"), torch.rand(1, 3, 32, 32)
    for names, used in ((dict(image_token_index=7, image_token_id=9), 9), (dict(image_token_index=7), 7), (dict(image_token_id=9), 9)):
        edit(folder, **{"image_token_index": ..., "image_token_id": ..., **names})
        ours, theirs = UnifiedMLLM.from_pretrained(folder), LlavaForConditionalGeneration.from_pretrained(folder).eval()
        assert ours.config.image_token_id == used == theirs.config.image_token_id
        ids = torch.tensor([[1, *[used] * 16, 5, 6]])
        assert largest_difference(ours(ids, images), theirs(input_ids=ids, pixel_values=images).logits) < 1e-4


def test_the_names_of_llama_vision(tmp_path):
    tiny_mllama().save_pretrained(tmp_path)
    edit(tmp_path, image_token_index=7, image_token_id=9)
    vision = json.loads((tmp_path / "config.json").read_text())["vision_config"]
    edit(tmp_path, vision_config={**vision, "attention_heads": 4, "num_attention_heads": 2})
    ours, theirs = LlamaVision.from_pretrained(tmp_path).config, MllamaForConditionalGeneration.from_pretrained(tmp_path).config
    assert ours.image_token_id == 9 == theirs.image_token_id
    assert ours.vision.heads == 2 == theirs.vision_config.attention_heads


@pytest.mark.parametrize("top, text", [(True, False), (False, True), (True, None), (None, True), (False, False), (True, True)])
@torch.no_grad()
def test_the_tied_output_of_llava_at_two_places(top, text, tmp_path):
    tied = bool(top or text)
    language = LanguageModelConfig.tiny(50, tied=tied)
    model = randomise(UnifiedMLLM(UnifiedConfig.tiny(50, language=language)), std=0.1)
    folder = model.save_pretrained(tmp_path / "llava")
    part = json.loads((folder / "config.json").read_text())["text_config"]
    part.pop("tie_word_embeddings")
    edit(
        folder,
        tie_word_embeddings=... if top is None else top,
        text_config=part if text is None else {**part, "tie_word_embeddings": text},
    )
    ours = UnifiedMLLM.from_pretrained(folder)
    assert ours.config.language.tied == tied
    ids, images = torch.tensor([[1, *[2] * 16, 5, 6]]), torch.rand(1, 3, 32, 32)
    theirs = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    assert largest_difference(ours(ids, images), theirs(input_ids=ids, pixel_values=images).logits) < 1e-4


def test_labels_and_their_number(tmp_path):
    names = ("red square", "blau", "ключ")
    folder = ViT(ViTConfig.tiny(classes=3, class_names=names)).save_pretrained(tmp_path / "vit")
    values = json.loads((folder / "config.json").read_text())
    assert values["id2label"] == dict(zip("012", names, strict=True)) and values["label2id"] == {"red square": 0, "blau": 1, "ключ": 2}
    again = ViT.from_pretrained(folder)
    assert again.config.class_names == names and again.config.classes == 3
    again.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["id2label"] == values["id2label"]
    edit(folder, num_labels=7, id2label={"2": "c", "0": "a", "1": "b"})
    assert ViT.from_pretrained(folder).config.class_names == ("a", "b", "c"), "the labels count, whatever their order"
    for labels in ({str(number): f"LABEL_{number}" for number in range(3)}, {"1": "a", "2": "b", "3": "c"}, {"0": 1, "1": 2, "2": 3}):
        edit(folder, id2label=labels)
        assert ViT.from_pretrained(folder).config.class_names is None
    edit(folder, id2label=None, num_labels=3)
    assert ViT.from_pretrained(folder).config.class_names is None
    path = folder / "model.safetensors"
    headless = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("classifier")}
    save_file(headless, path, metadata={"format": "pt"})
    edit(folder, id2label={}, num_labels=3)
    assert ViT.from_pretrained(folder).config.classes == 0
    with pytest.raises(ValueError, match="class_names must name 3 classes"):
        ViTConfig.tiny(classes=3, class_names=("a", "b"))
