"""Training: a run is a function of its configuration, whatever interrupts it, and what goes wrong is said by name."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from support import unchecked
from tiny_run import TinyModel, config, make_batch, run, same
from torch import nn

from minimllm import figures
from minimllm.figures import smoothed, training_curve
from minimllm.training import (
    History,
    TrainingConfig,
    accuracy,
    batch_indices,
    classification_loss,
    derive_seed,
    generator_for,
    learning_rate_factor,
    make_optimizers,
    to_device,
    train,
)
from minimllm.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from minimllm.training.optimizers import Muon, orthogonal
from minimllm.widgets import training as live

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()


class Interrupted(Exception):
    pass


def fails_at(step_of_death: int):
    def batches(step: int):
        if step == step_of_death:
            raise Interrupted
        return make_batch(step)

    return batches


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[nn.Module, History]:
    return run(None)


# ---- it learns ------------------------------------------------------------------------------------------------------


def test_training_learns_and_says_so():
    model = TinyModel(dropout=0.0)
    evaluate = lambda model: {"accuracy": accuracy(model, *make_batch(10_000), batch_size=5)}  # noqa: E731
    history = train(model, make_batch, classification_loss, config(steps=150, evaluate_every=60), evaluate=evaluate, progress=False)
    assert len(history.losses) == len(history.metrics["accuracy"]) == len(history.steps) == 150 and history.steps[-1] == 150
    assert sum(history.losses[-10:]) < 0.5 * sum(history.losses[:10])
    assert [entry["step"] for entry in history.evaluations] == [60, 120, 150]
    assert history.evaluations[-1]["accuracy"] >= 0.8
    assert not model.training and history.seconds > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_history_is_json_and_comes_back_whole():
    _, history = run(None, steps=3)
    assert History(**json.loads(json.dumps(dataclasses.asdict(history)))) == history


def test_accuracy_counts_by_hand():
    class Constant(nn.Module):
        weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.tensor([0.0, 1.0, 0.0]).expand(len(x), 3)

    constant = Constant()
    constant.bias = nn.Parameter(torch.zeros(1))
    assert accuracy(constant, torch.zeros(7, 2), torch.tensor([1, 1, 0, 2, 1, 0, 0]), batch_size=3) == pytest.approx(3 / 7)


def test_classification_loss_is_cross_entropy():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    loss, metrics = classification_loss(nn.Identity(), (logits, torch.tensor([0, 1])))
    assert loss.item() == pytest.approx((torch.log1p(torch.exp(torch.tensor(-2.0))) + torch.log(torch.tensor(2.0))).item() / 2)
    assert metrics["accuracy"].item() == 0.5


def test_after_step_holds_after_every_update():
    def clamp(model, step):
        model.head.weight.clamp_(-0.01, 0.01)

    seen = []

    def loss(model, batch):
        seen.append(model.head.weight.abs().max().item())
        return classification_loss(model, batch)

    model = TinyModel()
    train(model, make_batch, loss, config(), after_step=clamp, progress=False)
    assert seen[0] > 0.01 and max(seen[1:]) <= 0.01 + 1e-9 and model.head.weight.abs().max() <= 0.01 + 1e-9


# ---- schedule and optimizers ----------------------------------------------------------------------------------------


def test_schedule_by_hand():
    factors = [learning_rate_factor(step, 100, warmup=0.1, final=0.02) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[4] == pytest.approx(0.5) and factors[9] == factors[10] == 1.0
    assert factors[-1] == pytest.approx(0.02)
    assert all(earlier >= later for earlier, later in zip(factors[9:], factors[10:], strict=False))
    assert learning_rate_factor(0, 1) == 1.0 and learning_rate_factor(0, 3, warmup=0.0) == 1.0
    assert all(0 < learning_rate_factor(step, 2, warmup=1.0) <= 1 for step in range(2))


def test_each_parameter_has_the_optimizer_and_the_decay_it_should():
    model = TinyModel()
    model.positions = nn.Parameter(torch.zeros(4, 8))
    model.gate = nn.Parameter(torch.zeros(1))
    model.head.bias.requires_grad_(False)
    optimizers = make_optimizers(model, config(learning_rate_factors={"gate": 10.0}, weight_decay=0.3))
    found = {
        name: (kind, group["weight_decay"], round(group["peak"] / 3e-3, 3))
        for kind, optimizer in optimizers.items()
        for group in optimizer.param_groups
        for name in group["names"]
    }
    muon = round(0.02 / 3e-3, 3)
    assert found == {
        "blocks.0.0.weight": ("muon", 0.3, muon),
        "blocks.1.0.weight": ("muon", 0.3, muon),
        "blocks.0.0.bias": ("adamw", 0.0, 1.0),
        "blocks.1.0.bias": ("adamw", 0.0, 1.0),
        "norm.weight": ("adamw", 0.0, 1.0),
        "norm.bias": ("adamw", 0.0, 1.0),
        "head.weight": ("adamw", 0.3, 1.0),
        "positions": ("adamw", 0.0, 1.0),
        "gate": ("adamw", 0.0, 10.0),
    }
    assert set(make_optimizers(model, config(muon_learning_rate=None))) == {"adamw"}


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (7, 7)])
def test_muon_is_torchs_but_for_its_precision(shape, monkeypatch):
    def trained(kind, dtype) -> torch.Tensor:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(shape, dtype=torch.float64).to(dtype))
        optimizer = kind([weight], lr=0.02, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        for _ in range(4):
            weight.grad = torch.randn(shape, dtype=torch.float64).to(dtype)
            optimizer.step()
        return weight.detach()

    ours, theirs = trained(Muon, torch.float64), trained(torch.optim.Muon, torch.float64)
    assert (ours - theirs).abs().max() < 2e-3, "they differ by no more than bfloat16 rounds, in steps of about 0.03"
    assert (trained(Muon, torch.float32) - ours).abs().max() < 1e-5
    exact = lambda gradient, coefficients, steps, eps: orthogonal(gradient, coefficients, steps)  # noqa: E731
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", exact)
    assert torch.allclose(trained(torch.optim.Muon, torch.float64), ours, rtol=0, atol=1e-12)


def test_orthogonal_keeps_the_singular_vectors():
    left, _, right = torch.linalg.svd(torch.randn(6, 10, dtype=torch.float64), full_matrices=False)
    matrix = left * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.3, 0.2], dtype=torch.float64) @ right
    values = left.T @ orthogonal(matrix, (3.4445, -4.7750, 2.0315), 5) @ right.T
    assert (values - torch.diag(values.diagonal())).abs().max() < 1e-9 and values.diagonal().min() > 0.6 and values.diagonal().max() < 1.3
    transposed = orthogonal(matrix.T, (3.4445, -4.7750, 2.0315), 5)
    assert torch.allclose(transposed.T, orthogonal(matrix, (3.4445, -4.7750, 2.0315), 5), rtol=0, atol=1e-12)


def test_learning_rate_follows_the_schedule_in_the_loop():
    """With plain gradients of constant sign, one AdamW step moves by the learning rate itself."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    places = [0.0]
    loss = lambda model, batch: (-model.weight.sum(), {})  # noqa: E731
    record = lambda model, step: places.append(model.weight.item())  # noqa: E731
    plain = TrainingConfig(steps=20, learning_rate=0.01, muon_learning_rate=None, weight_decay=0.0)
    train(model, lambda step: None, loss, plain, after_step=record, progress=False)
    moved = [later - earlier for earlier, later in zip(places, places[1:], strict=False)]
    assert moved == pytest.approx([0.01 * learning_rate_factor(step, 20) for step in range(20)], rel=1e-3)


