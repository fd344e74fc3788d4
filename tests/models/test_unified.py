"""The unified embedding decoder: equal to LLaVA of transformers on random weights, and what its pictures may and may not change."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support import largest_difference, randomise, unchecked
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModelConfig,
    UnifiedConfig,
    UnifiedMLLM,
    ViT,
    ViTConfig,
    generate,
    load,
)
from minimllm.models.llava import WEIGHT_NAMES, config_from_transformers
from minimllm.models.shipped import save
from minimllm.weights.pretrained import file_names

VOCABULARY, IMAGE, TOKENS = 99, 90, 16
VISION = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=16, patch_size=4)
TEXT = dict(vocab_size=VOCABULARY, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4)
TEXT |= dict(num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0)


def transformers_llava(folder, dtype=torch.float32, vision=None, text=None, **changes):
    """A random model of transformers, saved to ``folder``."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION | (vision or {})),
        text_config=LlamaConfig(**TEXT | (text or {})),
        **dict(image_token_index=IMAGE) | changes,
    )
    model = randomise(LlavaForConditionalGeneration(config)).to(dtype)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    return transformers_llava(folder), UnifiedMLLM.from_pretrained(folder), folder


def rows_of(*layouts, tokens=TOKENS, side="right", seed=0):
    """``"3 I 2"`` is three words, a picture, two words. Ids, images and mask of a batch, padded on one side."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for layout in layouts:
        row = []
        for part in layout.split():
            row += [IMAGE] * tokens if part == "I" else torch.randint(1, 80, (int(part),), generator=generator).tolist()
        rows.append(row)
    longest = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(longest - len(row), longest)
        ids[index, place], mask[index, place] = torch.tensor(row), 1
    pictures = sum(layout.count("I") for layout in layouts)
    return ids, torch.randn(pictures, 3, 16, 16, generator=generator) if pictures else None, mask


LAYOUTS = {
    "mid prompt": ["5 I 6"],
    "first": ["I 6"],
    "last": ["5 I"],
    "only an image": ["I"],
    "two images without text between": ["2 I I 4"],
    "two images with text between": ["2 I 3 I 1"],
    "unequal lengths": ["5 I 6", "1 I 2", "9 I"],
    "unequal numbers of images": ["2 I I 4", "I 3", "4 I 1 I 2 I 2"],
    "a row of text alone among others": ["3 I 2", "7", "I 30"],
    "text alone": ["5", "8"],
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_equal_transformers(layout, side, pair):
    theirs, ours, _ = pair
    ids, images, mask = rows_of(*LAYOUTS[layout], side=side)
    expected = theirs(input_ids=ids, pixel_values=images, attention_mask=mask).logits
    for given in (mask, mask.bool()):
        logits = ours(ids, images, given)
        assert logits.isfinite().all()
        assert largest_difference(logits[mask.bool()], expected[mask.bool()]) < 2e-5
    if images is not None:
        changed = ours(ids, images.flip(0) * 1.1, mask)
        assert largest_difference(changed[mask.bool()], expected[mask.bool()]) > 0.01, "the pictures matter"


OPTIONS = {
    "the class token kept": (17, dict(vision_feature_select_strategy="full")),
    "the last layer": (16, dict(vision_feature_layer=-1)),
    "an early layer": (16, dict(vision_feature_layer=1)),
    "a list of one layer": (16, dict(vision_feature_layer=[-2])),
    "a tied head": (16, dict(text=dict(tie_word_embeddings=True))),
    "a projector without biases": (16, dict(multimodal_projector_bias=False)),
    "gelu in the encoder": (16, dict(vision=dict(hidden_act="gelu"))),
    "scaled rotary positions": (
        16,
        dict(
            text=dict(
                rope_parameters=dict(
                    rope_type="llama3",
                    rope_theta=1000.0,
                    factor=4.0,
                    low_freq_factor=1.0,
                    high_freq_factor=4.0,
                    original_max_position_embeddings=32,
                )
            )
        ),
    ),
    "one patch": (1, dict(vision=dict(patch_size=16))),
    "another epsilon": (16, dict(text=dict(rms_norm_eps=0.1))),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_equal_transformers(option, tmp_path):
    tokens, changes = OPTIONS[option]
    theirs = transformers_llava(tmp_path, **changes)
    ours = UnifiedMLLM.from_pretrained(tmp_path)
    ids, images, mask = rows_of("5 I 6", "2 I I 3", tokens=tokens)
    expected = theirs(input_ids=ids, pixel_values=images, attention_mask=mask).logits
    assert ours.image_tokens == tokens
    assert largest_difference(ours(ids, images, mask)[mask.bool()], expected[mask.bool()]) < 2e-5


def test_loss_and_gradients_equal_transformers(tmp_path):
    theirs = transformers_llava(tmp_path)
    ours = UnifiedMLLM.from_pretrained(tmp_path)
    ids, images, mask = rows_of("3 I 6", "1 I 9")
    labels = ids.masked_fill((ids == IMAGE) | (mask == 0), -100)
    labels[:, :5] = -100
    expected = theirs(input_ids=ids, pixel_values=images, attention_mask=mask, labels=labels).loss
    loss = F.cross_entropy(ours(ids, images, mask)[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    assert abs(loss - expected) < 1e-5
    expected.backward()
    loss.backward()
    reference = dict(theirs.named_parameters())
    checked = 0
    for name, parameter in ours.named_parameters():
        other = next(reference[candidate] for candidate in file_names(name, WEIGHT_NAMES) if candidate in reference)
        gradient = other.grad.reshape(parameter.shape)
        assert largest_difference(parameter.grad, gradient) < 1e-4 * gradient.abs().max() + 1e-6, name
        checked += parameter.numel()
    assert checked == sum(p.numel() for p in ours.parameters())
    assert all(p.grad is None for n, p in theirs.named_parameters() if "layers.2" in n and "vision" in n), "the last layer is not used"


def test_the_unused_layer_is_not_there(pair):
    theirs, ours, _ = pair
    assert len(ours.vision.blocks) == 2 and len(theirs.model.vision_tower.encoder.layers) == 3


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-5), (torch.bfloat16, 0.1)])
def test_other_dtypes(dtype, tolerance, tmp_path):
    theirs = transformers_llava(tmp_path, dtype)
    ours = UnifiedMLLM.from_pretrained(tmp_path)
    ids, images, mask = rows_of("5 I 6")
    logits, expected = ours(ids, images.to(dtype), mask), theirs(input_ids=ids, pixel_values=images.to(dtype)).logits
    assert logits.dtype == dtype and logits.isfinite().all()
    assert largest_difference(logits, expected) < tolerance * expected.abs().max()


@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_and_uncached_writing_are_equal_and_equal_transformers(side, pair):
    theirs, ours, _ = pair
    ids, images, mask = rows_of("5 I 6", "2 I I 3", "4", side=side)
    cached = generate(ours, ids, 8, mask=mask, images=images)
    assert torch.equal(cached, generate(ours, ids, 8, mask=mask, images=images, use_cache=False))
    assert cached.shape[1] == ids.shape[1] + 8 and (cached[:, ids.shape[1] :] != IMAGE).all()
    if side == "left":
        settings = dict(max_new_tokens=8, do_sample=False, suppress_tokens=[IMAGE], eos_token_id=None, pad_token_id=0)
        expected = theirs.generate(input_ids=ids, pixel_values=images, attention_mask=mask, **settings)
        assert torch.equal(cached, expected)


def test_a_prompt_read_in_pieces_gives_the_same_logits(pair):
    _, ours, _ = pair
    ids, images, _ = rows_of("5 I 6", "3 I 8")
    cache = ours.new_cache()
    pieces = [ours(ids[:, :2], cache=cache), ours(ids[:, 2:24], images, cache=cache), ours(ids[:, 24:], cache=cache)]
    assert largest_difference(torch.cat(pieces, dim=1), ours(ids, images)) < 1e-5


# ---- our own options ---------------------------------------------------------------------------------------------------

VISION_CONFIG = replace(CLIPConfig.tiny().image, image_size=16, patch_size=4, dim=16, heads=2, mlp_dim=24)
LANGUAGE = LanguageModelConfig.tiny(VOCABULARY, dim=24, layers=2, heads=4, mlp_dim=32, context_length=128)
HEADS = dict(language=replace(LANGUAGE, normalise_heads=1e-5))
DEPARTURES = {
    "plain": {},
    "linear": dict(projector="linear"),
    "merge": dict(merge=2),
    "final norm": dict(feature_layer=-1, final_norm=True),
    "linear without a bias": dict(projector="linear", projector_bias=False),
    "two layers without biases": dict(projector_bias=False),
    "wider projector": dict(projector_dim=40),
    "normalised features": dict(normalise_features=True),
    "positions inside": dict(projector_positions="inside"),
    "positions after": dict(projector_positions="after"),
    "positions in both": dict(projector_positions="both"),
    "normalised tokens": dict(token_scale=0.3),
    "shared position": dict(shared_position=True),
    "image prefix": dict(image_prefix=True),
    "normalised heads": dict(**HEADS),
    "all": dict(
        merge=2, normalise_features=True, projector_positions="both", token_scale=0.3, shared_position=True, image_prefix=True, **HEADS
    ),
}


def ours_with(departure="plain", **changes):
    config = UnifiedConfig(VISION_CONFIG, LANGUAGE, IMAGE)
    return randomise(UnifiedMLLM(replace(config, **DEPARTURES[departure] | changes)))


@pytest.mark.parametrize("departure", DEPARTURES)
def test_with_any_departure_padded_cached_and_batched_texts_are_those_of_the_row_alone(departure):
    model = ours_with(departure)
    layouts = ["3 I 4", "I I 2", "5"]
    for side in ("left", "right"):
        ids, images, mask = rows_of(*layouts, tokens=model.image_tokens, side=side)
        logits = model(ids, images, mask)
        of_row = images.split([layout.count("I") for layout in layouts])
        for row, own in enumerate(of_row):
            alone = model(ids[row][mask[row].bool()][None], own if len(own) else None)[0]
            assert largest_difference(logits[row][mask[row].bool()], alone) < 2e-5
        cached = generate(model, ids, 6, mask=mask, images=images)
        assert torch.equal(cached, generate(model, ids, 6, mask=mask, images=images, use_cache=False))
        if side == "left":
            cache = model.new_cache()
            model(ids, images, mask, cache)
            steps = [model(token[:, None], cache=cache)[:, -1] for token in cached[:, ids.shape[1] :].unbind(1)]
            longer = torch.cat([mask, torch.ones(3, 6, dtype=torch.long)], dim=1)
            assert largest_difference(torch.stack(steps, dim=1), model(cached, images, longer)[:, -6:]) < 2e-5


@pytest.mark.parametrize("departure", [name for name in DEPARTURES if name not in ("plain", "equal queries and keys")])
def test_every_departure_changes_the_model(departure):
    plain, changed = ours_with(), ours_with(departure)
    ids, images, _ = rows_of("3 I 4", tokens=plain.image_tokens)
    ours, _, _ = rows_of("3 I 4", tokens=changed.image_tokens)
    assert largest_difference(changed(ours, images)[:, -1], plain(ids, images)[:, -1]) > 1e-3


def test_what_a_changed_pixel_may_change():
    ids, images, _ = rows_of("3 I 2 I 2", "1 I 4")
    changed = images.clone()
    changed[1, :, 5, 6] += 1.0  # the second picture of the first row; it begins at place 21
    for departure in ("plain", "image prefix"):
        model = ours_with(departure)
        moved = (model(ids, images) - model(ids, changed)).abs().amax(dim=-1) > 0
        assert not moved[1].any(), "another row"
        assert not moved[0, :21].any() and moved[0, 21:39].all(), "all that comes after, and nothing before"


def test_bidirectional_attention_within_a_picture_reaches_back():
    ids, images, _ = rows_of("3 I 2")
    model = ours_with("image prefix")
    tokens = model.features(images)
    later = tokens.clone()
    later[0, 10] += 1.0
    moved = {}
    for departure in ("plain", "image prefix"):
        model = ours_with(departure)
        moved[departure] = (model(ids, features=tokens) - model(ids, features=later)).abs().amax(dim=-1)[0] > 0
    assert not moved["plain"][:13].any() and moved["plain"][13:].all()
    assert not moved["image prefix"][:3].any() and moved["image prefix"][3:].all()


def test_merged_patches_are_neighbours_in_reading_order():
    model = ours_with("merge", keep_class_token=False)
    images = torch.randn(1, 3, 16, 16)
    patches = model.vision.encode(images)[0, 1:].view(4, 4, -1)
    expected = torch.cat([patches[0, 2], patches[0, 3], patches[1, 2], patches[1, 3]])
    assert torch.equal(model.features(images)[0, 1], expected) and model.features(images).shape == (1, 4, 64)


def test_an_encoder_without_a_class_token_gives_all_of_its_patches():
    plain = ours_with("plain").config
    model = UnifiedMLLM(replace(plain, vision=replace(plain.vision, class_token=False), keep_class_token=False))
    images = torch.randn(2, 3, 16, 16)
    assert not hasattr(model.vision, "class_token")
    assert model.config.image_tokens == 16 and torch.equal(model.features(images), model.vision.encode(images))
    with pytest.raises(ValueError, match="no class token that could be kept"):
        replace(model.config, keep_class_token=True)


@pytest.mark.parametrize("merge,tokens", [(8, 1), (4, 4)])
def test_the_parts_of_smolvlm_are_options(merge, tokens):
    vision = ViTConfig(64, 8, dim=24, layers=6, heads=2, mlp_dim=32, classes=0, class_token=False, activation="gelu_pytorch_tanh")
    options = dict(feature_layer=-1, final_norm=True, projector="linear", projector_bias=False, merge=merge)
    encoder = randomise(ViT(vision), seed=4)
    for model in (
        randomise(UnifiedMLLM(UnifiedConfig(vision, LANGUAGE, IMAGE, **options))),
        randomise(CrossAttentionMLLM(CrossAttentionConfig(vision, LANGUAGE, IMAGE, (1,), **options))),
    ):
        model.copy_encoder(encoder)
        images = torch.randn(2, 3, 64, 64)
        after_norm = encoder.norm(encoder.blocks[5](hooked(encoder.blocks[4], encoder, images)))
        assert torch.equal(encoder.encode(images), after_norm)
        expected = after_norm.view(2, 8 // merge, merge, 8 // merge, merge, 24).transpose(2, 3).reshape(2, tokens, -1)
        assert torch.equal(model.features(images), expected)
        (weight,) = model.projector.parameters()
        assert weight.shape == (24, 24 * merge**2) and largest_difference(model.encode(images), expected @ weight.T) < 1e-4


def hooked(block, model, images):
    """The output of a block of an encoder."""
    kept = []
    handle = block.register_forward_hook(lambda module, inputs, output: kept.append(output))
    model.encode(images)
    handle.remove()
    return kept[0]


def test_what_patches_leave_over_at_the_margin_is_not_read():
    vision = ViTConfig((13, 18), 4, dim=16, layers=2, heads=2, mlp_dim=24, classes=0, class_token=False, drop_margin=True)
    model = randomise(ViT(vision))
    images = torch.randn(1, 3, 13, 18)
    changed = images.clone()
    changed[:, :, 12:], changed[..., 16:] = 0, 7
    whole = randomise(ViT(replace(vision, image_size=(12, 16), drop_margin=False)))
    assert vision.grid == (3, 4) and torch.equal(model.encode(images), model.encode(changed))
    assert torch.equal(model.encode(images), whole.encode(images[:, :, :12, :16]))
    with pytest.raises(ValueError, match="13 x 18 pixels cannot be cut into patches of 4 x 4"):
        replace(vision, drop_margin=False)
    with pytest.raises(ValueError, match="3 x 18 pixels cannot be cut"):
        replace(vision, image_size=(3, 18))


def test_with_a_shared_position_the_order_of_visual_tokens_does_not_matter_to_the_words():
    ids, images, _ = rows_of("3 I 4")
    for departure, same in (("shared position", True), ("plain", False)):
        model = ours_with(departure, image_prefix=True)
        features = model.features(images)
        difference = largest_difference(model(ids, features=features)[:, -1], model(ids, features=features.flip(1))[:, -1])
        assert (difference < 1e-5) == same


def test_frozen_parts_get_no_gradient_and_the_others_do():
    model = ours_with("all")
    model.vision.requires_grad_(False)
    ids, images, _ = rows_of("3 I 4", tokens=model.image_tokens)
    assert not model.features(images).requires_grad
    model(ids, images).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("vision."), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_the_encoder_of_a_clip_is_taken_over():
    clip = CLIP(CLIPConfig.tiny(), seed=3)
    model = UnifiedMLLM(UnifiedConfig.tiny(50)).copy_encoder(clip.image_encoder)
    images = torch.randn(2, 3, 32, 32)
    states = []
    clip.image_encoder.blocks[1].register_forward_hook(lambda module, inputs, output: states.append(output))
    clip.encode_image(images)
    assert torch.equal(model.features(images), states[0][:, 1:])
    with pytest.raises(ValueError, match="dim=16"):
        ours_with().copy_encoder(clip.image_encoder)


def test_the_presets():
    plain, course = UnifiedConfig.tiny(100), UnifiedConfig.course(100)
    assert (plain.image_tokens, course.image_tokens) == (16, 4)
    off = {f: getattr(plain, f) for f in ("projector_dim", "merge", "normalise_features", "projector_positions", "token_scale")}
    assert off == dict(projector_dim=None, merge=1, normalise_features=False, projector_positions=None, token_scale=None)
    assert not (plain.shared_position or plain.image_prefix or plain.language.normalise_heads)
    assert (course.language.key_value_heads, course.language.rotary_base) == (4, 5e5)


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(5)
    one = UnifiedMLLM(UnifiedConfig.course(60), seed=1)
    before = torch.random.get_rng_state()
    two, other = UnifiedMLLM(UnifiedConfig.course(60), seed=1), UnifiedMLLM(UnifiedConfig.course(60), seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, a), b, c in zip(one.named_parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.unique().numel() == 1 or not torch.equal(a, c), name


def test_saved_and_loaded_again(tmp_path):
    model = ours_with("all")
    again, _ = load(save(tmp_path / "model", model, None, {}))
    ids, images, _ = rows_of("3 I 4", tokens=model.image_tokens)
    assert again.config == model.config and torch.equal(again(ids, images), model(ids, images))


# ---- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [1, -1])
def test_other_numbers_of_placeholders_are_refused_with_both_numbers(change, pair):
    _, ours, _ = pair
    ids, images, _ = rows_of("2 I 2", tokens=16 + change)
    with pytest.raises(ValueError, match=f"{16 + change} image tokens, and 1 images make 16"):
        ours(ids, images)


def test_images_and_placeholders_without_each_other_are_refused(pair):
    _, ours, _ = pair
    ids, images, _ = rows_of("2 I 2")
    with pytest.raises(ValueError, match="16 image tokens, and 0 images make 0"):
        ours(ids)
    with pytest.raises(ValueError, match="16 image tokens, and 0 images make 0"):
        ours(ids, images[:0])
    with pytest.raises(ValueError, match="0 image tokens, and 1 images make 16"):
        ours(ids[:, :2], images)
    with pytest.raises(ValueError, match="16 image tokens, and 2 images make 32"):
        ours(ids, torch.cat([images, images]))
    with pytest.raises(ValueError, match="16 image tokens, and 0 images"):
        generate(ours, ids, 3)
    uneven = torch.full((2, 20), IMAGE)
    uneven[0, 15:], uneven[1, 17:] = 1, 1
    with pytest.raises(ValueError, match="row 0 holds 15 image tokens"):
        ours(uneven, torch.cat([images, images]))


def test_bad_texts_and_images_are_refused(pair):
    _, ours, _ = pair
    ids, images, mask = rows_of("2 I 2")
    with pytest.raises(ValueError, match="150 tokens long, and this model reads at most 128"):
        ours(torch.ones(1, 150, dtype=torch.long))
    with pytest.raises(ValueError, match="125 tokens and 9 new ones"):
        generate(ours, torch.ones(1, 125, dtype=torch.long), 9)
    with pytest.raises(ValueError, match="at least one"):
        ours(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(ValueError, match="reach from 1 to 99"):
        ours(torch.tensor([[1, 99]]))
    with unchecked():
        with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 20\)"):
            ours(ids, images, torch.ones(1, 3, dtype=torch.long))
        with pytest.raises(ValueError, match="8 x 8"):
            ours(ids, images[:, :, :8, :8])
        with pytest.raises(ValueError, match="3 channels, got 1"):
            ours(ids, images[:, :1])
    with pytest.raises(ValueError, match="features are in place of images"):
        ours(ids, images, features=ours.features(images))
    with pytest.raises(ValueError, match="without mask and cache"):
        ours(ids, images, mask, segments=torch.zeros_like(ids))
    with pytest.raises(ValueError, match="negative|0 .greedy. or above"):
        generate(ours, ids, 2, images=images, temperature=-1.0)


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(feature_layer=0), "feature_layer 0"),
        (dict(feature_layer=-4), "feature_layer -4"),
        (dict(feature_layer=4), "feature_layer 4"),
        (dict(projector="three layers"), "'three layers'"),
        (dict(final_norm=True), "feature_layer=-1 with it, got -2"),
        (dict(projector_positions="before"), "'before'"),
        (dict(projector="linear", projector_positions="inside"), "no inside"),
        (dict(merge=3), "grid of 4 x 4 patches, got 3"),
        (dict(merge=2, keep_class_token=True), "class token"),
    ],
)
def test_configs_that_make_no_model_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ours_with(**changes)


def test_the_sizes_of_llava_1_5_from_its_config():
    vision = dict(model_type="clip_vision_model", hidden_size=1024, image_size=336, intermediate_size=4096)
    vision |= dict(num_attention_heads=16, num_hidden_layers=24, patch_size=14, projection_dim=768)
    text = dict(model_type="llama", max_position_embeddings=4096, rms_norm_eps=1e-5, vocab_size=32064)
    values = dict(image_token_index=32000, pad_token_id=32001, text_config=text, tie_word_embeddings=False)
    config = config_from_transformers(values | dict(vision_config=vision))
    assert config == config_from_transformers(values), "without a vision_config it is the same encoder"
    assert config.language.pad_token_id == 32001 and config.image_tokens == 576
    assert replace(config, language=replace(config.language, key_value_heads=None)) == UnifiedConfig.llava_1_5_7b()
    with torch.device("meta"):
        model = UnifiedMLLM(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    last_block, post_layernorm = 12 * 1024**2 + 13 * 1024, 2 * 1024
    assert count["vision"] == 303_507_456 - last_block - post_layernorm
    assert count["projector"] == 20_979_712 and count["language_model"] == 6_607_605_760 + 131_334_144


def test_an_image_id_outside_the_vocabulary_and_normalisation_from_the_folder(tmp_path):
    theirs = transformers_llava(tmp_path)
    ids, images, _ = rows_of("2 I 3")
    expected = theirs(input_ids=ids, pixel_values=images).logits
    edit(tmp_path, image_token_index=500)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(dict(image_mean=[0.5, 0.25, 0.5], image_std=[0.5, 0.5, 0.25])))
    ours = UnifiedMLLM.from_pretrained(tmp_path)
    assert largest_difference(ours(ids.masked_fill(ids == IMAGE, 500), images), expected) < 2e-5
    assert generate(ours, ids.masked_fill(ids == IMAGE, 500), 3, images=images).shape == (1, 24)
    prepared = ours.picture_inputs(torch.full((1, 3, 20, 30), 0.5))["images"]
    assert prepared.shape == (1, 3, 16, 16) and prepared[0, :, 0, 0].tolist() == [0.0, 0.5, 0.0]


def edit(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in values.items():
        part, _, name = key.rpartition("__")
        (config[part] if part else config)[name] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "values,message",
    [
        (dict(vision_feature_layer=[-2, -1]), r"vision_feature_layer = \[-2, -1\]"),
        (dict(projector_hidden_act="relu"), "projector_hidden_act = 'relu'"),
        (dict(multimodal_projector_bias=1), "multimodal_projector_bias = 1"),
        (dict(vision_feature_select_strategy="cls"), "vision_feature_select_strategy = 'cls'"),
        (dict(vision_config__model_type="siglip_vision_model"), "vision_config of model_type 'siglip_vision_model'"),
        (dict(text_config__model_type="mistral"), "text_config of model_type 'mistral'"),
        (dict(text_config__attention_bias=True), "attention_bias = True"),
        (dict(vision_config__hidden_act="selu"), "hidden_act = 'selu'"),
        (dict(model_type="llava_next"), "model_type 'llava_next', expected 'llava'"),
        (dict(text_config="llama"), "text_config = 'llama'"),
        (dict(vision_feature_layer=9), "feature_layer 9"),
    ],
)
def test_options_that_are_not_implemented_are_refused_by_name(values, message, tmp_path):
    transformers_llava(tmp_path)
    edit(tmp_path, **values)
    with pytest.raises(ValueError, match=message):
        UnifiedMLLM.from_pretrained(tmp_path)


def test_both_layouts_of_names_and_absent_unused_tensors_are_read(pair, tmp_path):
    theirs, ours, folder = pair
    ids, images, _ = rows_of("2 I 2")
    expected = ours(ids, images)
    on_disk, in_memory = load_file(folder / "model.safetensors"), {n: t.contiguous() for n, t in theirs.state_dict().items()}
    assert not on_disk.keys() & in_memory.keys() - {"lm_head.weight"}
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    used = {name: tensor for name, tensor in on_disk.items() if "layers.2" not in name or "vision" not in name}
    used = {name: tensor for name, tensor in used.items() if "post_layernorm" not in name}
    assert len(used) < len(on_disk)
    for tensors in (in_memory, used, {**on_disk, "vision_tower.vision_model.embeddings.position_ids": torch.zeros(17)}):
        save_file(tensors, tmp_path / "model.safetensors")
        assert torch.equal(UnifiedMLLM.from_pretrained(tmp_path)(ids, images), expected)


def test_faulty_files_are_refused_by_name(pair, tmp_path):
    _, _, folder = pair
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    linear = next(name for name in tensors if name.endswith("linear_2.weight"))

    def loading(changed):
        save_file(changed, tmp_path / "model.safetensors")
        return UnifiedMLLM.from_pretrained(tmp_path)

    with pytest.raises(ValueError, match=rf"1 missing: {linear}"):
        loading({name: tensor for name, tensor in tensors.items() if name != linear})
    with pytest.raises(ValueError, match="1 unexpected: something.weight"):
        loading({**tensors, "something.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match=rf"{linear}.*\(48, 5\), expected floats of shape \(48, 48\)"):
        loading({**tensors, linear: torch.zeros(48, 5)})
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        UnifiedMLLM.from_pretrained(tmp_path)


def test_a_refused_call_leaves_the_cache_as_it_was():
    model = UnifiedMLLM(UnifiedConfig.course(40))
    randomise(model, std=0.1)
    ids = torch.tensor([[1, 7, 8]])
    with torch.no_grad():
        caches = [model.new_cache() for _ in range(2)]
        for cache in caches:
            model(ids, cache=cache)
        with pytest.raises(ValueError, match="256"):
            model(torch.ones(1, 255, dtype=torch.long), cache=caches[1])
        after = [model(torch.tensor([[9]]), cache=cache) for cache in caches]
    assert torch.equal(*after)


def test_pictures_of_another_precision_than_the_weights_are_taken():
    for dtype in (torch.bfloat16, torch.float64):
        model = UnifiedMLLM(UnifiedConfig.tiny(40)).to(dtype)
        ids = torch.tensor([[1, *[2] * model.image_tokens, 9]])
        assert model(ids, torch.randn(1, 3, 32, 32)).dtype == dtype


def test_a_folder_of_a_processor_says_how_pictures_are_normalised(tmp_path):
    transformers_llava(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({"image_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5]}}))
    assert UnifiedMLLM.from_pretrained(tmp_path).config.image_mean == (0.1, 0.2, 0.3)
    for wrong in ([0.5], 0.5, "abc", None):
        path.write_text(json.dumps({"image_processor": {"image_mean": wrong}}))
        with pytest.raises(ValueError, match="image_mean"):
            UnifiedMLLM.from_pretrained(tmp_path)
