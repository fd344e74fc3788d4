"""The recipe of the small Llama 3.2 Vision: its pictures and rows, its broken rule, and that card and results tell the truth."""

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from minimllm import answer, captions, generate, load, render
from minimllm.data.asking import sample_questions
from minimllm.data.world import pairs_of
from minimllm.inference.answering import prompts
from minimllm.lessons.recipes import load_recipe, load_results
from minimllm.models import shipped
from minimllm.models.llama_vision import pictures as reading
from minimllm.training.packing import ANSWER

RECIPE, RESULTS = load_recipe("llama_vision"), load_results("lesson_09")
FEW = dict(steps=2)


@pytest.mark.parametrize("canvas", RECIPE.CANVASES)
def test_so_many_tiles_show_a_canvas_as_it_is(canvas):
    world = RECIPE.draw_world(8, 3, "train", canvas)
    images = RECIPE.draw(world, canvas)
    for tiles in (1, 2, 4):
        model, _ = RECIPE.make_model(tiles=tiles)
        prepared = model.prepare_tiles([[image] for image in images])
        enough = tiles >= RECIPE.TILES[canvas]
        pixels = sum(image.width * image.height for image in images) / 32**2
        assert (sum(count for [count] in prepared.num_tiles) == pixels) == enough
        shown = prepared.pixel_values.flatten(2, 3).amax(dim=(1, 2)).flatten(1)
        original = torch.stack([torch.tensor(list(image.convert("RGB").tobytes())).view(-1, 3).amax() for image in images]) / 127.5 - 1
        assert torch.allclose(shown.amax(dim=1), original, atol=1e-6) or not enough


def test_a_shrunk_picture_holds_what_one_tile_holds_and_is_as_large_as_before():
    for canvas in RECIPE.CANVASES:
        world = RECIPE.draw_world(3, 3, "train", canvas)
        before, after = RECIPE.draw(world, canvas), RECIPE.draw(world, canvas, RECIPE.shrunk)
        assert [image.size for image in before] == [image.size for image in after]
        assert all(one.tobytes() == other.tobytes() for one, other in zip(before, after, strict=True)) == (canvas == "small")


