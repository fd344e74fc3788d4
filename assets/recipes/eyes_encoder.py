"""The image encoder of lesson 11: drawn things and their names, seen by a ViT without a class token, as SmolVLM's is.

``python assets/recipes/eyes_encoder.py`` does the runs that are not among its results yet; with beginnings of names, only
those. ``python assets/recipes/eyes_encoder.py --ship FOLDER`` trains what ships, and writes ``assets/checkpoints/eyes_encoder``. The
training is saved in FOLDER on the way, and goes on from there if it was stopped.

There are 56 names, and each picture has one of them. So the text encoder of lesson 03 is a table here, one vector for each name, and all
names are compared with each picture: a linear layer on the mean of the patches, and cross-entropy. With CLIP's own text encoder nothing was
learned in the first 80 steps: before training, the names' embeddings are nearly equal (mean cosine 0.96).

Three things are to make a vision transformer affordable here; ``RUNS`` has a short run without each. The pictures are easy at
first, and grow harder (:func:`eased`). Each head looks at one neighbour of its patch at first (:func:`look_at_neighbours`), so that the
network begins as a convolutional one. And it has a teacher (:class:`Teacher`): a small convolutional network, which learns the names from
far fewer pictures, and then tells the transformer what it sees at each place, at three depths, not only the name. The teacher learns from
the same pictures and names, and does not ship.

The hands ``pen`` and ``paper`` draw nothing that is trained on. What the augmentation is made of was thought out beforehand; what it does
is measured with their pictures of the split for validation.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minimllm import (
    CHECKPOINTS,
    THINGS,
    History,
    Things,
    TrainingConfig,
    ViT,
    ViTConfig,
    classification_loss,
    generator_for,
    normalise,
    render_things,
    run_missing,
    save,
    things,
    train,
    wilson_interval,
)

SEED = 0
BATCH = 64
TEACHER_WEIGHT = 2.0  # of each of the three depths
AT_ONCE = 8  # batches drawn together: a picture then costs less than half
EASY, GROWING = 0.05, 0.5  # the share of the steps in which the pictures are the easiest, and that in which they grow harder
WIDTHS, PLACES = (64, 128, 192), (16, 8, 4)  # of the teacher's three maps, each of as many rows as columns
TOLD_AFTER = 2, 4, 6  # blocks of the encoder, for each of these maps
SHARP, APART = 0.7, (1, 1, 2, 1, 2, 1)  # how firmly a head looks at its neighbour at first; how many patches away that is, by block
TEACHING = TrainingConfig(400, BATCH, 4e-3, muon_learning_rate=None, seed=SEED, warmup=0.05, checkpoint_every=200)
TRAINING = TrainingConfig(600, BATCH, seed=SEED, warmup=0.05, checkpoint_every=200)
SHIPPED_STEPS = 3000, 3000  # of the teacher, of the encoder
TEST_SEED, SHIPPED_TEST_SEED = 480867, 817370  # drawn when everything else here was fixed
MEAN = STD = (0.5,) * 3  # as SmolVLM's processor has it

Pictures = Float[Tensor, "batch 3 height width"]
Batch = tuple[Tensor, ...]


def make_model(seed: int = SEED, neighbours: bool = True) -> ViT:
    """64 patches, 128 wide, 6 deep; but for its size, and for the head that reads the mean of the patches, as SmolVLM's."""
    smolvlm = dict(activation="gelu_pytorch_tanh", norm_eps=1e-6, class_token=False)
    model = ViT(ViTConfig(image_size=64, patch_size=8, dim=128, layers=6, heads=8, mlp_dim=512, classes=len(THINGS), **smolvlm), seed)
    return look_at_neighbours(model, seed) if neighbours else model


