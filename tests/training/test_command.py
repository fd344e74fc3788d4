"""``python -m minimllm.training``: from a folder of pictures to a model that ``load`` opens, in one life or several."""

import contextlib
import io
import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from minimllm import Ahead, ViT, ViTConfig, captions, load, render, save, scenes, zero_shot


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twenty pictures with a text beside each, and the same by class."""
    place = tmp_path_factory.mktemp("pictures")
    world = scenes(20, 0, "train", objects=1)
    for number, (image, text) in enumerate(zip(render(world, 40), captions(world, "full"), strict=True)):
        picture = Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy())
        for path in (place / "pairs" / f"{number}.png", place / "classes" / ("even", "odd")[number % 2] / f"{number}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        (place / "pairs" / f"{number}.txt").write_text(text)
    return place


def command(*arguments: str | Path) -> str:
    """What the program says, run in this process; a ``SystemExit`` with a message is its error."""
    before, told = sys.argv, io.StringIO()
    sys.argv = ["minimllm.training", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            runpy.run_module("minimllm.training", run_name="__main__")
    finally:
        sys.argv = before
    return told.getvalue()


def clip(folder: Path, out: Path, *more: str | Path, steps: int = 12) -> str:
    fixed = ("--steps", steps, "--batch-size", 6, "--checkpoint-every", 5, "--workers", 0)
    return command("clip", "--pairs", folder / "pairs", "--out", out, *map(str, fixed), *more)


def test_clip_in_one_life_and_in_two(folder, tmp_path, monkeypatch):
    told = clip(folder, tmp_path / "whole")
    for part in ("CLIP of ", " parameters on 20 pairs of ", "memory expected: ", " s a step, ", "of the time went in waiting"):
        assert part in told
    whole = json.loads((tmp_path / "whole" / "history.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "whole" / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13)) and [line["loss"] for line in lines] == whole["losses"]

    class Interrupted(Exception):
        pass

    next_batch = Ahead.__call__

    def dies(self, step):
        if step == 8:
            raise Interrupted
        return next_batch(self, step)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Ahead, "__call__", dies)
        clip(folder, tmp_path / "twice")
    assert len((tmp_path / "twice" / "history.jsonl").read_text().splitlines()) == 8 and not (tmp_path / "twice" / "history.json").exists()
    caption = folder / "pairs" / "3.txt"
    before = caption.read_text()
    caption.write_text("another caption")
    with pytest.raises(SystemExit, match="holds a training that began with other captions or classes"):
        clip(folder, tmp_path / "twice")
    caption.write_text(before)
    with pytest.raises(SystemExit, match=r"began with learning_rate None, and now it is 0\.01"):
        clip(folder, tmp_path / "twice", "--learning-rate", "0.01")
    with monkeypatch.context() as patch:  # as a batch system may set them, without torchrun
        patch.setenv("RANK", "1")
        patch.setenv("WORLD_SIZE", "2")
        clip(folder, tmp_path / "twice", "--micro-batch-size", "6")
    twice = json.loads((tmp_path / "twice" / "history.json").read_text())
    assert twice["losses"] == whole["losses"] and (tmp_path / "twice" / "history.jsonl").read_text().count("\n") == 12

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "twice").rglob("*")}
    assert "is finished: 12 steps" in clip(folder, tmp_path / "twice")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "twice").rglob("*")} == before
    with pytest.raises(SystemExit, match="holds a finished training with .* name another folder"):
        clip(folder, tmp_path / "twice", steps=13)
    with pytest.raises(SystemExit, match=r"a finished training with {'learning_rate': None}, not {'learning_rate': 0\.01}"):
        clip(folder, tmp_path / "twice", "--learning-rate", "0.01")

    other = tmp_path / "elsewhere"
    shutil.copytree(folder / "pairs", other / "pairs")
    (other / "pairs" / "3.txt").write_text("another caption")
    monkeypatch.chdir(other)
    fixed = ("--steps", 12, "--batch-size", 6, "--checkpoint-every", 5, "--workers", 0)
    with pytest.raises(SystemExit, match="a finished training with {'source': .*elsewhere"):
        command("clip", "--pairs", "pairs", "--out", tmp_path / "twice", *fixed)  # other pictures, called alike
    monkeypatch.chdir(tmp_path)
    assert "is finished" in command("clip", "--pairs", "pairs", "--out", tmp_path / "twice", *fixed), "whose pictures are no longer there"

    model, tokenizer = load(tmp_path / "twice")
    shown = zero_shot(model, tokenizer, torch.rand(2, 3, 32, 32), ["star", "unheard of thing"])
    assert shown.shape == (2, 2) and shown.isfinite().all(), "a word that no caption held does not end a question"
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), load(tmp_path / "whole")[0].parameters(), strict=True))
    card = json.loads((tmp_path / "twice" / "card.json").read_text())
    assert card["pairs"] == 20 and card["processes"] == 1 and card["left_out"] == []

    clip(folder, tmp_path / "further", "--init", tmp_path / "whole", steps=3)
    further = json.loads((tmp_path / "further" / "history.json").read_text())
    assert further["losses"][0] < whole["losses"][0]


def test_vit_by_class_and_what_was_left_out(folder, tmp_path):
    (folder / "classes" / "odd" / "broken.jpg").write_bytes(b"no picture")
    arguments = ("vit", "--images", folder / "classes", "--out", tmp_path / "vit", "--steps", "3", "--batch-size", "5", "--workers", "0")
    with pytest.raises(SystemExit, match=r"20 pairs can be used, and 1 things cannot(.|\n)*broken\.jpg is not a picture"):
        command(*arguments)
    assert not (tmp_path / "vit").exists()
    told = command(*arguments, "--skip-faults")
    assert "1 were left out" in told and "broken.jpg" in told
    model, tokenizer = load(tmp_path / "vit")
    assert isinstance(model, ViT) and model.config.class_names == ("even", "odd") and tokenizer is None


@pytest.mark.parametrize(
    "arguments, told",
    [
        (("--steps", "none"), "--steps: expected a number of 1 or more, got 'none'"),
        (("--batch-size", "0"), "--batch-size: expected a number of 1 or more, got '0'"),
        (("--learning-rate", "0"), "--learning-rate: expected a number above 0, got '0'"),
        (("--preset", "huge"), "invalid choice: 'huge'"),
        (("--colour", "red"), "unrecognized arguments: --colour red"),
    ],
)
def test_a_wrong_option_is_answered_by_what_was_expected(arguments, told, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "clip", "--pairs", str(folder), "--out", str(tmp_path / "out"), "--steps", "3", *arguments])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("minimllm.training", run_name="__main__")
    assert told in capsys.readouterr().err


def test_a_model_of_another_kind_is_no_beginning(folder, tmp_path):
    save(tmp_path / "vit", ViT(ViTConfig.tiny()), None, {})
    with pytest.raises(SystemExit, match="holds a ViT, expected a CLIP"):
        clip(folder, tmp_path / "out", "--init", tmp_path / "vit")


def test_a_training_that_was_cut_short_says_so_and_does_not_pass_for_a_whole_one(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMLLM_STEPS", "2")
    assert "2 steps of 6" in clip(folder, tmp_path / "out", steps=3)
    monkeypatch.delenv("MINIMLLM_STEPS")
    with pytest.raises(SystemExit, match=r"a finished training with {'steps': 2}, not {'steps': 3}"):
        clip(folder, tmp_path / "out", steps=3)
