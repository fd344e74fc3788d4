"""Gated cross-attention: the whole stack equal to ``MllamaForCausalLM``, and what pictures may and may not change."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from mllama import as_meta, counterparts, cross_arguments, mllama, take_weights
from support import CACHE, largest_difference, randomise, unchecked
from transformers import DynamicCache

from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModelConfig,
    Tokenizer,
    UnifiedMLLM,
    answer,
    cross_attention_mask,
    generate,
    load,
    picture_bytes,
)
from minimllm.data.asking import sample_questions
from minimllm.data.captioning import captions
from minimllm.data.rendering import render
from minimllm.data.words import WORDS
from minimllm.data.world import scenes
from minimllm.exercises import lesson_07
from minimllm.layers.segments import predecessors
from minimllm.models.cross_attention import read_pictures
from minimllm.models.shipped import save
from minimllm.models.vit import ViTConfig
from minimllm.training import TrainingConfig, train
from minimllm.training.packing import exact_matches, pack, packed_loss

VOCABULARY, IMAGE, TOKENS = 99, 90, 16
VISION = ViTConfig(image_size=16, patch_size=4, dim=32, heads=4, mlp_dim=48, classes=0)
LANGUAGE = LanguageModelConfig.tiny(VOCABULARY, dim=32, layers=3, heads=4, mlp_dim=48, context_length=128, tied=False)
CONFIG = CrossAttentionConfig(VISION, LANGUAGE, IMAGE, cross_before=(1, 2), projector="linear")


def pair(seed=0, **changes):
    """A random model of transformers, gates at 0.8, and ours with its weights; our features are their cross-attention states."""
    config = replace(CONFIG, **changes)
    theirs = randomise(mllama(config), seed)
    ours = take_weights(randomise(CrossAttentionMLLM(config), seed), theirs)
    assert all(gate.item() == pytest.approx(0.8) for name, gate in ours.named_parameters() if name.endswith("_gate"))
    return ours, theirs


def rows_of(*layouts, side="right", seed=0):
    """``"3 I 2"`` is three words, a picture, two words. Ids, images and mask of a batch, padded on one side."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for layout in layouts:
        parts = [[IMAGE] if part == "I" else torch.randint(1, 80, (int(part),), generator=generator).tolist() for part in layout.split()]
        rows.append(sum(parts, []))
    longest = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(longest - len(row), longest)
        ids[index, place], mask[index, place] = torch.tensor(row), 1
    pictures = sum(layout.count("I") for layout in layouts)
    return ids, torch.randn(pictures, 3, 16, 16, generator=generator) if pictures else None, mask


def by_rows(features, ids):
    """Features of all pictures in reading order as ``(batch, pictures * tokens, dim)``, zeros behind."""
    counts = (ids == IMAGE).sum(dim=1).tolist()
    filled = torch.zeros(len(ids), max(counts), *features.shape[1:])
    for row, own in enumerate(features.split(counts)):
        filled[row, : len(own)] = own
    return filled.flatten(1, 2)


def visible_to(ids):
    return cross_attention_mask(ids, [[1] * count for count in (ids == IMAGE).sum(dim=1).tolist()], IMAGE, 1)[..., 0]


def by_transformers(theirs, ids, features, mask=None, cache=None, new=slice(None), **more):
    """Their logits of the places ``new``; the states are given with the first of them."""
    states = None if features is None else by_rows(features, ids)
    arguments = cross_arguments(visible_to(ids)[:, new], TOKENS)
    return theirs(
        input_ids=ids[:, new], attention_mask=mask, cross_attention_states=states, **{CACHE: cache}, **arguments, **more
    ).logits


