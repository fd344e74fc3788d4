"""CLIP against transformers and open_clip on random weights: embeddings, logits, the loss and its gradients."""

import json
from dataclasses import replace

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support import largest_difference, randomise
from torch import nn
from transformers import CLIPConfig as TheirConfig
from transformers import CLIPModel

from minimllm import CLIP, CLIPConfig, ResNetConfig, TextConfig, contrastive_loss
from minimllm.models.clip import WEIGHT_NAMES
from minimllm.models.clip_config import clip_vit
from minimllm.weights.pretrained import file_names

START, END, VOCABULARY = 97, 98, 99
SIZES = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)


def transformers_clip(folder, dtype=torch.float32, seed=0, text=None, vision=None, **changes):
    """A random CLIPModel of transformers, saved to ``folder``."""
    text = SIZES | dict(vocab_size=VOCABULARY, bos_token_id=START, eos_token_id=END, pad_token_id=END) | (text or {})
    vision = SIZES | dict(image_size=16, patch_size=4) | (vision or {})
    model = CLIPModel(TheirConfig(text_config=text, vision_config=vision, **dict(projection_dim=24) | changes))
    model = randomise(model, seed).to(dtype)
    model.save_pretrained(folder)
    return model


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def texts(lengths, pad=END, seed=0, vocabulary=START):
    """Random texts between start and end, padded behind: ids and mask."""
    generator = torch.Generator().manual_seed(seed)
    ids, mask = torch.full((len(lengths), max(lengths)), pad), torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, vocabulary, (length,), generator=generator)
        ids[row, 0], ids[row, length - 1], mask[row, :length] = START, END, 1
    return ids, mask


VARIANTS = {
    "plain": {},
    "gelu, as the LAION models": {"text": {"hidden_act": "gelu"}, "vision": {"hidden_act": "gelu"}},
    "gelu in one encoder": {"vision": {"hidden_act": "gelu"}},
    "the old end token": {"text": {"eos_token_id": 2}},
    "one layer, one head": {"text": {"num_hidden_layers": 1, "num_attention_heads": 1}, "vision": {"num_hidden_layers": 1}},
    "encoders of unequal width": {"text": {"hidden_size": 16, "intermediate_size": 40}, "projection_dim": 48},
    "epsilons": {"text": {"layer_norm_eps": 0.1}, "vision": {"layer_norm_eps": 1e-3}},
    "grey images": {"vision": {"num_channels": 1}},
    "one patch": {"vision": {"patch_size": 16}},
}


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transformers(variant, dtype, tolerance, tmp_path):
    theirs = transformers_clip(tmp_path, dtype, **VARIANTS[variant])
    ours = CLIP.from_pretrained(tmp_path)
    ids, mask = texts([3, 8, 5, 4, 7, 6])
    channels, size = ours.config.image.channels, ours.config.image.image_size
    images = torch.randn(6, channels, size, size, dtype=dtype)
    for given in (None, mask, mask.bool()):
        expected = theirs(input_ids=ids, pixel_values=images, attention_mask=given, return_loss=True)
        logits = ours(images, ids, given)
        assert logits.dtype == dtype, "the dtype of the files is kept"
        assert largest_difference(ours.encode_image(images), expected.image_embeds) < tolerance
        assert largest_difference(ours.encode_text(ids, given), expected.text_embeds) < tolerance
        assert largest_difference(logits, expected.logits_per_image) < tolerance * 10  # the scale is near 14
        assert abs(contrastive_loss(logits) - expected.loss) < tolerance


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    theirs = transformers_clip(folder)
    return theirs, CLIP.from_pretrained(folder), folder


