"""The recipe of the unified model: its batches, its measures, and that the card and the results file tell the truth."""

import pytest
import torch

from minimllm import answer, captions, load, render, scenes
from minimllm.data.asking import KINDS
from minimllm.data.world import pairs_of
from minimllm.lessons.recipes import load_recipe, load_results
from minimllm.models import shipped
from minimllm.training.packing import ANSWER, CAPTION

UNIFIED = load_recipe("unified")


def test_the_batches_show_no_held_out_pair_and_score_answers_and_captions_alone(monkeypatch):
    drawn = []
    monkeypatch.setattr(UNIFIED, "scenes", lambda *arguments, **options: drawn.append(scenes(*arguments, **options)) or drawn[-1])
    model, tokenizer = UNIFIED.make_model()
    make_batch = UNIFIED.make_batches(model, tokenizer, UNIFIED.TRAINING)
    for step in (0, UNIFIED.TRAINING.steps - 1):
        batch, again = make_batch(step), make_batch(step)
        assert all(torch.equal(a, b) for a, b in zip(batch[:3], again[:3], strict=True)) and torch.equal(batch.features, again.features)
        assert pairs_of("train").flatten()[drawn[-1].pair[drawn[-1].present]].all()
        assert (batch.segments.amax(dim=1) == UNIFIED.QUESTIONS + 1).all() and set(batch.scored.unique().tolist()) == {0, ANSWER, CAPTION}
        words = [tokenizer.words[number] for number in batch.ids[batch.scored == ANSWER].unique().tolist()]
        assert "?" not in words and "<end>" in words
    assert (drawn[0].count <= 3).all() and (drawn[-1].count == 4).any(), "few objects first"


def test_what_is_told_of_an_object_is_true():
    world = scenes(40, 7, "train")
    tokenizer = UNIFIED.load("clip")[1]
    for row, texts in enumerate(UNIFIED.beside(UNIFIED.sample_questions(world, 1, seed=1), UNIFIED.tell(world, 3, 5)).texts()):
        caption = captions(world[row], "full")[0]
        for question, told, _ in texts[1:]:
            size, colour, place = told.split(" ", 2)
            shape = question.removeprefix("what is the ").removesuffix(" ?")
            assert f"{size} {colour} {shape} at the {place}" in caption
            assert tokenizer([f"{question} {told}"])[0].shape[0] == 1


def test_blind_batches_hold_the_pictures_of_other_scenes():
    model, tokenizer = UNIFIED.make_model()
    seen, blind = (UNIFIED.make_batches(model, tokenizer, UNIFIED.TRAINING, blind=each)(5) for each in (False, True))
    assert torch.equal(seen.ids, blind.ids)
    assert torch.allclose(seen.features.roll(1, dims=0), blind.features, atol=1e-5)


def test_a_few_steps_train_projector_and_decoder_and_leave_the_encoder_alone():
    model, tokenizer, history = UNIFIED.train_unified(steps=3)
    fresh, _ = UNIFIED.make_model()
    assert len(history.losses) == 3
    assert all(torch.equal(p, q) for p, q in zip(model.vision.parameters(), fresh.vision.parameters(), strict=True))
    assert not torch.equal(model.projector.up.weight, fresh.projector.up.weight)
    assert not torch.equal(model.language_model.blocks[2].mlp.up.weight, fresh.language_model.blocks[2].mlp.up.weight)
    clip, _ = load("clip")
    assert torch.equal(model.vision.blocks[1].mlp.up.weight, clip.image_encoder.blocks[1].mlp.up.weight), "CLIP's own"
    result = UNIFIED.measure(model, tokenizer, "validation", 30, 1)
    assert set(result["kinds"]) == set(KINDS) and result["vqa"]["n"] == 270 and result["caption"]["n"] == 30


def test_what_is_shipped_can_be_loaded_and_says_how_it_was_made(monkeypatch, tmp_path):
    monkeypatch.setattr(UNIFIED, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(UNIFIED, "measure_all", lambda model, tokenizer, seed: {"seed": seed})
    trained = UNIFIED.train_unified(steps=1)
    UNIFIED.ship("mine", trained, 5)
    model, _ = load(tmp_path / "mine")
    assert torch.equal(model.projector.up.weight, trained[0].projector.up.weight)
    card = shipped.read_card(tmp_path / "mine")
    assert (card["recipe"], card["steps"], card["accuracy"]) == ("assets/recipes/mine.py", 1, {"seed": 5})


@pytest.mark.parametrize("split", ["test", "held_out"])
def test_the_card_of_unified_tells_the_truth(split):
    card, (model, tokenizer) = shipped.read_card("unified"), load("unified")
    assert sum(file.stat().st_size for file in (shipped.CHECKPOINTS / "unified").iterdir()) <= 8 * 2**20
    claimed = card["accuracy"]["new scenes" if split == "test" else "held-out pairs"]
    measured = UNIFIED.measure(model, tokenizer, split, 1000, card["test_seed"])
    assert measured["vqa"]["accuracy"] == pytest.approx(claimed["vqa"]["accuracy"], abs=0.002)
    assert measured["caption"]["accuracy"] == pytest.approx(claimed["caption"]["accuracy"], abs=0.006)


def test_the_shipped_model_writes_what_it_was_measured_by():
    model, tokenizer = load("unified")
    world, asked = UNIFIED.LANGUAGE.draw_test(20, 3)
    right, _ = UNIFIED.right(model, tokenizer, world, asked)
    pictures = render(world)
    for row, texts in enumerate(asked.texts()):
        written = answer(model, tokenizer, pictures[[row] * len(texts)], [question for question, _, _ in texts])
        assert [one == text for one, (_, text, _) in zip(written, texts, strict=True)] == right[row, : len(texts)].tolist()


@pytest.mark.parametrize("run", ["plain LLaVA, seed 0", "without head norm, seed 0", "linear projector, seed 0", "two stages, seed 0"])
def test_the_runs_of_lesson_06_change_what_they_are_called_by(run, monkeypatch):
    lesson = load_recipe("lesson_06")
    course, trained = lesson.COURSE, []
    monkeypatch.setattr(lesson, "N", 10)
    monkeypatch.setattr(lesson, "HALF", 5)
    make = course.make_model
    monkeypatch.setattr(course, "make_model", lambda *a, **k: trained.append(make(*a, **k)) or trained[-1])
    result = lesson.RUNS[run]()
    config = trained[0][0].config
    assert result["steps"] == 5 and result["vqa"]["n"] == 90
    assert result["image_tokens"] == (16 if run.startswith("plain") else 4)
    assert (config.language.normalise_heads is None) == (run in ("plain LLaVA, seed 0", "without head norm, seed 0"))
    assert config.projector == ("linear" if run.startswith("linear") else "mlp")
    assert ("stage one" in result and "text after" in result) == run.startswith("two")


def test_the_results_of_lesson_06_are_those_of_its_runs():
    lesson, results = load_recipe("lesson_06"), load_results("lesson_06")
    assert set(results) == set(lesson.RUNS)
    for name, run in results.items():
        assert run["steps"] == (UNIFIED.TRAINING.steps if name.startswith("live") else lesson.HALF), name
        assert run["vqa"]["n"] == 9 * lesson.N and set(run["kinds"]) == set(KINDS)