LAYOUTS = {
    "a picture first": ["I 6"],
    "a picture in the middle": ["5 I 6"],
    "a picture last": ["5 I"],
    "only a picture": ["I"],
    "two side by side": ["2 I I 4"],
    "two apart": ["2 I 3 I 1"],
    "runs of pictures": ["I I I 1 I 2", "1 I I 2 I I"],
    "unequal numbers of pictures": ["2 I I 4", "I 3", "4 I 1 I 2 I 2"],
    "a row of text among others": ["3 I 2", "7", "I I 9"],
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_equal_those_of_transformers_with_metas_rule_for_tokens_without_picture(layout, side):
    ours, theirs = pair()
    as_meta(theirs)
    ids, images, mask = rows_of(*LAYOUTS[layout], side=side)
    features = ours.features(images)
    expected = by_transformers(theirs, ids, features, mask)
    real = mask.bool()
    for given in (mask, real):
        logits = ours(ids, images, given)
        assert logits.isfinite().all() and largest_difference(logits[real], expected[real]) < 1e-5
    assert torch.equal(ours(ids, features=features, mask=mask), logits)
    assert largest_difference(ours(ids, -images, mask)[real], expected[real]) > 0.01, "the pictures matter"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_where_every_token_sees_a_picture_transformers_agrees_as_it_is(attention):
    ours, theirs = pair()
    theirs.set_attn_implementation(attention)
    ids, images, _ = rows_of("I 3 I 4", "I I 7")
    assert largest_difference(ours(ids, images), by_transformers(theirs, ids, ours.features(images))) < 1e-5


@pytest.mark.parametrize("changes", [dict(cross_before=(1,)), dict(cross_before=(2,)), dict(language=replace(LANGUAGE, key_value_heads=4))])
def test_other_depths_and_heads_equal_transformers(changes):
    ours, theirs = pair(**changes)
    ids, images, _ = rows_of("I 3 I 4")
    assert largest_difference(ours(ids, images), by_transformers(theirs, ids, ours.features(images))) < 1e-5


def test_with_the_cache_every_step_equals_transformers_with_its_cache_and_without():
    ours, theirs = pair()
    ids, images, _ = rows_of("I 3 I I 8", "I I 11")
    features, whole = ours.features(images), ours(ids, images)
    cache, their_cache = ours.new_cache(), DynamicCache(config=theirs.config)
    for new in (slice(0, 8), slice(8, 9), slice(9, 10), slice(10, 13)):
        logits = ours(ids[:, new], images if new.start == 0 else None, cache=cache)
        expected = by_transformers(theirs, ids, features if new.start == 0 else None, cache=their_cache, new=new)
        assert largest_difference(logits, expected) < 1e-5
        assert largest_difference(logits, whole[:, new]) < 1e-5


def test_loss_and_gradients_equal_those_of_transformers():
    ours, theirs = pair()
    ids, images, _ = rows_of("I 7", "I I 6")
    labels = ids.masked_fill(ids == IMAGE, -100)
    states = ours.features(images).detach()
    expected = by_transformers(theirs, ids, states, labels=labels)
    logits = ours(ids, features=states)
    for given in (logits, expected):
        F.cross_entropy(given[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100).backward()
    for name, parameter, reference in counterparts(ours, theirs):
        gradient = reference.grad[: len(parameter)]
        assert gradient.abs().max() > 0, name
        assert largest_difference(parameter.grad, gradient) < 1e-4 * gradient.abs().max() + 1e-7, name


# ---- which token sees which picture ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(1, 8))
def test_what_is_seen_in_every_short_text_read_at_once_and_in_two_turns(length):
    rows = torch.tensor(list(itertools.product([False, True], repeat=length)))
    expected = visible_to(torch.where(rows, IMAGE, 5))
    assert torch.equal(read_pictures(rows).visible, expected)
    for cut in range(1, length):
        earlier = read_pictures(rows[:, :cut])
        read = read_pictures(rows[:, cut:], earlier=earlier)
        for row in range(len(rows)):
            assert torch.equal(read.numbers[row][read.numbers[row] >= 0], torch.arange(int(rows[row].sum())))
            got = read.visible[row][:, read.numbers[row] >= 0]
            assert torch.equal(got, expected[row, cut:, : int(rows[row].sum())])
            assert not read.visible[row][:, read.numbers[row] < 0].any()


def test_a_segment_sees_what_it_would_see_behind_the_prefix_alone():
    texts = ["tI|tI|t|It|IIt", "tt|tI|t|ItI", "I|t|I|I", "tIIt|tI|I|t"]
    for text in texts:
        prefix, *others = text.split("|")
        letters = "".join([prefix, *others])
        numbers = [0] * len(prefix) + [number for number, part in enumerate(others, start=1) for _ in part]
        is_image, segments = torch.tensor([[letter == "I" for letter in letters]]), torch.tensor([numbers])
        visible = read_pictures(is_image, segments).visible[0]
        of_picture = segments[is_image]
        for number, part in enumerate(others, start=1):
            alone = torch.tensor([[letter == "I" for letter in prefix + part]])
            expected = read_pictures(alone).visible[0, len(prefix) :]
            mine = visible[segments[0] == number]
            known = (of_picture == 0) | (of_picture == number)
            assert torch.equal(mine[:, known], expected), (text, number)
            assert not mine[:, ~known].any(), "pictures of other segments are not seen"


def random_model(seed=0, **changes):
    return randomise(CrossAttentionMLLM(replace(CONFIG, **dict(projector="mlp") | changes)), seed)


def test_what_a_changed_pixel_may_change():
    model = random_model()
    ids, images, _ = rows_of("2 I 2 I 2", "1 I 5")
    changed = images.clone()
    changed[0, :, 5, 6] += 1.0  # the first picture of the first row, at place 2
    moved = (model(ids, images) - model(ids, changed)).abs().amax(dim=-1) > 0
    assert not moved[1].any(), "another row"
    assert not moved[0, :2].any() and moved[0, 2:].all(), "all that comes after, and nothing before"
    # In a single gated block before the first layer there is no way around: only the span of the picture moves.
    block, look = model.cross_blocks[0], torch.randn(2, 8, 32)
    context = [by_rows(model.encode(given), ids) for given in (images, changed)]
    mask = read_pictures(ids == IMAGE).visible.repeat_interleave(TOKENS, dim=2)
    moved = (block(look, context[0], mask) - block(look, context[1], mask)).abs().amax(dim=-1) > 0
    assert moved[0].tolist() == [False, False, True, True, True, False, False, False] and not moved[1].any()


def test_tokens_and_rows_without_picture_are_exactly_those_of_the_language_model():
    model = random_model()
    ids, images, mask = rows_of("6 I 3", "10", "I 9", side="right")
    logits, text = model(ids, images, mask), model.language_model(ids, mask)
    assert torch.equal(logits[1], text[1]), "a row of text"
    assert torch.equal(logits[0, :6], text[0, :6]), "before the first picture"
    assert largest_difference(logits[0, 6:], text[0, 6:]) > 1e-3
    alone, _, _ = rows_of("10", seed=3)
    assert torch.equal(model(alone), model.language_model(alone))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_gates_at_zero_the_model_is_its_language_model_bit_for_bit(layout):
    for side in ("left", "right"):
        ids, images, mask = rows_of(*LAYOUTS[layout], side=side)
        model = randomise(CrossAttentionMLLM(CONFIG), gate=0.0)
        assert torch.equal(model(ids, images, mask), model.language_model(ids, mask))
        assert torch.equal(CrossAttentionMLLM(CONFIG)(ids, images), CrossAttentionMLLM(CONFIG).language_model(ids)), "from the start"
        assert torch.equal(generate(model, ids, 5, mask=mask, images=images), generate(model.language_model, ids, 5, mask=mask))


def test_gates_are_single_numbers_at_zero_and_the_first_to_learn():
    model = CrossAttentionMLLM(CrossAttentionConfig.tiny())
    gates = {name: gate for name, gate in model.named_parameters() if name.endswith("gate")}
    assert len(gates) == 4 and all(gate.shape == (1,) and gate.item() == 0.0 for gate in gates.values())
    ids = torch.tensor([[1, 2, 7, 8]])
    model(ids, torch.randn(1, 3, 32, 32)).square().sum().backward()
    assert all(gate.grad.abs() > 0 for gate in gates.values())
    others = [p.grad.abs().max() for n, p in model.named_parameters() if n.startswith(("cross_blocks", "projector")) and n not in gates]
    assert all(gradient == 0 for gradient in others), "nothing passes a closed gate"


# ---- padding, cache, segments ------------------------------------------------------------------------------------------

OPTIONS = {
    "plain": {},
    "linear": dict(projector="linear"),
    "attention alone": dict(cross_mlp=False),
    "no norm of the heads": dict(cross_norm=None),
    "heads of its own": dict(cross_key_value_heads=4),
    "before every block": dict(cross_before=(0, 1, 2)),
    "with the class token": dict(keep_class_token=True),
    "with a thumbnail": dict(thumbnail=True),
    "as in the course": dict(
        merge=2,
        normalise_features=True,
        projector_positions="both",
        token_scale=0.3,
        cross_mlp=False,
        language=replace(LANGUAGE, normalise_heads=1e-5, tied=True),
    ),
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("option", OPTIONS)
def test_padded_batched_and_cached_texts_are_those_of_the_row_alone(option, side):
    model = random_model(**OPTIONS[option])
    layouts = ["3 I 4", "I I 2", "5"]
    ids, images, mask = rows_of(*layouts, side=side)
    logits = model(ids, images, mask)
    for row, own in enumerate(images.split([layout.count("I") for layout in layouts])):
        real = mask[row].bool()
        alone = model(ids[row][real][None], own if len(own) else None)[0]
        assert largest_difference(logits[row][real], alone) < 2e-5
    cached = generate(model, ids, 6, mask=mask, images=images)
    assert torch.equal(cached, generate(model, ids, 6, mask=mask, images=images, use_cache=False))
    assert cached.shape == (3, ids.shape[1] + 6) and (cached[:, ids.shape[1] :] != IMAGE).all()
    if side == "left":
        cache = model.new_cache()
        model(ids, images, mask, cache)
        steps = [model(token[:, None], cache=cache)[:, -1] for token in cached[:, ids.shape[1] :].unbind(1)]
        longer = torch.cat([mask, torch.ones(3, 6, dtype=torch.long)], dim=1)
        assert largest_difference(torch.stack(steps, dim=1), model(cached, images, longer)[:, -6:]) < 2e-5


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "plain"])
def test_every_option_changes_the_model(option):
    ids, images, _ = rows_of("3 I 4")
    difference = largest_difference(random_model(**OPTIONS[option])(ids, images)[:, -1], random_model()(ids, images)[:, -1])
    assert difference > 1e-3


def test_turns_with_pictures_of_their_own_equal_the_whole_conversation():
    model = random_model()
    ids, images, mask = rows_of("2 I 3 4 I 1 I 2", "I I 4 1 I I 4 1", "9 5", side="left")
    of_row = (ids == IMAGE).sum(dim=1).tolist()
    for cut in (2, 4, 5, 8, 10):
        cache = model.new_cache()
        early = (ids[:, :cut] == IMAGE).sum(dim=1).tolist()
        groups = [own.split([count, len(own) - count]) for own, count in zip(images.split(of_row), early, strict=True)]
        parts = []
        for new, turn in ((slice(0, cut), 0), (slice(cut, None), 1)):
            own = torch.cat([group[turn] for group in groups])
            parts.append(model(ids[:, new], own if len(own) else None, mask[:, new], cache))
        assert largest_difference(torch.cat(parts, dim=1)[mask.bool()], model(ids, images, mask)[mask.bool()]) < 2e-5


def test_new_tokens_keep_seeing_what_the_last_prompt_token_saw():
    model = random_model()
    ids, images, _ = rows_of("2 I 2 I I 2")
    cache = model.new_cache()
    model(ids, images, cache=cache)
    assert cache.pictures["read"].visible[0, -1].tolist() == [False, True, True]
    for _ in range(3):
        model(torch.tensor([[7]]), cache=cache)
        assert cache.pictures["read"].visible[0].tolist() == [[False, True, True]]


def test_keys_and_values_of_a_picture_are_computed_once_and_do_not_grow_with_the_text():
    model = random_model()
    ids, images, _ = rows_of("2 I 4", "I 6")
    calls = []
    model.cross_blocks[0].attention.key.register_forward_hook(lambda module, inputs, output: calls.append(output.shape[1]))
    cache = model.new_cache()
    assert picture_bytes(cache) == 0
    model(ids, images, cache=cache)
    blocks, rows, heads, pictures, width = 2, 2, 2, 1, 8
    expected = 2 * blocks * rows * heads * pictures * TOKENS * width * 4  # of float32
    assert picture_bytes(cache) == expected
    text = cache.bytes()
    for _ in range(4):
        model(torch.tensor([[7], [8]]), cache=cache)
    assert picture_bytes(cache) == expected and cache.bytes() == text * 11 // 7
    assert calls == [TOKENS]
    model(torch.tensor([[IMAGE], [IMAGE]]), images, cache=cache)
    assert picture_bytes(cache) == 2 * expected and calls == [TOKENS, TOKENS]


TOKENIZER = Tokenizer.from_words(WORDS)


def course(**changes):
    return CrossAttentionMLLM(CrossAttentionConfig.course(TOKENIZER.vocab_size, TOKENIZER.image_token_id, **changes))


def test_packed_texts_have_the_logits_they_have_alone_and_features_serve_as_well_as_images():
    model = randomise(course())
    pictures = torch.tensor([1, 0, 2, 1])
    world = scenes(4, 0, "train", objects=2)
    images = torch.randn(4, 3, 32, 32)
    batch = pack(TOKENIZER, sample_questions(world, 3), captions(world, "full"), image_tokens=1, pictures=pictures, images=images)
    logits = model(batch.ids, batch.images, segments=batch.segments)
    before = predecessors(batch.segments)
    for row, own in enumerate(images.split(pictures.tolist())):
        for number in range(1, 5):
            text = (batch.segments[row] == number).nonzero().flatten()
            keep = (batch.segments[row] == 0) | (batch.segments[row] == number)
            alone = model(batch.ids[row][keep][None], own if len(own) else None)[0]
            assert largest_difference(logits[row, before[row, text]], alone[-len(text) - 1 : -1]) < 2e-5
    loss, _ = packed_loss(model, batch)
    again, _ = packed_loss(model, batch._replace(images=None, features=model.features(images)))
    assert torch.equal(loss, again)


def test_a_picture_in_one_segment_is_not_seen_by_the_others():
    model = random_model()
    ids = torch.tensor([[1, IMAGE, 5, 6, IMAGE, 7, 8, 9, 10, 11]])
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2, -1]])
    images = torch.randn(2, 3, 16, 16)
    logits = model(ids, images, segments=segments)
    assert logits.isfinite().all()
    for keep, own in (([0, 1, 2, 3, 4, 5], images), ([0, 1, 2, 6, 7, 8], images[:1])):
        assert largest_difference(logits[0, keep], model(ids[:, keep], own)[0]) < 2e-5
    with unchecked(), pytest.raises(ValueError, match="segments"):
        model(ids, images, torch.ones_like(ids), segments=segments)


