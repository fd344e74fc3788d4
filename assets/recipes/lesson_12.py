"""What tiles and what the thumbnail are for, in a small SmolVLM: the runs that lesson 12 reads from ``assets/results/lesson_12.json``.

``python assets/recipes/lesson_12.py`` does all runs that the file lacks; with beginnings of names, only those.

A sheet of 192 x 192 pixels holds nine of lesson 11's things, one in each of 3 x 3 squares, or a single one that fills it. The course's
``eyes_encoder``, which takes 64 x 64 pixels and stays frozen, sees it as SmolVLM would: nine tiles, and the whole shrunk to a tenth. Pixel
shuffle makes four tokens of each, a linear layer brings them to the width of a small decoder, and in the text each has its marker before
it. The question is a marker as well: what is there? The answer is one of 56 names.

Trained are the linear layer and the decoder, once for each of ``VIEWS``, on the same sheets and questions in the same order. The encoder's
features of all sheets are computed once.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from minimllm import (
    THINGS,
    History,
    LanguageModelConfig,
    Packed,
    TrainingConfig,
    UnifiedConfig,
    UnifiedMLLM,
    generator_for,
    load,
    normalise,
    packed_loss,
    render_things,
    run_missing,
    split_pictures,
    things,
    train,
    wilson_interval,
)

GRID, TILE = 3, 64
SQUARES = GRID * GRID
WHOLE = SQUARES  # the place of the shrunk whole among a sheet's sub-pictures
MARKERS = [f"<row_{row}_col_{column}>" for row in range(1, GRID + 1) for column in range(1, GRID + 1)] + ["<global-img>"]
VOCABULARY = ["<pad>", "<image>", *MARKERS, *THINGS]
IDS = {word: number for number, word in enumerate(VOCABULARY)}
VIEWS = {
    "thumbnail": [WHOLE],
    "tiles": list(range(SQUARES)),
    "tiles and thumbnail": list(range(SQUARES + 1)),
    "blind": [],
}
UNMARKED = "tiles and thumbnail, without markers"
SHEETS, TESTED = 1000, 200  # of each kind, for training and for the test
ASKED = 3  # squares asked about on a sheet of nine, in each row
TRAINING = TrainingConfig(steps=150, batch_size=40, learning_rate=2e-3, muon_learning_rate=0.02, muon_modules=("blocks",), warmup=0.05)
TEST_SEED = 402719  # drawn when everything else here was fixed

# ---- sheets ------------------------------------------------------------------------------------------------------------


def sheets(n: int, seed: int, split: str, start: int = 0) -> tuple[list[Image.Image], Tensor]:
    """``n`` sheets of nine things and ``n`` of a single one, as pictures, and what is there: ``(2 n, 10)``.

    Column ``i`` is the thing of square ``i``, the last that of the whole sheet; -1 where there is no such question. ``start``: how many of
    each kind come before these.
    """
    drawn = things((SQUARES + 1) * n, seed, split, start=(SQUARES + 1) * start)
    small, large = drawn[: SQUARES * n], drawn[SQUARES * n :]
    truth = torch.full((2 * n, SQUARES + 1), -1)
    truth[:n, :SQUARES], truth[n:, WHOLE] = small.thing.view(n, SQUARES), large.thing
    of_nine = rearrange(render_things(small, TILE), "(n r c) d h w -> n (r h) (c w) d", r=GRID, c=GRID)
    of_one = rearrange(render_things(large, GRID * TILE), "n d h w -> n h w d")
    pixels = (torch.cat([of_nine, of_one]) * 255).round().byte().numpy()
    return [Image.fromarray(each) for each in pixels], truth


def make_model(seed: int = 0) -> UnifiedMLLM:
    """In SmolVLM's form: frozen encoder, pixel shuffle, a linear layer, a decoder of two layers."""
    encoder, _ = load("eyes_encoder")
    language = LanguageModelConfig(len(VOCABULARY), 128, 2, 4, 256, context_length=128, normalise_heads=1e-5, rotary_base=500_000.0)
    form = dict(feature_layer=-1, final_norm=True, merge=4, projector="linear", projector_bias=False)
    model = UnifiedMLLM(UnifiedConfig(encoder.config, language, IDS["<image>"], **form), seed).copy_encoder(encoder)
    model.vision.requires_grad_(False)
    return model


@functools.cache
@torch.no_grad()
def seen(n: int, seed: int, split: str) -> tuple[Tensor, Tensor]:
    """As :func:`sheets`, the pictures as the features of their sub-pictures: ``(2 n, 10, tokens, width)`` in bfloat16."""
    model, features, truths = make_model().eval(), [], []
    for start in range(0, n, 50):
        pictures, truth = sheets(min(50, n - start), seed, split, start)
        images = torch.cat([picture.images for picture in split_pictures(pictures, TILE, GRID * TILE)])
        features.append(model.features(images).bfloat16().view(len(pictures), SQUARES + 1, model.image_tokens, -1))
        truths.append(truth)
    features, truth = torch.cat(features), torch.cat(truths)
    order = (truth[:, WHOLE] >= 0).long().argsort(stable=True)  # the sheets of nine first
    return features[order], truth[order]


# ---- training ----------------------------------------------------------------------------------------------------------


Row = tuple[list[int], list[int], list[int]]


