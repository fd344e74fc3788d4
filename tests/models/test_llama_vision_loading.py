"""Folders of Llama 3.2 Vision: what loads, what is refused and how, the sizes of the real models, precisions, gradients."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import largest_difference, randomise, unchecked
from tiny_llama_vision import FOUR, IMAGE, ONE, TILE, TWO, batch, inputs_of, theirs

from minimllm import LanguageModelConfig, LlamaVision, LlamaVisionConfig, Tiles, cross_attention_mask, load, prepare_tiles
from minimllm.models.llama_vision.config import config_from_transformers
from minimllm.models.llama_vision.names import weight_names
from minimllm.models.llama_vision.vision import TileEncoder, TileEncoderConfig
from minimllm.models.shipped import save
from minimllm.weights.pretrained import file_names

ROWS = [("tItt", [FOUR]), ("tItItttt", [TWO, ONE]), ("tt", [])]


@pytest.fixture(scope="module")
def model():
    return theirs()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, part=None, **changes):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    section = values if part is None else values[part]
    section.update(changes)
    for name in [name for name, value in section.items() if value == "gone"]:
        del section[name]
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("reference", ["meta", "transformers"])
def test_loss_and_all_gradients_equal_those_of_the_reference(folder, reference):
    ours, model = LlamaVision.from_pretrained(folder, reference=reference), theirs(reference)
    ids, mask, tiles = batch(*ROWS)
    labels = ids.masked_fill((ids == IMAGE) | (mask == 0), -100)
    expected = model(**inputs_of(ids, mask, tiles), labels=labels).loss
    expected.backward()
    logits = ours(ids, tiles, mask)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    loss.backward()
    assert abs(loss.item() - expected.item()) < 1e-5
    names, others = weight_names(ours.config), dict(model.named_parameters())
    compared = 0
    for name, parameter in ours.named_parameters():
        other = next(others[each] for each in file_names(name, names) if each in others)
        gradient = other.grad.reshape(parameter.shape)
        if gradient.abs().max() == 0:
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        assert largest_difference(parameter.grad, gradient) < 1e-4 * gradient.abs().max(), name
        compared += 1
    assert len(others) == len(list(ours.parameters())) and compared == len(others)
    with pytest.raises(IndexError):  # the image token has no logit
        torch.nn.functional.cross_entropy(logits[:, 0], torch.full((3,), IMAGE))


# How far from theirs, computed in the same numbers, and from theirs in float32, of logits up to 4. Norms and softmax stay float32 there.
PRECISIONS = {torch.float64: (1e-6, 1e-5), torch.float16: (1e-2, 1e-2), torch.bfloat16: (6e-2, 6e-2)}


@pytest.mark.parametrize("reference", ["meta", "transformers"])
@pytest.mark.parametrize("dtype", PRECISIONS)
@torch.no_grad()
def test_other_precisions_stay_close(folder, dtype, reference):
    ids, mask, tiles = batch(*ROWS)
    real = mask.bool()
    exact = theirs(reference)(**inputs_of(ids, mask, tiles)).logits[real]
    expected = theirs(reference).to(dtype)(**inputs_of(ids, mask, tiles.to(dtype))).logits[real]
    model = LlamaVision.from_pretrained(folder, dtype, reference=reference)
    got = model(ids, tiles.to(dtype), mask)[real]
    assert {parameter.dtype for parameter in model.parameters()} == {got.dtype} == {dtype} and got.isfinite().all()
    assert torch.equal(got, model(ids, tiles, mask)[real]), "tiles in float32 are taken as well"
    same_numbers, float32 = PRECISIONS[dtype]
    assert largest_difference(got, expected) < same_numbers and largest_difference(got.float(), exact) < float32
    best, second = exact.topk(2).values.unbind(-1)
    clear = best - second > 2 * float32
    assert torch.equal(got.argmax(-1)[clear], exact.argmax(-1)[clear]) and clear.float().mean() > 0.75


def test_a_model_of_two_tiles_at_most(tmp_path):
    small = theirs(vision=dict(max_num_tiles=2, supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]]))
    small.save_pretrained(tmp_path)
    ours = LlamaVision.from_pretrained(tmp_path, reference="transformers")
    ids, mask, _ = batch(("tItt", []), ("ItIt", []))
    tiles = ours.prepare_tiles([[FOUR], [TWO, ONE]])
    assert tiles.pixel_values.shape == (2, 2, 2, 3, TILE, TILE)
    inputs = inputs_of(ids, mask, tiles) | dict(cross_attention_mask=cross_attention_mask(ids, tiles.num_tiles, IMAGE, 2).long())
    with torch.no_grad():
        assert largest_difference(ours(ids, tiles, mask), small(**inputs).logits) < 1e-5


def test_names_in_memory_load_as_well_as_those_on_disk(model, folder):
    ids, mask, tiles = batch(*ROWS)
    first = LlamaVision.from_pretrained(folder)(ids, tiles, mask)
    on_disk = load_file(folder / "model.safetensors")
    in_memory = {name: value.clone() for name, value in model.state_dict().items()}
    assert on_disk.keys().isdisjoint(in_memory) and len(on_disk) == len(in_memory)
    save_file(in_memory | {"model.language_model.rotary_emb.inv_freq": torch.ones(4)}, folder / "model.safetensors")
    assert torch.equal(LlamaVision.from_pretrained(str(folder))(ids, tiles, mask), first)


def test_configs_that_leave_out_the_defaults_load(folder):
    whole = LlamaVision.from_pretrained(folder).config
    for part, names in {
        None: ["transformers_version", "architectures"],
        "vision_config": ["hidden_act", "norm_eps", "max_num_tiles", "num_channels", "supported_aspect_ratios", "model_type"],
        "text_config": ["hidden_act", "rms_norm_eps", "dropout", "tie_word_embeddings", "model_type"],
    }.items():
        rewrite(folder, part, **{name: "gone" for name in names})
    assert LlamaVision.from_pretrained(folder).config == whole
    rope = json.loads((folder / "config.json").read_text())["text_config"]["rope_parameters"]
    base = rope.pop("rope_theta")
    rewrite(folder, "text_config", rope_parameters="gone", rope_theta=base, rope_scaling=rope)
    rewrite(folder, image_token_index="gone", image_token_id=IMAGE)
    assert LlamaVision.from_pretrained(folder).config == whole


def test_a_config_of_nothing_but_defaults_is_that_of_the_11b_base(tmp_path):
    base = LlamaVisionConfig.llama_3_2_11b(vision=TileEncoderConfig(tile_size=448))
    plain = replace(base, language=replace(base.language, rotary_scaling=None))
    read = config_from_transformers({"model_type": "mllama", "vision_config": {}, "text_config": None})
    assert read == plain


def test_mean_and_deviation_come_from_the_folder(folder):
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}))
    ours = LlamaVision.from_pretrained(folder)
    assert ours.config.image_mean == (0.1, 0.2, 0.3) and ours.config.image_std == (1, 2, 3)
    expected = prepare_tiles([[TWO]], TILE, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    assert torch.equal(ours.prepare_tiles([[TWO]]).pixel_values, expected.pixel_values)


@pytest.mark.parametrize(
    "part, changes, words",
    [
        (None, dict(model_type="llava"), "'llava'"),
        (None, dict(model_type="gone"), "None"),
        ("vision_config", dict(model_type="clip_vision_model"), "clip_vision_model"),
        ("text_config", dict(model_type="llama"), "'llama'"),
        (None, dict(text_config=7), "text_config = 7"),
        ("vision_config", dict(hidden_act="gelu_new"), "hidden_act = 'gelu_new'"),
        ("vision_config", dict(vision_output_dim=128), "vision_output_dim = 128"),
        ("vision_config", dict(intermediate_layers_indices=[1, 5]), "(1, 5)"),
        ("vision_config", dict(intermediate_layers_indices=[1, 2, 3]), "vision_output_dim = 96"),
        ("vision_config", dict(supported_aspect_ratios=[[1, 1], [2, 2]]), "supported_aspect_ratios"),
        ("vision_config", dict(max_num_tiles=5), "max_tiles"),
        ("vision_config", dict(image_size=[16, 16]), "image_size = [16, 16]"),
        ("vision_config", dict(image_size=18), "18 x 18"),
        ("vision_config", dict(image_size=20), "gated_positional_embedding"),
        ("vision_config", dict(num_hidden_layers=6), "vision_model.transformer.layers.5."),
        ("vision_config", dict(num_global_layers=1), "vision_model.global_transformer.layers.1."),
        ("text_config", dict(dropout=0.1), "dropout = 0.1"),
        ("text_config", dict(tie_word_embeddings=True), "tie_word_embeddings = True"),
        ("text_config", dict(hidden_act="gelu"), "hidden_act = 'gelu'"),
        ("text_config", dict(head_dim=16), "head_dim = 16"),
        ("text_config", dict(rope_parameters={"rope_type": "yarn"}), "yarn"),
        ("text_config", dict(cross_attention_layers=[1, 5]), "[1, 5]"),
        ("text_config", dict(cross_attention_layers=[1, 3]), "language_model.model.layers.3.cross_attn"),
        ("text_config", dict(num_hidden_layers=6), "language_model.model.layers.5."),
        ("text_config", dict(vocab_size=98), "lm_head.weight is torch.float32 (99, 32)"),
        (None, dict(image_token_index=107), "107 lies outside the embedding of 107 rows"),
    ],
)
def test_folders_that_do_not_fit_are_refused_by_name(folder, part, changes, words):
    rewrite(folder, part, **changes)
    with pytest.raises(ValueError) as error:
        LlamaVision.from_pretrained(folder)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "vision_model.class_embedding",
        "vision_model.gated_positional_embedding.tile_embedding.weight",
        "vision_model.global_transformer.layers.1.gate_ffn",
        "multi_modal_projector.bias",
        "language_model.model.layers.4.cross_attn_mlp_gate",
        "language_model.model.layers.3.self_attn.q_proj.weight",
        "language_model.lm_head.weight",
    ],
)
def test_a_missing_an_unexpected_and_a_misshapen_tensor_are_named_as_in_the_file(folder, name):
    path, tensors = folder / "model.safetensors", load_file(folder / "model.safetensors")
    without = {other: value for other, value in tensors.items() if other != name}
    for changed, words in (
        (without, f"1 missing: {name}"),
        (tensors | {name + "_more": torch.ones(1)}, f"1 unexpected: {name}_more"),
        (tensors | {name: torch.ones(7, 7)}, f"tensor {name} is torch.float32 (7, 7)"),
    ):
        save_file(changed, path)
        with pytest.raises(ValueError) as error:
            LlamaVision.from_pretrained(folder)
        assert words in str(error.value)


def test_a_damaged_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        LlamaVision.from_pretrained(folder)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_of_the_released_models():
    with torch.device("meta"):
        model = LlamaVision(LlamaVisionConfig.llama_3_2_11b())
        assert parameters(model) == 10_670_220_835
        assert parameters(model.vision) == 863_567_379 and parameters(model.projector) == 31_461_376
        assert parameters(model.cross_blocks) == 1_744_898_064
        assert parameters(model.language_model) - 8 * 4096 == 8_030_261_248, "Llama 3.1 8B, and the eight new tokens"
        base = LlamaVisionConfig.llama_3_2_11b(vision=TileEncoderConfig(tile_size=448))
        assert parameters(LlamaVision(base)) == 10_642_941_475
        large = LlamaVision(LlamaVisionConfig.llama_3_2_90b())
        assert parameters(large) == 88_593_355_323 and len(large.cross_blocks) == 20


def test_sizes_of_the_parts_follow_from_their_formulas():
    config = LlamaVisionConfig.llama_3_2_11b()
    with torch.device("meta"):
        model = LlamaVision(config)
    vision, language, width, grids, tiles = config.vision, config.language, 1280, 1 + 8, 4
    cross, own = model.cross_blocks[0], model.language_model.blocks[0]
    attention = 2 * language.dim * language.heads * 128 + 2 * language.dim * language.key_value_heads * 128
    mlp = 3 * language.dim * language.mlp_dim
    parts = {
        model.vision.patches: (width * 3 * 14**2, 752_640),
        model.vision.pre_tile: (grids * tiles * width + 1, 46_081),
        model.vision.post_tile: (grids * tiles * width + 1, 46_081),
        model.vision.positions: (vision.tokens * width + grids * tiles * vision.tokens * width + 1, 75_823_361),
        model.vision.blocks: (32 * (4 * width**2 + 2 * width * 5120 + 5120 + width + 4 * width), 629_514_240),
        model.vision.global_blocks: (8 * (4 * width**2 + 2 * width * 5120 + 5120 + width + 4 * width + 2), 157_378_576),
        model.projector: (7680 * 4096 + 4096, 31_461_376),
        model.language_model.tokens: (128_264 * 4096, 525_369_344),
        model.language_model.head: (128_256 * 4096, 525_336_576),
        own: (attention + mlp + 2 * language.dim, 218_112_000),
        cross: (attention + 2 * 128 + mlp + 2 * language.dim + 2, 218_112_258),
    }
    for part, (formula, count) in parts.items():
        assert parameters(part) == formula == count


def test_sizes_of_a_picture_in_the_released_models():
    config = LlamaVisionConfig.llama_3_2_11b()
    assert config.vision.tokens == 1601 and config.vision.features == 7680 and config.layers == 40
    assert config.cross_layers == (3, 8, 13, 18, 23, 28, 33, 38) and config.vocabulary == 128_264


def tiny():
    return randomise(LlamaVision(LlamaVisionConfig.tiny(30)))


def test_the_course_size_is_saved_and_loaded(tmp_path):
    model = randomise(LlamaVision(LlamaVisionConfig.tiny(30, reference="transformers")))
    again, tokenizer = load(save(tmp_path / "model", model, None, {}))
    ids, tiles = torch.tensor([[1, 2, 5, 6]]), model.prepare_tiles([[FOUR]])
    assert tokenizer is None and again.config == model.config
    assert torch.equal(again(ids, tiles), model(ids, tiles))


def test_a_seed_gives_one_model_and_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    first, second = (LlamaVision(LlamaVisionConfig.tiny(30), seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    other = LlamaVision(LlamaVisionConfig.tiny(30), seed=4)
    assert not torch.equal(first.projector.weight, other.projector.weight)
    assert not torch.equal(first.vision.positions.local, other.vision.positions.local)


def test_a_new_model_does_not_see_its_pictures_and_its_gates_have_a_gradient():
    model = LlamaVision(LlamaVisionConfig.tiny(30))
    ids, tiles = torch.tensor([[1, 2, 5, 6]]), model.prepare_tiles([[FOUR]])
    logits = model(ids, tiles)
    language = model.language_model
    assert torch.equal(logits, language.logits(language.decode(language.tokens(ids))))
    logits.logsumexp(-1).sum().backward()
    gates = {name: gate.grad for name, gate in model.named_parameters() if name.endswith("gate") and gate.shape == (1,)}
    assert len(gates) == 4 + 2 + 3
    assert all(gate.abs() > 0 for name, gate in gates.items() if name.startswith("cross_blocks"))


def tiles_of(**changes):
    with unchecked():
        return replace(prepare_tiles([[TWO]], 32), **changes)


IDS = torch.tensor([[1, 2, 5, 6]])


@pytest.mark.parametrize(
    "ids, tiles, words",
    [
        (IDS, None, "row 0 has 1 image tokens (id 2) and 0 images"),
        (torch.tensor([[1, 5, 5, 6]]), tiles_of(), "row 0 has 0 image tokens (id 2) and 1 images"),
        (torch.tensor([[2, 2, 5, 6]]), tiles_of(), "row 0 has 2 image tokens (id 2) and 1 images"),
        (IDS.repeat(2, 1), tiles_of(), "1 samples with 1 lists of num_tiles do not fit 2 texts"),
        (IDS, torch.ones(1, 1, 4, 3, 32, 32), "got a Tensor"),
        (IDS, prepare_tiles([[TWO]], 16), "(batch, images, 4, 3, 32, 32), got torch.float32 (1, 1, 4, 3, 16, 16)"),
        (IDS, prepare_tiles([[TWO]], 32, max_tiles=2), "got torch.float32 (1, 1, 2, 3, 32, 32)"),
        (IDS, tiles_of(pixel_values=torch.ones(1, 1, 4, 3, 32, 32, dtype=torch.uint8)), "torch.uint8"),
        (IDS, tiles_of(pixel_values=torch.full((1, 1, 4, 3, 32, 32), float("nan"))), "not finite"),
        (IDS, tiles_of(aspect_ratio_ids=torch.tensor([[9]])), "aspect_ratio_ids [9]"),
        (IDS, tiles_of(num_tiles=[[3]]), "num_tiles [3]"),
        (IDS, tiles_of(aspect_ratio_mask=torch.ones(1, 1, 2, dtype=torch.long)), "(1, 1, 2)"),
        (torch.tensor([[1, 30]]), None, "0 to 29"),
        (torch.ones(1, 257, dtype=torch.long), None, "257"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(ids, tiles, words):
    with unchecked(), pytest.raises(ValueError) as error:
        tiny()(ids, tiles)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: LlamaVisionConfig.tiny(30, reference="hf"), "'hf'"),
        (lambda: LlamaVisionConfig.tiny(30, cross_layers=(1, 5)), "(1, 5)"),
        (lambda: LlamaVisionConfig.tiny(30, cross_layers=(1, 1)), "(1, 1)"),
        (lambda: LlamaVisionConfig.tiny(30, image_token_id=30), "30 lies outside"),
        (lambda: LlamaVisionConfig.tiny(30, extra_tokens=8), "extra_tokens"),
        (lambda: TileEncoderConfig.tiny(collected=(3,)), "(3,)"),
        (lambda: TileEncoderConfig.tiny(patch_size=5), "32 x 32"),
        (lambda: TileEncoderConfig.tiny(max_tiles=6), "got 6"),
        (lambda: TileEncoderConfig.tiny(dim=0), "dim must be 1 or more, got 0"),
        (lambda: TileEncoder(TileEncoderConfig.tiny(), reference="hf"), "'hf'"),
    ],
)
def test_sizes_that_make_no_model_are_refused(build, words):
    with pytest.raises(ValueError) as error:
        build()
    assert words in str(error.value)


def test_an_untied_course_size_may_have_tokens_that_are_never_predicted():
    language = LanguageModelConfig.tiny(30, tied=False)
    model = LlamaVision(LlamaVisionConfig.tiny(30, language=language, extra_tokens=8, image_token_id=30))
    logits = model(torch.tensor([[1, 30, 5]]), model.prepare_tiles([[ONE]]))
    assert logits.shape == (1, 3, 30) and isinstance(model.prepare_tiles([[ONE]]), Tiles)


def test_other_folders_missing_shards_shards_outside_and_pickles_are_refused(folder, tmp_path_factory):
    def refused(place, words):
        with pytest.raises(ValueError) as error:
            LlamaVision.from_pretrained(place)
        assert words in str(error.value), str(error.value)

    refused(folder / "nowhere", "there is no folder")
    weights, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    tensors = load_file(weights)
    weights.rename(folder / "model-00001-of-00002.safetensors")
    for shard, words in (
        ("model-00002-of-00002.safetensors", "the shard"),
        ("../model-00002-of-00002.safetensors", "leads outside the folder"),
        ("/model-00002-of-00002.safetensors", "leads outside the folder"),
    ):
        places = dict.fromkeys(tensors, "model-00001-of-00002.safetensors") | {"language_model.lm_head.weight": shard}
        index.write_text(json.dumps({"weight_map": places}))
        refused(folder, words)
    index.unlink()
    (folder / "consolidated.pth").write_bytes(b"never opened")
    refused(folder, "consolidated.pth would have to be unpickled")
    rewrite(folder, model_type="mllama_text_model")
    refused(folder, "model_type 'mllama_text_model', expected 'mllama'")
