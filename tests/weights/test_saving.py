"""Models of ours, saved and opened by transformers' own classes: equal logits, or a refusal that names the option."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import largest_difference, randomise, unchecked
from tiny_llama_vision import FOUR, ONE, TALL
from tiny_llama_vision import theirs as tiny_mllama
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    CLIPModel,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    MllamaForConditionalGeneration,
    ViTForImageClassification,
)

from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModel,
    LanguageModelConfig,
    LlamaVision,
    LlamaVisionConfig,
    RotaryScaling,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    ViT,
    ViTConfig,
    cross_attention_mask,
    preprocess,
)
from minimllm.inference.answering import prompts
from minimllm.models.clip_config import clip_vit
from minimllm.models.llama_vision.vision import TileEncoderConfig
from minimllm.weights import saving


def opened(kind, folder, **options):
    """By transformers, which must find every tensor it wants and no other."""
    model, told = kind.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(told.values()), told
    return model.eval()


def close(a, b, tolerance=1e-5):
    assert largest_difference(a, b) < tolerance * max(1.0, b.abs().max().item())


VITS = {
    "the course's": {},
    "grey": dict(image_size=8, patch_size=2, channels=1),
    "wide": dict(image_size=(8, 24), patch_size=4),
    "quick gelu": dict(activation="quick_gelu"),
    "relu": dict(activation="relu"),
    "no bias": dict(query_key_value_bias=False),
    "epsilon": dict(norm_eps=0.1),
    "two classes": dict(classes=2),
    "no head": dict(classes=0),
    "one layer": dict(layers=1, heads=1),
}


@pytest.mark.parametrize("name", VITS)
@torch.no_grad()
def test_vit(name, tmp_path):
    model = randomise(ViT(ViTConfig.tiny(**VITS[name])))
    theirs, again = opened(ViTForImageClassification, model.save_pretrained(tmp_path / "vit")), ViT.from_pretrained(tmp_path / "vit")
    images = torch.randn(2, model.config.channels, *model.config.size)
    if model.config.classes:
        close(theirs(images).logits, model(images))
    close(theirs.vit(images).last_hidden_state, model.encode(images))
    assert torch.equal(again(images), model(images)) and again.config == replace(model.config, position_std=again.config.position_std)


GREY = clip_vit(image_size=8, patch_size=2, channels=1, dim=16, layers=1, heads=2, mlp_dim=24)
CLIPS = {
    "the course's": {},
    "gelu in the text": dict(text=replace(CLIPConfig.tiny().text, activation="gelu")),
    "gelu in the image": dict(image=replace(CLIPConfig.tiny().image, activation="gelu")),
    "the old end token": dict(text=replace(CLIPConfig.tiny().text, eos_token_id=2)),
    "grey": dict(
        image=clip_vit(image_size=8, patch_size=2, channels=1, dim=16, layers=1, heads=2, mlp_dim=24), image_mean=(0.3,), image_std=(2.0,)
    ),
    "epsilons": dict(text=replace(CLIPConfig.tiny().text, norm_eps=0.1), image=replace(CLIPConfig.tiny().image, norm_eps=1e-3)),
    "embedding": dict(embed_dim=24),
}


@pytest.mark.parametrize("name", CLIPS)
@torch.no_grad()
def test_clip(name, tmp_path):
    model = randomise(CLIP(CLIPConfig.tiny(**CLIPS[name])))
    theirs, again = opened(CLIPModel, model.save_pretrained(tmp_path / "clip")), CLIP.from_pretrained(tmp_path / "clip")
    ids, mask = torch.tensor([[1, 7, 9, 3, 3], [1, 8, 30, 31, 3]]), torch.tensor([[1, 1, 1, 1, 0], [1] * 5])
    images = torch.randn(2, model.config.image.channels, *model.config.image.size)
    for given in (None, mask):
        close(theirs(input_ids=ids, pixel_values=images, attention_mask=given).logits_per_image, model(images, ids, given))
        assert torch.equal(again(images, ids, given), model(images, ids, given))
    assert (again.config.image_mean, again.config.image_std) == (model.config.image_mean, model.config.image_std)


LANGUAGES = {
    "the course's": {},
    "untied": dict(tied=False),
    "no grouping": dict(key_value_heads=None),
    "one key head": dict(key_value_heads=1),
    "wide heads": dict(head_dim=32),
    "scaled": dict(rotary_scaling=RotaryScaling(8.0, 1.0, 4.0, 16)),
    "epsilon": dict(norm_eps=0.1),
    "special tokens": dict(start_token_id=1, eos_token_id=3, pad_token_id=0),
}


@pytest.mark.parametrize("name", LANGUAGES)
@torch.no_grad()
def test_language_model(name, tmp_path):
    model = randomise(LanguageModel(LanguageModelConfig.tiny(50, **LANGUAGES[name])))
    theirs, again = opened(LlamaForCausalLM, model.save_pretrained(tmp_path / "llama")), LanguageModel.from_pretrained(tmp_path / "llama")
    ids, mask = torch.randint(4, 50, (2, 40), generator=torch.Generator().manual_seed(0)), torch.ones(2, 40, dtype=torch.long)
    mask[1, :7] = 0
    real = mask.bool()
    close(theirs(input_ids=ids, attention_mask=mask).logits[real], model(ids, mask)[real])
    assert torch.equal(again(ids, mask), model(ids, mask))
    names = load_file(tmp_path / "llama" / "model.safetensors")
    assert ("lm_head.weight" in names) != model.config.tied, "a tied weight is written once"


UNIFIED = {
    "as LLaVA": {},
    "another layer": dict(feature_layer=1),
    "the last layer": dict(feature_layer=-1),
    "the class token": dict(keep_class_token=True),
    "untied": dict(language=LanguageModelConfig.tiny(50, tied=False)),
    "scaled": dict(language=LanguageModelConfig.tiny(50, rotary_scaling=RotaryScaling(8.0, 1.0, 4.0, 16), pad_token_id=0)),
    "the width of the decoder by name": dict(projector_dim=96),
    "gelu": dict(vision=replace(CLIPConfig.tiny().image, activation="gelu")),
    "other pictures": dict(image_mean=(0.5, 0.4, 0.3), image_std=(0.5, 0.25, 1.0)),
}


@pytest.mark.parametrize("name", UNIFIED)
@torch.no_grad()
def test_unified(name, tmp_path):
    model = randomise(UnifiedMLLM(replace(UnifiedConfig.tiny(50), **UNIFIED[name])), std=0.1)
    folder = model.save_pretrained(tmp_path / "llava")
    theirs, again = opened(LlavaForConditionalGeneration, folder), UnifiedMLLM.from_pretrained(folder)
    picture = [2] * model.image_tokens
    ids = torch.tensor([[1, *picture, 5, 6, 7], [0, 0, 1, *picture, 9]])
    mask = (ids != 0).long()
    images = torch.randn(2, 3, 32, 32)
    expected = theirs(input_ids=ids, pixel_values=images, attention_mask=mask).logits
    close(expected[mask.bool()], model(ids, images, mask)[mask.bool()])
    assert torch.equal(again(ids, images, mask), model(ids, images, mask))
    assert again.config.image_mean == model.config.image_mean and again.config.blocks_used == model.config.blocks_used


MLLAMAS = {
    "the course's, tied": {},
    "untied, with the extra tokens": dict(language=LanguageModelConfig.tiny(50, tied=False), extra_tokens=8, image_token_id=50),
    "some extra tokens": dict(language=LanguageModelConfig.tiny(50, tied=False), extra_tokens=3, image_token_id=52),
    "scaled": dict(language=LanguageModelConfig.tiny(50, rotary_scaling=RotaryScaling(8.0, 1.0, 4.0, 16))),
    "collected out of order": dict(vision=TileEncoderConfig.tiny(collected=(2, 0), norm_eps=0.1)),
    "two tiles": dict(vision=TileEncoderConfig.tiny(max_tiles=2)),
    "cross-attention first and last": dict(cross_layers=(0, 4), image_mean=(0.1, 0.2, 0.3)),
}


def mllama_batch(model):
    image = model.image_token_id
    ids = torch.tensor([[1, image, 5, 6, image, 7, 8], [9, image, 5, 4, 0, 0, 0]])
    mask = (torch.arange(7) < torch.tensor([[7], [4]])).long()
    tiles = model.prepare_tiles([[FOUR, ONE], [TALL]])
    visible = cross_attention_mask(ids, tiles.num_tiles, image, model.config.vision.max_tiles)
    pictures = {name: getattr(tiles, name) for name in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")}
    return (ids, tiles, mask), dict(input_ids=ids, attention_mask=mask, cross_attention_mask=visible.long(), **pictures)


@pytest.mark.parametrize("name", MLLAMAS)
@torch.no_grad()
def test_llama_vision(name, tmp_path):
    model = randomise(LlamaVision(LlamaVisionConfig.tiny(50, reference="transformers", **MLLAMAS[name])), std=0.1)
    folder = model.save_pretrained(tmp_path / "mllama")
    theirs = opened(MllamaForConditionalGeneration, folder, attn_implementation="eager")
    again = LlamaVision.from_pretrained(folder, reference="transformers")
    ours, inputs = mllama_batch(model)
    real = ours[2].bool()
    close(theirs(**inputs).logits[real], model(*ours)[real])
    close(again(*ours)[real], model(*ours)[real], 1e-6)
    assert again.config.image_mean == model.config.image_mean


@torch.no_grad()
def test_llama_vision_in_the_form_of_the_released_weights(tmp_path):
    model = randomise(LlamaVision(LlamaVisionConfig.tiny(50)), std=0.1)
    with pytest.raises(ValueError, match="reference = 'meta'"):
        model.save_pretrained(tmp_path / "refused")
    assert not list(tmp_path.iterdir())
    folder = model.save_pretrained(tmp_path / "mllama", reference="meta")
    ours, inputs = mllama_batch(model)
    again = LlamaVision.from_pretrained(folder)
    assert again.config.reference == "meta"
    close(again(*ours), model(*ours), 1e-6)
    theirs = opened(MllamaForConditionalGeneration, folder, attn_implementation="eager")
    assert largest_difference(theirs(**inputs).logits, model(*ours)) > 0.1, "why it is refused without being asked for"


REFUSED = {
    "patch_bias": lambda: ViT(ViTConfig.tiny(patch_bias=False)),
    "pre_norm": lambda: ViT(ViTConfig.tiny(pre_norm=True)),
    "ResNet": lambda: CLIP(CLIPConfig.tiny_resnet()),
    "patch_bias = True": lambda: CLIP(CLIPConfig.tiny(image=replace(CLIPConfig.tiny().image, patch_bias=True))),
    "pre_norm = False": lambda: CLIP(CLIPConfig.tiny(image=replace(CLIPConfig.tiny().image, pre_norm=False))),
    "query_key_value_bias": lambda: CLIP(CLIPConfig.tiny(image=replace(CLIPConfig.tiny().image, query_key_value_bias=False))),
    "image_size": lambda: CLIP(CLIPConfig.tiny(image=replace(CLIPConfig.tiny().image, image_size=(32, 16)))),
    "normalise_heads": lambda: LanguageModel(LanguageModelConfig.tiny(50, normalise_heads=1e-5)),
    "projector = 'linear'": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, projector="linear")),
    "projector_dim = 192": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, projector_dim=192)),
    "merge = 2": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, merge=2)),
    "normalise_features": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, normalise_features=True)),
    "projector_positions = 'after'": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, projector_positions="after")),
    "token_scale = 0.3": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, token_scale=0.3)),
    "shared_position": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, shared_position=True)),
    "image_prefix": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, image_prefix=True)),
    "the course's unified: merge": lambda: UnifiedMLLM(UnifiedConfig.course(50)),
    "head_dim = 32": lambda: LlamaVision(
        LlamaVisionConfig.tiny(50, reference="transformers", language=LanguageModelConfig.tiny(50, head_dim=32))
    ),
    "extra_tokens = 9": lambda: LlamaVision(
        LlamaVisionConfig.tiny(50, reference="transformers", language=LanguageModelConfig.tiny(50, tied=False), extra_tokens=9)
    ),
    "collected": lambda: LlamaVision(LlamaVisionConfig.tiny(50, reference="transformers", vision=TileEncoderConfig.tiny(collected=()))),
    "image_token_id = 50": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, image_token_id=50)),
    "image_token_id = -1": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, image_token_id=-1)),
    "pad_token_id = 50": lambda: LanguageModel(LanguageModelConfig.tiny(50, pad_token_id=50)),
    "pad_token_id = -1": lambda: UnifiedMLLM(UnifiedConfig.tiny(50, language=LanguageModelConfig.tiny(50, pad_token_id=-1))),
    "pad_token_id = 58": lambda: LlamaVision(
        LlamaVisionConfig.tiny(50, reference="transformers", language=LanguageModelConfig.tiny(50, pad_token_id=58))
    ),
    "dim = 90 and heads = 4": lambda: LanguageModel(LanguageModelConfig.tiny(50, dim=90, head_dim=24)),
    "transformers has no model": lambda: CrossAttentionMLLM(CrossAttentionConfig.tiny()),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_transformers_cannot_express_is_refused_by_name(words, tmp_path):
    with pytest.raises(ValueError, match=words.removeprefix("the course's unified: ")):
        REFUSED[words]().save_pretrained(tmp_path / "folder")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@torch.no_grad()
def test_the_last_ids_that_transformers_can_look_up_are_saved(tmp_path):
    unified = randomise(
        UnifiedMLLM(UnifiedConfig.tiny(50, image_token_id=49, language=LanguageModelConfig.tiny(50, pad_token_id=49))), std=0.1
    )
    ids, images = torch.tensor([[1, *[49] * 16, 5, 6]]), torch.randn(1, 3, 32, 32)
    theirs = opened(LlavaForConditionalGeneration, unified.save_pretrained(tmp_path / "llava"))
    close(theirs(input_ids=ids, pixel_values=images).logits, unified(ids, images))
    language = LanguageModelConfig.tiny(50, pad_token_id=57)  # among the eight rows behind the vocabulary
    vision = randomise(LlamaVision(LlamaVisionConfig.tiny(50, reference="transformers", language=language)), std=0.1)
    opened(MllamaForConditionalGeneration, vision.save_pretrained(tmp_path / "mllama"))


@torch.no_grad()
def test_numbers_that_happen_to_be_whole_are_written_as_transformers_wants_them(tmp_path):
    model = randomise(LanguageModel(LanguageModelConfig.tiny(50, norm_eps=1, rotary_base=100)))
    ids = torch.tensor([[1, 7, 9, 3]])
    close(opened(LlamaForCausalLM, model.save_pretrained(tmp_path / "llama"))(input_ids=ids).logits, model(ids))
    vit, images = randomise(ViT(ViTConfig.tiny(norm_eps=1))), torch.rand(1, 3, 32, 32)
    close(opened(ViTForImageClassification, vit.save_pretrained(tmp_path / "vit"))(images).logits, vit(images))


def test_a_tokenizer_of_another_model_is_not_saved_with_this_one(tmp_path):
    tokenizer = Tokenizer.from_texts(["a red square and a blue circle."])
    small, other = tokenizer.vocab_size - 1, 5 if tokenizer.image_token_id != 5 else 6
    cases = {
        f"has {small + 1} tokens, and the model reads {small}": (
            LanguageModel(LanguageModelConfig.tiny(small)),
            CLIP(CLIPConfig.tiny(small)),
            UnifiedMLLM(UnifiedConfig.tiny(small, tokenizer.image_token_id)),
            LlamaVision(LlamaVisionConfig.tiny(small, reference="transformers")),
        ),
        f"image token is {tokenizer.image_token_id}, and the model has image_token_id = {other}": (
            UnifiedMLLM(UnifiedConfig.tiny(50, other)),
            LlamaVision(LlamaVisionConfig.tiny(50, reference="transformers", image_token_id=other)),
        ),
    }
    for words, models in cases.items():
        for model in models:
            with pytest.raises(ValueError, match=words):
                model.save_pretrained(tmp_path / "model", tokenizer)
            assert not list(tmp_path.iterdir())


def test_the_model_that_transformers_does_not_have_says_so_whatever_it_is_given(tmp_path):
    model, tokenizer = CrossAttentionMLLM(CrossAttentionConfig.tiny()), Tokenizer.from_texts(["a red square"])
    for options in (dict(tokenizer=tokenizer), dict(tokenizer=None, max_shard_size="1GB")):
        with pytest.raises(ValueError, match="transformers has no model of a CLIP encoder"):
            model.save_pretrained(tmp_path / "model", **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_kept(dtype, tmp_path):
    model = randomise(LanguageModel(LanguageModelConfig.tiny(50))).to(dtype)
    model.save_pretrained(tmp_path / "llama")
    assert {p.dtype for p in LlamaForCausalLM.from_pretrained(tmp_path / "llama").parameters()} == {dtype}
    assert {p.dtype for p in LanguageModel.from_pretrained(tmp_path / "llama").parameters()} == {dtype}


def test_processor_and_tokenizer_come_along(tmp_path):
    tokenizer = Tokenizer.from_texts(["a red square and a blue circle."])
    config = CLIPConfig.tiny(tokenizer.vocab_size, tokenizer.eos_token_id, image_mean=(0.5, 0.4, 0.3), image_std=(0.5, 0.25, 1.0))
    folder = CLIP(config).save_pretrained(tmp_path / "clip", tokenizer)
    theirs, texts = AutoTokenizer.from_pretrained(folder), ["a red square", "a blue circle and a square."]
    ids, mask = tokenizer(texts)
    encoded = theirs(texts, padding=True, return_tensors="pt")
    assert torch.equal(encoded["input_ids"], ids) and torch.equal(encoded["attention_mask"].bool(), mask)
    picture = Image.effect_mandelbrot((64, 50), (-2, -1.5, 1, 1.5), 60).convert("RGB")
    pixels = AutoImageProcessor.from_pretrained(folder, use_fast=False)(picture, return_tensors="pt")["pixel_values"]
    assert largest_difference(pixels, preprocess(picture, 32, config.image_mean, config.image_std)) < 0.05


@pytest.mark.parametrize("kept", [False, True])
def test_a_unified_model_is_asked_through_the_processor_of_transformers(kept, tmp_path):
    tokenizer = Tokenizer.from_texts(["what colour is the star ? red"])
    config = UnifiedConfig.tiny(tokenizer.vocab_size, tokenizer.image_token_id, keep_class_token=kept, image_mean=(0.5, 0.4, 0.3))
    model = randomise(UnifiedMLLM(config), std=0.1)
    folder = model.save_pretrained(tmp_path / "llava", tokenizer)
    picture = Image.effect_mandelbrot((32, 32), (-2, -1.5, 1, 1.5), 60).convert("RGB")
    given = AutoProcessor.from_pretrained(folder)(text=["<|image|> what colour is the star ?"], images=[picture], return_tensors="pt")
    ids, _ = prompts(tokenizer, ["what colour is the star ?"], model.image_tokens)
    assert torch.equal(given["input_ids"][:, :-1], ids), "behind which their tokenizer writes an end token"
    with torch.no_grad():
        theirs = opened(LlavaForConditionalGeneration, folder)(**given).logits[:, :-1]
        close(theirs, model(ids, **model.picture_inputs([picture])), 1e-4)


def test_the_processor_of_tiles_comes_along(tmp_path):
    model = LlamaVision(LlamaVisionConfig.tiny(50, reference="transformers", image_mean=(0.1, 0.2, 0.3)))
    folder = model.save_pretrained(tmp_path / "mllama")
    theirs = AutoImageProcessor.from_pretrained(folder, use_fast=False)([[FOUR], [TALL]], return_tensors="pt")
    ours = model.prepare_tiles([[FOUR], [TALL]])
    assert largest_difference(theirs["pixel_values"], ours.pixel_values) < 0.05
    assert torch.equal(theirs["aspect_ratio_ids"], ours.aspect_ratio_ids)


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    model = ViT(ViTConfig.tiny())
    folder = model.save_pretrained(tmp_path / "vit")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["config.json", "model.safetensors"] and oct(folder.stat().st_mode)[-3:] == "755"

    def fails(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("minimllm.weights.saving.write_tensors", fails)
    with pytest.raises(OSError, match="no space"):
        ViT(ViTConfig.tiny(classes=3)).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["vit"], "no unfinished folder is left"
    monkeypatch.undo()
    ViT(ViTConfig.tiny(classes=3)).save_pretrained(folder)
    assert ViT.from_pretrained(folder).config.classes == 3, "a saved model is replaced"


def test_a_loaded_model_can_be_saved_to_where_it_came_from(tmp_path):
    folder = ViT(ViTConfig.tiny()).save_pretrained(tmp_path / "vit")
    model, images = ViT.from_pretrained(folder), torch.rand(1, 3, 32, 32)
    before = model(images)
    model.save_pretrained(folder)
    assert torch.equal(model(images), before) and torch.equal(ViT.from_pretrained(folder)(images), before)


SEEN, ONES = torch.tensor([[1, *[2] * 16, 5, 6]]), torch.ones(1, 3, 32, 32)
SHARDED = {
    LlamaForCausalLM: lambda: LanguageModel(LanguageModelConfig.tiny(50)),
    LlavaForConditionalGeneration: lambda: UnifiedMLLM(UnifiedConfig.tiny(50)),
    MllamaForConditionalGeneration: lambda: LlamaVision(LlamaVisionConfig.tiny(50, reference="transformers")),
}


def same_inputs(model):
    """For ours, and for theirs."""
    if isinstance(model, LlamaVision):
        return mllama_batch(model)
    if isinstance(model, UnifiedMLLM):
        return (SEEN, ONES), dict(input_ids=SEEN, pixel_values=ONES)
    return (SEEN,), dict(input_ids=SEEN)


@pytest.mark.parametrize("kind", SHARDED)
@torch.no_grad()
def test_shards_are_opened_by_transformers_and_by_us(kind, tmp_path):
    model = randomise(SHARDED[kind](), std=0.1)
    options = dict(reference="transformers") if isinstance(model, LlamaVision) else {}
    folder = model.save_pretrained(tmp_path / "model", max_shard_size="200KB")
    index, shards = json.loads((folder / "model.safetensors.index.json").read_text()), sorted(path.name for path in folder.glob("*.safe*s"))
    assert len(shards) > 3 and shards == [f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors" for number in range(len(shards))]
    held = {shard: load_file(folder / shard) for shard in shards}
    assert {name: shard for shard, tensors in held.items() for name in tensors} == index["weight_map"]
    sizes = [sum(tensor.nbytes for tensor in tensors.values()) for tensors in held.values()]
    assert all(len(tensors) == 1 or size <= 200_000 for tensors, size in zip(held.values(), sizes, strict=True))
    assert index["metadata"]["total_size"] == sum(sizes) and oct((folder / shards[0]).stat().st_mode)[-3:] == "644"
    ours, inputs = same_inputs(model)
    real = inputs.get("attention_mask", torch.ones_like(ours[0])).bool()
    close(opened(kind, folder, attn_implementation="eager")(**inputs).logits[real], model(*ours)[real])
    close(type(model).from_pretrained(folder, **options)(*ours), model(*ours), 1e-6)


@torch.no_grad()
def test_a_saved_model_in_shards_is_replaced_by_one_file_and_the_other_way_round(tmp_path):
    folder, ids = LanguageModel(LanguageModelConfig.tiny(50)).save_pretrained(tmp_path / "llama", max_shard_size="200KB"), SEEN
    expected = LanguageModel.from_pretrained(folder)(ids)
    LanguageModel.from_pretrained(folder).save_pretrained(folder)
    assert [path.name for path in folder.glob("model*")] == ["model.safetensors"], "nothing is left of the shards"
    LanguageModel.from_pretrained(folder).save_pretrained(folder, max_shard_size=1)
    tensors = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(tensors.values())) == len(tensors), "each has its own, though all of them were read from one file"
    assert not (folder / "model.safetensors").exists() and torch.equal(LanguageModel.from_pretrained(folder)(ids), expected)


def test_shards_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = LanguageModel(LanguageModelConfig.tiny(50)).save_pretrained(tmp_path / "llama", max_shard_size="200KB")
    before, write, written = {path.name: path.read_bytes() for path in folder.iterdir()}, saving.write_tensors, []

    def fails_at_the_third(path, tensors):
        written.append(path.name)
        if len(written) == 3:
            raise OSError("no space left")
        write(path, tensors)

    monkeypatch.setattr("minimllm.weights.saving.write_tensors", fails_at_the_third)
    with pytest.raises(OSError, match="no space"):
        LanguageModel(LanguageModelConfig.tiny(60)).save_pretrained(folder, max_shard_size="200KB")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["llama"]


def test_weights_that_share_memory_are_divided_into_shards_as_well(tmp_path):
    model = LanguageModel(LanguageModelConfig.tiny(50))
    row = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    torch.nn.utils.vector_to_parameters(row, model.parameters())
    model.save_pretrained(tmp_path / "llama", max_shard_size="300KB")
    shards = sorted((tmp_path / "llama").glob("*.safetensors"))
    assert len(shards) > 3 and all(shard.stat().st_size < 310_000 for shard in shards)
    again = LanguageModel.from_pretrained(tmp_path / "llama")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("size", [0, -1, True, None, 1.5, "0GB", "-5GB", "5", "5XB", "5 gigabytes", ""])
def test_sizes_that_are_none_are_refused(size, tmp_path):
    with unchecked(), pytest.raises(ValueError) as error:
        LanguageModel(LanguageModelConfig.tiny(50)).save_pretrained(tmp_path / "llama", max_shard_size=size)
    assert repr(size) in str(error.value) and not list(tmp_path.iterdir())


def test_places_that_are_no_place_for_a_model(tmp_path):
    model = ViT(ViTConfig.tiny())
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds notes.txt"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        model.save_pretrained(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    for name in (
        "model_notes.txt",
        "model-1-of-2.safetensors",
        "model-00001-of-00002.safetensors.bak",
        "model-00001-of-00002.safetensors/",
    ):
        beside = tmp_path / name.strip("/").partition(".")[0]
        (beside / name if name.endswith("/") else beside).mkdir(parents=True)
        if not name.endswith("/"):
            (beside / name).write_text("mine")
        with pytest.raises(ValueError, match=f"holds {name.strip('/')}"):
            model.save_pretrained(beside)
        assert (beside / name).exists()
    model.head.to(torch.bfloat16)
    with pytest.raises(ValueError, match="bfloat16, float32"):
        model.save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match="meta"):
        ViT(ViTConfig.tiny()).to("meta").save_pretrained(tmp_path / "vit")


def test_pictures_of_a_vit_are_described_where_they_are_known(tmp_path):
    ViT(ViTConfig.tiny()).save_pretrained(tmp_path / "vit", image_mean=(0.5, 0.5, 0.5), image_std=(0.5, 0.5, 0.5))
    values = json.loads((tmp_path / "vit" / "preprocessor_config.json").read_text())
    assert values["size"] == {"height": 32, "width": 32} and values["image_mean"] == [0.5, 0.5, 0.5]
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "vit")(Image.new("RGB", (40, 40), "white"), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32) and (pixels == 1).all()
    for mean, std in (((0.5,) * 3, None), (None, (0.5,) * 3), ((0.5,), (0.5,)), ((0.5,) * 3, (0.5,) * 4)):
        with pytest.raises(ValueError, match="image_mean and image_std need one number for each of 3 channels, or neither"):
            ViT(ViTConfig.tiny()).save_pretrained(tmp_path / "other", mean, std)
    assert not (tmp_path / "other").exists()


def test_a_folder_of_transformers_is_written_again_as_it_was(tmp_path):
    """Read and written, every tensor is under the name and in the shape in which transformers wrote it."""
    tiny_mllama().save_pretrained(tmp_path / "theirs")
    LlamaVision.from_pretrained(tmp_path / "theirs", reference="transformers").save_pretrained(tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_a_device_may_be_named(tmp_path):
    folder = ViT(ViTConfig.tiny()).save_pretrained(tmp_path / "vit")
    assert {str(p.device) for p in ViT.from_pretrained(folder, device="meta").parameters()} == {"meta"}
    assert {str(p.device) for p in ViT.from_pretrained(folder, device=torch.device("cpu")).parameters()} == {"cpu"}
    with pytest.raises(ValueError, match="device 'gpu'"):
        ViT.from_pretrained(folder, device="gpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_halves_compute_what_the_whole_does(dtype, tmp_path):
    """Each model saved in float32 and opened in two bytes a number, on the processor; differences are those of the shorter numbers."""
    images, ids = torch.rand(1, 3, 32, 32), torch.tensor([[1, 7, 9, 3]])
    seen = torch.tensor([[1, *[2] * 16, 7, 9]])
    vision = LlamaVision(LlamaVisionConfig.tiny(50, reference="transformers"))
    tiles = vision.prepare_tiles([[FOUR]])
    cases = {
        ViT: (ViT(ViTConfig.tiny()), lambda model, kind: model(images.to(kind)), {}),
        CLIP: (CLIP(CLIPConfig.tiny()), lambda model, kind: model(images.to(kind), ids), {}),
        LanguageModel: (LanguageModel(LanguageModelConfig.tiny(50)), lambda model, kind: model(ids), {}),
        UnifiedMLLM: (UnifiedMLLM(UnifiedConfig.tiny(50)), lambda model, kind: model(seen, images.to(kind)), {}),
        LlamaVision: (vision, lambda model, kind: model(torch.tensor([[1, 2, 5]]), tiles), dict(reference="transformers")),
    }
    for kind, (model, run, options) in cases.items():
        folder = randomise(model, std=0.1).save_pretrained(tmp_path / kind.__name__)
        half, whole = run(kind.from_pretrained(folder, dtype=dtype, **options), dtype), run(model, torch.float32)
        assert half.dtype == dtype
        close(half.float(), whole, 0.01 if dtype == torch.float16 else 0.08)


@pytest.mark.parametrize("kind", [UnifiedMLLM, LlamaVision])
def test_a_model_of_pictures_keeps_all_end_tokens(kind, tmp_path):
    config = UnifiedConfig.tiny(60, image_token_id=4) if kind is UnifiedMLLM else LlamaVisionConfig.tiny(60, reference="transformers")
    model = kind(replace(config, language=replace(config.language, eos_token_id=(7, 8), pad_token_id=1)))
    model.save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    assert json.loads(path.read_text()) == {"bos_token_id": config.language.start_token_id, "eos_token_id": [7, 8], "pad_token_id": 1}
    options = {} if kind is UnifiedMLLM else {"reference": "transformers"}
    assert kind.from_pretrained(tmp_path, **options).config.language.eos_token_id == (7, 8)
    path.write_text(json.dumps({"eos_token_id": [9, 10]}))
    language = kind.from_pretrained(tmp_path, **options).config.language
    assert (language.eos_token_id, language.pad_token_id) == ((9, 10), 1)
