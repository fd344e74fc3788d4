"""Weights in Meta's layout: the model made of them computes what Meta's formulas make of the same tensors as they lie there."""

import math
from collections.abc import Callable
from dataclasses import replace

import meta_llama_vision as reference
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import largest_difference, unchecked
from tiny_llama_vision import FOUR, TWO, batch, picture

from minimllm import LanguageModelConfig, LlamaVision, LlamaVisionConfig, RotaryScaling, cross_attention_mask
from minimllm.models.llama_vision import meta
from minimllm.models.llama_vision.meta import from_meta
from minimllm.models.llama_vision.tiles import arrangements
from minimllm.models.llama_vision.vision import TileEncoderConfig

LANGUAGE = LanguageModelConfig(
    reference.VOCABULARY,
    dim=reference.WIDTH,
    layers=reference.LAYERS,
    heads=reference.HEADS,
    mlp_dim=reference.MLP,
    key_value_heads=reference.KEY_HEADS,
    context_length=128,
    rotary_base=reference.BASE,
    rotary_scaling=RotaryScaling(reference.FACTOR, reference.LOW, reference.HIGH, reference.ORIGINAL),
)
VISION = TileEncoderConfig(
    tile_size=reference.TILE,
    patch_size=reference.PATCH,
    dim=reference.VISION_WIDTH,
    layers=reference.VISION_LAYERS,
    global_layers=reference.GLOBAL_LAYERS,
    heads=reference.VISION_HEADS,
    mlp_dim=reference.VISION_MLP,
    collected=reference.COLLECTED,
)
CONFIG = LlamaVisionConfig(VISION, LANGUAGE, (1, 4), image_token_id=reference.VOCABULARY, extra_tokens=reference.NEW)
CASES = {
    "a picture in each arrangement": ("ttI" * 8 + "tt", [picture(rows * 16, columns * 16) for rows, columns in arrangements()]),
    "pictures side by side": ("ttIIttttttttttttttttttt", [FOUR, TWO]),
}


def expected(weights, case):
    ids, _, tiles = batch(CASES[case])
    grids = [arrangements()[number - 1] for number in tiles.aspect_ratio_ids[0].tolist()]
    visible = cross_attention_mask(ids, tiles.num_tiles, CONFIG.image_token_id)[0]
    return reference.Meta(weights)(ids[0], list(zip(tiles.pixel_values[0], grids, strict=True)), visible)


def difference(model, weights, case="a picture in each arrangement"):
    ids, _, tiles = batch(CASES[case])
    with torch.no_grad():
        return largest_difference(model(ids, tiles)[0], expected(weights, case))


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_metas_formulas_on_the_same_tensors(case):
    weights = reference.random_weights()
    assert batch(CASES["a picture in each arrangement"])[2].aspect_ratio_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert expected(weights, case).abs().max() > 1, "large enough that 1e-5 means something"
    assert difference(from_meta(weights, CONFIG), weights, case) < 1e-5


def test_blocks_stand_where_metas_schedule_has_them():
    for config in (CONFIG, LlamaVisionConfig.llama_3_2_11b(), LlamaVisionConfig.llama_3_2_90b()):
        before = reference.schedule(config.language.layers, len(config.cross_layers))
        assert config.cross_layers == tuple(layer + number for number, layer in enumerate(before))


def test_numbers_are_those_of_the_released_models_in_metas_layout():
    for config, count in ((LlamaVisionConfig.llama_3_2_11b(), 10_629_184_035), (LlamaVisionConfig.llama_3_2_90b(), 88_552_318_523)):
        with torch.device("meta"):
            shapes = [meta.meta_shape(name, tuple(p.shape), config) for name, p in LlamaVision(config).named_parameters()]
        assert sum(map(math.prod, shapes)) + config.extra_tokens * config.language.dim == count