def test_a_thumbnail_is_the_token_of_its_picture_in_the_text():
    model = random_model(thumbnail=True)
    ids, images, _ = rows_of("2 I 2 I 2", "1 I 5")
    logits = model(ids, images)
    # By hand: all 16 patches side by side through the second projector, in the place of the token's own embedding.
    decoder, hybrid = model.language_model, model.features(images).reshape(3, 1, -1)
    with_thumbnail = decoder.tokens(ids)
    with_thumbnail[ids == IMAGE] = model.thumbnail(hybrid)[:, 0]
    for name, gate in model.named_parameters():
        if name.endswith("gate"):
            gate.data.zero_()
    shut = model(ids, images)
    assert largest_difference(shut, decoder.logits(decoder.decode(with_thumbnail))) < 2e-5, "with shut gates it is the unified design"
    assert largest_difference(shut, logits) > 1e-3
    changed = images.clone()
    changed[1, :, 5, 6] += 1.0  # the second picture of the first row, at place 5
    moved = (model(ids, changed) - shut).abs().amax(dim=-1) > 0
    assert not moved[1].any() and not moved[0, :5].any() and moved[0, 5:].all()
    text, _, _ = rows_of("9")
    assert torch.equal(model(text), decoder(text)), "without a picture it is the language model"
    model.freeze_pretrained()
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"projector", "thumbnail", "cross_blocks"}


