"""SmolVLM and Idefics3 as options of the unified decoder: equal to transformers on random weights, in both directions."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import largest_difference, randomise, unchecked
from transformers import (
    AutoModelForImageTextToText,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from minimllm import LanguageModel, LanguageModelConfig, Preparation, UnifiedConfig, UnifiedMLLM, ViT, ViTConfig, generate
from minimllm.models.smolvlm import config_from_transformers

VOCABULARY, IMAGE = 97, 90
VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, image_size=16, patch_size=4)
TEXT = dict(model_type="llama", vocab_size=VOCABULARY, hidden_size=36, intermediate_size=56, num_hidden_layers=2, num_attention_heads=6)
TEXT |= dict(num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0)
KINDS = {
    "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration),
    "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration),
}


def of_transformers(folder, kind="smolvlm", dtype=torch.float32, vision=None, text=None, **changes):
    """A random model of transformers, saved to ``folder``."""
    config, model = KINDS[kind]
    values = dict(image_token_id=IMAGE, scale_factor=2) | changes
    model = model(config(vision_config=VISION | (vision or {}), text_config=TEXT | (text or {}), **values))
    model = randomise(model).to(dtype)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return of_transformers(folder, request.param), UnifiedMLLM.from_pretrained(folder), folder


def rows_of(*layouts, tokens=4, side="right", size=16, seed=0):
    """``"3 IIIII 2"`` is three words, a picture cut into 2 x 2 sub-pictures and the whole, two words: ids, images and mask, padded."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for layout in layouts:
        row = []
        for part in layout.split():
            new = [IMAGE] * (tokens * len(part)) if "I" in part else torch.randint(1, 80, (int(part),), generator=generator).tolist()
            row += new
        rows.append(row)
    longest = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        at_left = side == "left" or side == "mixed" and index % 2
        place = slice(longest - len(row), longest) if at_left else slice(0, len(row))
        ids[index, place], mask[index, place] = torch.tensor(row), 1
    pictures = sum(layout.count("I") for layout in layouts)
    return ids, torch.randn(pictures, 3, size, size, generator=generator) if pictures else None, mask


def as_theirs(images, layouts):
    """Sub-pictures as transformers wants them: a row for each text, filled up with pictures of zeros."""
    if images is None:
        return None
    counts = [layout.count("I") for layout in layouts]
    filled = images.new_zeros(len(counts), max(counts), *images.shape[1:])
    for row, own in enumerate(images.split(counts)):
        filled[row, : len(own)] = own
    return filled


def difference(ours, theirs, *layouts, tokens=4, side="right", size=16, dtype=torch.float32):
    """Largest difference of the logits on real tokens, as a share of the largest of theirs above 1."""
    ids, images, mask = rows_of(*layouts, tokens=tokens, side=side, size=size)
    images = None if images is None else images.to(dtype)
    expected = theirs(input_ids=ids, pixel_values=as_theirs(images, layouts), attention_mask=mask).logits[mask.bool()]
    logits = ours(ids, images, mask)[mask.bool()]
    assert logits.isfinite().all() and logits.dtype == dtype
    return largest_difference(logits, expected) / max(1.0, expected.abs().max().item())


LAYOUTS = {
    "one sub-picture": ["5 I 6"],
    "a picture of 2 x 2 and the whole": ["4 I 1 I 2 I 1 I 2 I 3"],
    "side by side": ["2 IIIII 3"],
    "first": ["I 4"],
    "last": ["3 II"],
    "nothing else": ["III"],
    "other numbers in every row": ["3 II 2", "7", "I 12", "2 I 1 III 1"],
    "no picture": ["5", "8"],
}