def test_weights_come_from_safetensors_and_go_into_folders_of_transformers(tmp_path):
    weights = reference.random_weights()
    save_file(weights | {"text_model.rope.freqs": torch.ones(4)}, tmp_path / "meta.safetensors")
    model = from_meta(load_file(tmp_path / "meta.safetensors"), CONFIG)
    again = LlamaVision.from_pretrained(model.save_pretrained(tmp_path / "mllama", reference="meta"))
    assert not model.training and difference(again, weights) < 1e-5
    half = from_meta({name: value.bfloat16() for name, value in weights.items()}, CONFIG)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    embedding = weights["text_model.output.weight"]
    assert from_meta(weights, CONFIG).language_model.head.weight.data_ptr() == embedding.data_ptr(), "no second copy"


def test_norms_of_queries_and_keys_are_not_swapped_which_no_logit_would_show():
    """A score is a sum of products, in which the two weights of a place stand together."""
    weights, (block, *_) = reference.random_weights(), from_meta(reference.random_weights(), CONFIG).cross_blocks
    for ours, name in ((block.attention.query_norm, "q_norm"), (block.attention.key_norm, "k_norm")):
        assert torch.equal(ours.weight, weights[f"text_model.cross_attention_layers.0.attention.{name}.weight"])


NAMED = [
    "vision_model.vision_encoder.conv1._linear.weight",
    "vision_model.vision_encoder.gated_positional_embedding",
    "vision_model.vision_encoder.pre_tile_pos_embed.embedding",
    "vision_model.vision_encoder.global_transformer.resblocks.1.gate_ffn",
    "vision_model.vision_projection.bias",
    "text_model.tok_embeddings.weight",
    "text_model.learnable_embedding.weight",
    "text_model.layers.3.attention.wk.weight",
    "text_model.cross_attention_layers.1.gate_ffwd",
    "text_model.output.weight",
]


@pytest.mark.parametrize("name", NAMED)
def test_a_missing_an_unexpected_and_a_misshapen_tensor_have_metas_name(name):
    weights = reference.random_weights()
    without = {other: value for other, value in weights.items() if other != name}
    for changed, words in (
        (without, f"1 missing: {name}; 0 unexpected"),
        (weights | {f"{name}.more": torch.ones(1)}, f"0 missing; 1 unexpected: {name}.more"),
        (weights | {name: torch.ones(7, 7)}, f"tensor {name} is torch.float32 (7, 7), expected floats of shape {reference.shapes()[name]}"),
        (weights | {name: weights[name].long()}, f"tensor {name} is torch.int64"),
    ):
        with pytest.raises(ValueError) as error:
            from_meta(changed, CONFIG)
        assert words in str(error.value)


@pytest.mark.parametrize(
    "config, words",
    [
        (replace(CONFIG, language=replace(LANGUAGE, layers=5)), "9 missing: text_model.layers.4.attention.wk.weight"),
        (replace(CONFIG, cross_layers=(1,)), "13 unexpected: text_model.cross_attention_layers.1.attention.k_norm.weight"),
        (
            replace(CONFIG, extra_tokens=4),
            "text_model.learnable_embedding.weight is torch.float32 (8, 32), expected floats of shape (4, 32)",
        ),
        (replace(CONFIG, extra_tokens=0, image_token_id=5), "1 unexpected: text_model.learnable_embedding.weight"),
        (
            replace(CONFIG, vision=replace(VISION, tile_size=20)),
            "positional_embedding is torch.float32 (17, 24), expected floats of shape (26",
        ),
        (replace(CONFIG, language=replace(LANGUAGE, tied=True), extra_tokens=0, image_token_id=5), "language.tied = True"),
    ],
)
def test_a_config_of_other_sizes_is_refused(config, words):
    with pytest.raises(ValueError) as error:
        from_meta(reference.random_weights(), config)
    assert words in str(error.value), str(error.value)


def other_order(change: Callable) -> Callable:
    """Tensors put into another order: ``change`` gets our name, Meta's tensor and what becomes of it."""

    def mutate(patch):
        rule = meta.in_our_order
        patch.setattr(meta, "in_our_order", lambda ours, value, config: change(ours, value, rule(ours, value, config)))

    return mutate


def own(ours, part):
    return ours.startswith("language_model.blocks.") and ours.endswith(f"attention.{part}.weight")