# ---- training ----------------------------------------------------------------------------------------------------------


def test_the_frozen_decoder_learns_to_look_and_its_text_stays_bit_for_bit_the_same():
    world = scenes(4, 0, "train", objects=2)
    model = course().freeze_pretrained()
    learns = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {"projector", "cross_blocks"}
    assert all(lesson_07.learns(name) == parameter.requires_grad for name, parameter in model.named_parameters())
    images, questions, sentences = render(world), sample_questions(world, 4), captions(world, "full")
    batch = pack(TOKENIZER, questions, sentences, image_tokens=1, images=model.picture_inputs(images)["images"])
    text, mask = TOKENIZER([question for pairs in questions.texts() for question, *_ in pairs])
    before, kept = model(text, mask=mask), {name: value.clone() for name, value in model.state_dict().items()}
    losses = train(model, lambda step: batch, packed_loss, TrainingConfig(steps=25, muon_modules=("blocks",)), progress=False)
    del losses
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, kept[name])}
    assert changed == {"projector", "cross_blocks"}
    assert all(gate != 0 for name, gate in model.named_parameters() if name.endswith("gate"))
    assert torch.equal(model(text, mask=mask), before)
    assert packed_loss(model, batch)[0] < packed_loss(model, batch._replace(images=batch.images.flip(0)))[0], "it looks at the pictures"


