"""The recipe of lesson 04: what its controls take away, that its results are complete, and that the target is met."""

import torch

from minimllm.data.digits import digits
from minimllm.lessons.recipes import load_recipe, load_results, summary

RECIPE = load_recipe("lesson_04")
RESULTS = load_results("lesson_04")
COURSE = RECIPE.COURSE
TOKENIZER = COURSE.make_tokenizer()
BATCH = COURSE.make_batches(TOKENIZER, COURSE.TRAINING)


def test_shuffled_captions_stay_the_same_captions():
    (images, ids, mask, fits), (moved, other_ids, other_mask, other_fits) = BATCH(5), RECIPE.shuffled(BATCH)(5)
    assert torch.equal(images, moved) and not torch.equal(ids, other_ids)
    assert sorted(TOKENIZER.decode(ids)) == sorted(TOKENIZER.decode(other_ids)) and mask.sum() == other_mask.sum()
    assert torch.equal(other_fits, torch.eye(len(ids), dtype=torch.bool)) and fits.sum() > other_fits.sum()
    assert torch.equal(other_ids, RECIPE.shuffled(BATCH)(5)[1]), "a pure function of the step"


def test_a_withheld_digit_is_neither_shown_nor_named():
    for step in (0, 7):
        images, ids, mask, fits = BATCH(step)
        kept, kept_ids, kept_mask, kept_fits = RECIPE.without(BATCH, 7, TOKENIZER)(step)
        named = [bool({"seven", "7"} & set(text.replace(",", " ").split())) for text in TOKENIZER.decode(ids)]
        keep = ~torch.tensor(named)
        assert 0 < sum(named) < len(ids) / 2 and torch.equal(kept, images[keep]) and torch.equal(kept_ids, ids[keep])
        assert kept_fits.shape == (len(kept), len(kept)) == (len(kept_mask), len(kept)) and kept_fits.diag().all()
        rows = COURSE.batch_indices(1287, COURSE.TRAINING.batch_size, COURSE.TRAINING.seed, step)
        assert torch.equal(digits("train")[1][rows] == 7, torch.tensor(named)), "captions and labels agree"


def test_hits_by_digit_add_up_to_the_accuracy():
    model = COURSE.make_model(TOKENIZER, 0).eval()
    hits, whole = RECIPE.hits_by_digit(model, TOKENIZER), COURSE.measure(model, TOKENIZER, "test")
    assert len(hits) == 10 and abs(sum(hits) / 360 - whole["accuracy"]) < 1e-4


def test_every_result_is_of_a_run_of_the_recipe_and_none_is_missing():
    assert RESULTS.keys() == RECIPE.RUNS.keys()
    for run in RESULTS.values():
        assert (run["steps"], run["batch_size"]) == (COURSE.TRAINING.steps, COURSE.TRAINING.batch_size)
        assert run["n"] == len(digits("test")[1]) and set(run["templates"]) == set(COURSE.TEMPLATES)
        assert abs(sum(run["hits_by_digit"]) / run["n"] - run["accuracy"]) < 1e-4


def test_the_target_is_met_on_real_handwriting_with_three_seeds():
    found = summary(RESULTS, "digits by prompts")
    assert len(found["values"]) == 3 and found["mean"] >= 0.95 and min(found["values"]) >= 0.95


def test_prompts_are_as_good_as_labels_within_what_the_test_images_can_tell():
    low, high = summary(RESULTS, "digits by prompts")["interval"]
    assert low <= summary(load_results("lesson_02"), "digits, ViT")["mean"] <= high


def test_the_controls_say_what_they_should():
    assert summary(RESULTS, "captions shuffled")["mean"] < 0.2
    withheld = RESULTS["seven withheld, seed 0"]["hits_by_digit"]
    others = [hits for digit, hits in enumerate(withheld) if digit != RECIPE.WITHHELD]
    assert withheld[RECIPE.WITHHELD] <= 2 and min(others) >= 28, "the withheld digit is lost, and no other"