def cross(ours, *parts):
    return ours.startswith("cross_blocks.") and ours.endswith(tuple(f"attention.{part}.weight" for part in parts))


def swapped(*pairs: tuple[str, str]) -> Callable:
    """Names that stand for each other, as parts of ours."""

    def mutate(patch):
        names = dict(meta.META_NAMES)
        for first, second in pairs:
            for ours in [name for name in names if name.endswith(first)]:
                other = ours.removesuffix(first) + second
                if other in names:
                    names[ours], names[other] = names[other], names[ours]
        patch.setattr(meta, "META_NAMES", names)

    return mutate


def renumbered(start: str, order: list[int]) -> Callable:
    def mutate(patch):
        name = meta.meta_name

        def other(ours):
            if not ours.startswith(start):
                return name(ours)
            number, rest = ours.removeprefix(start).split(".", 1)
            return name(f"{start}{order[int(number)]}.{rest}")

        patch.setattr(meta, "meta_name", other)

    return mutate


def columns_first(patch):
    rule = meta.by_arrangement
    patch.setattr(meta, "by_arrangement", lambda grid, tiles: rule(grid.transpose(0, 1), tiles))


def tiles_down_the_columns(patch):
    def by_arrangement(grid, tiles):
        table = grid.new_zeros(len(arrangements()) + 1, tiles, *grid.shape[2:])
        for number, (rows, columns) in enumerate(arrangements(), start=1):
            table[number, : rows * columns] = grid[:rows, :columns].transpose(0, 1).flatten(0, 1)
        return table

    patch.setattr(meta, "by_arrangement", by_arrangement)


def no_zeros(patch):
    """Places without a tile get what stands behind in the grid."""
    rule = meta.by_arrangement
    patch.setattr(
        meta, "by_arrangement", lambda grid, tiles: torch.where(rule(grid, tiles) == 0, grid.flatten(0, 1)[:tiles], rule(grid, tiles))
    )


def counted_from_0(patch):
    rule = meta.by_arrangement
    patch.setattr(meta, "by_arrangement", lambda grid, tiles: rule(grid, tiles).roll(-1, dims=0))


def new_tokens_first(patch):
    cat = torch.cat
    patch.setattr(meta.torch, "cat", lambda parts: cat(parts[::-1]))


def by_channel_last(weight):
    return weight.unflatten(1, (reference.PATCH, reference.PATCH, 3)).permute(0, 3, 1, 2).flatten(1)


