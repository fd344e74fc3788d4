"""One readable training loop for every model of the course.

Its promise: a run is a pure function of its configuration. The batch of step ``k`` depends on the seed and ``k`` alone, and all other
randomness (dropout, say) comes from generators that are seeded afresh at every step. So a checkpoint needs no generator's state, and a run
that is killed at any moment and started again ends with the same weights, bit for bit.

Under ``torchrun --nproc-per-node=N script.py`` the same script trains with N processes: each takes its own rows of every batch, their
gradients are added up, and the first writes and reports. Losses and weights are those of one process but for rounding, which Muon's
iterations and AdamW's division enlarge step by step, as they do where one process sums a batch in another order.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minimllm.data.seeds import derive_seed
from minimllm.layers.threads import threads_for
from minimllm.training import processes
from minimllm.training.checkpoints import (
    latest_checkpoint,
    only_writer,
    restore_training_state,
    save_checkpoint,
    tidy,
    trained,
    training_state,
)
from minimllm.training.gradients import go_back, own_parts, recomputing
from minimllm.training.history import History
from minimllm.training.optimizers import TrainingConfig, largest_product, learning_rate_factor, make_optimizers
from minimllm.training.progress import View, choose_view
from minimllm.training.sharding import clip_gradients, spread
from minimllm.training.spreading import whole


def train(
    model: nn.Module,
    make_batch: Callable[[int], Any],
    loss_function: Callable[[nn.Module, Any], tuple[Tensor, Mapping[str, Any]]],
    config: TrainingConfig,
    *,
    device: torch.device | str | None = None,
    evaluate: Callable[[nn.Module], Mapping[str, Any]] | None = None,
    after_step: Callable[[nn.Module, int], None] | None = None,
    checkpoints: str | Path | None = None,
    progress: bool | View = True,
) -> History:
    """Train ``model`` in place and return what happened.

    Args:
        model: moved to ``device``, and left in evaluation mode.
        make_batch: ``make_batch(step)`` is the batch of step 0, 1, …; it may depend on nothing else (give it a seed of its own).
        loss_function: ``loss_function(model, batch)`` is the scalar loss, and a dict of metrics to show: means over the rows, unless batch
            or loss say otherwise (:mod:`minimllm.training.parts`).
        config: steps, learning rates, seed and so on.
        device: where to train, and where the tensors of a batch are moved; ``None``: where the model is.
        evaluate: ``evaluate(model)`` is a dict of metrics; called every ``config.evaluate_every`` steps and after the last,
            without gradients and in evaluation mode, in the first process.
        after_step: ``after_step(model, step)`` is called after each update, without gradients, for what must hold at all times.
        checkpoints: a folder, the same for all processes. The run is saved there every ``config.checkpoint_every`` steps and at its end,
            and goes on from the newest whole checkpoint that it finds there.
        progress: whether to show a bar, and in a notebook the curve; or what else shows the run, as ``progress(history, steps)``, a context
            with a method ``update()`` that is called after each step.

    Raises:
        ValueError: if the folder's checkpoints belong to another model or configuration, or are all damaged; if another run writes there;
            if a batch cannot be cut as the number of processes or ``config.micro_batch_size`` ask.
        FloatingPointError: naming the step whose loss or gradient is not a finite number; the weights are those before that step.
    """
    device = processes.join(next(model.parameters()).device if device is None else torch.device(device))
    model.to(device)
    optimizers, history = make_optimizers(model, config), History()
    first = processes.rank() == 0
    with contextlib.ExitStack() as during:
        if checkpoints is not None:
            if first:
                during.enter_context(only_writer(checkpoints))
                tidy(checkpoints)
            processes.collect("the folder is ours")
            history = _resume(checkpoints, model, optimizers, config)
        processes.copy_first(model)
        given = model
        if config.shard and processes.count() > 1:
            model, optimizers = spread(model, optimizers, config, device)
        during.enter_context(_reproducible(device, exact=checkpoints is not None))
        during.enter_context(recomputing(model, config.recompute))
        bar = during.enter_context(choose_view(progress if first else False)(history, config.steps))

        for step in range(len(history.losses), config.steps):
            started = time.perf_counter()
            torch.manual_seed(derive_seed(config.seed, "step", step))
            parts = own_parts(make_batch(step), config)

            model.train()
            model.zero_grad()
            loss, metrics = go_back(model, loss_function, parts, config, step, device)
            _require_finite(loss, "loss", step)
            _require_finite(clip_gradients(list(model.parameters()), config.clip), "gradient's norm", step)

            factor = learning_rate_factor(step, config.steps, config.warmup, config.final)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * factor
                with threads_for(largest_product(optimizer), device):
                    optimizer.step()
            if after_step is not None:
                with torch.no_grad():
                    after_step(model, step)

            history.losses.append(loss)
            for name, value in metrics.items():
                history.metrics.setdefault(name, []).append(value)
            history.seconds += time.perf_counter() - started
            if evaluate is not None and _is_due(step, config.steps, config.evaluate_every):
                found = processes.collect(_evaluate(model, evaluate) if first or config.shard else None)[0]
                history.evaluations.append({"step": step + 1, **found})
            if checkpoints is not None and _is_due(step, config.steps, config.checkpoint_every):
                record = {"config": dataclasses.asdict(config), "history": dataclasses.asdict(history), "trained": trained(optimizers)}
                if first or config.shard:  # what is spread is gathered by all
                    state = training_state(model, optimizers)
                if first:
                    save_checkpoint(checkpoints, step + 1, state, record)
            bar.update()
        processes.collect("all is written")
    if model is not given:
        given.load_state_dict({name: whole(tensor) for name, tensor in model.state_dict().items()})
        given.to(device)
    given.zero_grad()
    given.eval()
    return history


def classification_loss(model: nn.Module, batch: Any, label_smoothing: float = 0.0) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy of a batch ``(images, labels)``, and the share of it whose highest logit is the right one."""
    images, labels = batch
    logits = model(images)
    loss = nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return loss, {"accuracy": (logits.argmax(-1) == labels).float().mean()}


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 500) -> float:
    """The share of ``images`` whose highest logit is the right one, in the model's present mode, ``batch_size`` images at a time."""
    device = next(model.parameters()).device
    guesses = torch.cat([model(part.to(device)).argmax(-1).cpu() for part in images.split(batch_size)])
    return (guesses == labels.cpu()).double().mean().item()


