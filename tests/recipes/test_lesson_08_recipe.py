"""The recipe of lesson 08: the comparison is fair, runs change what they are called by, and the results are what they say."""

import dataclasses
from functools import partial

import pytest
import torch

from minimllm import LanguageModelConfig, load
from minimllm.lessons.recipes import load_recipe, load_results
from minimllm.training import History
from minimllm.training.optimizers import make_optimizers

RECIPE = load_recipe("lesson_08")
RESULTS = load_results("lesson_08")


def short(monkeypatch, run: partial, steps: int = 2) -> tuple[dict, object]:
    """A run with few steps and small tests: its result, and the model that it made."""
    made, make = [], RECIPE.make_model
    monkeypatch.setattr(RECIPE, "make_model", lambda *a, **k: made.append(make(*a, **k)) or made[-1])
    monkeypatch.setattr(RECIPE, "N", 10)
    monkeypatch.setattr(RECIPE.SIX, "N", 10)
    return partial(run, steps=steps)(), made[0][0]


def test_both_designs_are_trained_alike():
    unified, cross = (RECIPE.make_model(design)[0] for design in RECIPE.BOTH)
    for part in ("vision", "projector", "language_model"):
        one, other = (getattr(model, part).state_dict() for model in (unified, cross))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one), part
    for step in (0, 500):
        batches = [
            RECIPE.COURSE.make_batches(model, tokenizer, RECIPE.COURSE.TRAINING)(step)
            for model, tokenizer in map(RECIPE.make_model, RECIPE.BOTH)
        ]
        assert torch.equal(batches[0].features, batches[1].features)
        texts = [batch.ids[batch.scored > 0] for batch in batches]
        assert torch.equal(*texts), "the same words are scored"


def steps_of(run: str) -> int:
    in_full = "frozen" in run or "in full" in run or run.startswith(("cross-attention, seed", "hybrid, seed"))
    return (RECIPE.COURSE.TRAINING.steps if in_full else RECIPE.SIX.HALF) * (4 if "four times as long" in run else 1)


@pytest.mark.parametrize("run", [run for run in RECIPE.RUNS if run != "costs"])
def test_every_run_has_the_settings_of_the_unified_design_and_the_steps_that_its_name_says(run, monkeypatch):
    seen = []

    def note(model, make_batch, loss, settings, **_):
        seen.append(dataclasses.asdict(settings))
        raise InterruptedError

    monkeypatch.setattr(RECIPE, "train", note)
    monkeypatch.setattr(RECIPE.SIX, "N", 10)
    with pytest.raises(InterruptedError):
        RECIPE.RUNS[run]()
    expected = dataclasses.asdict(RECIPE.COURSE.TRAINING) | {"steps": steps_of(run), "seed": int(run[-1])}
    if not run.startswith("unified"):
        more = ("thumbnail",) if run.startswith("hybrid") else ()
        expected["muon_modules"] = ("blocks", "cross_blocks", "projector", *more)
        expected["learning_rate_factors"] = {"attention_gate": 10.0, "mlp_gate": 10.0}
    assert seen == [expected]


def test_the_controls_are_what_they_are_called(monkeypatch):
    measured = {}

    def measure(model, tokenizer, split, n, seed, draw=None, shuffled=False):
        key = len(measured)
        measured[key] = (split, draw, shuffled)
        return {"vqa": key}

    monkeypatch.setattr(RECIPE, "train", lambda *_, **__: History([1.0]))
    monkeypatch.setattr(RECIPE.COURSE, "measure", measure)
    found = RECIPE.RUNS["cross-attention, seed 0"]()
    assert measured[found["other renderer"]["vqa"]] == ("test", RECIPE.COURSE.render_differently, False)
    assert measured[found["shuffled"]["vqa"]] == ("test", None, True)


def test_an_encoder_that_learns_sees_the_same_pictures():
    model, tokenizer = RECIPE.make_model("unified")
    settings = RECIPE.COURSE.TRAINING
    batch = RECIPE.pictures_batches(model, tokenizer, settings)(3)
    with torch.no_grad():
        assert torch.allclose(model.features(batch.images), RECIPE.COURSE.make_batches(model, tokenizer, settings)(3).features, atol=1e-5)
    assert batch.features is None