def make_row(view: list[int], image_tokens: int, asked: list[int], answers: list[int], marked: bool = True) -> Row:
    """Ids, segments and scores of a row: the sub-pictures, each behind its marker, then questions of one marker and one name each.

    Without ``marked`` each sub-picture has the same marker.
    """
    ids, markers = [], [IDS[marker] for marker in MARKERS]
    for place in view:
        ids += [markers[place if marked else WHOLE], *[IDS["<image>"]] * image_tokens]
    prefix = len(ids)
    for place, thing in zip(asked, answers, strict=True):
        ids += [markers[place], IDS[THINGS[thing]]]
    segments = [0] * prefix + [number for number in range(1, len(asked) + 1) for _ in range(2)]
    return ids, segments, [0] * prefix + [0, 1] * len(asked)


def packed(rows: list[Row], features: Tensor) -> Packed:
    longest = max(len(ids) for ids, _, _ in rows)
    padded = [
        torch.tensor([part + [fill] * (longest - len(part)) for part in parts])
        for parts, fill in zip(zip(*rows, strict=True), (0, -1, 0), strict=True)
    ]
    pictures = torch.full((len(rows),), features.shape[1])
    return Packed(*padded, features=features.flatten(0, 1).float() if features.shape[1] else None, pictures=pictures)


def make_batches(view: list[int], image_tokens: int, config: TrainingConfig, marked: bool = True) -> Callable[[int], Packed]:
    features, truth = seen(SHEETS, 0, "train")

    def make_batch(step: int) -> Packed:
        generator = generator_for(config.seed, "sheets", step)
        rows, chosen = [], torch.randint(len(truth), (config.batch_size,), generator=generator)
        for sheet in chosen.tolist():
            asked = [WHOLE]
            if truth[sheet, WHOLE] < 0:
                asked = torch.randperm(SQUARES, generator=generator)[:ASKED].tolist()
            rows.append(make_row(view, image_tokens, asked, truth[sheet, asked].tolist(), marked))
        return packed(rows, features[chosen][:, view])

    return make_batch


@torch.no_grad()
def right(model: UnifiedMLLM, view: list[int], features: Tensor, truth: Tensor, marked: bool = True) -> Tensor:
    """``(sheets, 10)``: 1 where the likeliest name is the right one, 0 where not, -1 where nothing is asked."""
    found, names = torch.full_like(truth, -1), slice(IDS[THINGS[0]], None)
    for start in range(0, len(truth), 100):
        part = truth[start : start + 100]
        asked = [(row >= 0).nonzero()[:, 0].tolist() for row in part]
        rows = [make_row(view, model.image_tokens, places, part[i, places].tolist(), marked) for i, places in enumerate(asked)]
        batch = packed(rows, features[start : start + 100][:, view])
        logits = model(batch.ids, segments=batch.segments, features=batch.features)[..., names]
        prefix = len(view) * (1 + model.image_tokens)
        for i, places in enumerate(asked):
            said = logits[i, prefix : prefix + 2 * len(places) : 2].argmax(-1)
            found[start + i, places] = (said == part[i, places]).long()
    return found


def measured(found: Tensor) -> dict[str, Any]:
    asked = found[found >= 0]
    count, n = int(asked.sum()), len(asked)
    return {"accuracy": round(count / n, 4), "n": n, "interval": [round(end, 4) for end in wilson_interval(count, n)]}


def trained(view: str, seed: int = 0, steps: int = TRAINING.steps, marked: bool = True) -> tuple[UnifiedMLLM, History]:
    config = dataclasses.replace(TRAINING, seed=seed, steps=steps)
    model = make_model(seed)
    history = train(model, make_batches(VIEWS[view], model.image_tokens, config, marked), packed_loss, config, progress=False)
    return model, history


def run(view: str, seed: int = 0, steps: int = TRAINING.steps, marked: bool = True) -> dict[str, Any]:
    """One training, measured on sheets of nine and on sheets of one; for a model that sees, also on those of another sheet."""
    model, history = trained(view, seed, steps, marked)
    features, truth = seen(TESTED, TEST_SEED, "test")
    other = torch.cat([kind.roll(1, 0) for kind in features.chunk(2)])
    result = {}
    for name, shown in {"own": features, "another": other}.items() if VIEWS[view] else [("own", features)]:
        nine, one = right(model, VIEWS[view], shown, truth, marked).chunk(2)
        result[name] = {"nine": measured(nine), "one": measured(one)}
    sure = {"image_tokens": len(VIEWS[view]) * model.image_tokens, "steps": steps, "loss": round(sum(history.losses[-20:]) / 20, 3)}
    return result | sure | {"seconds": round(history.seconds, 1), "threads": torch.get_num_threads(), "test_seed": TEST_SEED}


def alone(seed: int = TEST_SEED) -> dict[str, Any]:
    """What the encoder's own head says of single things in pictures of its size: no way through the decoder should be better."""
    shown, (encoder, _) = things(SQUARES * TESTED, seed, "test"), load("eyes_encoder")
    hits = [
        encoder(normalise(render_things(shown[first : first + 100], TILE), (0.5,) * 3, (0.5,) * 3)).argmax(-1)
        == shown.thing[first : first + 100]
        for first in range(0, len(shown), 100)
    ]
    return measured(torch.cat(hits).long())


RUNS = {"the encoder alone": torch.no_grad()(alone)}
RUNS |= {f"{view}, seed {seed}": lambda view=view, seed=seed: run(view, seed) for seed in range(3) for view in VIEWS}
RUNS |= {f"{UNMARKED}, seed 0": lambda: run("tiles and thumbnail", marked=False)}

if __name__ == "__main__":
    run_missing("lesson_12", RUNS, sys.argv[1:])
