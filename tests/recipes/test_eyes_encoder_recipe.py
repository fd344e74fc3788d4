"""The recipe of lesson 11's image encoder: its batches, its augmentation, its teacher, its measures."""

import dataclasses

import pytest
import torch

from minimllm import THINGS, load, normalise, read_card, render_things, things
from minimllm.lessons.recipes import load_recipe

RECIPE = load_recipe("eyes_encoder")
SMALL = dataclasses.replace(RECIPE.TRAINING, steps=40, batch_size=6)


def test_batches_are_a_stream_and_become_what_they_are():
    make_batch = RECIPE.make_batches(SMALL)
    for step in (0, 9, 16, 17, 39):
        images, thing = make_batch(step)
        assert images.shape == (6, 3, 64, 64) and -1 <= images.min() < 0 < images.max() <= 1
        assert torch.equal(thing, things(6, SMALL.seed, "train", start=6 * step).thing), "a stream without repetition"
        assert all(map(torch.equal, RECIPE.make_batches(SMALL)(step), (images, thing))), "a pure function of the step"
    plain = normalise(render_things(things(6, SMALL.seed, "train", start=6 * 39)), RECIPE.MEAN, RECIPE.STD)
    assert (RECIPE.make_batches(SMALL, augment=False)(39)[0] - plain).abs().mean() < 1e-3, "at the end nothing is eased"
    assert not torch.allclose(images, plain, atol=1e-2), "but augmented"
    first = normalise(render_things(things(6, SMALL.seed, "train")), RECIPE.MEAN, RECIPE.STD)
    assert torch.allclose(RECIPE.make_batches(SMALL, augment=False, ease=False)(0)[0], first, atol=1e-5)


@pytest.mark.parametrize("hard", [0.0, 0.3, 1.0])
def test_easy_things_are_large_upright_and_on_white(hard):
    shown = things(400, 3, "train")
    eased, spared = RECIPE.eased(shown, hard, torch.Generator().manual_seed(0))
    assert torch.equal(eased.thing, shown.thing) and torch.equal(eased.key, shown.key)
    assert abs(spared.float().mean() - (1 - hard)) < 0.08
    assert torch.allclose(1 - eased.size, (1 - shown.size) * hard) and torch.allclose(eased.turn, shown.turn * hard)
    assert (eased.ground[spared] == 0).all() and (eased.style[spared] <= 1).all()
    assert torch.equal(eased.ground[~spared], shown.ground[~spared]) and torch.equal(eased.style[~spared], shown.style[~spared])
    if hard == 1:
        assert not spared.any() and torch.allclose(eased.size, shown.size)


def test_augmentation_changes_light_and_not_what_is_there():
    images = render_things(things(60, 0, "train"))
    changed = RECIPE.augmented(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape and 0 <= changed.min() and changed.max() <= 1
    assert torch.equal(changed, RECIPE.augmented(images, torch.Generator().manual_seed(0)))
    amount = (changed - images).abs().mean((1, 2, 3))
    assert amount.min() > 0.001 and 0.03 < amount.mean() < 0.3
    edges = [(x[..., 1:] - x[..., :-1]).abs().mean(1).flatten(1) for x in (images, changed)]
    alike = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*edges, strict=True)])
    assert alike.median() > 0.5, "the outlines stay where they are"


def test_each_head_begins_at_a_neighbour_of_its_patch():
    model = RECIPE.make_model(3)
    x = torch.nn.functional.layer_norm(model.positions.table.view(1, 64, 128), (128,))
    for block, apart in zip(model.blocks, RECIPE.APART, strict=True):
        weights = block.attention.weights(x)[0]
        places = [divmod(int(weights[head, 8 * 3 + 4].argmax()), 8) for head in range(8)]
        around = {(3 + row * apart, 4 + column * apart) for row in (-1, 0, 1) for column in (-1, 0, 1)} - {(3, 4)}
        assert set(places) == around, "of the patch in row 3, column 4"
        assert weights[:, 8 * 3 + 4].amax(dim=-1).min() > 0.5
    assert places[:2] == [(3, 3), (3, 5)]
    plain = RECIPE.make_model(3, neighbours=False)
    assert torch.equal(plain.blocks[1].mlp.up.weight, model.blocks[1].mlp.up.weight), "all else is as it was"


def test_what_a_patch_shows_does_not_turn_where_its_heads_look():
    model = RECIPE.make_model(0)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    where, what = model.positions.table.view(64, 128), model.patches(images).flatten(0, 1) - model.patches.projection.bias
    assert (where @ what.T).abs().max() < 1e-4 * where.norm(dim=1).max() * what.norm(dim=1).max()


def test_the_teacher_sees_where_the_patches_are():
    teacher = RECIPE.Teacher(3).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    moved = images.clone()
    moved[:, :, 48:, :16] = 0.5  # at the lower left
    before, after = teacher.maps(images), teacher.maps(moved)
    for one, other, width, places in zip(before, after, RECIPE.WIDTHS, RECIPE.PLACES, strict=True):
        assert one.shape == (2, width, places, places)
        row, column = divmod(int((one - other).abs().sum(dim=(0, 1)).argmax()), places)
        assert row >= places * 3 // 4 and column < places // 4
    assert torch.allclose(teacher(images), teacher.head(before[-1].mean(dim=(2, 3))), atol=1e-5)