@pytest.mark.parametrize("design", RECIPE.BOTH)
def test_a_frozen_decoder_answers_texts_as_before_to_the_last_bit(design, monkeypatch):
    result, model = short(monkeypatch, partial(RECIPE.trained, design, decoder="frozen"), steps=3)
    shipped, _ = load("language_model")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(model(ids), shipped(ids))
    assert result["text before"] == result["text after"]
    decoder = sum(parameter.numel() for parameter in model.language_model.parameters())
    assert result["total"] - result["trainable"] == decoder + sum(parameter.numel() for parameter in model.vision.parameters())


@pytest.mark.parametrize(
    "run, expected",
    [
        ("cross-attention, linear projector, seed 0", {"projector": "linear"}),
        ("cross-attention, before layer 3 alone, seed 0", {"cross_before": (2,)}),
        ("cross-attention, before layers 2 and 3, in full, seed 0", {"cross_before": (1, 2)}),
        ("unified, encoder's last layer, seed 0", {"feature_layer": -1}),
        ("cross-attention, 16 tokens and class token, seed 0", {"merge": 1, "keep_class_token": True}),
        ("hybrid, seed 0", {}),
        ("hybrid, 16 tokens beside, seed 0", {"merge": 1}),
    ],
)
def test_a_run_changes_what_it_is_called_by_and_nothing_else(run, expected, monkeypatch):
    result, model = short(monkeypatch, RECIPE.RUNS[run])
    usual = RECIPE.make_model(run.partition(",")[0])[0].config
    changed = {field.name: getattr(model.config, field.name) for field in dataclasses.fields(model.config)}
    changed = {name: value for name, value in changed.items() if value != getattr(usual, name)}
    assert expected.items() <= changed.items() and changed.keys() <= expected.keys() | {"projector_dim", "projector_positions"}
    assert result["steps"] == 2 and result["image_tokens"] == (17 if "class token" in run else 16 if "16" in run else 4)


def test_questions_for_a_shape_are_told_apart_by_the_words_that_name_the_object(monkeypatch):
    monkeypatch.setattr(RECIPE, "N", 30)
    model, tokenizer = load("cross_attention")
    monkeypatch.setattr(RECIPE.COURSE, "right", lambda model, tokenizer, world, asked: (right, None))
    _, asked = RECIPE.COURSE.LANGUAGE.draw_test(30, 3, "test")
    texts = [question for row in asked.texts() for question, _, kind in row if kind == "shape"]
    right = torch.tensor([["blue" in question or "top" in question for question, _, _ in row] for row in asked.texts()])
    found = RECIPE.shapes_by_words(model, tokenizer, 3)
    by_colour = [question for question in texts if question.endswith(" object ?")]
    by_place = [question for question in texts if " at the " in question]
    assert len(by_colour) + len(by_place) == len(texts)
    for name, group, word in (("one word", by_colour, "blue"), ("two words", by_place, "top")):
        assert found[name]["n"] == len(group) > 5
        assert found[name]["accuracy"] == round(sum(word in question for question in group) / len(group), 4)


def test_the_hybrid_is_cross_attention_with_a_thumbnail_that_learns():
    (hybrid, _), (cross, _) = map(RECIPE.make_model, ("hybrid", "cross-attention"))
    assert hybrid.config == dataclasses.replace(cross.config, thumbnail=True)
    moved = {name for group in make_optimizers(hybrid, RECIPE.training_settings("hybrid"))["muon"].param_groups for name in group["names"]}
    assert {"thumbnail.up.weight", "thumbnail.down.weight", "projector.up.weight"} <= moved


