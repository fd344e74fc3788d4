"""Times several ways of doing the same thing in one process, in turn, so that a drifting machine is fair to all."""

import statistics
import time
from collections.abc import Callable

import torch


def paired(
    contestants: dict[str, Callable[[], object]], rounds: int = 15, warm_up: int = 2, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every contestant in every round; the order turns by one place from round to round.

    ``clock=time.process_time`` counts the processor's time in this process alone: for work of many seconds beside other programs.
    """
    names, seconds = list(contestants), {name: [] for name in contestants}
    for turn in range(warm_up + rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            contestants[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                seconds[name].append(clock() - start)
    return seconds


def matmul_rate(size: int = 1024, rounds: int = 20, clock: Callable[[], float] = time.perf_counter) -> float:
    """Floating-point operations a second of one large float32 matrix product: what this machine can do."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = paired({"matmul": lambda: a @ b}, rounds, clock=clock)["matmul"]
    return 2 * size**3 / statistics.median(seconds)


def report(title: str, seconds: dict[str, list[float]], ours: str, operations: float | None = None, rate: float | None = None) -> None:
    """Print medians, each round's ratio of ours to the others (median, and the middle half), and the share of the matmul rate."""
    print(f"\n{title}")
    for name, times in seconds.items():
        line = f"  {name:<28}{statistics.median(times) * 1e3:>10.1f} ms"
        if operations and rate:
            line += f"   {operations / statistics.median(times) / rate:>4.0%} of the matmul rate"
        if name != ours:
            low, middle, high = statistics.quantiles([a / b for a, b in zip(seconds[ours], times, strict=True)], n=4)
            line += f"   {ours} / {name}: {middle:.3f} ({low:.3f} to {high:.3f})"
        print(line)
