"""Padding anywhere in a row, in any turn of a conversation, changes nothing: in every model, on every path."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from support import largest_difference, randomise

from minimllm import (
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModel,
    LanguageModelConfig,
    LlamaVision,
    LlamaVisionConfig,
    UnifiedConfig,
    UnifiedMLLM,
    generate,
)

IMAGE, VOCABULARY = 2, 40
SQUARES = replace(UnifiedConfig.tiny(VOCABULARY, IMAGE).vision, image_size=16, dim=16, heads=2, mlp_dim=24)
DECODER = LanguageModelConfig.tiny(VOCABULARY, dim=24, layers=2, heads=4, mlp_dim=32, context_length=90)
UNIFIED = UnifiedConfig(SQUARES, DECODER, IMAGE, merge=2)
CROSS = replace(CrossAttentionConfig.tiny(VOCABULARY, image_token_id=IMAGE), vision=SQUARES, language=DECODER, cross_before=(0, 1))
LLAMA = LlamaVisionConfig.tiny(VOCABULARY, image_token_id=IMAGE)
MODELS = {
    "language_model": lambda: LanguageModel(replace(DECODER, rotary_base=50.0)),
    "unified": lambda: UnifiedMLLM(UNIFIED),
    "unified, shared position": lambda: UnifiedMLLM(replace(UNIFIED, shared_position=True)),
    "unified, image prefix": lambda: UnifiedMLLM(replace(UNIFIED, image_prefix=True)),
    "cross_attention": lambda: CrossAttentionMLLM(CROSS),
    "cross_attention, thumbnail": lambda: CrossAttentionMLLM(replace(CROSS, thumbnail=True)),
    "llama_vision": lambda: LlamaVision(LLAMA),
}
# Rows of turns; I is a picture. The pictures at the end of a turn and at the start of the next are one run.
ROWS = [["5 I I 6 7", "8", "I 9 4"], ["11 12 I", "I 13 14 15", "16"], ["", "17 I 18 19", "20 21"], ["22", "", "I"]]


def ids_of(turn, model):
    tokens = [[IMAGE] * getattr(model, "image_tokens", 1) if word == "I" else [int(word)] for word in turn.split()]
    return [token for group in tokens for token in group]


def turns_of(model):
    rows = ROWS if model.image_token_id is not None else [[turn.replace("I", "3") for turn in row] for row in ROWS]
    return [[ids_of(turn, model) for turn in row] for row in rows], [[turn.count("I") for turn in row] for row in rows]


def scatter(rows, side, generator):
    """Rows of ids in one rectangle with a mask, padded on one side or anywhere; under the padding stands anything, pictures' ids too."""
    width = max(map(len, rows)) + (3 if side == "anywhere" else 0)
    ids, mask = torch.randint(0, VOCABULARY, (len(rows), width), generator=generator), torch.zeros(len(rows), width, dtype=torch.long)
    ids[:, ::3] = IMAGE
    for number, row in enumerate(rows):
        places = torch.randperm(width, generator=generator)[: len(row)].sort().values
        places = {"left": torch.arange(width - len(row), width), "right": torch.arange(len(row))}.get(side, places)
        ids[number, places], mask[number, places] = torch.tensor(row, dtype=torch.long), 1
    return ids, mask


def pictures_of(model, counts, seed):
    """Pictures for so many places a row, and how the model takes those of some rows."""
    generator = torch.Generator().manual_seed(seed)
    if model.image_token_id is None:
        return lambda rows: {}
    if isinstance(model, LlamaVision):
        noise = [
            [torch.randint(0, 256, (20 + 9 * n, 70 - 15 * n, 3), dtype=torch.uint8, generator=generator) for n in range(count)]
            for count in counts
        ]
        shown = [[Image.fromarray(each.numpy()) for each in row] for row in noise]
        return lambda rows: {"tiles": model.prepare_tiles([shown[row] for row in rows])}
    images = [torch.randn(count, 3, 16, 16, generator=generator) for count in counts]
    return lambda rows: {"images": torch.cat([images[row] for row in rows])} if sum(len(images[row]) for row in rows) else {}


def joined(parts):
    """The pictures of several turns of one row, for all of it at once."""
    if not parts:
        return {}
    if "images" in parts[0]:
        return {"images": torch.cat([part["images"] for part in parts])}
    return parts[0]


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return randomise(MODELS[request.param]())


@pytest.fixture(scope="module")
def conversation(model):
    """Ids and pictures turn by turn, and the logits of each row alone, read at once."""
    turns, counts = turns_of(model)
    pictures = [pictures_of(model, [row[turn] for row in counts], turn) for turn in range(3)]
    alone = []
    for row, ids in enumerate(turns):
        if isinstance(model, LlamaVision):
            cache, parts = model.new_cache(), []
            with torch.no_grad():
                for turn, part in enumerate(ids):
                    if part:
                        tiles = pictures[turn]([row])["tiles"] if counts[row][turn] else None
                        parts.append(model(torch.tensor([part]), tiles, cache=cache)[0])
            alone.append(torch.cat(parts))
            continue
        given = joined([pictures[turn]([row]) for turn in range(3) if counts[row][turn]])
        with torch.no_grad():
            alone.append(model(torch.tensor([sum(ids, [])]), **given)[0])
    return turns, counts, pictures, alone


