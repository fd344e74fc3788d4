"""The formulas for costs against torch's own count of the operations it runs, real tensors and real models."""

import pytest
import torch
from support import unchecked
from torch.utils.flop_counter import FlopCounterMode

from minimllm import (
    CrossAttentionConfig,
    CrossAttentionMLLM,
    EncoderBlock,
    GatedCrossAttentionBlock,
    LanguageModel,
    LanguageModelConfig,
    UnifiedConfig,
    UnifiedMLLM,
    ViTConfig,
    picture_bytes,
)
from minimllm.exercises import lesson_08
from minimllm.inspection.costs import Design, cache_bytes, layer_multiply_adds


@pytest.mark.parametrize("tokens, dim, mlp_dim", [(16, 32, 128), (50, 64, 256), (7, 24, 48)])
def test_formula_equals_the_measured_count(tokens, dim, mlp_dim):
    block = EncoderBlock(dim, 4, mlp_dim)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        block(torch.randn(1, tokens, dim))
    assert layer_multiply_adds(tokens, dim, mlp_dim).total * 2 == counter.get_total_flops()


def test_equal_parts_at_six_times_the_width():
    cost = layer_multiply_adds(6 * 768, 768)
    assert cost.linear == cost.attention


@pytest.mark.parametrize("arguments", [(0, 8), (8, 0), (8, 8, 0)])
def test_nothing_costs_are_refused(arguments):
    with unchecked(), pytest.raises(ValueError, match="at least 1"):
        layer_multiply_adds(*arguments)


@pytest.mark.parametrize("dtype, size", [(torch.float32, 4), (torch.bfloat16, 2)])
def test_the_cache_is_as_large_as_counted(dtype, size):
    config = LanguageModelConfig.tiny(50)
    model = LanguageModel(config).to(dtype)
    cache = model.new_cache()
    assert cache.bytes() == cache_bytes(3, 2, 24, 0, 5, size) == 0
    with torch.no_grad():
        for length in (7, 1, 4):
            model(torch.ones(5, length, dtype=torch.long), cache=cache)
    assert cache.bytes() == cache_bytes(3, 2, 24, 12, batch=5, bytes_per_number=size)


def test_the_cache_of_real_models():
    assert cache_bytes(32, 8, 128, 1, bytes_per_number=2) == 128 * 1024, "Llama 3.1 8B: 128 KiB a token"
    assert cache_bytes(32, 8, 128, 131_072, bytes_per_number=2) == 16 * 2**30, "16 GiB for a full context"
    with unchecked(), pytest.raises(ValueError, match="'layers': 0"):
        cache_bytes(0, 8, 128, 1)


# ---- both designs: the formulas against torch's count, real tensors and real models -------------------------------------

COURSE = dict(vocab_size=60, language=LanguageModelConfig.tiny(60, normalise_heads=1e-5, context_length=600))
WIDE = LanguageModelConfig.tiny(60, dim=64, layers=4, heads=4, head_dim=8, key_value_heads=1, mlp_dim=48, context_length=600)


def configs(side: int) -> list[UnifiedConfig | CrossAttentionConfig]:
    """Of pictures of ``side`` by ``side`` patches: small models that differ in all that the formulas name."""
    vision = ViTConfig(image_size=2 * side, patch_size=2, dim=16, layers=2, heads=2, mlp_dim=16, classes=0)
    return [
        UnifiedConfig.course(vision=vision, **{**COURSE, "merge": 1}),
        UnifiedConfig.tiny(60, vision=vision, language=WIDE),
        CrossAttentionConfig.course(vision=vision, **{**COURSE, "merge": 1}),
        CrossAttentionConfig.tiny(60, vision=vision, language=WIDE, cross_before=(0, 1, 3), cross_norm=None),
        CrossAttentionConfig.tiny(60, vision=vision, language=WIDE, cross_before=(2,), cross_key_value_heads=2),
    ]


