"""The convolutional baseline, the augmentation, and the bookkeeping of recipes."""

import json

import pytest
import torch
from support import largest_difference, unchecked

from minimllm import ViT, ViTConfig
from minimllm.data.seeds import generator_for
from minimllm.lessons import recipes
from minimllm.lessons.intervals import wilson_interval
from minimllm.training.augmentation import random_affine
from minimllm.training.baselines import SmallCNN, count_parameters

# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config, stages", [(ViTConfig.digits(), 2), (ViTConfig.tiny(classes=16), 4), (ViTConfig.tiny(classes=16), 3)])
def test_the_cnn_has_as_many_parameters_as_the_vit(config, stages):
    wanted = count_parameters(ViT(config))
    cnn = SmallCNN.matching(ViT(config), config.image_size, config.channels, config.classes, stages)
    width = cnn.features[0].out_channels
    others = [count_parameters(SmallCNN(config.image_size, config.channels, config.classes, width + change, stages)) for change in (-1, 1)]
    assert abs(count_parameters(cnn) - wanted) <= min(abs(other - wanted) for other in others)
    assert abs(count_parameters(cnn) - wanted) < 0.06 * wanted
    images = torch.rand(2, config.channels, config.image_size, config.image_size)
    assert cnn(images).shape == (2, config.classes)


def test_the_cnn_comes_from_its_seed_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (SmallCNN(8, 1, 10, 4, seed=seed).head.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(torch.get_rng_state(), before)


def test_a_shift_of_the_picture_hardly_moves_the_cnn_and_moves_the_vit():
    """The property for which it is the baseline: away from the edges, moving the object moves the features, and their mean stays."""
    images = torch.zeros(1, 1, 32, 32)
    images[..., 12:18, 12:18] = torch.rand(6, 6, generator=generator_for(0))
    moved = images.roll((2, 2), dims=(2, 3))
    cnn = SmallCNN(32, 1, 10, 8, stages=2).eval()
    vit = ViT(ViTConfig.tiny(channels=1))
    assert largest_difference(cnn(images), cnn(moved)) < 1e-5 < 1e-2 < largest_difference(vit(images), vit(moved))


def test_too_many_stages_are_refused():
    with pytest.raises(ValueError, match="4 stages halve the image 3 times, and 12 pixels cannot"):
        SmallCNN(12, 3, 10, 4, stages=4)


# ---- augmentation ---------------------------------------------------------------------------------------------------


def images(height=9, width=9):
    return torch.rand(3, 2, height, width, generator=generator_for(0, "images"))


def test_no_change_changes_nothing_and_the_generator_decides():
    assert torch.allclose(random_affine(images(), generator_for(0)), images(), atol=1e-6)
    amounts = {"shift": 1.0, "rotation": 10.0, "scale": 0.1, "shear": 0.1}
    first, again, other = (random_affine(images(), generator_for(seed), **amounts) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.allclose(first[0] - images()[0], first[1] - images()[1]), "each image has amounts of its own"


class Always:
    """``torch.rand`` under this patch draws ones: every amount is at its positive end."""

    def __call__(self, *shape, generator):
        return torch.ones(*shape)


def test_amounts_are_what_they_say(monkeypatch):
    monkeypatch.setattr("minimllm.training.augmentation.torch.rand", Always())
    dot = torch.zeros(1, 1, 9, 15)
    dot[..., 4, 7] = 1
    shifted = random_affine(dot, generator_for(0), shift=2.0)
    assert shifted[0, 0, 2, 5] == pytest.approx(1, abs=1e-5), "by whole pixels a dot stays a dot"
    off_centre = torch.zeros(1, 1, 9, 15)
    off_centre[..., 4, 11] = 1  # four pixels to the right of the middle
    turned = random_affine(off_centre, generator_for(0), rotation=90.0)
    assert turned[0, 0, [0, 8], 7].max() == pytest.approx(1, abs=1e-4), "after a quarter turn it is four pixels above or below"
    shrunk = random_affine(off_centre, generator_for(0), scale=1.0)
    assert shrunk[0, 0, 4, 9] > 0.2 and shrunk[0, 0, 4, 11] == pytest.approx(0, abs=1e-5), "at half the size it is two pixels off"
    high = torch.zeros(1, 1, 9, 15)
    high[..., 0, 7] = 1  # four pixels above the middle
    slanted = random_affine(high, generator_for(0), shear=0.5)
    assert slanted[0, 0, 0, [5, 9]].max() == pytest.approx(1, abs=1e-4), "half a pixel sideways for each of height"


def test_wrong_amounts_are_refused():
    with unchecked(), pytest.raises(ValueError, match="rotation is the largest change and must be 0 or more, got -3"):
        random_affine(images(), generator_for(0), rotation=-3)


# ---- recipes and results --------------------------------------------------------------------------------------------


@pytest.fixture
def assets(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "ASSETS", tmp_path)
    return tmp_path


def test_runs_are_stored_one_by_one_and_not_done_again(assets, capsys, monkeypatch):
    calls = []

    def measure(value):
        return lambda: calls.append(value) or {"accuracy": value, "n": 100, "seconds": 2.0}

    def breaks():
        raise RuntimeError("power cut")

    runs = {"vit, seed 0": measure(0.9), "vit, seed 1": measure(0.8), "cnn, seed 0": breaks}
    with pytest.raises(RuntimeError, match="power cut"):
        recipes.run_missing("lesson", runs)
    assert json.loads((assets / "results" / "lesson.json").read_text()).keys() == {"vit, seed 0", "vit, seed 1"}
    monkeypatch.setenv("MINIMLLM_STEPS", "3")
    with pytest.raises(ValueError, match="MINIMLLM_STEPS cuts every training short"):
        recipes.run_missing("lesson", runs)
    monkeypatch.delenv("MINIMLLM_STEPS")
    recipes.run_missing("lesson", runs, wanted=["vit"])
    assert calls == [0.9, 0.8]
    runs["cnn, seed 0"] = measure(0.5)
    recipes.run_missing("lesson", runs, seconds=-1.0)
    assert "stopped for now" in capsys.readouterr().out and calls == [0.9, 0.8]
    recipes.run_missing("lesson", runs)
    assert calls == [0.9, 0.8, 0.5]
    with pytest.raises(ValueError, match="no run begins with 'mlp'"):
        recipes.run_missing("lesson", runs, wanted=["mlp"])

    found = recipes.summary(recipes.load_results("lesson"), "vit")
    assert found["mean"] == pytest.approx(0.85) and found["seeds"] == [0, 1] and found["values"] == [0.9, 0.8] and found["n"] == 100
    assert found["interval"] == wilson_interval(85, 100) and found["seconds"] == 2.0
    with pytest.raises(ValueError, match="no run 'vi' has been measured; there are: cnn, seed 0"):
        recipes.summary(recipes.load_results("lesson"), "vi")


def test_recipes_are_loaded_by_name(assets):
    (assets / "recipes").mkdir()
    (assets / "recipes" / "twice.py").write_text("def twice(x):\n    return 2 * x\n")
    assert recipes.load_recipe("twice").twice(4) == 8
    with pytest.raises(ValueError, match="no recipe 'thrice'; there are twice"):
        recipes.load_recipe("thrice")
    assert recipes.load_results("twice") == {}