@pytest.mark.parametrize("length", range(3, 78))
def test_every_length_of_text(length, pair):
    theirs, ours, _ = pair
    ids, mask = texts([length, 3, length // 2 + 2], seed=length)
    expected = theirs.get_text_features(ids, mask).pooler_output
    assert largest_difference(ours.text_projection(ours.text_encoder(ids, mask)), expected) < 1e-5


UNUSUAL = {
    "no end token": ([[START, 5, 6, 7], [START, 5, 6, END]], None),
    "no end token, padded on the left": ([[0, 0, 5, 6], [START, 5, 6, END]], [[0, 0, 1, 1], [1, 1, 1, 1]]),
    "padded on the left": ([[0, 0, START, 5, END], [START, 5, 6, 7, END]], [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
    "padded on the left with end tokens": ([[END, END, START, 5, END], [START, 5, 6, 7, END]], [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
    "two end tokens": ([[START, 5, END, 6, END], [START, END, END, 6, 7]], None),
    "a hole in the mask": ([[START, 5, 6, 7, END]], [[1, 0, 1, 0, 1]]),
    "one token": ([[END]], None),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_texts_equal_transformers(case, pair):
    theirs, ours, _ = pair
    ids, mask = UNUSUAL[case]
    ids, mask = torch.tensor(ids), None if mask is None else torch.tensor(mask)
    expected = F.normalize(theirs.get_text_features(ids, mask).pooler_output, dim=-1)
    assert largest_difference(ours.encode_text(ids, mask), expected) < 1e-5


def test_padding_behind_changes_nothing(pair):
    _, ours, _ = pair
    ids, mask = texts([8, 5, 3])
    alone = torch.cat([ours.encode_text(row[None, :length]) for row, length in zip(ids, [8, 5, 3], strict=True)])
    garbled = torch.where(mask.bool(), ids, torch.randint(1, START, ids.shape))
    for batch in (ours.encode_text(ids), ours.encode_text(ids, mask), ours.encode_text(garbled), ours.encode_text(garbled, mask)):
        assert largest_difference(batch, alone) < 1e-6


@pytest.mark.parametrize("images,lines", [(1, 1), (1, 5), (5, 1), (2, 3)])
def test_any_number_of_images_meets_any_number_of_texts(images, lines, pair):
    theirs, ours, _ = pair
    pixels, (ids, mask) = torch.randn(images, 3, 16, 16), texts([4] * lines)
    expected = theirs(input_ids=ids, pixel_values=pixels, attention_mask=mask).logits_per_image
    assert ours(pixels, ids, mask).shape == (images, lines)
    assert largest_difference(ours(pixels, ids, mask), expected) < 1e-4


def test_the_temperature_is_not_clamped_in_forward(tmp_path):
    theirs = transformers_clip(tmp_path)
    with torch.no_grad():
        theirs.logit_scale.fill_(10)
    theirs.save_pretrained(tmp_path)
    pixels, (ids, _) = torch.randn(2, 3, 16, 16), texts([4, 6])
    logits = CLIP.from_pretrained(tmp_path)(pixels, ids)
    assert logits.abs().max() > 200
    assert largest_difference(logits, theirs(input_ids=ids, pixel_values=pixels).logits_per_image) / logits.abs().max() < 1e-5


def test_gradients_of_every_parameter_equal_transformers(tmp_path):
    theirs = transformers_clip(tmp_path, torch.float64)
    ours, named = CLIP.from_pretrained(tmp_path), dict(theirs.named_parameters())
    images, (ids, mask) = torch.randn(6, 3, 16, 16, dtype=torch.float64), texts([3, 8, 5, 4, 7, 6])
    theirs(input_ids=ids, pixel_values=images, attention_mask=mask, return_loss=True).loss.backward()
    contrastive_loss(ours(images, ids, mask)).backward()
    seen = set()
    for name, parameter in ours.named_parameters():
        (their_name,) = file_names(name, WEIGHT_NAMES)
        expected = named[their_name].grad
        assert largest_difference(parameter.grad, expected.reshape(parameter.shape)) < 1e-9, name
        assert expected.abs().max() > 1e-12 or name.endswith("attention.key.bias"), f"{name} is not tested: its gradient is zero"
        seen.add(their_name)
    assert seen == set(named)


def test_half_precision_on_request(pair):
    _, ours, folder = pair
    half = CLIP.from_pretrained(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    images, (ids, _) = torch.randn(2, 3, 16, 16), texts([4, 6])
    assert largest_difference(half(images.bfloat16(), ids).float(), ours(images, ids)) < 1


# ---- folders ----


def edit_config(folder, **changes):
    values = json.loads((folder / "config.json").read_text())
    for path, value in changes.items():
        *sections, key = path.split("__")
        part = values
        for section in sections:
            part = part[section]
        if value is ...:
            part.pop(key, None)
        else:
            part[key] = value
    (folder / "config.json").write_text(json.dumps(values))


def test_options_at_their_defaults_may_be_left_out(tmp_path):
    base = dict(num_hidden_layers=1, intermediate_size=8)
    text = base | dict(hidden_size=512, num_attention_heads=8, vocab_size=49408, bos_token_id=49406, eos_token_id=49407)
    theirs = transformers_clip(
        tmp_path, text=text, vision=base | dict(hidden_size=768, num_attention_heads=12, patch_size=32, image_size=224)
    )
    kept = {"num_hidden_layers", "intermediate_size"}
    values = json.loads((tmp_path / "config.json").read_text())
    for name in ("text_config", "vision_config"):
        values[name] = {key: value for key, value in values[name].items() if key in kept}
    (tmp_path / "config.json").write_text(json.dumps(values))
    images, ids = torch.randn(1, 3, 224, 224), torch.tensor([[49406, 7, 8, 49407, 9]])
    expected = theirs(input_ids=ids, pixel_values=images).logits_per_image
    assert largest_difference(CLIP.from_pretrained(tmp_path)(images, ids), expected) < 1e-4


def test_the_doubled_sections_of_old_files(tmp_path):
    """openai/clip-vit-large-patch14 carries text_config_dict; transformers takes it, with defaults for what it leaves out."""
    transformers_clip(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    edit_config(tmp_path, text_config_dict=values["text_config"], text_config__num_hidden_layers=7, vision_config_dict=None)
    images, (ids, _) = torch.randn(2, 3, 16, 16), texts([4, 6])
    expected = CLIPModel.from_pretrained(tmp_path)(input_ids=ids, pixel_values=images).logits_per_image
    assert largest_difference(CLIP.from_pretrained(tmp_path)(images, ids), expected) < 1e-4


def test_stale_buffers_are_tolerated_and_normalisation_is_read(tmp_path):
    transformers_clip(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert CLIP.from_pretrained(tmp_path).config.image_mean == CLIPConfig.base_32().image_mean
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}))
    config = CLIP.from_pretrained(str(tmp_path)).config
    assert (config.image_mean, config.image_std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"text_config__hidden_act": "gelu_new"}, "hidden_act = 'gelu_new'"),
        ({"vision_config__hidden_act": "swish"}, "hidden_act = 'swish'"),
        ({"vision_config__patch_size": [4, 2]}, r"patch_size = \[4, 2\]"),
        ({"text_config__eos_token_id": [97, 98]}, r"eos_token_id = \[97, 98\]"),
        ({"text_config__num_attention_heads": 5}, "5 heads"),
        ({"text_config": "wide"}, "text_config = 'wide'"),
        ({"model_type": "siglip"}, "model_type 'siglip', expected 'clip'"),
        ({"model_type": ...}, "model_type None"),
        ({"text_config__num_hidden_layers": 1}, "unexpected: text_model.encoder.layers.1"),
        ({"projection_dim": 25}, r"visual_projection.weight is torch.float32 \(24, 32\)|text_projection.weight"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(changes, message, tmp_path):
    transformers_clip(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        CLIP.from_pretrained(tmp_path)


def test_a_missing_tensor_is_named_as_in_the_file(tmp_path):
    transformers_clip(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("vision_model.pre_layrnorm.weight")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="1 missing: vision_model.pre_layrnorm.weight"):
        CLIP.from_pretrained(tmp_path)


# ---- open_clip ----


def from_open_clip(theirs, config):
    """Our CLIP with open_clip's weights: a fused q;k;v, projections stored transposed, layers named after OpenAI's."""
    state, weights = theirs.state_dict(), {"logit_scale": theirs.logit_scale.data, "text_projection.weight": theirs.text_projection.T}

    def copy(ours, name, kinds=("weight", "bias")):
        weights.update({f"{ours}.{kind}": state[f"{name}.{kind}"] for kind in kinds})

    def transformer(ours, name, layers):
        for i in range(layers):
            source, target = f"{name}.{i}", f"{ours}.{i}"
            for kind in ("weight", "bias"):
                for part, value in zip(("query", "key", "value"), state[f"{source}.attn.in_proj_{kind}"].chunk(3), strict=True):
                    weights[f"{target}.attention.{part}.{kind}"] = value
            parts = {"ln_1": "attention_norm", "attn.out_proj": "attention.output", "ln_2": "mlp_norm", "mlp.c_fc": "mlp.up"}
            for theirs, ours_part in (parts | {"mlp.c_proj": "mlp.down"}).items():
                copy(f"{target}.{ours_part}", f"{source}.{theirs}")

    copy("text_encoder.tokens", "token_embedding", ["weight"])
    copy("text_encoder.norm", "ln_final")
    weights["text_encoder.positions.weight"] = state["positional_embedding"]
    transformer("text_encoder.blocks", "transformer.resblocks", config.text.layers)
    if isinstance(config.image, ResNetConfig):
        return load(config, weights | resnet_weights(state, config.image))
    copy("image_encoder.pre_norm", "visual.ln_pre")
    copy("image_encoder.norm", "visual.ln_post")
    weights["image_encoder.class_token"] = state["visual.class_embedding"]
    weights["image_encoder.positions.table"] = state["visual.positional_embedding"]
    weights["image_encoder.patches.projection.weight"] = state["visual.conv1.weight"].flatten(1)
    weights["image_projection.weight"] = state["visual.proj"].T
    transformer("image_encoder.blocks", "visual.transformer.resblocks", config.image.layers)
    return load(config, weights)


def resnet_weights(state, config):
    names = {f"stem.{6 * (i > 1) + 3 * (i == 1)}": f"conv{i + 1}" for i in range(3)}
    names |= {f"stem.{3 * i + 1}": f"bn{i + 1}" for i in range(3)}
    for stage, layers in enumerate(config.layers):
        for block in range(layers):
            ours, theirs = f"stages.{stage}.{block}", f"layer{stage + 1}.{block}"
            for i, part in enumerate(("reduce", "look", "widen")):
                names |= {f"{ours}.{part}": f"{theirs}.conv{i + 1}", f"{ours}.{part}_norm": f"{theirs}.bn{i + 1}"}
            names |= {f"{ours}.shortcut.1": f"{theirs}.downsample.0", f"{ours}.shortcut.2": f"{theirs}.downsample.1"}
    parts = {"attention.query": "q_proj", "attention.key": "k_proj", "attention.value": "v_proj", "projection": "c_proj"}
    names |= {f"pooling.{part}": f"attnpool.{theirs}" for part, theirs in parts.items()}
    weights = {"image_encoder.pooling.positions.table": state["visual.attnpool.positional_embedding"]}
    for ours, theirs in names.items():
        for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            if f"visual.{theirs}.{kind}" in state:
                weights[f"image_encoder.{ours}.{kind}"] = state[f"visual.{theirs}.{kind}"]
    return weights


def load(config, weights):
    model = CLIP(config).to(weights["logit_scale"].dtype)
    model.load_state_dict({name: value.detach().clone() for name, value in weights.items()})
    return model.eval()


TEXT = TextConfig(VOCABULARY, context_length=12, dim=32, layers=2, heads=4, mlp_dim=128, eos_token_id=END)
THEIR_TEXT = open_clip.CLIPTextCfg(context_length=12, vocab_size=VOCABULARY, width=32, heads=4, layers=2)


def open_clip_vit(quick_gelu=True):
    vision = open_clip.CLIPVisionCfg(layers=2, width=32, head_width=8, patch_size=4, image_size=16)
    theirs = randomise(open_clip.CLIP(24, vision, THEIR_TEXT, quick_gelu=quick_gelu).double())
    activation = "quick_gelu" if quick_gelu else "gelu"
    image = clip_vit(image_size=16, patch_size=4, dim=32, layers=2, heads=4, mlp_dim=128, activation=activation)
    return theirs, from_open_clip(theirs, CLIPConfig(image, replace(TEXT, activation=activation), embed_dim=24))


def open_clip_resnet(layers=(1, 2, 1, 1), image_size=64, width=8):
    vision = open_clip.CLIPVisionCfg(layers=list(layers), width=width, head_width=64, image_size=image_size)
    theirs = randomise(open_clip.CLIP(24, vision, THEIR_TEXT, quick_gelu=True).double())
    generator = torch.Generator().manual_seed(1)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():  # its weights, too, lie around one; randomise knows norms by their name
                module.weight.normal_(1, 0.2, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    config = CLIPConfig(ResNetConfig(image_size, width=width, layers=layers, heads=width * 32 // 64), TEXT, embed_dim=24)
    return theirs, from_open_clip(theirs, config)


PAIRS = {
    "ViT": open_clip_vit,
    "ViT, gelu": lambda: open_clip_vit(quick_gelu=False),
    "ResNet": open_clip_resnet,
    "ResNet, one place": lambda: open_clip_resnet(layers=(1, 1, 1, 2), image_size=32),
}


@pytest.mark.parametrize("variant", PAIRS)
def test_equals_open_clip(variant):
    theirs, ours = PAIRS[variant]()
    size = ours.config.image.image_size
    images, (ids, _) = torch.randn(5, 3, size, size, dtype=torch.float64), texts([3, 8, 5, 12, 7], pad=0)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        theirs, ours, images = theirs.to(dtype), ours.to(dtype), images.to(dtype)
        assert largest_difference(ours.encode_image(images), theirs.encode_image(images, normalize=True)) < tolerance
        assert largest_difference(ours.encode_text(ids), theirs.encode_text(ids, normalize=True)) < tolerance
        assert largest_difference(ours(images, ids), theirs.get_logits(images, ids)[0]) < tolerance * 10


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("variant", ["ViT", "ResNet"])
def test_gradients_equal_open_clip(variant, training):
    """In training mode the ResNet's norms use the batch, and remember it."""
    theirs, ours = (model.train(training) for model in PAIRS[variant]())
    size = ours.config.image.image_size
    images, (ids, _) = torch.randn(5, 3, size, size, dtype=torch.float64), texts([3, 8, 5, 12, 7], pad=0)
    image_features, text_features, scale = theirs(images, ids)
    loss = open_clip.ClipLoss()(image_features, text_features, scale)
    loss.backward()
    mine = contrastive_loss(ours(images, ids))
    mine.backward()
    assert abs(mine - loss) < 1e-9
    for parameter in theirs.parameters():
        parameter.data = parameter.grad  # so that the weights' converter converts gradients
    theirs.eval()
    expected = from_open_clip(theirs, ours.config)
    for name, parameter in ours.named_parameters():
        assert largest_difference(parameter.grad, expected.get_parameter(name)) < 1e-9, name
    for name, buffer in ours.named_buffers():
        assert torch.allclose(buffer, expected.get_buffer(name), rtol=0, atol=1e-9), name


@pytest.mark.parametrize(
    "preset,theirs", [("base_32", "ViT-B-32"), ("base_16", "ViT-B-16"), ("large_14", "ViT-L-14"), ("resnet_50", "RN50")]
)
def test_presets_have_the_published_sizes(preset, theirs):
    with torch.device("meta"):
        ours, reference = CLIP(getattr(CLIPConfig, preset)()), open_clip.CLIP(**open_clip.get_model_config(theirs))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters())
    assert ours.config.embed_dim == reference.text_projection.shape[1]


# ---- the tests can fail ----


def test_planted_errors_are_seen(pair):
    theirs, _, folder = pair
    images, (ids, mask) = torch.randn(6, 3, 16, 16), texts([3, 8, 5, 4, 7, 6])
    expected = theirs(input_ids=ids, pixel_values=images, attention_mask=mask).logits_per_image

    def difference(plant):
        model = CLIP.from_pretrained(folder)
        with torch.no_grad():
            result = plant(model)
            is_logits = isinstance(result, torch.Tensor) and result.shape == expected.shape
            return largest_difference(result if is_logits else model(images, ids, mask), expected)

    def activation(function):
        def plant(model):
            for block in [*model.image_encoder.blocks, *model.text_encoder.blocks]:
                block.mlp.activation = function

        return plant

    def blind_to_order(model):
        for block in model.text_encoder.blocks:
            attention = block.attention.forward
            block.attention.forward = lambda x, context=None, mask=None, attention=attention: attention(x, context)

    def last_token(model):
        encoded = model.text_encoder.encode(ids, mask)[:, -1]
        return model.logit_scale.exp() * model.encode_image(images) @ F.normalize(model.text_projection(encoded), dim=-1).T

    def normalised_too_early(model):
        features = F.normalize(model.image_encoder(images), dim=-1)
        return model.logit_scale.exp() * model.image_projection(features) @ model.encode_text(ids, mask).T

    planted = {
        "erf GELU": activation(F.gelu),
        "no pre-norm": lambda model: setattr(model.image_encoder, "pre_norm", nn.Identity()),
        "no post-norm": lambda model: setattr(model.image_encoder, "norm", nn.Identity()),
        "text encoder sees what follows": blind_to_order,
        "pooled at the last token": last_token,
        "normalised before the projection": normalised_too_early,
        "scale not exponentiated": lambda model: model(images, ids, mask) / model.logit_scale.exp() * model.logit_scale,
        "logits transposed": lambda model: model(images, ids, mask).T,
        "positions shifted by one": lambda model: model.text_encoder.positions.weight.copy_(model.text_encoder.positions.weight.roll(1, 0)),
        "query and value exchanged": lambda model: exchange(model.text_encoder.blocks[0].attention),
        "projection transposed": lambda model: model.text_projection.weight.copy_(model.text_projection.weight.clone().view(32, 24).T),
        "another epsilon": lambda model: setattr(model.image_encoder.pre_norm, "eps", 1e-2),
    }
    assert difference(lambda model: None) < 1e-4
    small = {name: value for name, plant in planted.items() if (value := difference(plant)) < 2e-3}
    assert not small


def exchange(attention):
    attention.query, attention.value = attention.value, attention.query
