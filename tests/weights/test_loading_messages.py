"""What a folder says wrongly is told in the words of its file: the option's own name there and its value, whatever kind of value it is."""

import json

import pytest
import torch
from PIL import Image
from support import unchecked

from minimllm import (
    CLIP,
    CLIPConfig,
    LanguageModel,
    LanguageModelConfig,
    LlamaVision,
    LlamaVisionConfig,
    Tokenizer,
    answer,
    load,
    prepare_tiles,
)
from minimllm.models.clip_config import config_from_transformers as clip
from minimllm.models.language_model_config import config_from_transformers as llama
from minimllm.models.llama_vision.config import config_from_transformers as mllama
from minimllm.models.llava import config_from_transformers as llava
from minimllm.models.shipped import save
from minimllm.models.vit_config import config_from_transformers as vit
from minimllm.weights.processors import read_preparation

SCALING = dict(rope_type="llama3", factor=8.0, low_freq_factor=4.0, high_freq_factor=1.0, original_max_position_embeddings=64)
SMALL = dict(num_hidden_layers=4, cross_attention_layers=[1])


def seeing(**changes):
    return dict(vision_config=changes, text_config=SMALL)


# Under a name of ours, a learner would look in vain for the option in the file.
WRONG = {
    "vision_feature_layer = 99": (llava, dict(vision_feature_layer=99)),
    "vision_feature_layer = [-30]": (llava, dict(vision_feature_layer=[-30])),
    "vision_feature_layer = 'last'": (llava, dict(vision_feature_layer="last")),
    "tie_word_embeddings = 'no'": (llava, dict(tie_word_embeddings="no")),
    "tie_word_embeddings = 'yes'": (llava, dict(text_config=dict(tie_word_embeddings="yes"))),
    "image_token_index = 'x'": (llava, dict(image_token_index="x")),
    "max_num_tiles = 5": (mllama, seeing(max_num_tiles=5)),
    "max_num_tiles = 0": (mllama, seeing(max_num_tiles=0)),
    "intermediate_layers_indices = [3, 40]": (mllama, seeing(intermediate_layers_indices=[3, 40])),
    "intermediate_layers_indices = 3": (mllama, seeing(intermediate_layers_indices=3)),
    "intermediate_layers_indices = ['a']": (mllama, seeing(intermediate_layers_indices=["a"])),
    "supported_aspect_ratios = 5": (mllama, seeing(supported_aspect_ratios=5)),
    "supported_aspect_ratios = [1, 2]": (mllama, seeing(supported_aspect_ratios=[1, 2])),
    "attention_heads = 0": (mllama, seeing(attention_heads=0)),
    "num_global_layers = -1": (mllama, seeing(num_global_layers=-1)),
    "image_token_index = 999999": (mllama, dict(image_token_index=999_999)),
    "cross_attention_layers = 5": (mllama, dict(text_config=dict(cross_attention_layers=5))),
    "cross_attention_layers = 'all'": (mllama, dict(text_config=dict(cross_attention_layers="all"))),
    "cross_attention_layers = [1.5]": (mllama, dict(text_config=dict(cross_attention_layers=[1.5]))),
    "num_attention_heads = 0": (mllama, dict(text_config=SMALL | dict(num_attention_heads=0))),
    "hidden_size = 0": (vit, dict(hidden_size=0)),
    "num_channels = 0": (vit, dict(num_channels=0)),
    "image_size = '224'": (vit, dict(image_size="224")),
    "image_size = [224, 'x']": (vit, dict(image_size=[224, "x"])),
    "id2label = 5": (vit, dict(id2label=5)),
    "projection_dim = 0": (clip, dict(projection_dim=0)),
    "max_position_embeddings = 0": (clip, dict(text_config=dict(max_position_embeddings=0))),
    "num_hidden_layers = 0": (clip, dict(vision_config=dict(num_hidden_layers=0))),
    "num_key_value_heads = 0": (llama, dict(num_key_value_heads=0)),
    "intermediate_size = -1": (llama, dict(intermediate_size=-1)),
    "rope_theta = 0": (llama, dict(rope_theta=0)),
    "rope_scaling = {": (llama, dict(rope_scaling=SCALING)),
}


@pytest.mark.parametrize("words", WRONG)
def test_the_option_is_named_as_in_the_file(words):
    read, values = WRONG[words]
    with pytest.raises(ValueError) as error:
        read(values)
    assert str(error.value).startswith("config.json has") and words in str(error.value), str(error.value)


def test_what_no_option_alone_is_to_blame_for_is_told_of_the_file_too():
    with pytest.raises(ValueError, match="config.json .*225"):
        vit(dict(image_size=225))
    with pytest.raises(ValueError, match="reference must be"):
        mllama({}, reference="hf")