def test_what_the_teacher_says_has_one_scale_and_the_loss_compares_it():
    teacher, make_batch = RECIPE.Teacher(2), RECIPE.make_batches(SMALL)
    taught = RECIPE.taught_by(teacher, make_batch)
    images, thing, *maps = taught(11)
    assert torch.equal(images, make_batch(11)[0]) and not any(of.requires_grad for of in maps)
    for number, width in enumerate(RECIPE.WIDTHS):
        some = torch.cat([taught(step)[2 + number] for step in range(RECIPE.AT_ONCE)])
        assert some.shape[1] == width and some.mean(dim=(0, 2, 3)).abs().max() < 1e-3 and 0.05 < some.std() < 1.1
    model = RECIPE.make_model(1)
    model.told = torch.nn.ModuleList(torch.nn.Linear(128, width) for width in (4 * 64, 128, 192))
    loss, metrics = RECIPE.taught_loss(model, (images, thing, *maps))
    names = torch.nn.functional.cross_entropy(model(images), thing)
    distances = sum(metrics[f"distance {number}"] for number in (1, 2, 3))
    assert torch.allclose(loss, names + RECIPE.TEACHER_WEIGHT * distances, atol=1e-4) and 0 <= metrics["accuracy"] <= 1


@pytest.mark.parametrize("places", [2, 4, 8])
def test_each_patch_tells_of_its_own_places(places):
    """On a grid of 4 x 4: what lies at a place of the map must be told by the patch that covers it, or by the four that it covers."""
    patches = torch.arange(16.0).view(1, 16, 1).expand(2, 16, 3)
    parts = max(1, places // 4) ** 2
    told = torch.nn.Linear(3, parts, bias=False)
    torch.nn.init.constant_(told.weight, 1 / 3)
    grid = torch.arange(16.0).view(1, 1, 4, 4)
    seen = grid.repeat_interleave(2, 2).repeat_interleave(2, 3) if places == 8 else torch.nn.functional.avg_pool2d(grid, 4 // places)
    assert RECIPE.tell(patches, told, seen.expand(2, 1, places, places)).item() < 1e-9
    other = seen.flip(3).expand(2, 1, places, places)
    assert RECIPE.tell(patches, told, other).item() == pytest.approx((other - seen).square().mean().item(), rel=1e-4)


def test_centred_patches_give_the_same_names():
    model = RECIPE.make_model(2)
    images = normalise(render_things(things(40, 9, "train")), RECIPE.MEAN, RECIPE.STD)
    with torch.no_grad():
        before, logits = model.encode(images).mean(dim=(0, 1)), model(images)
        after = RECIPE.centred(model, 2).encode(images).mean(dim=(0, 1))
        assert torch.allclose(model(images), logits, atol=1e-4)
    assert after.norm() < 0.3 * before.norm()


def test_a_few_steps_and_a_measure(monkeypatch):
    for name in ("TEACHING", "TRAINING"):
        monkeypatch.setattr(RECIPE, name, dataclasses.replace(getattr(RECIPE, name), batch_size=6))
    teacher, taught = RECIPE.train_teacher(3, steps=3)
    (model, history), (again, _) = (RECIPE.train_encoder(3, steps=3, teacher=teacher) for _ in range(2))
    assert len(taught.losses) == len(history.losses) == 3 and not hasattr(model, "told")
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    alone, _ = RECIPE.train_encoder(3, steps=3)
    assert not torch.equal(alone.blocks[0].mlp.up.weight, model.blocks[0].mlp.up.weight)
    for hand in ("first", "paper"):
        result = RECIPE.naming(model, "validation", hand, n=60, seed=1)
        assert result["n"] == 60 and result["accuracy"] < 0.3 and result["interval"][0] <= result["accuracy"] <= result["interval"][1]
    assert model.config.classes == len(THINGS) and not model.config.class_token


@pytest.mark.parametrize(("hand", "name"), [("first", "the hand of the training"), ("pen", "pen"), ("paper", "paper")])
def test_what_ships_names_other_pictures_as_its_card_says(hand, name):
    model, tokenizer = load("eyes_encoder")
    card = read_card("eyes_encoder")
    assert tokenizer is None and card["steps"] == RECIPE.SHIPPED_STEPS[1] and card["teacher"]["steps"] == RECIPE.SHIPPED_STEPS[0]
    found = RECIPE.naming(model, "test", hand, n=400, seed=161803)
    assert abs(found["accuracy"] - card["accuracy"][name]["accuracy"]) < 0.06
    assert found["accuracy"] > {"first": 0.9, "pen": 0.8, "paper": 0.8}[hand]
    other = model(normalise(render_things(things(250, 161803, "test", hand)), RECIPE.MEAN, RECIPE.STD)).argmax(dim=1)
    assert (other == things(250, 161804, "test", hand).thing).float().mean() < 0.1, "the answers belong to the pictures"
