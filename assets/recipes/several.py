"""The script that lesson 13 starts with two processes: ``torchrun --nproc-per-node=2 assets/recipes/several.py FOLDER PART ...``.

Alone it runs as well, with one process. Each of its parts prints what it finds, and the lesson calls the same functions itself.
"""

import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

from minimllm import (
    CLIP,
    CLIPConfig,
    Scenes,
    TrainingConfig,
    ViT,
    ViTConfig,
    captions,
    changed,
    classification_loss,
    clip_loss,
    clip_vit,
    contrastive_loss,
    gather_embeddings,
    generator_for,
    join,
    load,
    load_recipe,
    normalise,
    render,
    scenes,
    train,
)

COURSE = load_recipe("clip")
TOKENIZER = COURSE.make_tokenizer()
PAIRS = 23  # which two processes cannot share evenly


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def say(line: str) -> None:
    """A line in one piece, though others write at the same time."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# ---- one training --------------------------------------------------------------------------------------------------------


def make_batch(step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures, ids, mask, and which captions are true of which pictures: a function of the step alone."""
    return told(scenes(PAIRS, 0, "train", objects=(1, 3), start=step * PAIRS))


def told(world: Scenes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    texts = captions(world, "full")
    same = torch.tensor([[one == other for other in texts] for one in texts])
    return normalise(render(world), (0.5,) * 3, (0.5,) * 3).double(), *TOKENIZER(texts), same


def small_clip() -> CLIP:
    """The CLIP of the course with narrow encoders, in double precision."""
    config = COURSE.make_model().config
    text = {"vocab_size": TOKENIZER.vocab_size, "eos_token_id": TOKENIZER.eos_token_id, "dim": 32, "layers": 2, "heads": 2}
    image = clip_vit(image_size=32, patch_size=8, dim=32, layers=2, heads=2, mlp_dim=64)
    return CLIP(CLIPConfig(image, type(config.text)(**text, mlp_dim=64, context_length=config.text.context_length), embed_dim=32)).double()


def training(**options) -> tuple[CLIP, list[float]]:
    """The script's training, whose lines know nothing of processes: the model, and the loss of every step."""
    model = small_clip()
    history = train(model, make_batch, clip_loss, TrainingConfig(steps=6, batch_size=PAIRS, **options), progress=False)
    return model, history.losses


def equal(folder: Path) -> None:
    """Train, and leave the losses in the folder."""
    _, losses = training()
    if rank() == 0:
        (folder / f"losses-{count()}.json").write_text(json.dumps(losses))
    say(f"process {rank()} of {count()}: {len(losses)} steps, the last loss is {losses[-1]:.9f}")


# ---- a loss that compares rows -------------------------------------------------------------------------------------------


def mean_gradient(model: nn.Module, loss: Tensor) -> Tensor:
    """The gradient of all weights as one vector: its mean over the processes, as DistributedDataParallel takes it."""
    parts = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    flat = torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(model.parameters(), parts, strict=True)])
    if count() > 1:
        dist.all_reduce(flat)
    return flat / count()