def build(config: UnifiedConfig | CrossAttentionConfig) -> UnifiedMLLM | CrossAttentionMLLM:
    return (UnifiedMLLM if isinstance(config, UnifiedConfig) else CrossAttentionMLLM)(config).eval()


def counted(model, *arguments, **options) -> int:
    """Multiply-adds by torch's own count, without the output layer."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(*arguments, **options, only_last=True)
    language = model.config.language
    return counter.get_total_flops() // 2 - language.dim * language.vocab_size


def reading(model, words: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A prompt of one picture, and the tokens that the gated blocks or the decoder get of it."""
    config, (rows, columns) = model.config, model.config.vision.grid
    ids = torch.tensor([[1, *[config.image_token_id] * model.image_tokens, *[7] * (words - 1)]])
    return ids, torch.randn(1, rows * columns, config.vision.dim)


@pytest.mark.parametrize("side, words", [(1, 5), (2, 9), (6, 3), (12, 20)])
@pytest.mark.parametrize("number", range(5))
def test_both_designs_multiply_and_keep_what_the_formulas_say(number, side, words):
    config = configs(side)[number]
    model, design = build(config), Design.of(config)
    ids, features = reading(model, words)
    with FlopCounterMode(display=False) as counter:
        model.projector(features)
    cache = model.new_cache()
    read = counted(model, ids, features=features, cache=cache) - counter.get_total_flops() // 2
    assert read == design.multiply_adds(side**2, words).total
    pictures = picture_bytes(cache) if isinstance(model, CrossAttentionMLLM) else 0
    assert cache.bytes() + pictures == design.cache_bytes(side**2, words)
    step = counted(model, torch.tensor([[7]]), cache=cache)
    assert step == design.next_word_multiply_adds(side**2, words).total
    assert design.parameters() == sum(
        each.numel() for name, each in model.named_parameters() if not name.startswith(("vision", "projector"))
    )


def test_a_text_without_a_picture_costs_the_same_in_both():
    for config in configs(2):
        design, alone = Design.of(config), Design(config.language)
        assert counted(build(config), torch.full((1, 9), 7)) == design.multiply_adds(0, 9).total == alone.multiply_adds(0, 9).total
        assert design.cache_bytes(0, 9) == alone.cache_bytes(0, 9)


def test_both_designs_of_real_models():
    llama = LanguageModelConfig.llama_3_1_8b()
    vision = Design(llama, cross_layers=8)
    assert Design(llama).parameters() == 8_030_261_248
    assert vision.parameters() - Design(llama).parameters() == 8 * 218_112_258, "the eight gated blocks of Llama 3.2 Vision 11B"
    assert vision.cache_bytes(6404, 1, 2) - vision.cache_bytes(0, 2, 2) == 8 * 6404 * 4096 == 209_846_272


@pytest.mark.parametrize("image_tokens, text_tokens", [(-1, 4), (4, 0)])
def test_counts_that_make_no_sense_are_refused(image_tokens, text_tokens):
    for call in (Design(WIDE).multiply_adds, Design(WIDE, 2).next_word_multiply_adds, Design(WIDE, 2).cache_bytes):
        with unchecked(), pytest.raises(ValueError, match=f"got {image_tokens} and {text_tokens}"):
            call(image_tokens, text_tokens)


def test_the_exercises_of_lesson_08_have_the_formulas_of_the_models():
    """What learners are asked for, by hand, is what the formulas above say, which torch's count has confirmed."""
    for case in lesson_08.READING.cases():
        assert lesson_08.reading(*case) == lesson_08.by_hand(*case)
    for dim, kv_dim, head_dim, mlp_dim in lesson_08.PARAMETERS.cases()[:2]:
        block = GatedCrossAttentionBlock(dim, dim // head_dim, mlp_dim, key_value_heads=kv_dim // head_dim)
        assert sum(each.numel() for each in block.parameters()) == lesson_08.gated_parameters(dim, kv_dim, head_dim, mlp_dim)
