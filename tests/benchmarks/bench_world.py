"""The generated world's cost: pictures a second, and what share of a training step a fresh batch takes.

Drawing the scenes counts as well as drawing the pictures. The share is measured inside a training loop, where the step before has thrown
everything out of the caches: batch 192 at 32 pixels and a ViT 96 wide and 3 deep, with AdamW. Targets: 50,000 pictures a second at 32
pixels, 40,000 at 48, 20,000 at 64 and no more time per pixel above; at most 3% of a step.

python tests/benchmarks/bench_world.py
"""

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from minimllm import ViT, ViTConfig, captions, render, scenes
from minimllm.data.asking import sample_questions

TARGETS = {32: 50_000, 48: 40_000, 64: 20_000}


def seconds(function: Callable[[int], object], repeats: int = 15) -> float:
    """Median time of ``function(number)`` after two calls to warm up."""
    times = []
    for number in range(-2, repeats):
        begin = time.perf_counter()
        function(number + 2)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:])


def rates() -> None:
    print(f"pictures a second, scenes of 1 to 4 objects, {torch.get_num_threads()} threads")
    print("  size  batch     scenes+pictures  pictures alone  ns a pixel  target")
    for size, batch in ((32, 192), (32, 1024), (48, 1024), (64, 512), (128, 128), (224, 32), (448, 8)):
        fixed = scenes(batch, 0, "train")
        alone = seconds(lambda _, fixed=fixed, size=size: render(fixed, size))
        both = seconds(lambda number, batch=batch, size=size: render(scenes(batch, 0, "train", start=number * batch), size))
        target = f">= {TARGETS[size]:,}" if size in TARGETS else ""
        print(f"  {size:4}  {batch:5}  {batch / both:18,.0f}  {batch / alone:14,.0f}  {both / batch / size**2 * 1e9:10.1f}  {target}")


def share(objects: int | tuple[int, int], steps: int = 48, batch: int = 192) -> None:
    model = ViT(ViTConfig.tiny(classes=64), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    drawing, stepping = [], []
    for step in range(steps):
        begin = time.perf_counter()
        world = scenes(batch, 0, "train", objects=objects, start=step * batch)
        images, pairs = render(world), world.pair[:, 0]
        middle = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), pairs).backward()
        optimizer.step()
        drawing.append(middle - begin)
        stepping.append(time.perf_counter() - middle)
    cost, step_time = statistics.median(drawing[8:]) * 1e3, statistics.median(stepping[8:]) * 1e3
    print(
        f"  objects {objects!s:7} {cost:.2f} ms a batch, training step {step_time:.1f} ms:"
        f" {100 * cost / (cost + step_time):.1f}% of the whole (target <= 3%)"
    )


def texts() -> None:
    world = scenes(64, 0, "train")
    for name, function in {
        "8 questions each about 64 scenes, as word indices": lambda number: sample_questions(world, 8, seed=number),
        "8 questions each about 64 scenes, as texts": lambda number: sample_questions(world, 8, seed=number).texts(),
        "64 full captions": lambda _: captions(world, "full"),
    }.items():
        print(f"  {name}: {seconds(function) * 1e3:.2f} ms")


if __name__ == "__main__":
    rates()
    print("a training step of ViTConfig.tiny at batch 192")
    for objects in (1, (1, 4)):
        share(objects)
    print("texts")
    texts()