def halves(folder: Path) -> None:
    """The loss of this process's own pairs and of everyone's, by the shipped CLIP, and how far their gradients are from the whole batch's.

    The second half of the batch are look-alikes of the first, each with one shape changed.
    """
    world = scenes(32, 0, "validation", objects=2)
    model, (images, ids, mask, same) = load("clip")[0].double(), told(join([world, changed(world, "shape", seed=0)]))
    rows = slice(64 * rank() // count(), 64 * (rank() + 1) // count())
    whole = contrastive_loss(model(images, ids, mask), same)
    expected = mean_gradient(model, whole)

    image, text = model.encode_image(images[rows]), model.encode_text(ids[rows], mask[rows])
    local = contrastive_loss(model.compare(image, text), same[rows, rows])
    everyone = gather_embeddings(image), gather_embeddings(text)
    gathered = contrastive_loss(model.compare(*everyone), same)
    detached = [
        torch.cat([each[: rows.start].detach(), own, each[rows.stop :].detach()]) for each, own in zip(everyone, (image, text), strict=True)
    ]
    cut_off = contrastive_loss(model.compare(*detached), same)
    say(f"process {rank()} of {count()} has pairs {rows.start} to {rows.stop - 1}: loss {local:.4f} of its own, {gathered:.4f} of all")
    ways = {"own pairs alone": local, "gathered, others cut off": cut_off, "gathered": gathered}
    found = {name: mean_gradient(model, loss) for name, loss in ways.items()}
    own = local.detach().clone()
    if count() > 1:
        dist.all_reduce(own)
    if rank() == 0:
        far = {name: float((each - expected).norm() / expected.norm()) for name, each in found.items()}
        (folder / "halves.json").write_text(json.dumps({"losses": [own.item() / count(), gathered.item(), whole.item()], "far": far}))


# ---- what is sent --------------------------------------------------------------------------------------------------------

# By what each kind of message is sent; newer versions of torch have the second name.
KINDS = {
    "all_reduce": ("all_reduce",),
    "all_gather": ("all_gather_into_tensor", "all_gather_single"),
    "reduce_scatter": ("reduce_scatter_tensor", "reduce_scatter_single"),
}


@contextlib.contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Within it, the bytes of all messages of more than a thousand numbers, by their kind."""
    messages = dict.fromkeys(KINDS, 0)
    originals = {name: (kind, getattr(dist, name)) for kind, names in KINDS.items() for name in names if hasattr(dist, name)}

    def counted(kind: str, original: Callable) -> Callable:
        def call(*arguments, **named):
            message = max((each for each in (*arguments, *named.values()) if isinstance(each, Tensor)), key=lambda tensor: tensor.nbytes)
            messages[kind] += message.nbytes if message.numel() > 1000 else 0
            return original(*arguments, **named)

        return call

    try:
        for name, (kind, original) in originals.items():
            setattr(dist, name, counted(kind, original))
        yield messages
    finally:
        for name, (_, original) in originals.items():
            setattr(dist, name, original)


def vit(**sizes) -> ViT:
    """A ViT in which most weights are in the blocks."""
    return ViT(ViTConfig.tiny(**{"dim": 128, "layers": 6, "heads": 4, "mlp_dim": 512} | sizes))


def sent(folder: Path) -> None:
    """The messages of one step: with whole models, and with blocks spread over the processes."""
    found = {}
    for name, options in {"whole": {}, "spread": {"shard": True}}.items():
        model = vit()
        batch = torch.randn(8, 3, 32, 32, generator=generator_for(0, "pictures")), torch.arange(8)
        with counting() as messages:
            settings = TrainingConfig(steps=1, muon_learning_rate=None, **options)
            train(model, lambda step: batch, classification_loss, settings, progress=False)  # noqa: B023 (called at once)
        found[name] = messages
    if rank() == 0:
        (folder / "sent.json").write_text(json.dumps(found))


# ---- memory --------------------------------------------------------------------------------------------------------------

PICTURES, WAYS = (
    256,
    {
        "plain": {},
        "parts of 64": {"micro_batch_size": 64},
        "recomputed": {"recompute": True},
        "both": {"micro_batch_size": 64, "recompute": True},
    },
)


def memory(folder: Path) -> None:
    """How far the memory of this process rises in a training step of ``PICTURES`` pictures."""
    found = {}
    batch = torch.randn(PICTURES, 3, 32, 32, generator=generator_for(0, "pictures")), torch.arange(PICTURES) % 8
    for name, options in {"": {}, **WAYS}.items():  # the first one warms up
        model = vit(patch_size=4)
        with watching() as risen:
            settings = TrainingConfig(steps=1, muon_learning_rate=None, **options)
            train(model, lambda step: batch, classification_loss, settings, progress=False)  # noqa: B023 (called at once)
        found[name] = risen[0]
        del model
        gc.collect()
    (folder / "memory.json").write_text(json.dumps(found))


@contextlib.contextmanager
def watching() -> Iterator[list[int]]:
    """The bytes by which this process grows at most, looked at every two milliseconds."""
    process, risen, ends = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not ends.wait(0.002):
            risen[0] = max(risen[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield risen
    finally:
        ends.set()
        watcher.join()


# ---- starting ------------------------------------------------------------------------------------------------------------


def start(processes: int, *command: str | Path) -> bool:
    """Run ``python COMMAND`` as one process, or by torchrun as several, and print what they say; False where torchrun cannot run.

    Raises:
        RuntimeError: with what was said, if it fails.
    """
    if processes > 1 and (sys.platform == "win32" or not dist.is_available()):
        print(f"skipped: torchrun does not run here ({sys.platform}); the lesson goes on with what one process finds")
        return False
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--rdzv-backend=c10d"]
    torchrun += ["--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    here = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
    # A thread each; and large tensors are given back to the system as soon as they are freed, so that memory can be watched.
    settings = {"PYTHONPATH": here, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "TQDM_DISABLE": "1"}
    arguments = [sys.executable, *(torchrun if processes > 1 else []), *map(str, command)]
    run = subprocess.run(arguments, env=os.environ | settings, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stdout + run.stderr)
    lines = re.sub(re.escape(tempfile.gettempdir()) + r"[/\\]\w+[/\\]", "", run.stdout).strip().splitlines()
    print(*sorted(lines, key=lambda line: line if line.startswith("process ") else ""), sep="\n")  # they speak at the same time
    return True


PARTS = {"equal": equal, "halves": halves, "sent": sent, "memory": memory}

if __name__ == "__main__":
    for part in sys.argv[2:]:
        PARTS[part](Path(sys.argv[1]))
