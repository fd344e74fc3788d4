"""The recipe of the model with gated cross-attention: what learns in it, the frozen decoder, and that the card tells the truth."""

import pytest
import torch

from minimllm import answer, load, render
from minimllm.exercises.lesson_07 import learns
from minimllm.lessons.recipes import load_recipe, load_results
from minimllm.models import shipped
from minimllm.training.optimizers import make_optimizers
from minimllm.training.packing import ANSWER, CAPTION

CROSS = load_recipe("cross_attention")


def test_a_picture_is_one_token_of_the_batches_and_stands_before_all_texts():
    model, tokenizer = CROSS.make_model()
    batch = CROSS.UNIFIED.make_batches(model, tokenizer, CROSS.TRAINING)(CROSS.TRAINING.steps - 1)
    assert ((batch.ids == tokenizer.image_token_id).sum(dim=1) == 1).all() and (batch.ids[:, 1] == tokenizer.image_token_id).all()
    assert set(batch.scored.unique().tolist()) == {0, ANSWER, CAPTION} and len(batch.features) == len(batch.ids)


def test_muon_moves_the_matrices_of_the_gated_blocks_and_gates_learn_faster():
    groups = {
        name: (kind, group["lr"])
        for kind, optimizer in make_optimizers(CROSS.make_model()[0], CROSS.TRAINING).items()
        for group in optimizer.param_groups
        for name in group["names"]
    }
    rate = CROSS.TRAINING.learning_rate
    assert all(groups[f"cross_blocks.1.attention.{part}.weight"][0] == "muon" for part in ("query", "key", "value", "output"))
    assert groups["cross_blocks.0.attention_gate"] == ("adamw", 10 * rate) and groups["language_model.tokens.weight"] == ("adamw", rate)
    assert not any(name.startswith("vision.") for name in groups)


def test_a_few_steps_open_the_gates_and_leave_the_encoder_alone():
    model, tokenizer, history = CROSS.train_cross(steps=3)
    fresh, _ = CROSS.make_model()
    assert all(torch.equal(p, q) for p, q in zip(model.vision.parameters(), fresh.vision.parameters(), strict=True))
    assert not torch.equal(model.language_model.blocks[2].mlp.up.weight, fresh.language_model.blocks[2].mlp.up.weight)
    for before, block in zip(model.config.cross_before, model.cross_blocks, strict=True):
        opened = history.metrics[f"gate before layer {before + 1}"]
        assert len(opened) == 3 and opened[0] == 0 and opened[-1] != 0 and block.attention_gate.item() != 0
    result = CROSS.measure(model, tokenizer, "validation", 20, 1)
    assert result["vqa"]["n"] == 180 and result["caption"]["n"] == 20


def test_beside_the_frozen_decoder_only_what_is_new_learns_and_texts_are_read_as_before_to_the_bit():
    decoder, tokenizer = load("language_model")
    model, own, history = CROSS.train_cross(steps=3, frozen=True)
    assert own.words == tokenizer.words
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        name for name, _ in model.named_parameters() if learns(name)
    }
    ids, mask = tokenizer(["what colour is the star ?", "is there a red heart ?"], end=False)
    with torch.no_grad():
        assert torch.equal(model(ids, mask=mask), decoder(ids, mask))
    assert all(block.attention_gate.item() != 0 for block in model.cross_blocks)
    questions = ["where is the ring ?", "how many objects are there ?"]
    assert answer(model, tokenizer, None, questions) == answer(decoder, tokenizer, None, questions)


def test_blind_training_shows_the_pictures_of_other_scenes():
    model, tokenizer = CROSS.make_model()
    seen, blind = (CROSS.UNIFIED.make_batches(model, tokenizer, CROSS.TRAINING, blind=each)(5) for each in (False, True))
    assert torch.equal(seen.ids, blind.ids) and torch.allclose(seen.features.roll(1, dims=0), blind.features, atol=1e-5)


@pytest.mark.parametrize("run", [run for run in load_recipe("lesson_07").RUNS if not run.startswith("live")])
def test_the_runs_of_lesson_07_change_what_they_are_called_by(run, monkeypatch):
    lesson = load_recipe("lesson_07")
    course, trained, options = lesson.COURSE, [], []
    monkeypatch.setattr(lesson, "N", 10)
    make, short = course.make_model, course.train_cross
    monkeypatch.setattr(course, "make_model", lambda *a, **k: trained.append(make(*a, **k)) or trained[-1])
    monkeypatch.setattr(course, "train_cross", lambda *a, **k: options.append(k) or short(*a, **k | {"steps": 3}))
    result = lesson.RUNS[run]()
    whole = course.UNIFIED.TRAINING.steps
    frozen_steps = {"frozen decoder, seed 0": whole, "frozen decoder, four times as long, seed 0": 4 * whole}
    assert options[0].get("steps", course.TRAINING.steps) == frozen_steps.get(run, 600)
    config = trained[0][0].config
    assert result["steps"] == 3 and result["vqa"]["n"] == 90 and all(value != 0 for value in result["gates"].values())
    assert ("blind" in options[0]) == run.startswith("blind")
    assert config.cross_mlp == run.startswith(("frozen", "with the MLP"))
    assert (config.cross_norm is None) == run.startswith("without head norm")
    assert result.get("text before") == result.get("text after") and ("text after" in result) == run.startswith("frozen")


def test_the_results_of_lesson_07_are_of_its_runs():
    recipe, results = load_recipe("lesson_07"), load_results("lesson_07")
    assert results.keys() == recipe.RUNS.keys()
    for name, run in results.items():
        assert run["steps"] == (3200 if "four times" in name else 800 if "frozen" in name else 600), name
        kinds = [kind["accuracy"] for kind in run["kinds"].values()]
        assert run["vqa"]["n"] == 9 * recipe.N and abs(sum(kinds) / len(kinds) - run["vqa"]["accuracy"]) < 2e-4
        assert run.get("text before") == run.get("text after") and ("text after" in run) == ("frozen" in name)
        if name.startswith("live"):
            assert run["shuffled"]["vqa"]["accuracy"] < 0.45 < 0.9 < run["other renderer"]["vqa"]["accuracy"]
            assert run["vqa"]["accuracy"] > 0.93


@pytest.mark.parametrize("split", ["test", "held_out"])
def test_the_card_of_cross_attention_tells_the_truth(split):
    card, (model, tokenizer) = shipped.read_card("cross_attention"), load("cross_attention")
    assert sum(file.stat().st_size for file in (shipped.CHECKPOINTS / "cross_attention").iterdir()) <= 8 * 2**20
    assert model.config == CROSS.make_model()[0].config
    claimed = card["accuracy"]["new scenes" if split == "test" else "held-out pairs"]
    measured = CROSS.measure(model, tokenizer, split, 1000, card["test_seed"])
    assert measured["vqa"]["accuracy"] == pytest.approx(claimed["vqa"]["accuracy"], abs=0.002)
    assert measured["caption"]["accuracy"] == pytest.approx(claimed["caption"]["accuracy"], abs=0.006)


def test_the_shipped_model_writes_what_it_was_measured_by():
    model, tokenizer = load("cross_attention")
    world, asked = CROSS.UNIFIED.LANGUAGE.draw_test(20, 3)
    right, _ = CROSS.UNIFIED.right(model, tokenizer, world, asked)
    pictures = render(world)
    for row, texts in enumerate(asked.texts()):
        written = answer(model, tokenizer, pictures[[row] * len(texts)], [question for question, _, _ in texts])
        assert [one == text for one, (_, text, _) in zip(written, texts, strict=True)] == right[row, : len(texts)].tolist()