@pytest.mark.parametrize("side", ["left", "right", "mixed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_equal_transformers(layout, side, pair):
    theirs, ours, _ = pair
    assert difference(ours, theirs, *LAYOUTS[layout], side=side) < 1e-5
    ids, images, mask = rows_of(*LAYOUTS[layout], side=side)
    if images is not None:
        assert largest_difference(ours(ids, images.flip(0) * 1.1, mask)[mask.bool()], ours(ids, images, mask)[mask.bool()]) > 0.01


OPTIONS = {
    "one token": (1, 16, dict(scale_factor=4)),
    "nothing merged": (16, 16, dict(scale_factor=1)),
    "a third": (1, 12, dict(scale_factor=3, vision=dict(image_size=12))),
    "patches that do not divide the image": (4, 19, dict(vision=dict(image_size=19))),
    "27 x 27 patches": (81, 55, dict(scale_factor=3, vision=dict(image_size=55, patch_size=2))),
    "one patch": (1, 16, dict(scale_factor=1, vision=dict(patch_size=16))),
    "a tied head": (4, 16, dict(tie_word_embeddings=True)),
    "the decoder's own word on it has no effect": (4, 16, dict(text=dict(tie_word_embeddings=True))),
    "gelu in the encoder": (4, 16, dict(vision=dict(hidden_act="gelu"))),
    "epsilons": (4, 16, dict(vision=dict(layer_norm_eps=0.1), text=dict(rms_norm_eps=0.2))),
    "keys for every head": (4, 16, dict(text=dict(num_key_value_heads=6))),
    "wider heads": (4, 16, dict(text=dict(head_dim=10))),
    "scaled rotary positions": (
        4,
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
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_equal_transformers(option, tmp_path):
    tokens, size, changes = OPTIONS[option]
    theirs = of_transformers(tmp_path / "theirs", **changes)
    ours = UnifiedMLLM.from_pretrained(tmp_path / "theirs")
    assert ours.image_tokens == tokens
    assert difference(ours, theirs, "5 I 6", "2 II 3", tokens=tokens, size=size) < 1e-5
    again = SmolVLMForConditionalGeneration.from_pretrained(ours.save_pretrained(tmp_path / "ours"))
    assert difference(ours, again, "5 I 6", tokens=tokens, size=size) < 1e-5


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_other_dtypes(dtype, tolerance, tmp_path):
    theirs = of_transformers(tmp_path / "theirs", dtype=dtype)
    ours = UnifiedMLLM.from_pretrained(tmp_path / "theirs")
    assert difference(ours, theirs, "5 II 6", dtype=dtype) < tolerance
    ours.save_pretrained(tmp_path / "ours")
    saved = load_file(tmp_path / "ours" / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {dtype}


@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_and_uncached_writing_are_equal_and_equal_transformers(side, pair):
    theirs, ours, _ = pair
    layouts = ["5 IIIII 6", "2 I 3", "4"]
    ids, images, mask = rows_of(*layouts, side=side)
    cached = generate(ours, ids, 8, mask=mask, images=images)
    assert torch.equal(cached, generate(ours, ids, 8, mask=mask, images=images, use_cache=False))
    assert cached.shape[1] == ids.shape[1] + 8 and (cached[:, ids.shape[1] :] != IMAGE).all()
    if side == "left":
        settings = dict(max_new_tokens=8, do_sample=False, suppress_tokens=[IMAGE], eos_token_id=None, pad_token_id=0)
        expected = theirs.generate(input_ids=ids, pixel_values=as_theirs(images, layouts), attention_mask=mask, **settings)
        assert torch.equal(cached, expected)


def test_a_batch_is_its_rows_alone_and_later_sub_pictures_change_nothing_before(pair):
    _, ours, _ = pair
    layouts = ["3 II 2", "IIIII 1", "6"]
    ids, images, mask = rows_of(*layouts, side="left")
    logits = ours(ids, images, mask)
    for row, own in enumerate(images.split([layout.count("I") for layout in layouts])):
        alone = ours(ids[row][mask[row].bool()][None], own if len(own) else None)[0]
        assert largest_difference(logits[row][mask[row].bool()], alone) < 2e-5
    ids, images, _ = rows_of("3 III 2")
    changed = images.clone()
    changed[1, 0, 15, 15] += 1.0  # a sub-picture, whose tokens stand at 7 to 10
    moved = (ours(ids, images) - ours(ids, changed)).abs().amax(dim=-1)[0] > 0
    assert not moved[:7].any() and moved[10:].all()


def test_the_gradient_by_the_images_equals_transformers(pair):
    theirs, ours, _ = pair
    ids, images, _ = rows_of("3 II 2")
    gradients = []
    for model, shape in ((ours, images), (theirs, images[None])):
        given = shape.clone().requires_grad_()
        logits = model(ids, given) if model is ours else model(input_ids=ids, pixel_values=given).logits
        logits.square().mean().backward()
        gradients.append(given.grad.reshape(images.shape))
    assert gradients[1].abs().max() > 0 and largest_difference(*gradients) < 1e-5 * gradients[1].abs().max()


def test_black_sub_pictures_count(pair):
    """transformers takes pictures of exact zeros, which are grey when normalised, for its own filling and drops them."""
    _, ours, _ = pair
    ids, images, _ = rows_of("3 II 2")
    images[0] = 0.0
    assert ours(ids, images).isfinite().all()


def test_saved_it_is_opened_by_transformers_with_the_same_tensors(pair, tmp_path):
    theirs, ours, folder = pair
    ours.save_pretrained(tmp_path / "ours")
    again, told = SmolVLMForConditionalGeneration.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    first, second = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "ours"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert difference(ours, again, "5 I 6", "2 III 3") < 1e-5
    assert type(AutoModelForImageTextToText.from_pretrained(tmp_path / "ours")) is SmolVLMForConditionalGeneration
    reopened = UnifiedMLLM.from_pretrained(tmp_path / "ours")
    assert reopened.config == ours.config and difference(reopened, theirs, "5 I 6") < 1e-5
    ours.save_pretrained(tmp_path / "shards", max_shard_size=40_000)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert difference(UnifiedMLLM.from_pretrained(tmp_path / "shards"), theirs, "5 I 6") < 1e-5


def test_a_model_from_parts_is_a_smolvlm(tmp_path):
    vision = ViTConfig(24, 6, dim=20, layers=2, heads=2, mlp_dim=28, classes=0, class_token=False, activation="gelu_pytorch_tanh")
    language = LanguageModelConfig.tiny(VOCABULARY, tied=True, start_token_id=1, eos_token_id=2)
    options = dict(feature_layer=-1, final_norm=True, projector="linear", projector_bias=False, merge=4)
    model = UnifiedMLLM(UnifiedConfig(vision, language, IMAGE, **options)).eval()
    encoder, decoder = randomise(ViT(vision), seed=1), randomise(LanguageModel(language), seed=2)
    model.copy_encoder(encoder).language_model.load_state_dict(decoder.state_dict())
    model.save_pretrained(tmp_path / "parts")
    theirs = SmolVLMForConditionalGeneration.from_pretrained(tmp_path / "parts")
    assert difference(model, theirs, "5 I 6", "II 3", tokens=1, size=24) < 1e-5
    ids, images, _ = rows_of("5 I 6", "3 I 8", tokens=1, size=24)
    settings = dict(max_new_tokens=8, do_sample=False, suppress_tokens=[IMAGE], eos_token_id=None, pad_token_id=0)
    expected = theirs.generate(input_ids=ids, pixel_values=images[:, None], attention_mask=torch.ones_like(ids), **settings)
    assert torch.equal(generate(model, ids, 8, images=images), expected)
    again = UnifiedMLLM.from_pretrained(tmp_path / "parts")
    assert again.config.preparation == model.config.preparation == Preparation()
    assert again.config.image_mean == model.config.image_mean and again.config.language.eos_token_id == 2


@pytest.mark.parametrize(
    "changes,message",
    [
        (dict(projector_bias=True), "projector_bias = True, and SmolVLMForConditionalGeneration"),
        (dict(final_norm=False), "final_norm = False"),
        (dict(projector="mlp"), "projector = 'mlp'"),
        (dict(token_scale=0.3), "token_scale = 0.3"),
        (dict(shared_position=True), "shared_position = True"),
        (dict(image_token_id=500), "image_token_id = 500, and SmolVLMForConditionalGeneration"),
        (dict(vision=dict(pre_norm=True)), "pre_norm = True"),
        (dict(vision=dict(image_size=(8, 16))), r"image_size = \(8, 16\)"),
        (dict(vision=dict(image_size=76, patch_size=4), merge=1), "a grid of 19 x 19 patches"),
    ],
)
def test_what_a_smolvlm_cannot_be_is_not_written(changes, message, tmp_path):
    vision = ViTConfig(16, 4, dim=16, layers=2, heads=2, mlp_dim=20, classes=0, class_token=False)
    options = dict(feature_layer=-1, final_norm=True, projector="linear", projector_bias=False, merge=2)
    options |= dict(vision=vision, language=LanguageModelConfig.tiny(VOCABULARY), image_token_id=IMAGE)
    changes = {name: replace(vision, **value) if name == "vision" else value for name, value in changes.items()}
    with pytest.raises(ValueError, match=message):
        UnifiedMLLM(UnifiedConfig(**options | changes)).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# ---- configs -----------------------------------------------------------------------------------------------------------

# As the file on the hub is written (HuggingFaceTB/SmolVLM-256M-Instruct), shortened: defaults left out, entries without effect.
SMOLVLM_256M = dict(
    model_type="idefics3",
    image_token_id=49190,
    scale_factor=4,
    tie_word_embeddings=False,
    vocab_size=49280,
    pad_token_id=128_002,
    text_config=dict(
        architectures=["VLlama3ForCausalLM"],
        model_type="llama",
        hidden_size=576,
        intermediate_size=1536,
        num_attention_heads=9,
        num_hidden_layers=30,
        num_key_value_heads=3,
        head_dim=64,
        is_llama_config=True,
        max_position_embeddings=8192,
        pad_token_id=2,
        perceiver_config=dict(model_type="vllama3", resampler_depth=6),
        pixel_shuffle_factor=4,
        qk_layer_norms=False,
        rms_norm_eps=1e-5,
        rope_interleaved=False,
        rope_scaling=None,
        rope_theta=100_000,
        tie_word_embeddings=True,
        use_resampler=False,
        vocab_size=49280,
    ),
    vision_config=dict(
        model_type="siglip_vision_model",
        hidden_size=768,
        num_attention_heads=12,
        image_size=512,
        patch_size=16,
        max_image_size=dict(longest_edge=512),
        size=dict(longest_edge=2048),
        use_base_siglip=True,
    ),
)


def test_the_sizes_of_smolvlm_256m_from_its_config():
    config = config_from_transformers(SMOLVLM_256M)
    with torch.device("meta"):
        model = UnifiedMLLM(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 256_484_928
    assert len(list(model.parameters())) == 471 and model.image_tokens == 64
    assert (config.language.rotary_base, config.language.pad_token_id, config.language.tied) == (100_000, 2, False)


def test_the_defaults_are_those_of_transformers():
    config, theirs = config_from_transformers(dict(model_type="smolvlm", scale_factor=7)), SmolVLMConfig()
    vision, text = theirs.vision_config, theirs.text_config
    assert config.image_token_id == theirs.image_token_id == 128_257 and theirs.scale_factor == 2
    with pytest.raises(ValueError, match="scale_factor = 2: .*7 x 7 patches"):  # the default makes no model of the other defaults
        config_from_transformers(dict(model_type="smolvlm"))
    ours = config.vision
    assert (ours.size, ours.patch_size, ours.dim, ours.heads) == ((224, 224), 32, vision.hidden_size, vision.num_attention_heads)
    assert (ours.layers, ours.mlp_dim, ours.norm_eps) == (vision.num_hidden_layers, vision.intermediate_size, vision.layer_norm_eps)
    assert (config.language.vocab_size, config.language.norm_eps) == (text.vocab_size, text.rms_norm_eps) == (32_000, 1e-5)


def edit(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in values.items():
        part, _, name = key.rpartition("__")
        (config[part] if part else config)[name] = value
    path.write_text(json.dumps(config))


def test_entries_without_effect_are_passed_over(tmp_path):
    theirs = of_transformers(tmp_path)
    for model_type in ("idefics3", "siglip_vision_model", "smolvlm_vision", None):
        edit(tmp_path, vision_config__model_type=model_type, text_config__pixel_shuffle_factor=4, vocab_size=5, pad_token_id=128_002)
        assert difference(UnifiedMLLM.from_pretrained(tmp_path), theirs, "5 I 6") < 1e-5


@pytest.mark.parametrize(
    "values,message",
    [
        (dict(model_type="idefics2"), "model_type 'idefics2', expected 'llava' or 'smolvlm' or 'idefics3'"),
        (dict(text_config__model_type="mistral"), "text_config of model_type 'mistral'"),
        (dict(text_config="llama"), "text_config = 'llama'"),
        (dict(text_config__attention_bias=True), "attention_bias = True"),
        (dict(vision_config=[1]), r"vision_config = \[1\]"),
        (dict(vision_config__hidden_act="selu"), "hidden_act = 'selu'"),
        (dict(vision_config__num_channels=1), "num_channels = 1"),
        (dict(vision_config__image_size=[16, 16]), r"image_size = \[16, 16\]"),
        (dict(vision_config__patch_size=0), "patch_size = 0"),
        (dict(vision_config__image_size=3), "images of 3 x 3 pixels"),
        (dict(vision_config__image_size=100), "image_size = 100 and patch_size = 4, a grid of 25 x 25 patches"),
        (dict(vision_config__num_attention_heads=5), "num_attention_heads = 5|heads"),
        (dict(scale_factor=3), "scale_factor = 3.*grid of 4 x 4"),
        (dict(scale_factor=0), "scale_factor = 0"),
        (dict(scale_factor=2.0), "scale_factor = 2.0"),
        (dict(scale_factor=True), "scale_factor = True"),
        (dict(image_token_id="<image>"), "image_token_id = '<image>'"),
        (dict(tie_word_embeddings=1), "tie_word_embeddings = 1"),
    ],
)
def test_options_that_are_not_implemented_are_refused_by_name(values, message, tmp_path):
    of_transformers(tmp_path)
    edit(tmp_path, **values)
    with pytest.raises(ValueError, match=message):
        UnifiedMLLM.from_pretrained(tmp_path)


def test_faulty_files_are_refused_by_name(pair, tmp_path):
    _, _, folder = pair
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")

    def loading(changed):
        save_file(changed, tmp_path / "model.safetensors")
        return UnifiedMLLM.from_pretrained(tmp_path)

    for name in tensors:
        with pytest.raises(ValueError, match=rf"1 missing: {name};"):
            loading({other: tensor for other, tensor in tensors.items() if other != name})
    for name in list(tensors)[::5]:
        longer = torch.cat([tensors[name], tensors[name][:1]])
        with pytest.raises(ValueError, match=rf"tensor {name} is .*expected floats of shape"):
            loading({**tensors, name: longer})
    bias = "model.connector.modality_projection.proj.bias"
    with pytest.raises(ValueError, match=f"1 unexpected: {bias}"):
        loading({**tensors, bias: torch.zeros(36)})


def test_other_sizes_and_counts_are_refused_with_both_numbers(pair):
    _, ours, _ = pair
    ids, images, _ = rows_of("2 II 2")
    with pytest.raises(ValueError, match="8 image tokens, and 1 images make 4"):
        ours(ids, images[:1])
    with pytest.raises(ValueError, match="8 image tokens, and 0 images make 0"):
        ours(ids)
    with unchecked(), pytest.raises(ValueError, match="16 x 16 pixels and got 12 x 16"):
        ours(ids, images[:, :, :12])