MISTAKES = {
    "3, patches with their channels last": other_order(lambda ours, v, new: by_channel_last(v) if "patches" in ours else new),
    "4, no permutation": other_order(lambda ours, v, new: v if own(ours, "query") or own(ours, "key") else new),
    "4, of the queries alone": other_order(lambda ours, v, new: v if own(ours, "key") else new),
    "4, the other way round": other_order(lambda ours, v, new: inverse(v, ours) if own(ours, "query") or own(ours, "key") else new),
    "4, of the values, too": other_order(lambda ours, v, new: meta.halves(v, reference.KEY_HEADS) if own(ours, "value") else new),
    "4, of cross-attention's queries, too": other_order(
        lambda ours, v, new: meta.halves(v, reference.HEADS) if cross(ours, "query") else new
    ),
    "4, of cross-attention's keys, too": other_order(
        lambda ours, v, new: meta.halves(v, reference.KEY_HEADS) if cross(ours, "key") else new
    ),
    "4, of the norms of heads": other_order(lambda ours, v, new: v.view(-1, 2).t().flatten() if cross(ours, "query_norm") else new),
    "5, keys by the number of query heads": other_order(lambda ours, v, new: meta.halves(v, reference.HEADS) if own(ours, "key") else new),
    "5, queries by the number of key heads": other_order(
        lambda ours, v, new: meta.halves(v, reference.KEY_HEADS) if own(ours, "query") else new
    ),
    "6, cross-attention layers from behind": renumbered("cross_blocks.", [1, 0]),
    "6, own layers one further": renumbered("language_model.blocks.", [1, 2, 3, 0]),
    "6, layers of the encoder from behind": renumbered("vision.blocks.", [3, 2, 1, 0]),
    "6, gated layers of the encoder from behind": renumbered("vision.global_blocks.", [1, 0]),
    "7, w1 and w3 swapped": swapped(("language_model.blocks.{i}.mlp.gate", "language_model.blocks.{i}.mlp.up")),
    "7, w1 and w3 swapped in cross-attention": swapped(("cross_blocks.{i}.mlp.gate", "cross_blocks.{i}.mlp.up")),
    "8, new tokens in front": new_tokens_first,
    "8, the output layer for the embedding": swapped(("language_model.tokens", "language_model.head")),
    "9, rows and columns of the grid swapped": columns_first,
    "9, tiles down the columns": tiles_down_the_columns,
    "9, places without a tile not 0": no_zeros,
    "9, arrangements counted from 0": counted_from_0,
    "9, tables before and after swapped": swapped(("pre_tile.table", "post_tile.table")),
    "10, gates before and after swapped": swapped(("pre_tile.gate", "post_tile.gate")),
    "10, gates of positions and tiles swapped": swapped(("positions.gate", "pre_tile.gate")),
    "10, the gate of the positions turned round": other_order(lambda ours, v, new: -v if ours == "vision.positions.gate" else new),
    "10, gates of cross-attention swapped": swapped(("cross_blocks.{i}.attention_gate", "cross_blocks.{i}.mlp_gate")),
    "10, gates of the encoder swapped": swapped(("global_blocks.{i}.attention_gate", "global_blocks.{i}.mlp_gate")),
    "norms of the decoder's halves swapped": swapped(("language_model.blocks.{i}.attention_norm", "language_model.blocks.{i}.mlp_norm")),
    "norms of cross-attention's halves swapped": swapped(("cross_blocks.{i}.attention_norm", "cross_blocks.{i}.mlp_norm")),
    "norms of the encoder's halves swapped": swapped(("vision.blocks.{i}.attention_norm", "vision.blocks.{i}.mlp_norm")),
    "norms before and after the encoder swapped": swapped(("vision.pre_norm", "vision.norm")),
    "queries and outputs swapped": swapped(("language_model.blocks.{i}.attention.query", "language_model.blocks.{i}.attention.output")),
    "keys and values swapped": swapped(("attention.key", "attention.value")),
}


def inverse(weight, ours):
    heads = reference.HEADS if own(ours, "query") else reference.KEY_HEADS
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_visible(mistake, monkeypatch):
    weights = reference.random_weights()
    with monkeypatch.context() as patch:
        MISTAKES[mistake](patch)
        model = from_meta(weights, CONFIG)
    assert difference(model, weights) > 2e-4, "twenty times the tolerance"


def test_a_gate_may_be_a_row_of_equal_numbers_and_no_other_row():
    weights = reference.random_weights()
    gates = {name: value for name, value in weights.items() if "cross_attention_layers" in name and ".gate_" in name}
    rows = {name: value.reshape(1).repeat(32) for name, value in gates.items()}
    ours, again = from_meta(weights, CONFIG), from_meta(weights | rows, CONFIG)
    assert gates and all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())
    name = sorted(gates)[0]
    with pytest.raises(ValueError, match=r"gate_attn is torch.float32 \(2,\), expected floats of shape \(1,\)"):
        from_meta(weights | {name: torch.tensor([0.1, 0.2])}, CONFIG)


def test_what_is_no_set_of_tensors_of_one_dtype_is_refused():
    weights = reference.random_weights()
    name = sorted(weights)[0]
    for given, words in (
        ([1], "got a list"),
        (weights | {name: 3}, f"{name} is a int"),
        (weights | {name: weights[name].to("meta")}, f"{name} is a Tensor without"),
        (weights | {name: weights[name].bfloat16()}, f"torch.bfloat16 ({name})"),
    ):
        with unchecked(), pytest.raises(ValueError) as error:
            from_meta(given, CONFIG)
        assert words in str(error.value)
