"""The recipe of lesson 11's models: what they learn from, what is trained, what they are asked."""

import dataclasses

import pytest
import torch

from minimllm import CHECKPOINTS, HANDS, THINGS, chat, generate, load, load_results, packed_loss, read_card, render_things, things
from minimllm.lessons.recipes import load_recipe

RECIPE = load_recipe("eyes")
TINY = dataclasses.replace(RECIPE.TRAINING, steps=2, batch_size=3)


@pytest.fixture(scope="module")
def unified():
    return RECIPE.make_model("unified")


@pytest.fixture(scope="module")
def crossing():
    return RECIPE.make_model("cross_attention")


def test_every_request_has_answers_about_every_thing():
    said = load_results("eyes_answers")
    for request in (*RECIPE.TRAINED, *RECIPE.UNSEEN):
        assert "{}" in request
        for name in THINGS:
            assert len(said[request][name]) == RECIPE.ANSWERS and all(said[request][name])
    first = [said[RECIPE.TRAINED[1]][name][0] for name in THINGS]
    assert len(set(first)) > 50, "they are about the thing"


def test_answers_are_the_language_models_own(unified):
    model, tokenizer = unified
    request, name = RECIPE.TRAINED[1], "whale"
    ids = torch.tensor([RECIPE.prompt(tokenizer, request.format(RECIPE.named(name)))])
    written = generate(model.language_model, ids, 8, eos_token_id=tokenizer.eos_token_id)[0, ids.shape[1] :]
    assert load_results("eyes_answers")[request][name][0].startswith(tokenizer.decode(written))


def test_only_what_is_new_learns(unified, crossing):
    model, _ = unified
    assert {name.split(".")[0] for name, each in model.named_parameters() if each.requires_grad} == {"projector"}
    model, _ = crossing
    assert {name.split(".")[0] for name, each in model.named_parameters() if each.requires_grad} == {"projector", "cross_blocks"}
    assert all(block.attention_gate.item() == 0 for block in model.cross_blocks)


def test_visual_tokens_begin_with_the_size_of_a_word(unified):
    model, _ = unified
    with torch.no_grad():
        tokens = model.encode(RECIPE.pictures(things(64, 4, "validation")))
    size = model.language_model.tokens.weight.pow(2).mean().sqrt()
    assert tokens.shape == (64, 1, 576) and 0.6 < tokens.pow(2).mean().sqrt() / size < 1.25


def test_a_row_is_a_picture_and_three_requests_each_of_which_comes_first(unified):
    model, tokenizer = unified
    batch = RECIPE.make_batches(model, tokenizer, TINY)(1)
    shown = things(3, TINY.seed, "train", start=3)
    before, behind = RECIPE.around(tokenizer)
    for row, name in enumerate(shown.names):
        ids, segments, scored = batch.ids[row].tolist(), batch.segments[row].tolist(), batch.scored[row].tolist()
        prefix = segments.count(0)
        assert ids[:prefix] == [*before, model.image_token_id]
        assert set(segments) - {-1} == {0, 1, 2, 3}
        said = {}
        for number in (1, 2, 3):
            part = [token for token, segment in zip(ids, segments, strict=True) if segment == number]
            reply = [token for token, segment, score in zip(ids, segments, scored, strict=True) if segment == number and score]
            asked = part[: len(part) - len(reply)]
            assert asked[-len(behind) :] == behind and part[len(asked) :] == reply
            said[tokenizer.decode(asked[: -len(behind)])] = tokenizer.decode(reply)
        assert said.pop("What is this?") == RECIPE.sentence(name) + tokenizer.eos_token
        for request, reply in said.items():
            assert reply in load_results("eyes_answers")[request.replace("this", "{}")][name]
    assert torch.equal(batch.ids, RECIPE.make_batches(model, tokenizer, TINY)(1).ids)
    named = RECIPE.make_batches(model, tokenizer, TINY, requests=())(1)
    assert named.segments.max() == 1 and named.scored.sum() < batch.scored.sum()


@pytest.mark.parametrize("design", RECIPE.DESIGNS)
def test_a_step_lowers_the_loss(design, unified, crossing):
    model, tokenizer = {"unified": unified, "cross_attention": crossing}[design]
    batch = RECIPE.make_batches(model, tokenizer, TINY, requests=())(0)
    learning = [each for each in model.parameters() if each.requires_grad]
    size = {"unified": 0.002, "cross_attention": 0.02}[design]
    kept = [each.detach().clone() for each in learning]
    before, _ = packed_loss(model, batch)
    before.backward()
    assert learning[0].grad is not None and all(each.grad is None for each in model.language_model.parameters())
    with torch.no_grad():
        for each in learning:
            if each.grad is not None:
                each -= size * each.grad / each.grad.norm().clamp(min=1e-6)
        assert packed_loss(model, batch)[0] < before
        for each, old in zip(learning, kept, strict=True):
            each.copy_(old)
            each.grad = None


