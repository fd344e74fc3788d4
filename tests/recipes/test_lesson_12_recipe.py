"""The recipe of lesson 12: what is on a sheet, what a row of the training says, and what is counted as right."""

import dataclasses

import numpy as np
import pytest
import torch

from minimllm import THINGS, load_recipe, load_results, packed_loss, render_things, split_pictures, things

RECIPE = load_recipe("lesson_12")
WORDS = RECIPE.VOCABULARY


@pytest.fixture(scope="module")
def few():
    """Two sheets of each kind, as features, in place of the recipe's thousands."""
    return RECIPE.seen(2, 3, "validation")


def test_a_sheet_holds_nine_things_row_by_row_or_one():
    pictures, truth = RECIPE.sheets(2, 3, "validation", start=5)
    drawn = things(20, 3, "validation", start=50)
    assert [picture.size for picture in pictures] == [(192, 192)] * 4
    assert truth[:2, :9].flatten().tolist() == drawn.thing[:18].tolist() and truth[2:, 9].tolist() == drawn.thing[18:].tolist()
    assert (truth[:2, 9] == -1).all() and (truth[2:, :9] == -1).all()
    sixth = np.asarray(pictures[1])[64:128, 128:192]
    expected = (render_things(drawn[9 + 5])[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(sixth, expected)
    tiles = split_pictures(pictures, 64, 192)[1]
    assert (tiles.rows, tiles.columns) == (3, 3)
    assert torch.equal(tiles.images[5], torch.from_numpy(expected).permute(2, 0, 1) / 255 * 2 - 1)


def test_features_stand_as_the_sheets_do(few):
    features, truth = few
    pictures, expected = RECIPE.sheets(2, 3, "validation")
    assert torch.equal(truth, expected) and features.shape == (4, 10, 4, 2048)
    with torch.no_grad():
        seen = RECIPE.make_model().eval().features(split_pictures(pictures, 64, 192)[3].images)
    assert torch.equal(features[3], seen.bfloat16())


def test_a_row_is_markers_tokens_and_questions_that_see_no_other():
    ids, segments, scored = RECIPE.make_row([2, 9], 3, [5, 0], [7, 8])
    shown = [WORDS[number] for number in ids]
    image = ["<image>"] * 3
    assert shown[:8] == ["<row_1_col_3>", *image, "<global-img>", *image]
    assert shown[8:] == ["<row_2_col_3>", THINGS[7], "<row_1_col_1>", THINGS[8]]
    assert segments == [0] * 8 + [1, 1, 2, 2] and scored == [0] * 8 + [0, 1, 0, 1]
    unmarked = RECIPE.make_row([2, 9], 3, [5], [7], marked=False)[0]
    assert [WORDS[number] for number in unmarked][::4] == ["<global-img>", "<global-img>", "<row_2_col_3>"]


def test_right_is_what_the_model_says_at_the_questions(few, monkeypatch):
    features, truth = few
    model = RECIPE.make_model(seed=1).eval()
    for view in (RECIPE.VIEWS["thumbnail"], RECIPE.VIEWS["blind"]):
        found = RECIPE.right(model, view, features, truth)
        assert ((found >= 0) == (truth >= 0)).all()
        row = RECIPE.make_row(view, 4, [4], [int(truth[0, 4])])[0][:-1]
        given = features[:1, view].flatten(0, 1).float() if view else None
        with torch.no_grad():
            said = model(torch.tensor([row]), features=given)[0, -1, WORDS.index(THINGS[0]) :].argmax()
        assert found[0, 4] == int(said == truth[0, 4])


def test_a_batch_is_a_function_of_the_step_and_can_be_learned_from(few, monkeypatch):
    monkeypatch.setattr(RECIPE, "seen", lambda n, seed, split: few)
    config = dataclasses.replace(RECIPE.TRAINING, steps=1, batch_size=5)
    make_batch = RECIPE.make_batches(RECIPE.VIEWS["tiles"], 4, config)
    one, again, other = make_batch(3), make_batch(3), make_batch(4)
    assert torch.equal(one.ids, again.ids) and one.ids.shape[0] == 5 and one.features.shape == (45, 4, 2048)
    assert one.ids.shape != other.ids.shape or not torch.equal(one.ids, other.ids)
    model = RECIPE.make_model()
    loss, _ = packed_loss(model, one)
    loss.backward()
    learned = {name.split(".")[0] for name, each in model.named_parameters() if each.grad is not None}
    assert learned == {"projector", "language_model"}


def test_the_results_are_whole():
    results = load_results("lesson_12")
    assert results.keys() == RECIPE.RUNS.keys()
    for name, run in results.items():
        if name != "the encoder alone":
            assert run["steps"] == RECIPE.TRAINING.steps and run["test_seed"] == RECIPE.TEST_SEED
            assert run["own"]["nine"]["n"] == 9 * RECIPE.TESTED and run["own"]["one"]["n"] == RECIPE.TESTED
