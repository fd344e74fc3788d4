"""The ViT: equal to transformers and timm on random weights, invariant where it should be, and clear about bad input."""

import pytest
import timm
import torch
from support import largest_difference, randomise, unchecked
from transformers import SiglipVisionConfig, SiglipVisionModel, ViTForImageClassification
from transformers import ViTConfig as TheirConfig

from minimllm import ViT, ViTConfig

SMALL = ViTConfig(image_size=16, patch_size=4, dim=32, layers=3, heads=4, mlp_dim=64, classes=5)


def transformers_model(folder, dtype=torch.float32, seed=0, **changes):
    """A random ViT of transformers, saved to ``folder``."""
    sizes = dict(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=16, patch_size=4, num_labels=5
    )
    model = randomise(ViTForImageClassification(TheirConfig(**sizes | changes)), seed).to(dtype)
    model.save_pretrained(folder)
    return model


VARIANTS = {
    "plain": {},
    "one layer, one head": {"num_hidden_layers": 1, "num_attention_heads": 1},
    "grey images": {"num_channels": 1},
    "a wide image": {"image_size": [8, 24]},
    "no query, key, value bias": {"qkv_bias": False},
    "quick gelu": {"hidden_act": "quick_gelu"},
    "relu": {"hidden_act": "relu"},
    "gelu by tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "a large epsilon": {"layer_norm_eps": 0.1},
    "patches of one pixel": {"image_size": 4, "patch_size": 1},
    "one patch": {"image_size": 4},
    "two classes by default": {"num_labels": 2},
}


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(variant, dtype, tolerance, tmp_path):
    theirs = transformers_model(tmp_path, dtype, **VARIANTS[variant])
    ours = ViT.from_pretrained(tmp_path)
    height, width = ours.config.size
    images = torch.randn(2, ours.config.channels, height, width, dtype=dtype)
    expected = theirs(images, output_hidden_states=True)
    assert ours.norm.weight.dtype == dtype, "the dtype of the files is kept"
    assert largest_difference(ours(images), expected.logits) < tolerance
    assert largest_difference(ours.encode(images), theirs.vit(images).last_hidden_state) < tolerance


def test_without_a_class_token_equals_siglip():
    """The encoder of SigLIP, and of SmolVLM: patches alone, all of them normed at the end."""
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=24, patch_size=8)
    theirs = randomise(SiglipVisionModel(SiglipVisionConfig(**sizes, vision_use_head=False)), 1).eval()
    config = ViTConfig(24, 8, dim=32, layers=2, heads=4, mlp_dim=48, classes=3, activation="gelu_pytorch_tanh", class_token=False)
    ours, parts = ViT(config), {}
    names = {"layer_norm1": "attention_norm", "layer_norm2": "mlp_norm", "self_attn.out_proj": "attention.output"}
    names |= {f"self_attn.{short}_proj": f"attention.{long}" for short, long in (("q", "query"), ("k", "key"), ("v", "value"))}
    names |= {"mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down", "encoder.layers": "blocks", "post_layernorm": "norm"}
    names |= {"embeddings.patch_embedding": "patches.projection", "embeddings.position_embedding.weight": "positions.table"}
    for name, tensor in theirs.state_dict().items():
        name = name.removeprefix("vision_model.")
        for old, new in names.items():
            name = name.replace(old, new)
        parts[name] = tensor.flatten(1) if tensor.ndim == 4 else tensor
    missing, unexpected = ours.load_state_dict(parts, strict=False)
    assert not unexpected and set(missing) == {"head.weight", "head.bias"}
    images = torch.randn(3, 3, 24, 24)
    assert ours.encode(images).shape == (3, 9, 32)
    assert largest_difference(ours.encode(images), theirs(images).last_hidden_state) < 1e-5
    assert largest_difference(ours(images), ours.head(ours.encode(images).mean(1))) < 1e-6
    with pytest.raises(ValueError, match="class_token = False"):
        ours.save_pretrained("never written")


@pytest.mark.parametrize("size", [(16, 16), (24, 24), (8, 32), (4, 4)])
def test_interpolated_positions_equal_transformers(size, tmp_path):
    theirs = transformers_model(tmp_path)
    images = torch.randn(2, 3, *size)
    expected = theirs(images, interpolate_pos_encoding=True).logits
    assert largest_difference(ViT.from_pretrained(tmp_path)(images, interpolate=True), expected) < 1e-5


def test_gradients_equal_transformers(tmp_path):
    theirs = transformers_model(tmp_path, torch.float64)
    ours, images = ViT.from_pretrained(tmp_path), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for logits in (theirs(images).logits, ours(images)):
        torch.nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    pairs = {
        "patches.projection.weight": theirs.vit.embeddings.patch_embeddings.projection.weight.grad.flatten(1),
        "positions.table": theirs.vit.embeddings.position_embeddings.grad[0],
        "blocks.0.attention.key.weight": theirs.vit.layers[0].attention.k_proj.weight.grad,
        "blocks.2.mlp.up.bias": theirs.vit.layers[2].mlp.fc1.bias.grad,
        "head.weight": theirs.classifier.weight.grad,
    }
    for name, expected in pairs.items():
        assert largest_difference(ours.get_parameter(name).grad, expected) < 1e-9, name


