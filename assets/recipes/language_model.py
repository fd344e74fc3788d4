"""The language model that ships with the course: descriptions of the generated world, and questions about them, as text alone.

``python assets/recipes/language_model.py`` runs what ``assets/results/language_model.json`` lacks, lesson 05's training with three seeds,
and then trains the shipped model again and writes ``assets/checkpoints/language_model``; how long it took is in the card there. With
``ship`` behind it does only the latter. Lesson 05 trains one live, for less long.
"""

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minimllm import (
    CAPTION,
    CHECKPOINTS,
    KINDS,
    WORDS,
    History,
    LanguageModel,
    LanguageModelConfig,
    Packed,
    Questions,
    Scenes,
    Tokenizer,
    TrainingConfig,
    captions,
    derive_seed,
    exact_matches,
    pack,
    packed_loss,
    run_missing,
    sample_questions,
    save,
    scenes,
    train,
    wilson_interval,
)

SEED = 0
QUESTIONS = 6  # about each scene of a batch
EASY = 0.5  # the share of the steps with two objects, questions whose answer stands in the description, and nothing else to learn
LOOK_UP = {"colour": 1.0, "shape": 1.0, "size": 0.5, "where": 1.0}
ALL = {**dict.fromkeys(KINDS, 1.0), "count": 0.4, "shape": 1.5, "where": 1.5, "relation": 2.0, "comparison": 2.0}
TOLD = 0.75  # after that, the share of rows whose questions follow the description; in the others they stand alone
CAPTION_WEIGHT = 0.3  # of the descriptions, whose words are mostly chance
TRAINING = TrainingConfig(steps=260, batch_size=64, seed=SEED)
TEST_SEED = 77642152  # drawn after everything else here was fixed
SHIPPED_STEPS = 900
SHIPPED_TEST_SEED = 55423002  # likewise


def make_tokenizer() -> Tokenizer:
    """The words of the generated world, a token each, behind the special tokens."""
    return Tokenizer.from_words(WORDS)


