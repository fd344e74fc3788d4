"""The recipe of lesson 02 runs, its results file holds what the recipe makes, and the targets are met."""

import pytest
import torch

from minimllm import patchify
from minimllm.data.digits import digits
from minimllm.lessons.recipes import load_recipe, load_results, summary
from minimllm.training.baselines import count_parameters

RECIPE = load_recipe("lesson_02")
RESULTS = load_results("lesson_02")


def test_every_result_is_of_a_run_of_the_recipe_and_none_is_missing():
    assert RESULTS.keys() == RECIPE.all_runs().keys()


def test_a_short_run_of_each_kind():
    model, result = RECIPE.train_on_digits(RECIPE.digits_vit(0), 0, 40, steps=2)
    assert result["n"] == 360 and result["training_images"] == 40 and result["parameters"] == count_parameters(model)
    assert RECIPE.train_on_digits(RECIPE.digits_cnn(0), 0, 40, steps=1, shuffled=True)[1]["steps"] == 1
    _, result = RECIPE.train_on_world(RECIPE.world_vit(0), 0, 30, steps=2)
    assert result["training_images"] == 30 and 0 <= result["held_out"] <= 1
    assert RECIPE.train_on_world(RECIPE.world_cnn(0), 0, steps=1)[1]["training_images"] == 128


def test_patches_are_shuffled_and_none_is_lost():
    images = torch.rand(2, 1, 8, 8)
    order = torch.stack([torch.arange(16).flip(0), torch.arange(16)])
    shuffled = RECIPE.shuffle_patches(images, order)
    assert torch.equal(patchify(shuffled, 2)[0], patchify(images, 2)[0].flip(0)) and torch.equal(shuffled[1], images[1])


def test_the_two_models_are_of_one_size():
    for vit, cnn in ((RECIPE.digits_vit(0), RECIPE.digits_cnn(0)), (RECIPE.world_vit(0), RECIPE.world_cnn(0))):
        assert count_parameters(cnn) == pytest.approx(count_parameters(vit), rel=0.06)


@pytest.mark.parametrize("name, target", [("digits, ViT", 0.975), ("world, ViT", 0.985)])
def test_the_targets_are_met(name, target):
    found = summary(RESULTS, name)
    assert found["mean"] >= target and len(found["values"]) == 3
    alone = RESULTS[f"{name}, timed alone, seed 0"]
    assert alone["seconds"] <= 45 and alone["threads"] <= 2


def test_the_controls_say_what_they_should():
    shuffled = summary(RESULTS, "digits, ViT, shuffled labels")
    assert summary(RESULTS, "digits, ViT, shuffled labels", "training_accuracy")["mean"] > 0.99 and shuffled["mean"] < 0.2
    assert summary(RESULTS, "digits, ViT", "accuracy_own_order")["mean"] < 0.5 < summary(RESULTS, "digits, ViT")["mean"]
    assert summary(RESULTS, "world, ViT, one logit for each pair", "held_out")["mean"] < 0.01, "pairs never seen cannot be named by it"


def test_the_results_were_measured_on_the_test_split():
    assert {run["n"] for name, run in RESULTS.items() if name.startswith("digits")} == {len(digits("test")[1])}