def test_equals_timm():
    """timm stacks query, key and value in one matrix, in this order."""
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=32, depth=3, num_heads=4, mlp_ratio=2, num_classes=5
    )
    randomise(theirs)
    ours, state = ViT(SMALL), theirs.state_dict()
    weights = {
        "class_token": state["cls_token"][0, 0],
        "positions.table": state["pos_embed"][0],
        "patches.projection.weight": state["patch_embed.proj.weight"].flatten(1),
        "patches.projection.bias": state["patch_embed.proj.bias"],
    }
    parts = {"norm1": "attention_norm", "norm2": "mlp_norm", "attn.proj": "attention.output", "mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down"}
    for kind in ("weight", "bias"):
        weights |= {f"norm.{kind}": state[f"norm.{kind}"], f"head.{kind}": state[f"head.{kind}"]}
        for i in range(3):
            weights |= {f"blocks.{i}.{ours}.{kind}": state[f"blocks.{i}.{theirs}.{kind}"] for theirs, ours in parts.items()}
            for name, part in zip(("query", "key", "value"), state[f"blocks.{i}.attn.qkv.{kind}"].chunk(3), strict=True):
                weights[f"blocks.{i}.attention.{name}.{kind}"] = part
    ours.load_state_dict(weights)
    images = torch.randn(2, 3, 16, 16)
    assert largest_difference(ours(images), theirs(images)) < 1e-5
    assert largest_difference(ours.encode(images), theirs.forward_features(images)) < 1e-5


def test_planted_errors_are_seen(tmp_path):
    """The parity test can fail: each small departure moves the logits by far more than its tolerance."""
    theirs = transformers_model(tmp_path)
    images = torch.randn(2, 3, 16, 16)
    expected = theirs(images).logits

    def difference(change):
        model = ViT.from_pretrained(tmp_path)
        with torch.no_grad():
            change(model)
            return largest_difference(model(images), expected)

    def tanh_gelu(model):
        for block in model.blocks:
            block.mlp.activation = lambda x: torch.nn.functional.gelu(x, approximate="tanh")

    assert difference(lambda model: None) < 1e-5
    assert difference(tanh_gelu) > 1e-4
    assert difference(lambda model: model.positions.table.copy_(model.positions.table.roll(1, 0))) > 1e-2
    assert difference(lambda model: setattr(model.norm, "eps", 1e-2)) > 1e-4
    pixels_first = "patches.projection.weight"
    assert difference(lambda m: m.get_parameter(pixels_first).copy_(m.get_parameter(pixels_first).view(32, 3, 16).mT.flatten(1))) > 1e-2


@pytest.mark.parametrize(
    "preset,parameters",
    [("base_16", 86_567_656), ("large_16", 304_326_632), ("huge_14", 632_045_800), ("tiny", 356_938), ("digits", 338_890)],
)
def test_presets_have_the_published_sizes(preset, parameters):
    with torch.device("meta"):
        model = ViT(getattr(ViTConfig, preset)())
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_dropping_tokens_in_the_last_block_changes_nothing_that_is_kept():
    model, images = randomise(ViT(SMALL)).double(), torch.randn(2, 3, 16, 16).double()
    tokens = model.encode(images)
    for keep in (1, 3, 17):
        assert largest_difference(model.encode(images, keep=keep), tokens[:, :keep]) < 1e-12
    assert largest_difference(model(images), model.head(tokens[:, 0])) < 1e-12


def test_a_batch_equals_its_rows_and_a_seed_its_weights():
    model, images = randomise(ViT(SMALL)), torch.randn(3, 3, 16, 16)
    assert largest_difference(model(images), torch.cat([model(image[None]) for image in images])) < 1e-5
    state = torch.get_rng_state()
    a, b, c = ViT(SMALL, seed=1), ViT(SMALL, seed=1), ViT(SMALL, seed=2)
    assert torch.equal(torch.get_rng_state(), state), "the global random state is untouched"
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.class_token, c.class_token)


def test_without_positions_the_order_of_patches_is_invisible():
    model, images = randomise(ViT(SMALL)).double(), torch.randn(1, 3, 16, 16).double()
    swapped = torch.cat([images[..., 8:], images[..., :8]], dim=-1)
    assert largest_difference(model(images), model(swapped)) > 1e-2
    with torch.no_grad():
        model.positions.table.zero_()
    assert largest_difference(model(images), model(swapped)) < 1e-12


BAD_IMAGES = {
    "another size": (torch.zeros(1, 3, 20, 16), "16 x 16 pixels and got 20 x 16"),
    "channels": (torch.zeros(1, 4, 16, 16), "3 channels, got 4"),
    "integers": (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "uint8"),
    "an empty batch": (torch.zeros(0, 3, 16, 16), "empty batch"),
    "one image alone": (torch.zeros(3, 16, 16), "batch dimension"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_get_clear_errors(case):
    images, message = BAD_IMAGES[case]
    with unchecked(), pytest.raises(ValueError, match=message):
        ViT(SMALL)(images)
    with unchecked(), pytest.raises(ValueError, match="18 x 16"):
        ViT(SMALL)(torch.zeros(1, 3, 18, 16), interpolate=True)


def test_bad_configs_get_clear_errors():
    for changes, message in [
        ({"image_size": 30}, "30 x 30"),
        ({"heads": 5}, "5 heads"),
        ({"layers": 0}, "layers"),
        ({"classes": -1}, "classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            ViT(ViTConfig.tiny(**changes))
    with pytest.raises(ValueError, match="swish"):
        ViT(ViTConfig.tiny(activation="swish"))
