"""One script, N processes, and batches in parts: losses and weights are those of one process with the whole batch.

The file is its own script: under torchrun it does all the trainings of the table, with one start for all of them.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from light import randomise, torchrun
from torch import nn

from minimllm import (
    CLIP,
    WORDS,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LanguageModel,
    LanguageModelConfig,
    TextConfig,
    Tokenizer,
    TrainingConfig,
    UnifiedConfig,
    UnifiedMLLM,
    ViT,
    ViTConfig,
    captions,
    clamp_temperature,
    classification_loss,
    clip_loss,
    clip_vit,
    contrastive_loss,
    derive_seed,
    generator_for,
    memory_expected,
    pack,
    packed_loss,
    sample_questions,
    scenes,
    siglip_loss,
    train,
)
from minimllm.training.gradients import recomputing

STEPS, SHORT = 20, 5
TOKENIZER = Tokenizer.from_words(WORDS)
IMAGES = clip_vit(image_size=16, patch_size=8, dim=16, layers=2, heads=2, mlp_dim=24)
LANGUAGE = LanguageModelConfig.tiny(TOKENIZER.vocab_size, dim=16, layers=2, heads=4, mlp_dim=24)
ROWS = 7  # which 2, 3 and 4 do not divide


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"steps": STEPS, "batch_size": ROWS, "warmup": 0.2, "checkpoint_every": 4} | changes)


def noise(step: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(0, "noise", step), dtype=torch.float64)


# ---- the trainings ---------------------------------------------------------------------------------------------------


def classification() -> tuple[nn.Module, Callable, Callable]:
    model = ViT(ViTConfig.digits(classes=3, dim=16, layers=2, heads=2, mlp_dim=24))
    return model, lambda step: (noise(step, ROWS, 1, 8, 8), torch.arange(ROWS) % 3), classification_loss


def of_ones_own() -> tuple[nn.Module, Callable, Callable]:
    """A mean over rows, with metrics that are no tensors, and a batch of names and numbers."""
    model, make_batch, _ = classification()

    def loss(model, batch):
        assert len(batch["texts"]) == len(batch["images"]) and batch["scale"] == 3
        values = model(batch["images"]).square().sum(dim=1) * batch["scale"]
        return values.mean(), {"rows": float(batch["rows"].mean())}

    def batch(step):
        return {"images": make_batch(step)[0], "texts": ["a"] * ROWS, "scale": 3, "rows": torch.arange(ROWS).double()}

    return model, batch, loss


def clip(table: bool = True, bias: float | None = None, loss: Callable = clip_loss) -> tuple[nn.Module, Callable, Callable]:
    text = TextConfig(50, context_length=8, dim=16, layers=1, heads=2, mlp_dim=24, eos_token_id=49)
    model = CLIP(CLIPConfig(IMAGES, text, embed_dim=8, initial_logit_bias=bias))

    def make_batch(step):
        ids = torch.randint(0, 49, (ROWS, 8), generator=generator_for(0, "ids", step))
        ids[:, -1] = 49
        fits = torch.eye(ROWS, dtype=torch.bool)
        fits[step % ROWS, (step * 2 + 1) % ROWS] = True  # not symmetric, and across the cut
        return noise(step, ROWS, 3, 16, 16), ids, None, fits if table else None

    return model, make_batch, loss


def language() -> tuple[nn.Module, Callable, Callable]:
    return LanguageModel(LANGUAGE), lambda step: packed(step, 1, pictures=0), packed_loss


def unified() -> tuple[nn.Module, Callable, Callable]:
    parts = UnifiedConfig.course(TOKENIZER.vocab_size, TOKENIZER.image_token_id, vision=IMAGES, language=LANGUAGE, merge=1)
    return (model := UnifiedMLLM(parts)), lambda step: pictured(model, step, torch.arange(ROWS) % 3), lambda *of: packed_loss(*of, 0.3)


def cross_attention() -> tuple[nn.Module, Callable, Callable]:
    parts = CrossAttentionConfig.tiny(TOKENIZER.vocab_size, TOKENIZER.image_token_id, vision=IMAGES, language=LANGUAGE, cross_before=(0, 1))
    return (model := CrossAttentionMLLM(parts)), lambda step: pictured(model, step, 1), packed_loss


def packed(step: int, image_tokens: int, pictures: int | torch.Tensor):
    """Rows with different numbers of answers, the last ones without a caption's token, so that a part may have none."""
    world = scenes(ROWS, derive_seed(0, "world", step), "train")
    batch = pack(TOKENIZER, sample_questions(world, 3, seed=step), captions(world, "full"), image_tokens=image_tokens, pictures=pictures)
    rows = torch.arange(ROWS)[:, None]
    return batch._replace(scored=batch.scored.masked_fill((batch.segments > 1 + rows % 4) | ((rows > 2) & (batch.scored == 2)), 0))


def pictured(model: nn.Module, step: int, pictures: int | torch.Tensor):
    count = int(torch.as_tensor(pictures).expand(ROWS).sum())
    return packed(step, model.image_tokens, pictures)._replace(images=noise(step, count, 3, 16, 16))


TRAININGS = {
    "classification": (classification, {}),
    "of one's own": (of_ones_own, {}),
    "clip": (clip, {}),
    "clip without a table": (lambda: clip(table=False), {}),
    "siglip": (lambda: clip(bias=-2.0, loss=siglip_loss), {}),
    "language": (language, {}),
    "unified": (unified, {}),
    "cross-attention": (cross_attention, {}),
}
PARTS = {  # what is computed in parts, or twice, or both
    "clip": {"micro_batch_size": 2},
    "unified": {"micro_batch_size": 3, "recompute": True},
    "classification": {"micro_batch_size": 2, "recompute": True},
}
SPREAD = {"clip": {}, "cross-attention": {"micro_batch_size": 2, "recompute": True}}  # with parameters over two processes


