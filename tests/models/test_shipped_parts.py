"""A checkpoint that leaves out what others bring: a released language model, an image encoder of the course."""

from dataclasses import replace

import pytest
import torch

from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModel,
    LanguageModelConfig,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    load,
    save,
)
from minimllm.models import shipped
from minimllm.weights.tensors import read_json, read_tensors

TOKENIZER = Tokenizer.from_words(["zebra", "what", "this", "is", "?"])
LANGUAGE = replace(LanguageModelConfig.tiny(TOKENIZER.vocab_size), tied=True, layers=3)
PARTS = {"language_model": "tiny-talker", "vision": "vit"}


@pytest.fixture
def talker(tmp_path, monkeypatch) -> LanguageModel:
    """A released language model, of the smallest kind."""
    model = LanguageModel(LANGUAGE, seed=7)
    folder = model.save_pretrained(tmp_path / "talker", TOKENIZER)
    monkeypatch.setitem(shipped.RELEASES, "tiny-talker", None)
    monkeypatch.setattr(shipped, "released", lambda name: folder)
    return model


def built(talker: LanguageModel, cross: bool = False) -> UnifiedMLLM | CrossAttentionMLLM:
    encoder, _ = load("vit")
    settings = dict(feature_layer=-1, projector="linear", projector_bias=False, merge=4, final_norm=not cross)
    if cross:
        config = CrossAttentionConfig(encoder.config, LANGUAGE, 2, (0, 2), cross_mlp=False, **settings)
        model = CrossAttentionMLLM(config, seed=3)
    else:
        model = UnifiedMLLM(UnifiedConfig(encoder.config, LANGUAGE, 2, **settings), seed=3)
    model.copy_encoder(encoder).language_model.load_state_dict(talker.state_dict())
    for parameter in (*model.projector.parameters(), *getattr(model, "cross_blocks", torch.nn.ModuleList()).parameters()):
        torch.nn.init.normal_(parameter, std=0.03, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.eval()


@pytest.mark.parametrize("cross", [False, True])
def test_only_what_is_new_is_written_and_all_comes_back(tmp_path, talker, cross):
    model = built(talker, cross)
    folder = save(tmp_path / "saved", model, None, {"what": "a test"}, PARTS)
    written = [name for name, _, _ in read_tensors(folder)]
    assert written and not any(name.startswith(("language_model.", "vision.")) for name in written)
    assert read_json(folder / "config.json")["parts"] == PARTS
    again, tokenizer = load(folder)
    assert type(again) is type(model) and again.config == model.config and not again.training
    assert again.language_model.head.weight is again.language_model.tokens.weight
    ids = torch.tensor([[2] * model.image_tokens + [7, 5, 6]])
    images = torch.rand(1, 3, *model.config.vision.size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(again(ids, images), model(ids, images), atol=1e-5, rtol=1e-5)  # other pages, other rounding
    assert tokenizer.convert_ids_to_tokens(model.image_token_id) == TOKENIZER.words[2]
    learns = {name.split(".")[0] for name, parameter in again.named_parameters() if parameter.requires_grad}
    assert learns == ({"projector", "cross_blocks"} if cross else {"projector"})


def test_half_the_space(tmp_path, talker):
    model = built(talker)
    folder = save(tmp_path / "saved", model, None, {}, PARTS, dtype=torch.bfloat16)
    assert {tensor.dtype for _, tensor, _ in read_tensors(folder)} == {torch.bfloat16}
    weight = load(folder)[0].projector.down.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, model.projector.down.weight.bfloat16().float())


def test_a_part_that_was_trained_is_not_left_out(tmp_path, talker):
    model = built(talker)
    with torch.no_grad():
        model.language_model.blocks[1].mlp.up.weight[0, 0] += 1
    with pytest.raises(ValueError, match=r"language_model\.blocks\.1\.mlp\.up\.weight is not that of 'tiny-talker'"):
        save(tmp_path / "saved", model, None, {}, PARTS)
    assert not (tmp_path / "saved").exists()
    folder = save(tmp_path / "saved", model, None, {}, {"vision": "vit"})
    assert torch.equal(load(folder)[0].language_model.blocks[1].mlp.up.weight, model.language_model.blocks[1].mlp.up.weight)


@pytest.mark.parametrize(
    "parts, words",
    [
        ({"language_model": "no such"}, "no weights 'no such' are known"),
        ({"language_model": "vit"}, "'vit' does not fit as the model's language_model: tokens.weight is missing"),
        ({"vision": "vit", "language_model": "tiny-talker", "projector": "vit"}, "'vit' does not fit as the model's projector"),
    ],
)
def test_a_part_that_does_not_fit(tmp_path, talker, parts, words):
    folder = save(tmp_path / "saved", built(talker), None, {}, PARTS)
    values = read_json(folder / "config.json")
    shipped.write_json(folder / "config.json", values | {"parts": parts})
    if "vision" not in parts:
        (folder / "model.safetensors").unlink()
        save(tmp_path / "other", built(talker), None, {}, {"language_model": "tiny-talker"})
        (tmp_path / "other" / "model.safetensors").rename(folder / "model.safetensors")
    else:
        held = {name: tensor for name, tensor, _ in read_tensors(folder) if not name.startswith("projector.")}
        (folder / "model.safetensors").unlink()
        shipped.write_tensors(folder / "model.safetensors", held)
    with pytest.raises(ValueError, match=words):
        load(folder)


def test_a_tied_model_of_which_the_encoder_alone_is_left_out(tmp_path, talker):
    model = built(talker)
    again, _ = load(save(tmp_path / "saved", model, None, {}, {"vision": "vit"}))
    assert again.language_model.head.weight is again.language_model.tokens.weight
    ids, images = torch.tensor([[2] * model.image_tokens + [7, 5]]), torch.rand(1, 3, *model.config.vision.size)
    torch.testing.assert_close(again(ids, images), model(ids, images), atol=1e-5, rtol=1e-5)


def test_counts_stay_whole_numbers_in_another_type(tmp_path):
    model = CLIP(CLIPConfig.tiny_resnet())
    again, _ = load(save(tmp_path / "saved", model, None, {}, dtype=torch.bfloat16))
    counted = {name for name, tensor in again.state_dict().items() if not tensor.is_floating_point()}
    assert counted and all("num_batches_tracked" in name for name in counted)


@pytest.mark.parametrize("parts", [None, 3, ["vision"], {"vision": 3}, {"nope": "vit"}])
def test_parts_that_are_none(tmp_path, talker, parts):
    folder = save(tmp_path / "saved", built(talker), None, {}, PARTS)
    shipped.write_json(folder / "config.json", read_json(folder / "config.json") | {"parts": parts})
    with pytest.raises(ValueError, match="has parts"):
        load(folder)