def test_holds_reads_words_not_letters():
    assert RECIPE.holds("These are Scissors!", "scissors") and RECIPE.holds("two cherries", "cherry")
    assert RECIPE.holds("A doughnut.", "donut") and not RECIPE.holds("A carpet", "car") and not RECIPE.holds("the keyboard", "key")
    assert RECIPE.named("owl") == "an owl" and RECIPE.named("ice cream") == "an ice cream" and RECIPE.named("cup") == "a cup"
    assert RECIPE.sentence("scissors") == "These are scissors."


def test_another_is_another():
    shown = things(40, 2, "validation")
    other = RECIPE.another(shown)
    assert (shown.thing[other] != shown.thing).all()


def test_log_probability_of_the_name_is_above_blind(unified):
    model, tokenizer = unified
    shown = things(6, 1, "validation")
    name, blind = (RECIPE.log_probability(model, tokenizer, RECIPE.TRAINED[1], shown, place) for place in ("name", "blind"))
    assert name.shape == (6,) and (name < 0).all() and name.mean() > blind.mean() + 0.2


def test_the_dictionary_names_things_before_any_training(unified):
    """Against a random layer of the right size, which names none; and its map is that of least squares, on pictures of its own."""
    model, tokenizer = unified
    at_random, _ = RECIPE.make_model("unified", aligned=False)
    shown = things(28, 31, "validation")
    named = [sum(map(RECIPE.holds, RECIPE.replies(each, tokenizer, RECIPE.NAMING, shown, 10), shown.names)) for each in (model, at_random)]
    assert named[0] >= 8 and named[1] <= 2
    words = model.language_model.tokens.weight
    with torch.no_grad():
        tokens = model.encode(RECIPE.pictures(things(RECIPE.ALIGNED, RECIPE.SEED, "train")))[:, 0]
    targets = torch.stack([words[tokenizer(f" {name}", add_special_tokens=False).input_ids].mean(dim=0) for name in THINGS])
    targets = targets[things(RECIPE.ALIGNED, RECIPE.SEED, "train").thing]
    explained = 1 - (tokens - targets).pow(2).sum() / (targets - targets.mean(dim=0)).pow(2).sum()
    assert 0.5 < explained < 0.9
    assert (tokens.mean(dim=0) - targets.mean(dim=0)).abs().max() < 0.02, "what all words have in common"


@pytest.fixture(scope="module", params=RECIPE.DESIGNS)
def shipped(request):
    return request.param, *load(f"eyes_{request.param}")


def test_shipped_models_name_what_they_are_shown(shipped):
    """As a reader asks them, by chat; against their card, and against the other pictures of the same batch."""
    design, model, tokenizer = shipped
    shown = things(16, 77, "test")
    content = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
    said = [
        chat(model, tokenizer, [{"role": "user", "content": content}], images=picture[None], max_new_tokens=12)
        for picture in render_things(shown)
    ]
    card = read_card(f"eyes_{design}")
    assert sum(map(RECIPE.holds, said, shown.names)) >= 16 * (card["measured"]["naming"]["first"]["accuracy"] - 0.25)
    swapped = [shown.names[index] for index in RECIPE.another(shown).tolist()]
    assert sum(map(RECIPE.holds, said, swapped)) <= 3


def test_cards_tell_how_the_shipped_ones_were_made(shipped):
    design, model, _ = shipped
    card = read_card(f"eyes_{design}")
    assert card["steps"] == RECIPE.SHIPPED_STEPS and card["test_seed"] == RECIPE.SHIPPED_TEST_SEED and card["seeds_trained"] == 1
    assert "SmolLM2" in card["answers"] and (CHECKPOINTS.parents[1] / card["recipe"]).is_file()
    assert set(card["measured"]["naming"]) == {*HANDS, "held-out colours"}
    for request in (RECIPE.TRAINED[1], *RECIPE.UNSEEN):
        found = card["measured"][request]["first"]
        assert found["own"][0] > found["another"][0] + 0.2 and found["own"][0] > found["blind"][0] + 0.4
    size = sum(file.stat().st_size for file in (CHECKPOINTS / f"eyes_{design}").iterdir())
    assert size < 18e6 and type(model.config) is type(RECIPE.make_model(design)[0].config)


def test_text_without_a_picture_is_the_language_models_own(shipped):
    _, model, tokenizer = shipped
    talker = RECIPE.LanguageModel.from_pretrained(RECIPE.released(RECIPE.RELEASE))
    ids = tokenizer("Zebras have stripes", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(model(ids), talker(ids))