# ---- the loop's helpers ----------------------------------------------------------------------------------------------


def _is_due(step: int, steps: int, every: int | None) -> bool:
    return step + 1 == steps or (every is not None and (step + 1) % every == 0)


def _require_finite(value: float, name: str, step: int) -> None:
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {name} is {value} at step {step}; the weights are still those before it. "
            "Look at that step's batch, lower the learning rate, or lengthen the warm-up"
        )


def _evaluate(model: nn.Module, evaluate: Callable[[nn.Module], Mapping[str, Any]]) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        return {name: float(value) for name, value in evaluate(model).items()}


def _resume(folder: str | Path, model: nn.Module, optimizers: dict[str, torch.optim.Optimizer], config: TrainingConfig) -> History:
    """Put the newest whole checkpoint's state in place; an empty history if there is none."""
    found = latest_checkpoint(folder)
    steps = processes.collect(0 if found is None else len(found[2]["history"]["losses"]))
    if len(set(steps)) > 1:
        raise ValueError(f"the processes find checkpoints after {steps} steps in {folder}; all of them must see the same folder")
    if found is None:
        return History()
    path, tensors, record = found
    harmless = ("evaluate_every", "checkpoint_every", "micro_batch_size", "recompute", "shard")
    ours = json.loads(json.dumps(dataclasses.asdict(config)))  # as JSON gives it back: tuples are lists
    theirs = {"bfloat16": False, **record["config"]}  # which checkpoints of earlier versions lack
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in harmless and ours.get(name) != theirs.get(name):
            raise ValueError(
                f"{path} was written with {name}={theirs.get(name)!r}, this run has {ours.get(name)!r}; "
                "a run can only go on as it began: use the same configuration, or another folder"
            )
    restore_training_state(tensors, model, optimizers, record.get("trained"))
    return History(**record["history"])


@contextlib.contextmanager
def _reproducible(device: torch.device, exact: bool) -> Iterator[None]:
    """Leave the global generators as the caller had them; on an accelerator, if ``exact``, ask for kernels that repeat bit for bit."""
    of_cpu = torch.get_rng_state()
    accelerator = None if device.type == "cpu" else torch.get_device_module(device)
    where = (device,) if device.type == "cuda" else ()  # MPS has one generator, and its functions take no device
    of_accelerator = accelerator.get_rng_state(*where) if accelerator else None
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if accelerator and exact and not before[0]:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.set_rng_state(of_cpu)
        if accelerator:
            accelerator.set_rng_state(of_accelerator, *where)