@pytest.mark.parametrize("wrong", [[float("nan")] * 3, [0.5, 0.5, float("inf")], [True] * 3, {"red": 1}])
def test_deviations_that_are_no_numbers_are_refused(wrong, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_std": wrong}))
    with pytest.raises(ValueError, match="image_std"):
        read_preparation(tmp_path, "CLIPImageProcessor", (32, 32), 3)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": "CLIPImageProcessor"}))
    with pytest.raises(ValueError, match="image_processor = 'CLIPImageProcessor'"):
        read_preparation(tmp_path, "CLIPImageProcessor", (32, 32), 3)


@pytest.mark.parametrize("dtype", ["float64", torch.int8, 16, float])
def test_a_dtype_that_is_none_of_torchs_is_refused(dtype, tmp_path):
    folder = LanguageModel(LanguageModelConfig.tiny(20)).save_pretrained(tmp_path / "llama")
    with unchecked(), pytest.raises(ValueError, match="dtype must be"):
        LanguageModel.from_pretrained(folder, dtype=dtype)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    tokenizer = Tokenizer.from_words([f"word{number}" for number in range(30)])
    model = CLIP(CLIPConfig.tiny(tokenizer.vocab_size, tokenizer.eos_token_id))
    assert load(save(tmp_path / "right", model, tokenizer, {}))[1].vocab_size == 35
    too_small = CLIP(CLIPConfig.tiny(34, tokenizer.eos_token_id))
    with pytest.raises(ValueError, match=r"tokenizer.json has 35 tokens, and the model of .*config.json reads 34"):
        load(save(tmp_path / "wrong", too_small, tokenizer, {}))
    vision = LlamaVision(LlamaVisionConfig.tiny(30))
    with pytest.raises(ValueError, match="reads 30"):
        load(save(tmp_path / "vision", vision, tokenizer, {}))


def test_tiles_take_the_arguments_of_to_by_name():
    tiles = prepare_tiles([[Image.new("RGB", (20, 9), "red")]], 16).to(dtype=torch.bfloat16, device="cpu")
    assert tiles.pixel_values.dtype == torch.bfloat16 and tiles.aspect_ratio_ids.dtype == torch.long


@pytest.mark.parametrize(
    "mean, std", [(0.5, (0.5,) * 3), ((0.5,) * 3, 0.5), ("abc", (0.5,) * 3), ((0.5,) * 3, (0.5, 0.5, float("nan"))), (None, None)]
)
def test_a_mean_that_is_not_one_for_each_channel_is_refused(mean, std):
    with unchecked(), pytest.raises(ValueError, match="mean and std need one number for each of 3 channels"):
        prepare_tiles([[Image.new("RGB", (20, 9))]], 16, mean=mean, std=std)


def test_llama_vision_is_asked_with_tensors_of_any_precision():
    tokenizer = Tokenizer.from_words(["red", "?"])
    model = LlamaVision(LlamaVisionConfig.tiny(tokenizer.vocab_size)).eval()
    pictures = (torch.arange(2 * 3 * 20 * 20).view(2, 3, 20, 20) % 255) / 255
    replies = [answer(model, tokenizer, pictures.to(dtype), ["red ?"] * 2, max_new_tokens=3) for dtype in (torch.float32, torch.bfloat16)]
    assert all(len(each) == 2 for each in replies)


@pytest.mark.parametrize("mask", [[[[1, 1, 1, 1]]], [[[0, 1, 0, 0]]], [[[0, 0, 0, 0]]], [[[1, 2, 0, 0]]]])
def test_a_mask_that_contradicts_the_arrangement_is_refused(mask):
    from dataclasses import replace

    model = LlamaVision(LlamaVisionConfig.tiny(20))
    tiles = model.prepare_tiles([[Image.new("RGB", (60, 30))]])
    assert tiles.aspect_ratio_mask.tolist() == [[[1, 1, 0, 0]]]
    with unchecked(), pytest.raises(ValueError, match=r"whose aspect_ratio_mask is \[\[1, 1, 0, 0\]\]"):
        model(torch.tensor([[1, 2, 5]]), replace(tiles, aspect_ratio_mask=torch.tensor(mask)))


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.bool])
def test_ids_that_no_embedding_takes_are_refused(dtype):
    model = LanguageModel(LanguageModelConfig.tiny(20))
    with unchecked(), pytest.raises(ValueError, match=rf"int64 or int32, of shape \(batch, length\), got {dtype}"):
        model(torch.ones(1, 3, dtype=dtype))
    assert torch.equal(model(torch.ones(1, 3, dtype=torch.int32)), model(torch.ones(1, 3, dtype=torch.long)))