def test_a_few_scenes_are_learned_by_heart_and_answer_says_them():
    world = scenes(4, 0, "train", objects=2)
    model = course()
    model.vision.requires_grad_(False)
    images, questions, sentences = render(world), sample_questions(world, 6), captions(world, "full")
    batch = pack(TOKENIZER, questions, sentences, image_tokens=model.image_tokens, images=model.picture_inputs(images)["images"])
    train(model, lambda step: batch, packed_loss, TrainingConfig(steps=70, muon_modules=("blocks", "projector")), progress=False)
    assert exact_matches(model.eval(), batch).all()
    texts = questions.texts()
    for number in range(4):
        assert answer(model, TOKENIZER, images, [pairs[number][0] for pairs in texts]) == [pairs[number][1] for pairs in texts]


def test_every_part_gets_a_gradient_once_the_gates_are_open_and_a_frozen_encoder_none():
    model = random_model(**OPTIONS["as in the course"])
    model.vision.requires_grad_(False)
    ids, images, _ = rows_of("3 I 4")
    assert not model.features(images).requires_grad
    model(ids, images).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("vision."), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


# ---- making, keeping, refusing -----------------------------------------------------------------------------------------


def test_presets_count_what_they_promise():
    tiny, course_size = CrossAttentionConfig.tiny(), CrossAttentionConfig.course(100)
    assert (tiny.visual_tokens, course_size.visual_tokens) == (16, 4) and tiny.image_token_id == 2
    assert (tiny.vision.image_size, tiny.vision.channels, tiny.language.vocab_size) == (32, 3, 128) and tiny.language.context_length >= 32
    model, other = CrossAttentionMLLM(course_size), UnifiedMLLM(course_size.unified)
    sizes = [sum(p.numel() for p in each.parameters()) for each in (model, other, model.cross_blocks)]
    assert sizes[0] == sizes[1] + sizes[2]
    for name, parameter in other.named_parameters():
        assert parameter.shape == model.get_parameter(name).shape, "the same parts, but for the gated blocks"
    assert course_size.unified.language == course_size.language and course_size.language.key_value_heads == 4
    assert course_size.cross_before == (0, 2) and not course_size.cross_mlp


