"""The recipes of the CLIPs that ship with the course: their batches, their measures, and that the cards tell the truth."""

import pytest
import torch

from minimllm import load, zero_shot
from minimllm.data.digits import DIGIT_WORDS, digits
from minimllm.data.world import pairs_of
from minimllm.lessons.recipes import load_recipe
from minimllm.models import shipped

CLIP, DIGITS = load_recipe("clip"), load_recipe("clip_digits")


def test_the_batches_of_the_world():
    tokenizer = CLIP.make_tokenizer()
    make_batch = CLIP.make_batches(tokenizer, CLIP.TRAINING)
    for step in (0, CLIP.TRAINING.steps - 1):
        images, ids, mask, same = make_batch(step)
        assert images.shape[1:] == (3, 32, 32) and len(images) == len(ids) == len(mask) == len(same) and 150 < len(images) < 200
        assert -1 <= images.min() < -0.5 and 0.5 < images.max() <= 1, "normalised"
        assert same.diag().all() and same.float().mean() < 0.1
        assert ((ids == tokenizer.eos_token_id).sum(1) == 1).all()
        again = make_batch(step)
        assert all(torch.equal(a, b) for a, b in zip(again, (images, ids, mask, same), strict=True)), "a pure function of the step"
        world = CLIP.compose_batch(step, 0, CLIP.TRAINING.steps)
        assert pairs_of("train").flatten()[world.pair[world.present]].all(), "no held-out pair is ever shown"
    assert (world.count > 1).any() and (CLIP.compose_batch(0, 0, CLIP.TRAINING.steps).count == 1).all()


def test_other_light_changes_the_ground_and_not_the_things():
    images = CLIP.render(CLIP.scenes(50, 0, "train", objects=1))
    lit = CLIP.in_other_light(images, torch.Generator().manual_seed(0))
    assert 0 <= lit.min() and lit.max() <= 1 and lit.shape == images.shape
    corners = lit[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].mean(1)
    assert corners.std(dim=1).mean() > 0.02, "the ground is no longer even"
    assert (lit - images).abs().mean() < 0.12


@pytest.mark.parametrize("recipe", [CLIP, DIGITS])
def test_a_few_steps_of_training(recipe):
    train, measure = (CLIP.train_clip, CLIP.naming) if recipe is CLIP else (DIGITS.train_digits, DIGITS.measure)
    model, tokenizer, history = train(steps=3)
    assert len(history.losses) == 3 and all(0 < accuracy <= 1 for accuracy in history.metrics["accuracy"])
    result = measure(model, tokenizer, "validation", **({"n": 40} if recipe is CLIP else {}))
    low, high = result["interval"]
    assert low <= result["accuracy"] <= high
    again, _, _ = train(steps=3)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True)), "a seed gives one model"


def test_measures_of_a_model_that_knows_nothing():
    model, tokenizer = CLIP.make_model(), CLIP.make_tokenizer()
    for result in CLIP.retrieval(model, tokenizer, "test", sets=1).values():
        assert result["n"] == 256 and result["accuracy"] < 0.05
    assert CLIP.naming(model, tokenizer, "held_out", n=400)["accuracy"] < 0.1


def shipped_card(name):
    folder = shipped.CHECKPOINTS / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8 * 2**20
    return shipped.read_card(name)


def test_the_card_of_clip_tells_the_truth():
    card, (model, tokenizer) = shipped_card("clip"), load("clip")
    for split, pairs in (("test", "seen"), ("held_out", "held-out")):
        claimed = card["accuracy"][f"naming, {pairs} pairs"]
        assert CLIP.naming(model, tokenizer, split, seed=card["test_seed"])["accuracy"] == pytest.approx(claimed["accuracy"], abs=0.002)
        assert claimed["accuracy"] >= (0.998 if split == "test" else 0.985)


def test_the_card_of_clip_digits_tells_the_truth():
    card, (model, tokenizer) = shipped_card("clip_digits"), load("clip_digits")
    images, labels = digits("test")
    right = zero_shot(model, tokenizer, images, DIGIT_WORDS, ["a photo of the digit {}"]).argmax(1) == labels
    claimed = card["accuracy"]["zero-shot, test, 'a photo of the digit {}'"]
    assert right.float().mean().item() == pytest.approx(claimed["accuracy"], abs=0.004) and claimed["accuracy"] >= 0.95
