"""The shipped ViT loads, and does what its card says."""

import pytest

from minimllm import load
from minimllm.lessons.recipes import load_recipe
from minimllm.models.shipped import CHECKPOINTS, read_card

RECIPE = load_recipe("vit")


def test_is_the_model_of_its_recipe_and_small():
    model, tokenizer = load("vit")
    card = read_card("vit")
    assert tokenizer is None and not model.training
    assert model.config == RECIPE.MODEL
    assert {name: card[name] for name in ("seed", "steps", "batch_size", "test_seed")} == {
        "seed": RECIPE.SEED,
        "steps": RECIPE.TRAINING.steps,
        "batch_size": RECIPE.TRAINING.batch_size,
        "test_seed": RECIPE.TEST_SEED,
    }
    assert (CHECKPOINTS / "vit" / "model.safetensors").stat().st_size < 2_000_000


@pytest.mark.parametrize("split, least", [("test", 0.985), ("held_out", 0.8)])
def test_accuracy_of_the_card_is_measured_again(split, least):
    told = read_card("vit")["accuracy"][split]
    again = RECIPE.measure(load("vit")[0], split, told["n"])
    assert abs(again["accuracy"] - told["accuracy"]) <= 2 / told["n"]  # room for a picture on the edge, on another processor
    assert again["accuracy"] >= least
    fresh = RECIPE.measure(load("vit")[0], split, 1000, seed=1)
    assert fresh["accuracy"] >= least
