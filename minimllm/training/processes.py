"""Several processes that train one model, started by ``torchrun``: what each of them sends to the others.

Each holds the whole model and computes the gradient of its own rows; the sum over the processes is the whole batch's, and all make the same
step. That is what ``DistributedDataParallel`` does. It wants to be called in the model's place, and our losses call parts of a model, so
that here the sums are asked for by name.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

BUCKET = 25_000_000  # bytes of gradients that are sent at once: many small messages cost more than a few large ones


def count() -> int:
    """How many processes train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0; the first writes, draws and reports."""
    return dist.get_rank() if count() > 1 else 0


def join(device: torch.device) -> torch.device:
    """Meet the processes that torchrun started with this one, if it did; the device of this one among several of its kind."""
    if "TORCHELASTIC_RUN_ID" in os.environ and not dist.is_initialized():
        if sys.platform == "linux" and os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on one machine: no name of it need be known
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        store, number, everyone = next(rendezvous("env://"))
        # Its own part of the store for each life: restarted workers would read where those before them listened.
        life = dist.PrefixStore(f"life {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=life, rank=number, world_size=everyone)
        atexit.register(_leave)
    if device.type == "cuda" and device.index is None and count() > 1:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _end_with(parent: int) -> None:
    """End this process soon after torchrun is gone: its workers have sessions of their own, and nobody else would."""
    while os.getppid() == parent:
        time.sleep(0.5)
    print("torchrun was ended, so this worker ends too", file=sys.stderr, flush=True)
    os._exit(1)


def copy_first(model: nn.Module) -> None:
    """Give all processes the weights of the first, which may have been drawn at random."""
    if count() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor.detach(), src=0)


def sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Put the sum over all processes in the place of each gradient; where no process has one, there is none afterwards either."""
    if count() == 1 or not parameters:
        return
    used = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8, device=parameters[0].device)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)
    gradients = []
    for parameter, anywhere in zip(parameters, used.tolist(), strict=True):
        if anywhere:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.append(parameter.grad)
    bucket: list[Tensor] = []
    for number, gradient in enumerate(gradients):
        bucket.append(gradient)
        following = gradients[number + 1] if number + 1 < len(gradients) else None
        if following is None or following.dtype != gradient.dtype or sum(each.nbytes for each in bucket) >= BUCKET:
            flat = torch.cat([each.flatten() for each in bucket])
            dist.all_reduce(flat)
            for each, values in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
                each.copy_(values.view_as(each))
            bucket = []


def add_up(loss: float, metrics: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """The sums over all processes; a metric that some of them lack is 0 there."""
    if count() == 1:
        return loss, dict(metrics)
    found = collect((loss, dict(metrics)))
    names = dict.fromkeys(name for _, each in found for name in each)
    return sum(each for each, _ in found), {name: sum(each.get(name, 0.0) for _, each in found) for name in names}


def collect(value: Any) -> list[Any]:
    """What each process holds, in their order."""
    if count() == 1:
        return [value]
    values = [None] * count()
    dist.all_gather_object(values, value)
    return values


def gather_rows(local: Tensor, sizes: list[int]) -> Tensor:
    """The rows of all processes, one after the other, where process ``i`` holds ``sizes[i]`` of them; no gradient flows through."""
    if len(sizes) == 1:
        return local.detach()
    padded = local.new_zeros(max(sizes), *local.shape[1:])
    padded[: len(local)] = local.detach()
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([rows[:size] for rows, size in zip(gathered, sizes, strict=True)])