def test_gradient_is_clipped():
    model = nn.Linear(1, 1, bias=False)
    lengths = []
    loss = lambda model, batch: (1000 * model.weight.sum(), {})  # noqa: E731
    record = lambda model, step: lengths.append(model.weight.grad.norm().item())  # noqa: E731
    train(model, lambda step: None, loss, config(steps=2, clip=0.5), after_step=record, progress=False)
    assert lengths == pytest.approx([0.5, 0.5], rel=1e-4)


# ---- a run is a function of its configuration ------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("every", [1, 4, 5])
def test_interrupted_at_any_step_and_resumed_equals_uninterrupted(tmp_path, every, device):
    expected, expected_history = run(None, device=device)
    for step in range(12):
        folder = tmp_path / str(step)
        with pytest.raises(Interrupted):
            run(folder, batches=fails_at(step), checkpoint_every=every, device=device)
        asked = []
        model, history = run(folder, batches=lambda k, asked=asked: asked.append(k) or make_batch(k), checkpoint_every=every, device=device)
        assert same(model, expected) and history.losses == expected_history.losses and history.metrics == expected_history.metrics
        assert asked[0] == step // every * every, "it went on from another place than the newest checkpoint"


def test_interrupted_between_backward_and_update_and_twice(tmp_path, uninterrupted):
    def dies_in(step_of_death):
        def after_step(model, step):
            if step == step_of_death:
                raise Interrupted

        return after_step

    for step in (7, 6, 9):  # the second life is shorter than the first
        with pytest.raises(Interrupted):
            run_config = config(checkpoint_every=2)
            train(TinyModel(), make_batch, classification_loss, run_config, after_step=dies_in(step), checkpoints=tmp_path, progress=False)
    model, _ = run(tmp_path, checkpoint_every=2)
    assert same(model, uninterrupted[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork and no SIGKILL")
def test_killed_by_the_system_also_while_writing(tmp_path):
    program = [sys.executable, Path(__file__).parents[1] / "tiny_run.py", tmp_path]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"killed (\d+) times, same weights", done.stdout)[1]) >= 6