def run(name: str, **changes) -> dict:
    build, options = TRAININGS[name]
    model, make_batch, loss = build()
    model = randomise(model, std=0.3).double()
    after = (lambda model, step: clamp_temperature(model)) if isinstance(model, CLIP) else None
    history = train(model, make_batch, loss, config(**options | changes), after_step=after, progress=False)
    return {"losses": history.losses, "metrics": history.metrics, "weights": model.state_dict()}


def check_equal(found: dict, expected: dict, name: str, within: float = 1e-10) -> None:
    assert len(found["losses"]) == len(expected["losses"]) and found["metrics"].keys() == expected["metrics"].keys(), name
    difference = torch.tensor(found["losses"], dtype=torch.float64) - torch.tensor(expected["losses"], dtype=torch.float64)
    assert difference.abs().max() < within, f"{name}: the losses differ by {difference.abs().max():.1e}"
    for metric, values in expected["metrics"].items():
        assert found["metrics"][metric] == pytest.approx(values, abs=1e-6), f"{name}: {metric}"
    for weight, tensor in expected["weights"].items():
        far = (found["weights"][weight] - tensor).abs().max()
        assert far < within, f"{name}: {weight} differs by {far:.1e}"


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    return {name: run(name) for name in TRAININGS}


# ---- one process -----------------------------------------------------------------------------------------------------


def test_each_training_learns(alone):
    for name, result in alone.items():
        assert sum(result["losses"][-3:]) < sum(result["losses"][:3]), name


@pytest.mark.parametrize("name", PARTS)
def test_micro_batches_and_recomputed_blocks_equal_the_plain_run(name, alone):
    check_equal(run(name, **PARTS[name]), alone[name], name)


def test_bfloat16_is_near():
    model, make_batch, loss = classification()
    in_single = lambda step: (make_batch(step)[0].float(), make_batch(step)[1])  # noqa: E731
    losses = []
    for bfloat16 in (False, True):
        model = randomise(classification()[0], std=0.3)
        losses.append(train(model, in_single, loss, config(steps=8, bfloat16=bfloat16), progress=False).losses)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    differences = [abs(one - other) for one, other in zip(*losses, strict=True)]
    assert 0 < max(differences) < 3e-2


def test_parts_and_recomputed_blocks_keep_less_for_the_way_back():
    model, make_batch, loss = classification()
    model = model.double()
    part = make_batch(0)[0][:2], make_batch(0)[1][:2]
    sizes = []
    for recompute, rows in ((False, 6), (False, 2), (True, 6)):
        with recomputing(model, recompute):
            sizes.append(memory_expected(model, lambda: loss(model, part)[0], 2, rows))
    weights = 4 * sum(parameter.nbytes for parameter in model.parameters())
    assert sizes[0] - weights == 3 * (sizes[1] - weights) and sizes[2] - weights < 0.5 * (sizes[0] - weights)


def main(folder: Path) -> None:
    import torch.distributed as dist

    names = list(TRAININGS) if len(sys.argv) < 3 else sys.argv[2].split(",")
    results = {name: run(name) for name in names}
    if dist.get_world_size() == 2:
        results |= {f"{name} in parts": run(name, **PARTS[name]) for name in PARTS if name in names}
        results |= {f"{name} spread": run(name, shard=True, steps=SHORT, **SPREAD[name]) for name in SPREAD if name in names}
    told = refusals()
    if dist.get_rank() == dist.get_world_size() - 1:  # not the one that reports
        torch.save({"results": results, "told": told}, folder / "results.pt")


def refusals() -> list[str]:
    """What is said where a batch cannot be cut, or a loss does not say how it counts."""
    told = []
    model, make_batch, loss = classification()
    of_clip, clip_batch, _ = clip()
    wrapped = lambda model, batch: clip_loss(model, batch)  # noqa: E731
    by_hand = lambda model, batch: (contrastive_loss(model(*batch[:3])), {})  # noqa: E731
    norm = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    for each in (
        (model, lambda step: (make_batch(step)[0], torch.zeros(3)), loss),
        (model, lambda step: tuple(tensor[:1] for tensor in make_batch(step)), loss),
        (of_clip, clip_batch, wrapped),
        (of_clip, clip_batch, by_hand),
        (norm, lambda step: torch.ones(ROWS, 4), lambda model, batch: (model(batch).mean(), {})),
    ):
        try:
            train(each[0].double(), *each[1:], config(steps=1), progress=False)
            told.append("nothing")
        except ValueError as error:
            told.append(str(error))
    return told


TOLD = ("batch[1] is a tensor (3,), and the batch has 7 rows", "a batch of 1 rows cannot be cut", "compares the rows", "compares the rows")
TOLD = (*TOLD, "1 is a BatchNorm1d")
windows = pytest.mark.skipif(sys.platform == "win32", reason="torchrun's rendezvous needs libuv there, which the wheels lack")


@windows
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_several_processes_equal_one(tmp_path, alone, processes):
    torchrun(__file__, tmp_path, *(["clip,unified"] if processes == 4 else []), processes=processes)
    found = torch.load(tmp_path / "results.pt")
    for name, result in found["results"].items():
        plain = name.removesuffix(" in parts").removesuffix(" spread")
        check_equal(result, run(plain, steps=SHORT) if name.endswith("spread") else alone[plain], f"{name}, {processes} processes")
    assert all(part in told for part, told in zip(TOLD, found["told"], strict=True)), found["told"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