@pytest.mark.parametrize("side", ["left", "right", "anywhere"])
@pytest.mark.parametrize("seed", [0, 1])
@torch.no_grad()
def test_every_turn_is_as_in_the_row_alone(model, conversation, side, seed):
    turns, counts, pictures, alone = conversation
    generator, cache, seen = torch.Generator().manual_seed(seed), model.new_cache(), [0] * len(turns)
    for turn in range(3):
        ids, mask = scatter([row[turn] for row in turns], side, generator)
        given = pictures[turn](range(len(turns))) if any(row[turn] for row in counts) else {}
        logits = model(ids, mask=mask, cache=cache, **given)
        for row, own in enumerate(turns):
            if own[turn]:
                got, expected = logits[row][mask[row].bool()], alone[row][seen[row] : seen[row] + len(own[turn])]
                assert largest_difference(got, expected) < 3e-5, (turn, row)
            seen[row] += len(own[turn])


@pytest.mark.parametrize("side", ["left", "right", "anywhere"])
@torch.no_grad()
def test_one_turn_at_once_as_bits_or_numbers(model, conversation, side):
    turns, counts, pictures, alone = conversation
    ids, mask = scatter([row[0] or [30] for row in turns], side, torch.Generator().manual_seed(3))
    given = pictures[0](range(len(turns)))
    logits = model(ids, mask=mask, **given)
    for row in (0, 1, 3):
        assert largest_difference(logits[row][mask[row].bool()], alone[row][: len(turns[row][0])]) < 3e-5
    assert torch.equal(model(ids, mask=mask.bool(), **given), logits)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("side", ["left", "right", "anywhere"])
def test_what_is_written_is_what_the_row_alone_writes(model, conversation, side, use_cache):
    turns, counts, pictures, _ = conversation
    rows = [0, 1, 3]
    ids, mask = scatter([turns[row][0] for row in rows], side, torch.Generator().manual_seed(4))
    written = generate(model, ids, 5, mask=mask, use_cache=use_cache, **pictures[0](rows))
    assert torch.equal(written[:, : ids.shape[1]], ids), "the prompts come back as given"
    for number, row in enumerate(rows):
        given = pictures[0]([row]) if counts[row][0] else {}
        alone = generate(model, torch.tensor([turns[row][0]]), 5, **given)
        assert torch.equal(written[number, ids.shape[1] :], alone[0, len(turns[row][0]) :])


@torch.no_grad()
def test_padding_takes_no_positions():
    model = randomise(MODELS["language_model"]())
    cache, ids = model.new_cache(), torch.randint(4, 40, (2, 180), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 180, dtype=torch.bool)
    mask[0, 1::2], mask[1, 3::30] = True, True
    parts = [model(part, real, cache) for part, real in zip(ids.split(60, 1), mask.split(60, 1), strict=True)]
    assert largest_difference(torch.cat(parts, 1)[0, 1::2], model(ids[:1, 1::2])[0]) < 3e-5
    with pytest.raises(ValueError, match="91 tokens are more than the 90 positions"):
        model(ids[:, :1], cache=cache)
    prompt = torch.cat([ids[:, :40], torch.zeros(2, 45, dtype=torch.long)], dim=1)
    real = torch.arange(85).expand(2, -1) < 40
    assert torch.equal(generate(model, prompt, 50, mask=real)[:, 85:], generate(model, prompt[:, :40], 50)[:, 40:])


@pytest.mark.parametrize("name", MODELS)
def test_a_cache_filled_in_inference_mode_is_used_afterwards(name):
    model = randomise(MODELS[name]())
    turns, counts = turns_of(model)
    pictures = pictures_of(model, [row[0] for row in counts], 0)([1])
    first, then = torch.tensor([turns[1][0]]), torch.tensor([[5, 6]])
    caches = [model.new_cache() for _ in range(2)]
    with torch.inference_mode():
        for cache in caches:
            model(first, cache=cache, **pictures)
            model(then[:, :1], cache=cache)
    expected = model(torch.cat([first, then[:, :1], then], dim=1), **pictures)[:, -2:]
    with torch.no_grad():
        got = [model(token, cache=caches[0]) for token in then.split(1, dim=1)]
    assert largest_difference(torch.cat(got, dim=1), expected) < 3e-5
    got = model(then, cache=caches[1])
    assert largest_difference(got, expected) < 3e-5
    got.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("name", ["language_model", "unified", "cross_attention", "llama_vision"])
def test_a_cache_of_another_batch_size_is_refused(name, gradients):
    model = randomise(MODELS[name]())
    cache = model.new_cache()
    with torch.set_grad_enabled(gradients):
        model(torch.tensor([[5, 6]] * 3), cache=cache)
        with pytest.raises(ValueError, match="holds 3 rows, and the new tokens are 2"):
            model(torch.tensor([[5], [6]]), cache=cache)
        assert cache.length == 2 and model(torch.tensor([[5]] * 3), cache=cache).shape == (3, 1, VOCABULARY)