def test_activations_are_counted_storage_by_storage_and_without_the_weights():
    layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))
    # Kept: what goes into the first layer, into GELU, and into the last one, whose weight is needed too, but is there anyway.
    assert RECIPE.activation_bytes(layers, lambda layers: layers(torch.randn(2, 4)).sum()) == 4 * 2 * (4 + 8 + 8)
    factors = torch.ones(2, 3)
    assert RECIPE.activation_bytes(layers, lambda layers: (layers(torch.ones(2, 4)) * factors * factors).sum()) == 4 * 2 * (
        4 + 8 + 8 + 3
    )  # which is kept twice


@pytest.mark.parametrize("design", RECIPE.BOTH)
def test_the_memory_of_a_training_step_is_what_a_count_by_hand_gives(design):
    model, tokenizer = RECIPE.make_model(design)
    settings = RECIPE.training_settings(design)
    makers = [RECIPE.COURSE.make_batches(model, tokenizer, dataclasses.replace(settings, batch_size=size)) for size in (4, 8)]
    found = [RECIPE.training_bytes(model, make(0), settings) for make in makers]
    learn = [weight for weight in model.parameters() if weight.requires_grad]
    assert found[0]["weights"] == 4 * sum(weight.numel() for weight in model.parameters())
    assert found[0]["gradients"] == 4 * sum(weight.numel() for weight in learn)
    # Muon keeps one number for a weight, AdamW two, and a count of its steps.
    optimizers = make_optimizers(model, settings)
    groups = {kind: [weight for group in optimizer.param_groups for weight in group["params"]] for kind, optimizer in optimizers.items()}
    numbers = sum(weight.numel() for weight in groups["muon"]) + sum(2 * weight.numel() + 1 for weight in groups["adamw"])
    assert found[0]["optimizer"] == 4 * numbers
    assert all(weight.grad is None for weight in model.parameters()), "the model stays as it is"
    assert 1.5 < found[1]["activations"] / found[0]["activations"] < 2.5, "in proportion to the pictures"
    tokens = makers[0](0).ids.numel()
    assert found[0]["activations"] > 4 * tokens * model.config.language.dim * 10 * model.config.language.layers


def test_an_encoder_learns_where_it_should(monkeypatch):
    result, model = short(monkeypatch, RECIPE.RUNS["unified, encoder learns, seed 0"])
    clip, _ = load("clip")
    assert result["trainable"] == result["total"]
    assert not torch.equal(model.vision.blocks[0].mlp.up.weight, clip.image_encoder.blocks[0].mlp.up.weight)


def test_costs_are_measured_as_the_formulas_say():
    language = LanguageModelConfig.tiny(60, context_length=200)
    for model in RECIPE.untrained(9, language, (1,)).values():
        design, found = RECIPE.Design.of(model.config), RECIPE.cost(model, 9, text_tokens=5, rounds=1, words=1)
        assert found["multiply_adds"] == design.multiply_adds(9, 5).total and found["bytes"] == design.cache_bytes(9, 5)
        assert found["reading"] > 0 and found["word"] > 0


def test_every_result_is_of_a_run_of_the_recipe():
    assert RESULTS.keys() == RECIPE.RUNS.keys()
    for name, run in RESULTS.items():
        if name == "costs":
            found = [entry for entry in run.values() if isinstance(entry, dict)]
            assert len(found) == 2 * len(RECIPE.IMAGE_TOKENS)
            assert all(entry["multiply_adds"] == entry["formula"]["multiply_adds"] for entry in found)
            assert all(entry["bytes"] == entry["formula"]["bytes"] for entry in found)
        else:
            assert run["steps"] == steps_of(name)
            assert run["vqa"]["n"] == 9 * RECIPE.N and ("gates" in run) == (not name.startswith("unified"))
            assert ("shapes" in run) == bool(RECIPE.RUNS[name].keywords.get("shapes"))
            if RECIPE.RUNS[name].keywords.get("controls"):
                assert run["shuffled"]["vqa"]["accuracy"] < 0.45 < 0.9 < run["other renderer"]["vqa"]["accuracy"]
            kinds = [kind["accuracy"] for kind in run["kinds"].values()]
            assert abs(sum(kinds) / len(kinds) - run["vqa"]["accuracy"]) < 2e-4