def test_finished_run_is_not_trained_again(tmp_path, uninterrupted):
    run(tmp_path)
    model, history = run(tmp_path, batches=fails_at(0))
    assert same(model, uninterrupted[0]) and len(history.losses) == 12


def test_evaluation_and_checkpoints_do_not_change_the_result(tmp_path, uninterrupted):
    model = TinyModel()
    noisy = lambda model: {"noise": torch.rand(1)}  # noqa: E731
    every = config(evaluate_every=2, checkpoint_every=3)
    train(model, make_batch, classification_loss, every, evaluate=noisy, checkpoints=tmp_path, progress=False)
    assert same(model, uninterrupted[0])


def test_another_seed_is_another_run(uninterrupted):
    assert not same(run(None, seed=1)[0], uninterrupted[0])


def test_global_generator_is_left_alone_and_does_not_matter(uninterrupted):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model, _ = run(None)
    assert torch.equal(torch.get_rng_state(), before) and same(model, uninterrupted[0])


# ---- damaged and foreign checkpoints --------------------------------------------------------------------------------


def newest(folder: Path) -> Path:
    return max(folder.glob("step-*.safetensors"))


def test_the_last_two_checkpoints_are_kept(tmp_path):
    run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000011.safetensors", "step-00000012.safetensors"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_cut_short_is_refused_by_name_and_the_one_before_loads(tmp_path, share, uninterrupted):
    with pytest.raises(Interrupted):
        run(tmp_path, batches=fails_at(8))
    path = newest(tmp_path)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(ValueError, match=re.escape(str(path)) + " is cut short"):
        load_checkpoint(path)
    with pytest.warns(UserWarning, match=re.escape(str(path))):
        before, _, record = latest_checkpoint(tmp_path)
    assert before.name == "step-00000007.safetensors" and len(record["history"]["losses"]) == 7
    with pytest.warns(UserWarning, match=re.escape(str(path))):
        model, _ = run(tmp_path)
    assert same(model, uninterrupted[0])


def test_one_changed_byte_is_noticed(tmp_path):
    run(tmp_path)
    path = newest(tmp_path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path)) + " is damaged: .* checksum"):
        load_checkpoint(path)


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
    run(tmp_path)
    for path in tmp_path.iterdir():
        os.truncate(path, 100)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no checkpoint in .* is whole.*step-00000012"):
        run(tmp_path)


