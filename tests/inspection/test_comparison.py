"""The comparison of two models names the layer at which a planted difference comes in."""

import copy
from types import MethodType

import pytest
import torch
from support import randomise
from test_clip_parity import texts, transformers_clip
from test_language_model import ids_of, pair
from test_unified import rows_of, transformers_llava
from test_vit import transformers_model
from tiny_llama_vision import FOUR, ONE, batch, inputs_of
from tiny_llama_vision import theirs as tiny_mllama

from minimllm import CLIP, LlamaVision, UnifiedMLLM, ViT, ViTConfig
from minimllm.inspection.comparison import compare_layers
from minimllm.layers.blocks import quick_gelu
from minimllm.models import clip, language_model, llava, vit
from minimllm.models.llama_vision.names import weight_names

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def encode(model):
    return model.encode(IMAGES)


@pytest.fixture(scope="module")
def vits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    theirs = transformers_model(folder)
    return ViT.from_pretrained(folder), theirs


def compare(ours, theirs):
    return compare_layers(ours, theirs, encode, lambda model: model(IMAGES), names=vit.WEIGHT_NAMES)


def test_equal_models_agree_at_every_layer(vits):
    comparison = compare(*vits)
    assert comparison.first is None and str(comparison).startswith("all 25 layers agree; the largest difference is")
    assert len(comparison.layers) == 26, "the kernel of the patches is called in both, and has another shape"
    assert comparison.layers[0].outputs is None and comparison.layers[1].name == "blocks.0.attention_norm"


def test_every_architecture_is_compared_by_its_own_table(tmp_path):
    theirs = transformers_clip(tmp_path / "clip")
    ids, mask = texts([4, 6])
    both = lambda model: model(IMAGES, ids, mask)  # noqa: E731
    comparison = compare_layers(
        CLIP.from_pretrained(tmp_path / "clip"),
        theirs,
        both,
        lambda model: model(input_ids=ids, pixel_values=IMAGES, attention_mask=mask),
        names=clip.WEIGHT_NAMES,
    )
    assert comparison.first is None and len([layer for layer in comparison.layers if layer.outputs is not None]) > 30

    theirs, ours = pair(tmp_path / "llama")
    comparison = compare_layers(ours, theirs, lambda model: model(ids_of()), names=language_model.LLAMA_NAMES)
    assert comparison.first is None and comparison.layers[0].name == "tokens" and comparison.layers[-1].name == "head"

    theirs = transformers_llava(tmp_path / "llava")
    ids, images, mask = rows_of("2 I 3")
    comparison = compare_layers(
        UnifiedMLLM.from_pretrained(tmp_path / "llava"),
        theirs,
        lambda model: model(ids, images, mask),
        lambda model: model(input_ids=ids, pixel_values=images, attention_mask=mask),
        names=llava.WEIGHT_NAMES,
    )
    # The embedding of a placeholder differs, and is overwritten in both.
    assert [layer.name for layer in comparison.layers if layer.outputs and layer.outputs > 1e-4] in ([], ["language_model.tokens"])

    theirs = tiny_mllama()
    theirs.save_pretrained(tmp_path / "mllama")
    ids, mask, tiles = batch(("ItItt", [FOUR, ONE]))
    for reference, first in (("transformers", None), ("meta", "projector")):
        ours = LlamaVision.from_pretrained(tmp_path / "mllama", reference=reference)
        comparison = compare_layers(
            ours,
            theirs,
            lambda model: model(ids, tiles, mask),
            lambda model: model(**inputs_of(ids, mask, tiles)),
            names=weight_names(ours.config),
        )
        assert (comparison.first and comparison.first.name) == first, "the collected states are the first of the two departures"


def changed(model, change):
    model = copy.deepcopy(model)
    change(model)
    return model


def other_activation(model):
    model.blocks[1].mlp.activation = quick_gelu


def no_residual(model):
    block = model.blocks[1]
    block.forward = MethodType(
        lambda self, x, mask=None, keep=None: x + self.mlp(self.mlp_norm(self.attention(self.attention_norm(x)))), block
    )


PLANTED = {
    "a weight": ("blocks.1.attention.key", True, lambda model: model.blocks[1].attention.key.weight.data[3, 5].add_(0.5)),
    "a bias": ("blocks.2.mlp.down", True, lambda model: model.blocks[2].mlp.down.bias.data.mul_(1.1)),
    "an epsilon": ("blocks.0.mlp_norm", True, lambda model: setattr(model.blocks[0].mlp_norm, "eps", 0.1)),
    "the final norm": ("norm", True, lambda model: model.norm.weight.data.mul_(1.01)),
    "the positions": ("blocks.0.attention_norm", False, lambda model: model.positions.table.data.mul_(1.3)),
    "the class token": ("blocks.0.attention_norm", False, lambda model: model.class_token.data.mul_(1.3)),
    "the activation": ("blocks.1.mlp.down", False, other_activation),
    "the residual": ("blocks.1.mlp_norm", False, no_residual),
    "heads swapped": (
        "blocks.2.attention.value",
        True,
        lambda model: model.blocks[2].attention.value.weight.data.copy_(model.blocks[2].attention.value.weight.data.flip(0)),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_difference_is_found_where_it_is(fault, vits):
    name, inside, change = PLANTED[fault]
    comparison = compare(changed(vits[0], change), vits[1])
    assert comparison.first.name == name
    if inside:
        assert comparison.first.inputs < 1e-4 and "What goes into it is equal" in str(comparison)
    else:
        assert comparison.first.inputs > 1e-4 and "What goes into it differs already" in str(comparison)


def test_the_words_name_both_layers_and_where_to_look(vits):
    text = str(compare(changed(vits[0], other_activation), vits[1]))
    assert "blocks.1.mlp.down (vit.layers.1.mlp.fc2) is the first that differs" in text
    assert text.endswith("look at what is computed between blocks.1.mlp.up and it")


def test_a_not_finite_number_is_a_difference(vits):
    model = changed(vits[0], lambda model: model.blocks[1].mlp.up.weight.data[0, 0].fill_(float("nan")))
    assert compare(model, vits[1]).first.name == "blocks.1.mlp.up"


def test_two_models_of_ours_need_no_table_and_stay_as_they_are():
    model = randomise(ViT(ViTConfig.tiny()))
    other = changed(model, lambda model: model.blocks[2].mlp_norm.weight.data.mul_(1.1))
    images = torch.rand(1, 3, 32, 32)
    before = model(images)
    assert compare_layers(model, other, lambda model: model(images)).first.name == "blocks.2.mlp_norm"
    assert compare_layers(model, model, lambda model: model(images)).first is None
    assert torch.equal(model(images), before) and not any(module._forward_hooks for module in model.modules())


def test_models_without_common_layers_are_refused(vits):
    with pytest.raises(ValueError, match="give the table of names"):
        compare_layers(*vits, encode, lambda model: model(IMAGES))