def make_model(tokenizer: Tokenizer, seed: int = SEED, alike: bool = True, **changes: Any) -> LanguageModel:
    """The course size. Queries and keys are normalised, which Llama does not do, and their learned scales begin at 1.5.

    In all blocks but the first, keys begin equal to the queries of their group (Trockman and Kolter 2023), so that each word looks for its
    like from the start: the star of a question for the star of the description. ``alike=False`` leaves them random. What this and
    the larger rotary base bring has not been measured apart.
    """
    special = {
        "start_token_id": tokenizer.start_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    changes = {"normalise_heads": 1e-5, "rotary_base": 10_000.0, **changes}
    model = LanguageModel(LanguageModelConfig.tiny(tokenizer.vocab_size, **special, **changes), seed=seed)
    with torch.no_grad():
        for number, block in enumerate(model.blocks):
            attention = block.attention
            if model.config.normalise_heads is not None:
                attention.query_norm.weight.fill_(1.5)
                attention.key_norm.weight.fill_(1.5)
            if number > 0 and alike:
                queries = attention.query.weight.view(attention.key_value_heads, -1, attention.head_dim, model.config.dim)
                attention.key.weight.copy_(queries[:, 0].flatten(0, 1))
    return model


def told(batch: Packed, rows: Tensor) -> Packed:
    """The chosen rows' descriptions become part of what all their questions see, and are not scored.

    In the other rows the questions see the start token alone, and the description is one more text to learn.
    """
    shifted = torch.where(batch.segments > 0, batch.segments - 1, batch.segments)
    segments = torch.where(rows[:, None], shifted, batch.segments)
    return batch._replace(segments=segments, scored=batch.scored.masked_fill(rows[:, None] & (batch.scored == CAPTION), 0))


def make_batches(tokenizer: Tokenizer, config: TrainingConfig) -> Callable[[int], Packed]:
    """Rows of a full description and questions, each with its answer: ``<start> description <end> | question answer <end> | ...``."""

    def make_batch(step: int) -> Packed:
        easy = step < EASY * config.steps
        world = scenes(config.batch_size, config.seed, "train", objects=2 if easy else (1, 4), start=step * config.batch_size)
        weights = LOOK_UP if easy else ALL
        asked = sample_questions(world, QUESTIONS, seed=derive_seed(config.seed, "questions", step), weights=weights)
        batch = pack(tokenizer, asked, captions(world, "full"), image_tokens=1, pictures=0)
        return told(batch, torch.arange(config.batch_size) < (1.0 if easy else TOLD) * config.batch_size)

    return make_batch


def loss(model: LanguageModel, batch: Packed) -> tuple[Tensor, dict[str, Any]]:
    """Mean cross-entropy of the answers' tokens, plus a little of the descriptions'; the share of answers' tokens that are right."""
    total, metrics = packed_loss(model, batch, CAPTION_WEIGHT)
    return total, {"answers": metrics["answers"]}  # descriptions are scored at some steps only, and a curve needs a value at each


def train_language_model(
    seed: int = SEED, steps: int = TRAINING.steps, progress: bool = False, checkpoints: str | None = None, **changes: Any
) -> tuple[LanguageModel, Tokenizer, History]:
    """A trained model, its tokenizer, and what the training went through."""
    config, tokenizer = dataclasses.replace(TRAINING, seed=seed, steps=steps), make_tokenizer()
    model = make_model(tokenizer, seed, **changes)
    history = train(model, make_batches(tokenizer, config), loss, config, checkpoints=checkpoints, progress=progress)
    return model, tokenizer, history


# ---- measuring ---------------------------------------------------------------------------------------------------------


def draw_test(n: int, seed: int, split: str = "test") -> tuple[Scenes, Questions]:
    """Scenes of one to four objects, and nine questions about each, of any kinds."""
    world = scenes(n, seed, split, objects=(1, 4))
    return world, sample_questions(world, len(KINDS), seed=derive_seed(seed, "asked"))


def right(model: LanguageModel, tokenizer: Tokenizer, asked: Questions, descriptions: list[str] | None = None) -> Tensor:
    """For each question whether greedy writing gives exactly its answer and the end, ``(scenes, questions)``.

    ``descriptions``: one for each scene, which its questions follow; ``None``: the questions stand alone.
    """
    found = []
    for first in range(0, len(asked.kind), 100):
        rows = slice(first, first + 100)
        part = Questions(asked.question[rows], asked.answer[rows], asked.kind[rows])
        batch = pack(tokenizer, part, descriptions and descriptions[rows], image_tokens=1, pictures=0)
        if descriptions is not None:
            batch = told(batch, torch.ones(len(part.kind), dtype=torch.bool))
        found.append(exact_matches(model, batch))
    return torch.cat(found)


def by_kind(hits: Tensor, kind: Tensor) -> dict[str, Any]:
    """Hits of each kind of question, and ``accuracy``: the mean over the kinds, equally weighted, with its 95% interval."""
    kinds = {name: {"hits": int(hits[kind == k].sum()), "n": int((kind == k).sum())} for k, name in enumerate(KINDS)}
    for result in kinds.values():
        result["accuracy"] = round(result["hits"] / result["n"], 4)
    mean = sum(result["accuracy"] for result in kinds.values()) / len(kinds)
    n = sum(result["n"] for result in kinds.values())
    interval = [round(end, 4) for end in wilson_interval(round(mean * n), n)]
    return {"accuracy": round(mean, 4), "n": n, "interval": interval, "kinds": kinds}


def best_constants(n: int = 4000, seed: int = SEED) -> dict[str, str]:
    """For each kind of question the answer that is most often right in training."""
    _, asked = draw_test(n, seed, "train")
    counts: dict[str, Counter] = {kind: Counter() for kind in KINDS}
    for row in asked.texts():
        for _, answer, kind in row:
            counts[kind][answer] += 1
    return {kind: counter.most_common(1)[0][0] for kind, counter in counts.items()}


def constant_right(asked: Questions, constants: dict[str, str]) -> Tensor:
    """For each question whether the constant answer of its kind is right, ``(scenes, questions)``."""
    return torch.tensor([[answer == constants[kind] for _, answer, kind in row] for row in asked.texts()])


def measure(model: LanguageModel, tokenizer: Tokenizer, seed: int, n: int = 1000, test: str = "test") -> dict[str, Any]:
    """All that a card tells: told the scene, told a scene of held-out pairs, told another scene, told nothing; constant answers."""
    world, asked = draw_test(n, seed, test)
    texts = captions(world, "full")
    held_world, held_asked = draw_test(n, seed, "held_out")
    return {
        "told the scene": by_kind(right(model, tokenizer, asked, texts), asked.kind),
        "told the scene, held-out pairs": by_kind(right(model, tokenizer, held_asked, captions(held_world, "full")), held_asked.kind),
        "told another scene": by_kind(right(model, tokenizer, asked, texts[1:] + texts[:1]), asked.kind),
        "told nothing": by_kind(right(model, tokenizer, asked), asked.kind),
        "best constant answer": by_kind(constant_right(asked, best_constants()), asked.kind),
    }


def trained(seed: int, **changes: Any) -> dict[str, Any]:
    """Lesson 05's training with a seed, measured."""
    model, tokenizer, history = train_language_model(seed, **changes)
    return {
        **measure(model, tokenizer, TEST_SEED),
        "steps": TRAINING.steps,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
    }


RUNS: dict[str, Callable[[], dict[str, Any]]] = {f"live, seed {seed}": lambda seed=seed: trained(seed) for seed in range(3)}


def ship() -> None:
    model, tokenizer, history = train_language_model(steps=SHIPPED_STEPS)
    card = {
        "what": "full descriptions of scenes of one to four objects, and nine kinds of question about them, as text; no pictures",
        "recipe": "assets/recipes/language_model.py",
        "seed": SEED,
        "steps": SHIPPED_STEPS,
        "rows a batch": TRAINING.batch_size,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "test_seed": SHIPPED_TEST_SEED,
        "accuracy": measure(model, tokenizer, SHIPPED_TEST_SEED),
    }
    save(CHECKPOINTS / "language_model", model, tokenizer, card)
    print(card)


if __name__ == "__main__":
    if sys.argv[1:] == ["ship"]:
        ship()
    else:
        run_missing("language_model", RUNS, sys.argv[1:])
        if not sys.argv[1:]:
            ship()