def test_a_write_that_fails_leaves_the_checkpoints_as_they_were(tmp_path, monkeypatch):
    run(tmp_path, steps=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("minimllm.training.checkpoints.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, 5, {"x": torch.ones(3)}, {})
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("step-*")} == before
    save_checkpoint(tmp_path, 5, {"x": torch.ones(3)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004.safetensors", "step-00000005.safetensors"]


def test_foreign_and_missing_files(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    save_file({"x": torch.ones(2)}, tmp_path / "step-00000001.safetensors")
    with pytest.raises(ValueError, match="step-00000001.safetensors is no checkpoint"):
        load_checkpoint(tmp_path / "step-00000001.safetensors")
    assert latest_checkpoint(tmp_path / "not there") is None


def test_another_configuration_or_model_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match="learning_rate=0.003, this run has 0.001"):
        run(tmp_path, learning_rate=1e-3)
    run(tmp_path, checkpoint_every=7, evaluate_every=2)  # these two change nothing
    wider = TinyModel()
    wider.head = nn.Linear(8, 4)
    with pytest.raises(ValueError, match=r"another model: head.bias is \(3,\), not \(4,\)"):
        run(tmp_path, model=wider)
    deeper = TinyModel()
    deeper.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="another model: extra.bias is only in the model"):
        run(tmp_path, model=deeper)


def test_tied_weights_and_frozen_parameters_survive(tmp_path):
    class Tied(TinyModel):
        def __init__(self):
            super().__init__()
            self.table = nn.Linear(8, 3, bias=False)
            self.table.weight = self.head.weight
            self.norm.requires_grad_(False)

    expected, _ = run(None, model=Tied())
    with pytest.raises(Interrupted):
        run(tmp_path, model=Tied(), batches=fails_at(6))
    assert not any("table" in name for name in load_checkpoint(newest(tmp_path))[0]), "a shared tensor was stored twice"
    model, _ = run(tmp_path, model=Tied())
    assert same(model, expected) and model.table.weight is model.head.weight
    assert torch.equal(model.norm.weight, torch.ones(8))


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize(
    "then, now, words",
    [
        ((), ("0.bias",), r"4 weights were trained, and now 3 are: 1 trained then and not now: adamw: 0.bias\."),
        (("0.bias",), (), r"3 weights were trained, and now 4 are: 1 trained now and not then: adamw: 0.bias\."),
        (("0.bias", "0.weight"), ("0.bias", "1.weight"), "then and not now: adamw: 1.weight; 1 trained now and not then: adamw: 0.weight"),
        ((), ("0.bias", "0.weight", "1.bias"), "3 trained then and not now: adamw: 0.bias, adamw: 0.weight, adamw: 1.bias"),
    ],
)
def test_a_run_with_other_frozen_weights_is_refused(then, now, words, noted, tmp_path, monkeypatch):
    def model(frozen):
        made = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3))
        for name in frozen:
            made.get_parameter(name).requires_grad_(False)
        return made

    if not noted:  # as in checkpoints of earlier versions
        monkeypatch.setattr("minimllm.training.loop.trained", lambda optimizers: None)
    first = model(then)
    run(tmp_path, model=first)
    other = model(now)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        run(tmp_path, model=other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items()), "nothing is changed"
    again, _ = run(tmp_path, model=model(then))
    assert same(again, first), "with the same ones it goes on"


def test_checkpoint_tensors_keep_type_and_shape(tmp_path):
    tensors = {"a": torch.tensor(3, dtype=torch.int64), "b": torch.randn(2, 3).T, "c": torch.zeros(0, 4), "d": torch.randn(3).bfloat16()}
    loaded, record = load_checkpoint(save_checkpoint(tmp_path, 1, tensors, {"note": "é"}))
    assert record == {"note": "é"} and loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, batch_size", [(10, 3), (10, 10), (3, 7), (1, 2)])
