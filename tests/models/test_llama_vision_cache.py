"""Llama 3.2 Vision, step by step: with keys and values kept, in turns with new pictures, and while it writes."""

import pytest
import torch
import torch.nn.functional as F
from support import CACHE, largest_difference, randomise
from tiny_llama_vision import FOUR, IMAGE, ONE, TALL, TILE, TWO, WIDE, batch, inputs_of, picture, theirs
from torchvision.transforms.v2.functional import to_pil_image
from transformers import DynamicCache
from transformers.models.mllama.modeling_mllama import _prepare_cross_attention_mask

from minimllm import (
    LlamaVision,
    LlamaVisionConfig,
    Recorder,
    Tokenizer,
    captions,
    cross_attention_mask,
    generate,
    prepare_tiles,
    render,
    scenes,
)
from minimllm.data.asking import sample_questions
from minimllm.data.words import WORDS
from minimllm.training.packing import pack, packed_loss

REFERENCES = ["meta", "transformers"]
CASES = {
    "one picture": batch(("tIttt", [FOUR])),
    "four tiles in a row": batch(("tIt", [WIDE])),
    "four tiles in a column": batch(("tIt", [TALL])),
    "one pixel": batch(("ItI", [picture(1, 1), picture(1, 1, seed=1)])),
    "a line of pixels": batch(("tIt", [picture(1, 500)])),
    "text before the picture": batch(("tttttIt", [TWO])),
    "the picture last": batch(("ttI", [TWO])),
    "nothing but pictures": batch(("III", [ONE, TWO, FOUR])),
    "three pictures": batch(("tItItIt", [ONE, FOUR, TWO])),
    "pictures side by side": batch(("ItIIt", [TALL, TWO, ONE])),
    "twice two side by side": batch(("tIItII", [TWO, TALL, FOUR, ONE])),
    "a mixed batch": batch(("tt", []), ("tItt", [FOUR]), ("tItttItt", [TWO, ONE]), side="left"),
    "text alone": batch(("tttt", []), ("tt", []), side="left"),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mllama")
    theirs().save_pretrained(folder)
    return {reference: (theirs(reference), LlamaVision.from_pretrained(folder, reference=reference)) for reference in REFERENCES}


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("case", CASES)
def test_writing_equals_the_reference_with_and_without_the_cache(pairs, case, reference):
    other, ours = pairs[reference]
    ids, mask, tiles = CASES[case]
    settings = dict(max_new_tokens=6, do_sample=False, eos_token_id=None, return_dict_in_generate=True, output_logits=True)
    written = other.generate(**inputs_of(ids, mask, tiles), **settings)
    for use_cache in (True, False):
        assert torch.equal(generate(ours, ids, 6, mask=mask, tiles=tiles, use_cache=use_cache), written.sequences)
    cache = ours.new_cache()
    with torch.no_grad():
        steps = [ours(ids, tiles, mask, cache, only_last=True)]
        for token in written.sequences[:, ids.shape[1] : -1].T:
            steps.append(ours(token[:, None], cache=cache))
        length = written.sequences.shape[1] - 1
        whole = ours(written.sequences[:, :-1], tiles, F.pad(mask, (0, length - ids.shape[1]), value=1))
    assert largest_difference(whole[:, ids.shape[1] - 1 :], torch.stack(written.logits, dim=1)) < 1e-5, "read at once, without the cache"
    for got, expected in zip(steps, written.logits, strict=True):
        assert largest_difference(got[:, 0], expected) < 1e-5


def in_chunks(model, rows, chunks, side="right"):
    """The logits of texts read in chunks, each with the pictures whose places it holds."""
    ids, mask, _ = batch(*rows, side=side)
    pictures, cache, parts = [list(row) for _, row in rows], model.new_cache(), []
    for part, real in zip(ids.split(chunks, dim=1), mask.split(chunks, dim=1), strict=True):
        counts = (part == IMAGE).sum(dim=1).tolist()
        new = [[row.pop(0) for _ in range(count)] for row, count in zip(pictures, counts, strict=True)]
        parts.append(model(part, prepare_tiles(new, TILE), None if real.all() else real, cache))
    assert not any(pictures) and cache.length == ids.shape[1]
    return torch.cat(parts, dim=1), mask.bool()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("chunks", [[1] * 9, [4, 5], [3, 1, 5], [2, 2, 2, 3], [7, 2], [9]])
def test_turns_with_new_pictures_equal_one_reading(pairs, chunks, side):
    _, ours = pairs["meta"]
    for rows in (
        [("tItIItIt t", [ONE, FOUR, TWO, WIDE])],
        [("ttIIIIttt", [ONE, TWO, TALL, ONE])],
        [("ttttt", []), ("tIttI", [FOUR, ONE]), ("IItttItIt", [TWO, ONE, TWO, FOUR]), ("ttttttttt", [])],
    ):
        ids, mask, tiles = batch(*rows, side=side)
        with torch.no_grad():
            got, real = in_chunks(ours, rows, chunks, side)
            assert largest_difference(got[real], ours(ids, tiles, mask)[real]) < 1e-5


def turns_of_transformers(other, turns):
    """Logits of several turns with one cache; a turn is ids, tiles and what the ids see of all places for pictures so far."""
    past, parts = DynamicCache(config=other.config.get_text_config()), []
    for ids, tiles, seen in turns:
        inputs = {name: getattr(tiles, name) for name in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")}
        states = other.model.multi_modal_projector(other.model.vision_model(**inputs).last_hidden_state)
        bias, rows_mask = _prepare_cross_attention_mask(seen.long(), 17, torch.float32)
        language = other.model.language_model(
            input_ids=ids,
            cross_attention_states=states.reshape(len(ids), -1, 32),
            cross_attention_mask=bias,
            full_text_row_masked_out_mask=rows_mask,
            **{CACHE: past},
            use_cache=True,
        )
        parts.append(other.lm_head(language.last_hidden_state))
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_later_turn_with_a_new_picture_equals_that_of_transformers(pairs, reference):
    other, ours = pairs[reference]
    rows = [("tItttIt", [TWO, FOUR])]
    ids, _, tiles = batch(*rows)
    seen = cross_attention_mask(ids, tiles.num_tiles, IMAGE)
    turns = [(ids[:, :4], prepare_tiles([[TWO]], TILE), seen[:, :4, :1]), (ids[:, 4:], prepare_tiles([[FOUR]], TILE), seen[:, 4:])]
    with torch.no_grad():
        got, _ = in_chunks(ours, rows, [4, 3])
        assert largest_difference(got, turns_of_transformers(other, turns)) < 1e-5


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_later_turn_of_a_mixed_batch_equals_that_of_transformers(pairs, reference):
    """One picture and then two, beside two and then one: in both turns a row has a place without picture."""
    other, ours = pairs[reference]
    rows = [("tItttIIt", [TWO, FOUR, ONE]), ("tIItttIt", [ONE, TALL, TWO])]
    ids, _, tiles = batch(*rows)
    seen = cross_attention_mask(ids, tiles.num_tiles, IMAGE)
    nothing = torch.zeros_like(seen[0, :, 0])
    places = torch.stack(
        [
            torch.stack([seen[0, :, 0], nothing, seen[0, :, 1], seen[0, :, 2]], dim=1),
            torch.stack([seen[1, :, 0], seen[1, :, 1], seen[1, :, 2], nothing], dim=1),
        ]
    )
    first, second = prepare_tiles([[TWO], [ONE, TALL]], TILE), prepare_tiles([[FOUR, ONE], [TWO]], TILE)
    turns = [(ids[:, :4], first, places[:, :4, :2]), (ids[:, 4:], second, places[:, 4:])]
    with torch.no_grad():
        got, _ = in_chunks(ours, rows, [4, 4])
        assert largest_difference(got, turns_of_transformers(other, turns)) < 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_padded_rows_write_what_they_write_alone(pairs, side, use_cache):
    _, ours = pairs["meta"]
    rows = [("tItt", [FOUR]), ("tItttItt", [TWO, ONE]), ("tt", []), ("IIt", [ONE, TALL])]
    ids, mask, tiles = batch(*rows, side=side)
    written = generate(ours, ids, 6, mask=mask, tiles=tiles, use_cache=use_cache)
    for row, (_, pictures) in enumerate(rows):
        prompt = ids[row : row + 1, mask[row].bool()]
        alone = generate(ours, prompt, 6, tiles=prepare_tiles([pictures], TILE))
        assert torch.equal(written[row, ids.shape[1] :], alone[0, prompt.shape[1] :])


def test_pictures_are_read_once_and_their_keys_are_kept(pairs):
    _, ours = pairs["meta"]
    ids, mask, tiles = CASES["pictures side by side"]
    calls = []
    hook = ours.vision.register_forward_hook(lambda module, args, output: calls.append(len(args[0])))
    generate(ours, ids, 4, tiles=tiles)
    assert calls == [3], "three pictures at the first token, none later"
    calls.clear()
    _, mixed_mask, mixed = CASES["a mixed batch"]
    with torch.no_grad():
        ours(CASES["a mixed batch"][0], mixed, mixed_mask)
    hook.remove()
    assert calls == [3], "where a row has no picture, nothing is encoded"
    cache = ours.new_cache()
    ours(ids, tiles, cache=cache)
    assert [layer.keys.shape[2] for layer in cache.layers] == [5, 3 * 4 * 17, 5, 5, 3 * 4 * 17]
    assert cache.bytes() == 2 * 2 * 8 * 4 * (3 * 5 + 2 * 3 * 4 * 17)


def test_the_image_token_is_never_written():
    model = randomise(LlamaVision(LlamaVisionConfig.tiny(20)))
    with torch.no_grad():
        model.language_model.head.weight[2] = 100 * model.language_model.head.weight[5]  # would win wherever token 5 is above 0
    tiles = model.prepare_tiles([[ONE]])
    ids = torch.tensor([[1, 2, 7, 8]])
    likeliest = model(ids, tiles)[0, -1].argmax()
    written = generate(model, ids, 8, tiles=tiles)
    sampled = generate(model, ids, 8, tiles=tiles, temperature=50.0, seed=0)
    assert likeliest == 2 or model(written[:, :-1], tiles).argmax(-1).eq(2).any()
    assert not (written[:, 4:] == 2).any() and not (sampled[:, 4:] == 2).any()


def packed_row(side_by_side=1, padding=2):
    """Ids and segments of ``t I.. | 3 words | 2 words | 4 words`` and padding, and the texts that it stands for."""
    prefix, parts = [5, *[IMAGE] * side_by_side], [[7, 8, 9], [10, 11], [12, 13, 14, 15]]
    ids = prefix + sum(parts, []) + [0] * padding
    segments = [0] * len(prefix) + [n for n, part in enumerate(parts, 1) for _ in part] + [-1] * padding
    return torch.tensor([ids]), torch.tensor([segments]), [prefix + part for part in parts]


@pytest.mark.parametrize("images", [1, 2])
def test_packed_texts_about_pictures_come_out_as_each_would_alone(pairs, images):
    _, ours = pairs["meta"]
    ids, segments, texts = packed_row(images)
    tiles = prepare_tiles([[FOUR, TWO][:images]], TILE)
    with torch.no_grad():
        logits, start = ours(ids, tiles, segments=segments), 1 + images
        for text in texts:
            end = start + len(text) - 1 - images
            alone = ours(torch.tensor([text]), tiles)
            assert largest_difference(logits[:, start:end], alone[:, 1 + images :]) < 1e-5
            start = end
        rows = torch.zeros(3, dtype=torch.long), torch.tensor([2, 5, 1])
        assert largest_difference(ours(ids, tiles, segments=segments, places=rows), logits[rows]) < 1e-5


def test_a_packed_loss_is_learned_from_tiles():
    tokenizer = Tokenizer.from_words(WORDS)
    model = LlamaVision(LlamaVisionConfig.tiny(tokenizer.vocab_size))
    with torch.no_grad():
        for block in model.cross_blocks:
            block.attention_gate.fill_(0.5)
    world = scenes(4, 0, "train")
    pictures = [[to_pil_image(image)] for image in render(world, 40)]
    packed = pack(tokenizer, sample_questions(world, 3), captions(world), image_tokens=1)
    packed = packed._replace(images=model.prepare_tiles(pictures))
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(8):
        loss, _ = packed_loss(model, packed)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_features_kept_from_an_earlier_reading_stand_for_the_tiles(pairs):
    for _, ours in pairs.values():
        ids, mask, tiles = CASES["a mixed batch"]
        with torch.no_grad():
            kept = ours.features(tiles)
            assert kept.shape == (3, 2, 4, 17, 96)
            assert torch.equal(ours(ids, tiles, mask, features=kept), ours(ids, tiles, mask))
        with pytest.raises(ValueError, match=r"\(3, 2, 4, 17, 96\).*got features of shape \(3, 1, 4, 17, 96\)"):
            ours(ids, tiles, mask, features=kept[:, :1])
        with pytest.raises(ValueError, match="give both"):
            ours(ids, None, mask, features=kept)


def test_segments_need_their_pictures_in_the_prefix_and_neither_mask_nor_cache(pairs):
    _, ours = pairs["meta"]
    ids, segments, _ = packed_row()
    tiles = prepare_tiles([[FOUR]], TILE)
    with pytest.raises(ValueError, match="within a segment"):
        ours(ids, tiles, segments=torch.ones_like(segments))
    for extra in (dict(mask=torch.ones_like(ids)), dict(cache=ours.new_cache())):
        with pytest.raises(ValueError, match="without mask and cache"):
            ours(ids, tiles, segments=segments, **extra)


def test_the_attention_to_pictures_can_be_recorded(pairs):
    _, ours = pairs["meta"]
    ids, mask, tiles = CASES["three pictures"]
    with torch.no_grad(), Recorder(ours) as recorder:
        ours(ids, tiles, mask)
    weights = recorder.attention["cross_blocks.1.attention"]
    assert weights.shape == (1, 4, 7, 3 * 4 * 17) and torch.allclose(weights.sum(-1), torch.ones(1, 4, 7))
    visible = cross_attention_mask(ids, tiles.num_tiles, IMAGE).flatten(2).repeat_interleave(17, dim=2)
    assert (weights[0, :, 1:][:, ~visible[0, 1:]] == 0).all() and (weights[0, :, visible[0]] > 0).all()


def test_a_refused_call_leaves_the_cache_as_it_was(pairs):
    _, ours = pairs["meta"]
    ids, _, tiles = CASES["one picture"]
    cache = ours.new_cache()
    with torch.no_grad():
        ours(ids, tiles, cache=cache)
        before = cache.bytes(), cache.length
        with pytest.raises(ValueError, match="2 image tokens .id 99. and 1 images"):
            ours(torch.tensor([[5, IMAGE]]), cache=cache)
        with pytest.raises(ValueError, match="positions|at most"):
            ours(torch.full((1, 125), 5), cache=cache)
        assert (cache.bytes(), cache.length) == before
        again = ours(torch.tensor([[5]]), cache=cache)
        assert largest_difference(again, ours(torch.cat([ids, torch.tensor([[5]])], 1), tiles)[:, -1:]) < 1e-5