@torch.no_grad()
def look_at_neighbours(model: ViT, seed: int = SEED) -> ViT:
    """Start each head of each block at one of the eight neighbours of its patch.

    The positions become cosines and sines of row and column, in a few directions of the width that the patches leave free. A shift by one
    patch turns each such pair by a fixed angle: so the query, turned by it, meets the key of the neighbour (as rotary positions do; that
    attention can be a convolution is shown by Cordonnier et al. 2020). All of it is trained from there.
    """
    grid, dim, heads = model.config.grid[0], model.config.dim, model.config.heads
    width = dim // heads
    angles = torch.arange(1, width // 4 + 1) * torch.pi / grid  # of one patch: cosine and sine of each, for rows and for columns
    turns = torch.arange(grid)[:, None] * angles
    along = torch.stack([turns.cos(), turns.sin()], dim=2).flatten(1)
    table = torch.cat([along[:, None].expand(grid, grid, -1), along[None].expand(grid, grid, -1)], dim=2).flatten(0, 1)
    directions = torch.linalg.qr(torch.randn(dim, dim, generator=generator_for(seed, "directions")))[0][:, :width]
    model.positions.table.copy_((table @ directions.T * SHARP * heads**0.5).view_as(model.positions.table))

    patches = model.patches.projection.weight.view(dim, -1)
    patches -= directions @ (directions.T @ patches)
    around = [(0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]
    for block, apart in zip(model.blocks, APART, strict=True):
        attention = block.attention
        for head in range(heads):
            turned = torch.zeros(width, width)
            for number, angle in enumerate(torch.outer(torch.tensor(around[head % 8]) * apart, angles).flatten().tolist()):
                cosine, sine = torch.tensor(angle).cos(), torch.tensor(angle).sin()
                pair = slice(2 * number, 2 * number + 2)
                turned[pair, pair] = torch.stack([cosine, -sine, sine, cosine]).view(2, 2)
            rows = slice(head * width, (head + 1) * width)
            attention.query.weight[rows] = SHARP * turned @ directions.T
            attention.key.weight[rows] = SHARP * directions.T
        attention.query.bias.zero_()
        attention.key.bias.zero_()
        attention.value.weight -= attention.value.weight @ directions @ directions.T
    return model


class Block(nn.Module):
    """Two convolutions beside a shortcut, which halve the map."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, after, 3, step, 1, bias=False) for width, step in ((before, 2), (after, 1)))
        self.shortcut = nn.Conv2d(before, after, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.shortcut(F.avg_pool2d(x, 2)) + self.norms[1](self.second(inside)))


class Teacher(nn.Module):
    """A small residual network (He et al. 2015) of three maps, and the names from the mean of the last."""

    def __init__(self, seed: int = SEED):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(3, 32, 5, 2, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU())
            self.blocks = nn.ModuleList(Block(before, after) for before, after in zip((32, *WIDTHS), WIDTHS, strict=False))
            self.head = nn.Linear(WIDTHS[-1], len(THINGS))

    def maps(self, images: Pictures) -> list[Float[Tensor, "batch width rows columns"]]:
        """What is seen at 16 x 16, 8 x 8 and 4 x 4 places."""
        found = [self.stem(images.contiguous(memory_format=torch.channels_last))]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found[1:]

    def forward(self, images: Pictures) -> Float[Tensor, "batch names"]:
        return self.head(self.maps(images)[-1].mean(dim=(2, 3)))


# ---- what the pictures go through ---------------------------------------------------------------------------------------


def augmented(images: Pictures, generator: torch.Generator) -> Pictures:
    """Pictures in other light and colours, blurred or sharpened, noisy, partly covered, or inverted; each of it happens to some of them."""
    count, _, height, width = images.shape

    def amounts(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    def some(share: float) -> Tensor:
        return amounts(1, 1, 1) < share

    grey = images.mean(dim=1, keepdim=True).expand_as(images)
    images = torch.where(some(0.12), grey, images)
    order = amounts(3).argsort(dim=1)[:, :, None, None].expand_as(images)
    images = torch.where(some(0.12), images.gather(1, order), images)
    images = torch.where(some(0.08), 1 - images, images)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    slope = 0.2 * (amounts(1, 1, 1) - 0.5) + 0.3 * (amounts(1, 1, 1) - 0.5) * x + 0.3 * (amounts(1, 1, 1) - 0.5) * y
    images = images * (1 + 0.4 * (amounts(3, 1, 1) - 0.5)) + slope

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = images.lerp(blurred, torch.where(some(0.4), 1.4 * amounts(1, 1, 1) - 0.4, 0))  # below 0 it sharpens
    noise = torch.rand(images.shape, generator=generator) - 0.5
    images = images + 0.3 * noise * torch.where(some(0.4), amounts(1, 1, 1), 0)
    centre, half = amounts(2) * 2 - 1, 0.1 + 0.25 * amounts(2)
    inside = ((x - centre[:, :1, None]).abs() < half[:, :1, None]) & ((y - centre[:, 1:, None]).abs() < half[:, 1:, None])
    images = torch.where(inside[:, None] & some(0.4), amounts(3, 1, 1), images)
    return images.clamp(0, 1)


def eased(shown: Things, hard: float, generator: torch.Generator) -> tuple[Things, Tensor]:
    """The same things, drawn as they are more easily told apart; ``hard`` is 0 at first and 1 at the end, when nothing is changed.

    At 0 each fills the picture, upright, on white, in colour; from there sizes and turns grow towards their own, and grounds, styles and
    the augmentation come to more and more of the pictures: also returns which pictures are still spared these.
    """
    spared = torch.rand(len(shown), generator=generator) >= hard
    coloured = torch.where(spared & (shown.style > 1), 1, shown.style)
    ground = torch.where(spared, 0, shown.ground)
    size, turn = 1 - (1 - shown.size) * hard, shown.turn * hard
    return dataclasses.replace(shown, size=size, turn=turn, ground=ground, style=coloured), spared


def make_batches(config: TrainingConfig, augment: bool = True, ease: bool = True) -> Callable[[int], Batch]:
    """Normalised pictures, and the numbers of their names."""
    block: dict[int, Batch] = {}

    def make_batch(step: int) -> Batch:
        number, position = divmod(step, AT_ONCE)
        if number not in block:
            block.clear()
            count, generator = AT_ONCE * config.batch_size, generator_for(config.seed, "pictures", number)
            hard = min(1, max(0, (number * AT_ONCE / config.steps - EASY) / GROWING)) if ease else 1
            shown, spared = eased(things(count, config.seed, "train", start=number * count), hard, generator)
            images = render_things(shown)
            if augment:
                images = torch.where(spared[:, None, None, None], images, augmented(images, generator))
            block[number] = normalise(images, MEAN, STD), shown.thing
        rows = slice(position * config.batch_size, (position + 1) * config.batch_size)
        images, thing = block[number]
        return images[rows], thing[rows]

    return make_batch


def train_teacher(
    seed: int = SEED, steps: int = TEACHING.steps, progress: bool = False, checkpoints: Path | None = None, **how: bool
) -> tuple[Teacher, History]:
    """A trained teacher; ``how`` as of :func:`make_batches`."""
    config, model = dataclasses.replace(TEACHING, seed=seed, steps=steps), Teacher(seed).to(memory_format=torch.channels_last)
    batches = make_batches(config, **how)
    return model, train(model, batches, classification_loss, config, checkpoints=checkpoints, progress=progress)


@torch.no_grad()
def taught_by(teacher: Teacher, make_batch: Callable[[int], Batch]) -> Callable[[int], Batch]:
    """Batches with the teacher's maps, each of their numbers with mean 0 and deviation 1 over the pictures of steps 0 to 7."""
    teacher.eval()
    some = teacher.maps(torch.cat([make_batch(step)[0] for step in range(AT_ONCE)]))
    scales = [(of.mean(dim=(0, 2, 3), keepdim=True), of.std(dim=(0, 2, 3), keepdim=True) + 0.1) for of in some]

    @torch.no_grad()
    def taught(step: int) -> Batch:
        images, thing = make_batch(step)
        return images, thing, *((of - mean) / deviation for of, (mean, deviation) in zip(teacher.maps(images), scales, strict=True))

    return taught


def tell(patches: Float[Tensor, "batch patches dim"], told: nn.Linear, seen: Tensor) -> Tensor:
    """How far what the patches tell is from a map of the teacher (mean squared error): each tells of its own places, or four of one."""
    grid, places = int(patches.shape[1] ** 0.5), seen.shape[-1]
    here = patches.transpose(1, 2).unflatten(2, (grid, grid))
    if places < grid:
        here = F.avg_pool2d(here, grid // places)
    said = told(here.movedim(1, 3))
    return F.mse_loss(said, F.pixel_unshuffle(seen, max(1, places // grid)).movedim(1, 3))


def taught_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of the names, and at three depths how far the patches are from the teacher's maps (Romero et al. 2015, *FitNets*)."""
    images, thing, *maps = batch
    x, distances = model.positions(model.patches(images), grid=model.config.grid), []
    for number, block in enumerate(model.blocks, 1):
        x = block(x)
        if number == len(model.blocks):
            x = model.norm(x)
        if number in TOLD_AFTER:
            which = TOLD_AFTER.index(number)
            distances.append(tell(x, model.told[which], maps[which]))
    logits = model.head(x.mean(dim=1))
    metrics = {f"distance {number}": distance.detach() for number, distance in enumerate(distances, 1)}
    loss = F.cross_entropy(logits, thing) + TEACHER_WEIGHT * sum(distances)
    return loss, {"accuracy": (logits.argmax(dim=1) == thing).float().mean(), **metrics}


def train_encoder(
    seed: int = SEED,
    steps: int = TRAINING.steps,
    teacher: Teacher | None = None,
    progress: bool = False,
    checkpoints: Path | None = None,
    neighbours: bool = True,
    **how: bool,
) -> tuple[ViT, History]:
    """A trained encoder; without a teacher from the names alone; ``how`` as of :func:`make_batches`."""
    config, model = dataclasses.replace(TRAINING, seed=seed, steps=steps), make_model(seed, neighbours)
    batches, loss = make_batches(config, **how), classification_loss
    if teacher is not None:
        batches, loss = taught_by(teacher, batches), taught_loss  # it tells in widths of its own, by layers that are dropped in the end
        grid, dim = model.config.grid[0], model.config.dim
        model.told = nn.ModuleList(
            nn.Linear(dim, width * max(1, places // grid) ** 2) for width, places in zip(WIDTHS, PLACES, strict=True)
        )
        for number, told in enumerate(model.told):
            nn.init.normal_(told.weight, std=0.02, generator=generator_for(seed, "told", number))
            nn.init.zeros_(told.bias)
    history = train(model, batches, loss, config, checkpoints=checkpoints, progress=progress)
    if teacher is not None:
        del model.told
    return centred(model, seed), history


@torch.no_grad()
def centred(model: ViT, seed: int = SEED) -> ViT:
    """The same names, from patches with mean 0 over pictures: what all pictures share tells nothing, and hides what they do not share."""
    mean = model.encode(normalise(render_things(things(512, seed, "train")), MEAN, STD)).mean(dim=(0, 1))
    model.norm.bias -= mean
    model.head.bias += model.head.weight @ mean
    return model


# ---- measuring ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def naming(model: nn.Module, split: str, hand: str = "first", n: int = 1500, seed: int = TEST_SEED) -> dict[str, Any]:
    """The share of pictures whose highest logit is that of their name, with its 95% interval."""
    shown = things(n, seed, split, hand)
    guesses = torch.cat([model(part).argmax(dim=1) for part in normalise(render_things(shown), MEAN, STD).split(250)])
    count = int((guesses == shown.thing).sum())
    return {"accuracy": round(count / n, 4), "n": n, "interval": [round(end, 4) for end in wilson_interval(count, n)]}


def measure(model: nn.Module, seed: int = TEST_SEED, test: str = "test") -> dict[str, Any]:
    """All that the card tells."""
    return {
        "the hand of the training": naming(model, test, seed=seed),
        "the hand of the training, held-out colours": naming(model, "held_out", seed=seed),
        "pen": naming(model, test, "pen", seed=seed),
        "paper": naming(model, test, "paper", seed=seed),
    }


def run(seed: int = SEED, test: str = "test", teacher: bool = True, neighbours: bool = True, **how: bool) -> dict[str, Any]:
    """One training of the short budget, measured; ``how`` as of :func:`make_batches`."""
    taught, before = train_teacher(seed, **how) if teacher else (None, None)
    model, history = train_encoder(seed, teacher=taught, neighbours=neighbours, **how)
    sure = {"steps": TRAINING.steps, "seconds": round(history.seconds, 1), "threads": torch.get_num_threads(), "test_seed": TEST_SEED}
    if taught is not None:
        sure |= {"teacher": measure(taught, test=test), "teacher_steps": TEACHING.steps, "teacher_seconds": round(before.seconds, 1)}
    return {**measure(model, test=test), **sure}


RUNS = {f"short, seed {seed}": lambda seed=seed: run(seed) for seed in range(3)}
RUNS |= {
    "short on validation, seed 0": lambda: run(0, "validation"),
    "short on validation, no teacher, seed 0": lambda: run(0, "validation", teacher=False),
    "short on validation, heads look anywhere, seed 0": lambda: run(0, "validation", neighbours=False),
    "short on validation, neither, seed 0": lambda: run(0, "validation", teacher=False, neighbours=False),
    "short on validation, no augmentation, seed 0": lambda: run(0, "validation", augment=False),
    "short on validation, never eased, seed 0": lambda: run(0, "validation", ease=False),
}


def ship(folder: Path) -> None:
    """Trains what ships, from one seed, and writes it."""
    teacher, before = train_teacher(steps=SHIPPED_STEPS[0], checkpoints=folder / "teacher")
    model, history = train_encoder(steps=SHIPPED_STEPS[1], teacher=teacher, checkpoints=folder / "encoder")
    card = {
        "what": "which of 56 everyday things is drawn in a picture of 64 x 64 pixels, brought from [0, 1] to [-1, 1]",
        "recipe": "assets/recipes/eyes_encoder.py",
        "seed": SEED,
        "seeds_trained": 1,
        "steps": SHIPPED_STEPS[1],
        "batch_size": BATCH,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "test_seed": SHIPPED_TEST_SEED,
        "accuracy": measure(model, SHIPPED_TEST_SEED),
        "teacher": {"steps": SHIPPED_STEPS[0], "seconds": round(before.seconds, 1), "accuracy": measure(teacher, SHIPPED_TEST_SEED)},
    }
    save(CHECKPOINTS / "eyes_encoder", model, None, card)
    print(card)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ship"]:
        ship(Path(sys.argv[2]))
    else:
        run_missing("eyes_encoder", RUNS, sys.argv[1:])