def test_batches_shuffle_every_epoch_and_miss_nothing(count, batch_size):
    steps = count * 4
    drawn = torch.cat([batch_indices(count, batch_size, 0, step) for step in range(steps)])
    assert len(drawn) == steps * batch_size
    epochs = drawn[: len(drawn) // count * count].view(-1, count)
    assert torch.equal(epochs.sort(1).values, torch.arange(count).expand_as(epochs))
    if count == 10:
        assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(batch_indices(count, batch_size, 0, 2), drawn[2 * batch_size : 3 * batch_size])


def test_no_rows_no_batches():
    with pytest.raises(ValueError, match="got 0 rows"):
        batch_indices(0, 4, 0, 0)


def test_seeds_of_different_streams_differ():
    seeds = {derive_seed(seed, name, step) for seed in range(10) for name in ("scenes", "shift") for step in range(100)}
    assert len(seeds) == 2000 and all(0 <= seed < 2**63 for seed in seeds)
    assert torch.equal(torch.rand(3, generator=generator_for(1, "a")), torch.rand(3, generator=generator_for(1, "a")))


def test_to_device_reaches_every_tensor():
    Pair = namedtuple("Pair", "images names")
    batch = Pair({"a": [torch.ones(1), (torch.ones(2), None)]}, ["x"])
    moved = to_device(batch, "meta")
    assert isinstance(moved, Pair) and moved.names == ["x"]
    assert moved.images["a"][0].device.type == "meta" and moved.images["a"][1][0].device.type == "meta" and moved.images["a"][1][1] is None


# ---- what goes wrong is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_step(value):
    model = TinyModel()
    weights = []

    def loss(model, batch):
        weights.append(model.head.weight.detach().clone())
        result, metrics = classification_loss(model, batch)
        return (result * value if len(weights) == 4 else result), metrics

    with pytest.raises(FloatingPointError, match=f"loss is {value} at step 3"):
        train(model, make_batch, loss, config(), progress=False)
    assert torch.equal(model.head.weight, weights[-1]) and not torch.equal(weights[-2], weights[-1])


def test_a_gradient_that_is_no_number_names_the_step():
    model = TinyModel()
    before = model.head.weight.detach().clone()
    loss = lambda model, batch: ((model.head.weight * 0).sum().sqrt() + 1, {})  # noqa: E731  (the slope of a root at 0)
    with pytest.raises(FloatingPointError, match="gradient's norm is nan at step 0"):
        train(model, make_batch, loss, config(), progress=False)
    assert torch.equal(model.head.weight, before)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"batch_size": -1}, "batch_size must be 1 or more, got -1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be 1 or more, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"muon_learning_rate": float("nan")}, "muon_learning_rate must be above 0, got nan"),
        ({"warmup": 10.0}, "warmup is a share and must lie between 0 and 1, got 10.0"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more, got -0.1"),
    ],
)
def test_wrong_configurations_are_refused(wrong, message):
    with unchecked(), pytest.raises(ValueError, match=re.escape(message)):
        config(**wrong)


def test_the_environment_cuts_every_run_short_and_lengthens_none(monkeypatch):
    assert [config(steps=steps).steps for steps in (2, 7, 12)] == [2, 7, 12]
    monkeypatch.setenv("MINIMLLM_STEPS", "7")
    assert [config(steps=steps).steps for steps in (2, 7, 12)] == [2, 7, 7]
    for wrong in ("0", "-3", "2.5", "few"):
        monkeypatch.setenv("MINIMLLM_STEPS", wrong)
        with pytest.raises(ValueError, match=re.escape(f"MINIMLLM_STEPS must be a whole number of 1 or more, got {wrong!r}")):
            config()


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="no trainable parameter"):
        run(None, model=TinyModel().requires_grad_(False))


# ---- what is seen ---------------------------------------------------------------------------------------------------


def test_the_bar_shows_loss_and_metric(capsys):
    train(TinyModel(), make_batch, classification_loss, config())
    shown = capsys.readouterr().err
    assert "12/12" in shown and re.search(r"loss=\d\.\d{3}, accuracy=[01]\.\d{3}", shown)


def test_smoothing_is_the_mean_of_the_values_around_and_does_not_lag():
    assert smoothed([8.0, 2.0, 5.0, 0.0, 3.0], 3).tolist() == [8.0, 5.0, 7 / 3, 8 / 3, 3.0]
    assert smoothed([8.0, 2.0, 5.0, 0.0, 3.0], 5).tolist() == [8.0, 5.0, 3.6, 8 / 3, 3.0]
    falling = list(range(50, 0, -1))
    assert np.allclose(smoothed(falling, 10), falling)
    assert smoothed([4.0], 7).tolist() == [4.0] and smoothed([], 7).tolist() == []