def test_rows_are_conversations_without_held_out_pairs():
    model, tokenizer = RECIPE.make_model()
    make_batch = RECIPE.make_batches(model, tokenizer, RECIPE.TRAINING)
    every = len(RECIPE.SCHEDULE)
    for step in (0, 2 * every + 1, 3 * every, RECIPE.TRAINING.steps - 1):
        pictures = RECIPE.PICTURES[step // every % len(RECIPE.PICTURES)]
        batch, again = make_batch(step), make_batch(step)
        assert torch.equal(batch.ids, again.ids) and torch.equal(batch.images.pixel_values, again.images.pixel_values)
        assert ((batch.ids == tokenizer.image_token_id).sum(dim=1) == pictures).all() and len(batch.ids) == RECIPE.ROWS[pictures]
        ends = (batch.ids == tokenizer.eos_token_id) & (batch.scored == ANSWER)
        assert (ends.sum(dim=1) == RECIPE.QUESTIONS + pictures - 1).all() and (batch.segments.amax(dim=1) == RECIPE.QUESTIONS + 1).all()
    world = RECIPE.draw_world(50, 0, "train", "large")
    assert pairs_of("train").flatten()[world.pair[world.present]].all()


def test_questions_about_the_last_picture_are_about_the_last_picture():
    model, tokenizer = RECIPE.make_model()
    world = RECIPE.draw_world(6, 5, "train", "large")
    asked = sample_questions(world, 2, seed=1, weights=RECIPE.ASKED)
    batch = RECIPE.conversation(model, tokenizer, world, asked, 3, RECIPE.draw(world, "large"))
    texts, sentences = asked.texts(), captions(world, "full")
    for row in range(2):
        first, second, last = (texts[3 * row + number] for number in range(3))
        words = [tokenizer.words[number] for number in batch.ids[row][batch.segments[row] >= 0].tolist()]
        turns = [f"<|image|> {question} {reply} <end>" for question, reply, _ in (first[0], second[0])]
        final = [sentences[3 * row + 2] + " <end>", *(f"{question} {reply} <end>" for question, reply, _ in last)]
        assert " ".join(words) == " ".join(["<start>", *turns, "<|image|>", *final])


def test_the_encoder_begins_as_that_of_clip_on_a_stream_of_smaller_numbers():
    model, _ = RECIPE.make_model()
    clip = load("clip")[0].image_encoder
    ours, theirs = model.vision.blocks[1], clip.blocks[1]
    assert torch.equal(ours.attention.query.weight, theirs.attention.query.weight)
    assert torch.allclose(ours.mlp.down.weight, RECIPE.STREAM * theirs.mlp.down.weight)
    images = RECIPE.draw(RECIPE.draw_world(8, 1, "train", "small"), "small")
    collected = model.features(model.prepare_tiles([[image] for image in images]))[:, 0, 0, :, model.config.vision.dim :]
    assert 0.3 < collected.pow(2).mean().sqrt() < 3


def test_with_the_rule_broken_every_picture_before_is_seen():
    model, tokenizer = RECIPE.make_model()
    world = RECIPE.draw_world(2, 4, "train", "wide")
    tiles = model.prepare_tiles([RECIPE.draw(world, "wide")])
    picture, word = tokenizer.image_token_id, tokenizer(["star"], start=False, end=False)[0].item()
    ids = torch.tensor([[tokenizer.start_token_id, picture, word, picture, word]])
    expected = torch.tensor([[0, 0], [1, 0], [1, 0], [0, 1], [0, 1]]).bool()

    def seen():
        visible = reading.read(ids, tiles, None).visible(5, model.config)
        return visible.view(5, 2, 4, -1)[:, :, :2].all(dim=-1).all(dim=-1), visible.view(5, 2, 4, -1)[:, :, 2:].any()

    visible, padding = seen()
    assert torch.equal(visible, expected) and not padding
    with RECIPE.broken_rule():
        visible, padding = seen()
        assert torch.equal(visible, expected.int().cummax(dim=0).values.bool()) and not padding
    assert torch.equal(seen()[0], expected), "whole again"


@pytest.mark.parametrize("run", ["four tiles, seed 0", "two tiles, seed 0", "one tile, whole encoder, seed 0", "frozen decoder, seed 0"])
def test_the_runs_change_what_they_are_called_by(run, monkeypatch):
    short, made, saved = RECIPE.train_llama_vision, [], []
    monkeypatch.setattr(RECIPE, "N", 3)
    monkeypatch.setattr(RECIPE, "train_llama_vision", lambda seed, **options: made.append(short(seed, **{**FEW, **options})) or made[-1])
    monkeypatch.setattr(RECIPE, "save", lambda folder, *rest: saved.append(folder.name))
    result, model = RECIPE.RUNS[run](), made[0][0]
    assert result["steps"] == 2 and result["canvases"]["large, small objects"]["n"] == 18 and set(result["pictures"]) == {"1", "2", "3"}
    assert model.config.vision.max_tiles == {"one": 1, "two": 2}.get(run.split()[0], 4)
    assert model.vision.blocks[0].mlp.up.weight.requires_grad == ("whole encoder" in run)
    assert model.language_model.tokens.weight.requires_grad != run.startswith("frozen")
    assert saved == (["llama_vision"] if run.startswith("four tiles, ") else [])
    if run.startswith("frozen"):
        assert result["moved without pictures"] == 0


needs_checkpoint = pytest.mark.skipif(not (shipped.CHECKPOINTS / "llama_vision").is_dir(), reason="not trained yet")


@needs_checkpoint
def test_the_card_tells_the_truth():
    card, (model, tokenizer) = shipped.read_card("llama_vision"), load("llama_vision")
    assert sum(file.stat().st_size for file in (shipped.CHECKPOINTS / "llama_vision").iterdir()) <= 8 * 2**20
    measured = RECIPE.measure(model, tokenizer, card["test_seed"], 60)
    for name in ("canvases", "pictures"):
        for situation, claimed in card["accuracy"][name].items():
            n, accuracy = measured[name][situation]["n"], claimed["accuracy"]
            room = 4 * (max(accuracy * (1 - accuracy), 0.02) / n) ** 0.5
            assert measured[name][situation]["accuracy"] == pytest.approx(accuracy, abs=room), "of the same scenes, the first 60"


@needs_checkpoint
def test_the_shipped_model_writes_what_it_was_measured_by():
    model, tokenizer = load("llama_vision")
    for canvas in ("small", "large"):
        world = RECIPE.draw_world(10, 3, "validation", canvas)
        asked = sample_questions(world, 3, seed=1, weights=RECIPE.ASKED)
        found = RECIPE.right(model, tokenizer, world, asked, canvas)
        images = RECIPE.draw(world, canvas)
        pictures = [image for image in images for _ in range(3)]
        rows = [one for row in asked.texts() for one in row]
        written = answer(model, tokenizer, pictures, [question for question, _, _ in rows])
        assert [mine == reply for mine, (_, reply, _) in zip(written, rows, strict=True)] == found.flatten().tolist()
    assert to_pil_image(render(world[:1])[0]).size == (32, 32)


@needs_checkpoint
def test_the_shipped_model_goes_on_with_a_second_picture_through_the_cache():
    model, tokenizer = load("llama_vision")
    world = RECIPE.draw_world(2, 8, "validation", "large")
    images, texts = RECIPE.draw(world, "large"), [row[0] for row in sample_questions(world, 1, seed=2, weights=RECIPE.ASKED).texts()]
    (first, reply, _), (second, _, _) = texts
    (ids, _), (more, _) = prompts(tokenizer, [f"{first} {reply} <end>"], 1), prompts(tokenizer, [second], 1)
    both = torch.cat([ids, more[:, 1:]], dim=1)
    tiles = model.prepare_tiles([images])
    cached, again = (generate(model, both, 6, tiles=tiles, eos_token_id=tokenizer.eos_token_id, use_cache=kept) for kept in (True, False))
    assert torch.equal(cached, again)


def test_every_result_is_of_a_run_of_the_recipe():
    assert RESULTS.keys() <= RECIPE.RUNS.keys()
    for run in RESULTS.values():
        assert run["steps"] == RECIPE.TRAINING.steps
