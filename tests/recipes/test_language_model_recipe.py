"""The recipe of the language model that ships with the course: its rows, its measures, that results and card tell the truth."""

import pytest
import torch

from minimllm import answer, captions, load
from minimllm.data.asking import KINDS, Questions
from minimllm.data.world import held_out_pairs, pair_names
from minimllm.lessons.recipes import load_recipe, load_results
from minimllm.models import shipped
from minimllm.training.packing import ANSWER, CAPTION

RECIPE = load_recipe("language_model")
RESULTS = load_results("language_model")
TOKENIZER = RECIPE.make_tokenizer()


def test_rows_hold_a_description_and_questions_and_most_are_told_the_scene():
    make_batch, rows = RECIPE.make_batches(TOKENIZER, RECIPE.TRAINING), RECIPE.TRAINING.batch_size
    for step, share in ((0, 1.0), (RECIPE.TRAINING.steps - 1, RECIPE.TOLD)):
        batch = make_batch(step)
        assert all(torch.equal(one, other) for one, other in zip(batch[:3], make_batch(step)[:3], strict=True)), "a function of the step"
        prefix = (batch.segments == 0).sum(dim=1)
        assert (prefix > 1).sum() == share * rows and batch.images is None
        assert (batch.scored[batch.segments == 0] == 0).all(), "what is told is not scored"
        first = batch.ids[0, : prefix[0]]
        assert first[0] == TOKENIZER.start_token_id and first[-1] == TOKENIZER.eos_token_id
        assert ((batch.scored == CAPTION).any(dim=1) == (prefix == 1)).all(), "descriptions are learned where they are not told"
        assert ((batch.scored == ANSWER) & (batch.ids == TOKENIZER.eos_token_id)).sum() == rows * RECIPE.QUESTIONS
        descriptions = [TOKENIZER.decode(ids[None, :length])[0] for ids, length in zip(batch.ids, prefix.tolist(), strict=True)]
        assert not any(pair_names[pair] in text for pair in held_out_pairs for text in descriptions)


def test_questions_after_another_ones_description_are_judged_by_their_own_scene():
    world, asked = RECIPE.draw_test(6, 3)
    model = RECIPE.make_model(TOKENIZER).eval()
    for descriptions in (None, captions(world, "full")):
        found = RECIPE.right(model, TOKENIZER, asked, descriptions)
        assert found.shape == asked.kind.shape == (6, len(KINDS))


def test_every_answer_that_counts_as_right_is_what_the_model_writes():
    model, tokenizer = load("language_model")
    world, asked = RECIPE.draw_test(12, 4, "validation")
    texts, rows = captions(world, "full"), asked.texts()
    for told in (True, False):
        hits = RECIPE.right(model, tokenizer, asked, texts if told else None).flatten().tolist()
        prompts = [f"{text} <end> {question}" if told else question for text, row in zip(texts, rows, strict=True) for question, *_ in row]
        written = answer(model, tokenizer, None, prompts)
        truth = [reply for row in rows for _, reply, _ in row]
        assert hits == [mine == right for mine, right in zip(written, truth, strict=True)]


def test_the_best_constant_answers():
    constants = RECIPE.best_constants(500)
    assert constants.keys() == set(KINDS) and constants["where"] in ("top left", "top right", "bottom left", "bottom right")
    _, asked = RECIPE.draw_test(50, 3)
    right = RECIPE.constant_right(asked, dict.fromkeys(KINDS, "yes"))
    assert right.sum() == sum(reply == "yes" for row in asked.texts() for _, reply, _ in row) > 0


def test_a_few_steps_of_training():
    model, tokenizer, history = RECIPE.train_language_model(steps=3)
    assert len(history.losses) == 3 and len(history.metrics["answers"]) == 3
    again, _, _ = RECIPE.train_language_model(steps=3)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True)), "a seed gives one model"
    result = RECIPE.measure(model, tokenizer, 1, n=20, test="validation")
    for found in result.values():
        assert found["interval"][0] <= found["accuracy"] <= found["interval"][1] and found["n"] == 180


def test_the_card_tells_the_truth():
    card, (model, tokenizer) = shipped.read_card("language_model"), load("language_model")
    assert sum(file.stat().st_size for file in (shipped.CHECKPOINTS / "language_model").iterdir()) <= 8 * 2**20
    world, asked = RECIPE.draw_test(1000, card["test_seed"])
    some = slice(0, 300)
    part = Questions(asked.question[some], asked.answer[some], asked.kind[some])
    for situation, texts in (("told the scene", captions(world[some], "full")), ("told nothing", None)):
        found = RECIPE.by_kind(RECIPE.right(model, tokenizer, part, texts), part.kind)
        claimed = card["accuracy"][situation]["accuracy"]
        assert found["accuracy"] == pytest.approx(claimed, abs=0.03), "of the same scenes, the first 300"


def test_every_result_is_of_a_run_of_the_recipe_and_none_is_missing():
    assert RESULTS.keys() == RECIPE.RUNS.keys()
    for run in RESULTS.values():
        assert run["steps"] == RECIPE.TRAINING.steps and run["told the scene"]["n"] == 9000


def test_who_is_told_the_scene_looks_it_up_and_who_is_told_nothing_guesses():
    for found in (*(run for name, run in RESULTS.items() if name.startswith("live")), shipped.read_card("language_model")["accuracy"]):
        told, other, nothing = (found[situation]["accuracy"] for situation in ("told the scene", "told another scene", "told nothing"))
        assert told > nothing + 0.15 and other < nothing + 0.02
        assert found["best constant answer"]["accuracy"] - 0.02 < nothing < 0.42