def test_the_seed_alone_decides_the_weights():
    before = torch.random.get_rng_state()
    one, two, other = (CrossAttentionMLLM(CONFIG, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, a), b, c in zip(one.named_parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.unique().numel() == 1 or not torch.equal(a, c), name


def test_a_saved_model_is_loaded_again(tmp_path):
    model = randomise(course())
    save(tmp_path / "saved", model, TOKENIZER, {"recipe": "none"})
    again, _ = load(tmp_path / "saved")
    assert again.config == model.config
    ids, images = torch.tensor([[1, 2, 10, 11]]), torch.randn(1, 3, 32, 32)
    assert torch.equal(again(ids, images), model(ids, images))


def test_the_encoder_of_a_clip_is_taken_over():
    clip = CLIP(CLIPConfig.tiny(), seed=3)
    model = CrossAttentionMLLM(CrossAttentionConfig.tiny()).copy_encoder(clip.image_encoder)
    states = []
    clip.image_encoder.blocks[1].register_forward_hook(lambda module, inputs, output: states.append(output))
    images = torch.randn(2, 3, 32, 32)
    clip.encode_image(images)
    assert torch.equal(model.features(images), states[0][:, 1:])
    with pytest.raises(ValueError, match="dim=32"):
        random_model().copy_encoder(clip.image_encoder)


def test_bfloat16_is_finite_and_near():
    model = random_model()
    ids, images, mask = rows_of("3 I 4", "7", side="left")
    expected = model(ids, images, mask)
    logits = model.to(torch.bfloat16)(ids, images.to(torch.bfloat16), mask)
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()
    assert largest_difference(logits.float()[mask.bool()], expected[mask.bool()]) < 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    "layouts, images, words",
    [
        (["2 I 3"], None, ["1 image tokens", "0 images"]),
        (["5"], 1, ["0 image tokens", "1 images"]),
        (["2 I 3", "I I 3"], 2, ["3 image tokens", "2 images"]),
        (["2 I 3"], 4, ["1 image tokens", "4 images"]),
    ],
)
def test_other_numbers_of_pictures_than_of_their_tokens_are_refused_with_both(layouts, images, words):
    model = random_model()
    ids, _, _ = rows_of(*layouts)
    pixels = None if images is None else torch.randn(images, 3, 16, 16)
    with unchecked():
        for cache in (None, model.new_cache()):
            with pytest.raises(ValueError) as error:
                model(ids, pixels, cache=cache)
            assert all(word in str(error.value) for word in words), str(error.value)
        with pytest.raises(ValueError):
            generate(model, ids, 2, images=pixels)


def test_a_refused_call_leaves_the_cache_as_it_was():
    model = random_model()
    ids, images, _ = rows_of("2 I 3")
    cache = model.new_cache()
    model(ids, images, cache=cache)
    read = cache.pictures["read"]
    long = torch.full((1, 123), 7)
    long[0, 5] = IMAGE
    for given in ((ids, None), (ids, torch.cat([images, images])), (ids, images[:, :, :8]), (long, images)):
        with unchecked(), pytest.raises(ValueError):
            model(*given, cache=cache)
        assert cache.length == 6 and cache.pictures["read"] is read
    follow, _, _ = rows_of("3", seed=5)
    whole = model(torch.cat([ids, follow], dim=1), images)
    assert largest_difference(model(follow, cache=cache), whole[:, 6:]) < 2e-5


def test_bad_input_is_refused():
    model = random_model()
    ids, images, _ = rows_of("2 I 3")
    for arguments, more, words in (
        ((ids[:, :0],), {}, "at least one token"),
        ((torch.full((1, 3), VOCABULARY),), {}, "0 to 98"),
        ((ids, images[:, :, :8]), {}, "8 x 16"),
        ((ids, images[:, :1]), {}, "1"),
        ((torch.ones(1, 130, dtype=torch.long),), {}, "130"),
        ((ids, images), dict(features=torch.randn(1, 16, 32)), "images and features"),
        ((ids, images, torch.ones(1, 9)), {}, "(1, 9)"),
    ):
        with unchecked(), pytest.raises(ValueError) as error:
            model(*arguments, **more)
        assert words in str(error.value)
    for changes, words in (
        (dict(cross_before=()), r"\(\)"),
        (dict(cross_before=(1, 1)), r"\(1, 1\)"),
        (dict(cross_before=(2, 1)), r"\(2, 1\)"),
        (dict(cross_before=(3,)), "0 to 2"),
        (dict(cross_before=(-1, 1)), "-1"),
        (dict(image_token_id=VOCABULARY), "99"),
        (dict(projector="deep"), "deep"),
        (dict(merge=3), "merge"),
        (dict(thumbnail=True, keep_class_token=True), "keep_class_token=True"),
        (dict(thumbnail=True, vision=replace(VISION, image_size=(16, 32))), "4 x 8"),
        (dict(cross_key_value_heads=3), "3"),
    ):
        with pytest.raises(ValueError, match=words):
            CrossAttentionMLLM(replace(CONFIG, **changes))