def test_the_curve_draws_what_the_history_holds():
    history = History([3.0, 2.0, 1.0], {"accuracy": [0.1, 0.5, 0.9]}, [{"step": 3, "accuracy": 0.8}], 1.0)
    left, right = training_curve(history).axes
    assert left.lines[0].get_ydata().tolist() == [3.0, 2.0, 1.0] and left.get_xlabel() == "step" and left.get_ylabel() == "loss"
    assert right.lines[-1].get_xdata().tolist() == [3] and right.lines[-1].get_ydata().tolist() == [0.8]
    assert len(training_curve(History([1.0], {}, [], 0.0)).axes) == 1


@pytest.mark.parametrize("names", [["answers"], ["answers", "captions"], ["answers", "captions", "longer numbers"]])
def test_the_title_of_the_curve_ends_above_its_axes(names):
    figure = training_curve(History([2.0, 1.0], {name: [0.1, 0.2] for name in names}, [], 1.0))
    figure.draw_without_rendering()
    right = figure.axes[1]
    assert right.title.get_window_extent().x1 <= right.get_window_extent().x1
    assert [text.get_text() for text in right.get_legend().get_texts()] == [f"{name}, training" for name in names]


def test_the_curve_leaves_gates_to_figures_of_their_own_and_names_what_is_a_share():
    answers, gate = [0.1, 0.2], [0.0, -0.4]
    right = training_curve(History([2.0, 1.0], {"answers": answers, "captions": answers, "gate before layer 1": gate}, [], 1.0)).axes[1]
    assert len(right.lines) == 4 and right.get_title(loc="left") == "Answers, captions" and right.get_ylabel() == "share"
    assert training_curve(History([2.0, 1.0], {"a": [3.0, 1.0], "b": answers}, [], 1.0)).axes[1].get_ylabel() == "value"
    assert len(training_curve(History([2.0, 1.0], {"MLP's gate before layer 1": gate}, [], 1.0)).axes) == 1


def test_in_a_notebook_the_outputs_are_still_and_the_curve_grows(tmp_path):
    setup = f"""
import sys, time; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tiny_run import TinyModel, make_batch, config, classification_loss
from minimllm import train
from minimllm import figures
pictures = []
figures.training_curve, draw = lambda *a: (pictures.append(1), draw(*a))[1], figures.training_curve
slow = lambda step: (time.sleep(0.12), make_batch(step))[1]"""
    cells = [setup, "_ = train(TinyModel(), make_batch, classification_loss, config())"]
    cells += ["_ = train(TinyModel(), slow, classification_loss, config())", "assert len(pictures) >= 3, pictures"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in notebook.cells[1:3]:
        assert [output.output_type for output in cell.outputs] == ["display_data", "display_data"], cell.outputs
        live, still = (output.data for output in cell.outputs)
        assert live["text/plain"] == "Training, 12 steps" and "application/vnd.jupyter.widget-view+json" in live
        assert 'alt="Training curve: loss and accuracy over 12 training steps"' in still["text/html"] and "base64" in still["text/html"]
    first, second = ([output.data["text/plain"] for output in cell.outputs] for cell in notebook.cells[1:3])
    assert first == second


def test_an_interrupted_training_in_a_notebook_keeps_what_it_has(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(live, "display", lambda *_, **__: None)
    monkeypatch.setattr(figures, "show", lambda figure, alt: shown.append((figure, alt)))

    def interrupted(step):
        if step == 5:
            raise KeyboardInterrupt
        return make_batch(step)

    model = TinyModel()
    history = train(model, interrupted, classification_loss, config(), progress=live.LiveCurve)
    assert len(history.losses) == 5 and not model.training
    assert "stopped at step 5 of 12" in capsys.readouterr().out
    ((figure, alt),) = shown
    assert "over 5 training steps" in alt and len(figure.axes[0].lines[0].get_xdata()) == 5
    with pytest.raises(KeyboardInterrupt):  # a program ends, and does not take half a training for a whole one
        train(TinyModel(), interrupted, classification_loss, config(), progress=False)


def test_other_errors_end_a_training_in_a_notebook(monkeypatch):
    monkeypatch.setattr(live, "display", lambda *_, **__: None)
    with pytest.raises(ZeroDivisionError):
        train(TinyModel(), lambda step: 1 / 0, classification_loss, config(), progress=live.LiveCurve)
