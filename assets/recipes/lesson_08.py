"""Every number that lesson 08 reads from ``assets/results/lesson_08.json``, and how it is made.

``python assets/recipes/lesson_08.py`` does all runs that the file lacks; with beginnings of names, only those
(``python assets/recipes/lesson_08.py cross``); with ``--seconds=200``, as many as begin within that time.

Both designs get the same: encoder, projector, decoder, tokenizer, pictures, questions and captions, steps, batch size, learning rates,
schedule and seeds. ``COURSE`` and ``CROSS`` are the recipes of lessons 06 and 07; how the gated blocks and their gates learn are the only
settings that the unified design has no use for. Training is as long as the unified design's in lesson 06, swaps half as long. The lessons'
own results files hold what is not repeated here: of the unified design ``live, seed S``, ``half as long``, with a ``pretrained decoder``, a
``linear projector`` and ``without merge``; of the other one a ``frozen decoder``. Each design is measured on the questions of its own
lesson; the ``hybrid``, which is cross-attention with the whole picture as one token in the text, on those of cross-attention.
"""

import copy
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from minimllm import (
    CrossAttentionConfig,
    CrossAttentionMLLM,
    Design,
    LanguageModelConfig,
    Packed,
    Tokenizer,
    TrainingConfig,
    UnifiedMLLM,
    ViTConfig,
    count_parameters,
    load,
    load_recipe,
    make_optimizers,
    picture_bytes,
    run_missing,
    train,
    wilson_interval,
)

COURSE, CROSS, SIX, SEVEN = map(load_recipe, ("unified", "cross_attention", "lesson_06", "lesson_07"))
TEST_SEEDS, N = {"unified": SIX.TEST_SEED, "cross-attention": SEVEN.TEST_SEED}, SIX.N
Model = UnifiedMLLM | CrossAttentionMLLM


def make_model(design: str, seed: int = 0, decoder: str = "new", **changes: Any) -> tuple[Model, Tokenizer]:
    """A model of a design, ``unified``, ``cross-attention`` or ``hybrid``; ``changes`` of its config.

    ``decoder``: ``new``; or lesson 05's, ``frozen`` or ``pretrained``, which goes on learning.
    """
    if design == "hybrid":
        return make_model("cross-attention", seed, decoder, thumbnail=True, **changes)
    if decoder == "new":
        return (CROSS if design == "cross-attention" else COURSE).make_model(seed, **changes)
    if design == "cross-attention":
        usual = CROSS.make_model(seed)[0].config if decoder == "pretrained" else None
        changes = {name: getattr(usual, name) for name in CROSS.FROZEN if usual} | changes
        model, tokenizer = CROSS.make_model(seed, frozen=True, **changes)
    else:
        trained, _ = load("language_model")
        model, tokenizer = COURSE.make_model(seed, language=trained.config, **changes)
        model.language_model.load_state_dict(trained.state_dict())
    model.language_model.requires_grad_(decoder != "frozen")
    return model, tokenizer


def pictures_batches(model: Model, tokenizer: Tokenizer, settings: TrainingConfig) -> Callable[[int], Packed]:
    """The same batches with the pictures themselves, for an encoder that learns."""
    without = type("Pictures", (), {"features": staticmethod(lambda pictures: pictures), "image_tokens": model.image_tokens})
    make_batch = COURSE.make_batches(without, tokenizer, settings)

    def with_pictures(step: int) -> Packed:
        batch = make_batch(step)
        return batch._replace(images=batch.features, features=None)

    return with_pictures


def training_settings(design: str) -> TrainingConfig:
    """Lesson 06's or 07's, as long as lesson 06's; the optimizer of the projector moves the thumbnail's projector as well."""
    settings = COURSE.TRAINING if design == "unified" else dataclasses.replace(CROSS.TRAINING, steps=COURSE.TRAINING.steps)
    more = ("thumbnail",) if design == "hybrid" else ()
    return dataclasses.replace(settings, muon_modules=(*settings.muon_modules, *more))


def trained(
    design: str,
    seed: int = 0,
    decoder: str = "new",
    steps: int | None = None,
    encoder_learns: bool = False,
    controls: bool = False,
    shapes: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """A model trained and measured; arguments as of :func:`make_model`. ``controls``: also on pictures drawn by another
    renderer and on those of other scenes; ``shapes``: also by :func:`shapes_by_words`.
    """
    settings = training_settings(design)
    settings = dataclasses.replace(settings, seed=seed, steps=steps or settings.steps)
    model, tokenizer = make_model(design, seed, decoder, **changes)
    text = {} if decoder == "new" else {"text before": SIX.told(model.language_model, tokenizer)}
    model.vision.requires_grad_(encoder_learns)
    trainable, total = count_parameters(model), sum(parameter.numel() for parameter in model.parameters())
    make_batches = pictures_batches if encoder_learns else COURSE.make_batches
    history = train(model, make_batches(model, tokenizer, settings), COURSE.loss, settings, progress=False)
    if text:
        text["text after"] = SIX.told(model.language_model, tokenizer)
    test_seed = TEST_SEEDS["unified" if design == "unified" else "cross-attention"]
    looked_at = {"other renderer": {"draw": COURSE.render_differently}, "shuffled": {"shuffled": True}} if controls else {}
    gates = {name: round(value.item(), 3) for name, value in model.named_parameters() if name.endswith("_gate")}
    return {
        **COURSE.measure(model, tokenizer, "test", N, test_seed),
        "held-out pairs": COURSE.measure(model, tokenizer, "held_out", N, test_seed),
        "steps": settings.steps,
        "seconds": round(history.seconds, 1),
        "threads": torch.get_num_threads(),
        "trainable": trainable,
        "total": total,
        "image_tokens": model.image_tokens if design == "unified" else model.visual_tokens,
        **({"gates": gates} if gates else {}),
        **{name: COURSE.measure(model, tokenizer, "test", N, test_seed, **how) for name, how in looked_at.items()},
        **({"shapes": shapes_by_words(model, tokenizer, test_seed)} if shapes else {}),
        **text,
    }


def shapes_by_words(model: Model, tokenizer: Tokenizer, seed: int) -> dict[str, Any]:
    """The share answered rightly of the questions for a shape that name their object by ``one word``, its colour (``what shape is the blue
    object ?``), and of those that name it by ``two words``, its place (``what shape is the object at the top left ?``).
    """
    world, asked = COURSE.LANGUAGE.draw_test(N, seed, "test")
    answered, _ = COURSE.right(model, tokenizer, world, asked)
    found: dict[str, list[bool]] = {"one word": [], "two words": []}
    for texts, row in zip(asked.texts(), answered.tolist(), strict=True):
        for (question, _, kind), right in zip(texts, row, strict=True):
            if kind == "shape":
                found["two words" if " at the " in question else "one word"].append(right)
    return {
        name: {"accuracy": round(sum(rights) / len(rights), 4), "n": len(rights), "interval": wilson_interval(sum(rights), len(rights))}
        for name, rights in found.items()
    }


# ---- what a picture costs ----------------------------------------------------------------------------------------------

IMAGE_TOKENS = (4, 16, 64, 256, 1024, 4096)
TEXT_TOKENS = 64
# Between the course's size and a real one, with a gated block before every fourth block, as in Llama 3.2 Vision.
MIDDLE = LanguageModelConfig(8000, dim=512, layers=8, heads=8, key_value_heads=4, mlp_dim=1408, context_length=4400, tied=True)
IMAGE = 2


def untrained(image_tokens: int, language: LanguageModelConfig = MIDDLE, cross_before: tuple[int, ...] = (3, 7)) -> dict[str, Model]:
    """Both designs, untrained, for pictures of so many tokens; what they cost does not depend on the weights."""
    vision = ViTConfig(image_size=(8, 8 * image_tokens), dim=8, layers=1, heads=1, mlp_dim=1, classes=0)
    config = CrossAttentionConfig(vision, language, IMAGE, cross_before, feature_layer=1)
    return {"unified": UnifiedMLLM(config.unified).eval(), "cross-attention": CrossAttentionMLLM(config).eval()}


@torch.no_grad()
def cost(model: Model, image_tokens: int, text_tokens: int = TEXT_TOKENS, rounds: int = 3, words: int = 8) -> dict[str, Any]:
    """What reading one picture and a text, and then writing, costs a model: multiply-adds by torch's count, bytes of the cache, seconds.

    The image encoder is left out, since it is the same for all; so are projector and output layer, except in the seconds. These are
    medians of the processor's time, which other programs disturb less than the clock's: ``reading``, and ``word``, for one word written.
    """
    features = torch.zeros(1, image_tokens, model.config.vision.dim)
    ids = torch.full((1, 1 + model.image_tokens + text_tokens - 1), 7)
    ids[:, 1 : 1 + model.image_tokens] = IMAGE
    reading, word = [], []
    for _ in range(rounds):
        cache, started = model.new_cache(), time.process_time()
        model(ids, features=features, cache=cache, only_last=True)
        reading.append(time.process_time() - started)
        kept = cache.bytes() + (picture_bytes(cache) if isinstance(model, CrossAttentionMLLM) else 0)
        for _ in range(words):
            started = time.process_time()
            model(ids[:, -1:], cache=cache, only_last=True)
            word.append(time.process_time() - started)
    with FlopCounterMode(display=False) as projecting:
        model.projector(features)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(ids, features=features, only_last=True)
    language = model.config.language
    return {
        "multiply_adds": (counter.get_total_flops() - projecting.get_total_flops()) // 2 - language.dim * language.vocab_size,
        "bytes": kept,
        "reading": round(statistics.median(reading), 5),
        "word": round(statistics.median(word), 5),
    }


def costs() -> dict[str, Any]:
    """Both designs over the number of image tokens, measured; beside it what the formulas say."""
    found: dict[str, Any] = {"text_tokens": TEXT_TOKENS, "threads": torch.get_num_threads()}
    for image_tokens in IMAGE_TOKENS:
        for name, model in untrained(image_tokens).items():
            design = Design.of(model.config)
            formula = {
                "multiply_adds": design.multiply_adds(image_tokens, TEXT_TOKENS).total,
                "bytes": design.cache_bytes(image_tokens, TEXT_TOKENS),
            }
            found[f"{name}, {image_tokens}"] = {**cost(model, image_tokens), "formula": formula}
    return found


def activation_bytes(model: torch.nn.Module, run: Callable[[torch.nn.Module], torch.Tensor]) -> int:
    """What a forward pass leaves for the backward pass, in bytes, each storage once, the weights themselves apart."""
    weights, kept = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers())}, {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = run(model)  # what is noted lives as long as this does
    del result
    return sum(kept.values())


def training_bytes(model: Model, batch: Packed, settings: TrainingConfig) -> dict[str, int]:
    """The parts of the memory of a training step, in bytes, which are not all there at one moment: ``weights``, ``gradients``, what the
    ``optimizer`` keeps of those that learn, and ``activations``, see :func:`activation_bytes`. The model stays as it is.
    """
    model = copy.deepcopy(model)
    activations = activation_bytes(model, lambda model: COURSE.loss(model, batch)[0])
    COURSE.loss(model, batch)[0].backward()
    optimizers, state = make_optimizers(model, settings), 0
    for optimizer in optimizers.values():
        optimizer.step()
        state += sum(value.nbytes for each in optimizer.state.values() for value in each.values() if torch.is_tensor(value))
    gradients = sum(weight.grad.nbytes for weight in model.parameters() if weight.grad is not None)
    return {
        "weights": sum(weight.nbytes for weight in model.parameters()),
        "gradients": gradients,
        "optimizer": state,
        "activations": activations,
    }


# ---- the runs, the most important first --------------------------------------------------------------------------------

BOTH = ("unified", "cross-attention")
LINEAR = dict(projector="linear", projector_dim=None, projector_positions="after")
swap = partial(trained, steps=SIX.HALF)

RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    "costs": costs,
    **{f"cross-attention, seed {seed}": partial(trained, "cross-attention", seed, controls=True) for seed in range(3)},
    "unified, frozen decoder, seed 0": partial(trained, "unified", decoder="frozen"),
    **{f"cross-attention, half as long, seed {seed}": partial(swap, "cross-attention", seed, shapes=seed == 0) for seed in range(3)},
    "cross-attention, pretrained decoder, seed 0": partial(swap, "cross-attention", decoder="pretrained"),
    "cross-attention, linear projector, seed 0": partial(swap, "cross-attention", **LINEAR),
    **{f"{design}, encoder's last layer, seed 0": partial(swap, design, feature_layer=-1) for design in BOTH},
    **{f"{design}, encoder learns, seed 0": partial(swap, design, encoder_learns=True) for design in BOTH},
    "cross-attention, 16 tokens, seed 0": partial(swap, "cross-attention", merge=1),
    **{f"{design}, 16 tokens and class token, seed 0": partial(swap, design, merge=1, keep_class_token=True) for design in BOTH},
    "cross-attention, with the MLP, seed 0": partial(swap, "cross-attention", cross_mlp=True),
    **{
        f"cross-attention, before layer {layer} alone, seed 0": partial(
            swap, "cross-attention", cross_before=(layer - 1,), shapes=layer == 1
        )
        for layer in (1, 2, 3)
    },
    "cross-attention, before layers 2 and 3, seed 0": partial(swap, "cross-attention", cross_before=(1, 2)),
    "cross-attention, before all layers, seed 0": partial(swap, "cross-attention", cross_before=(0, 1, 2)),
    "hybrid, half as long, seed 0": partial(swap, "hybrid"),
    "hybrid, 16 tokens beside, seed 0": partial(swap, "hybrid", merge=1),
    **{f"hybrid, seed {seed}": partial(trained, "hybrid", seed) for seed in range(3)},
    "cross-attention, before layer 1 alone, in full, seed 0": partial(trained, "cross-attention", cross_before=(0,), shapes=True),
    **{
        f"cross-attention, before layers 2 and 3, in full, seed {seed}": partial(trained, "cross-attention", seed, cross_before=(1, 2))
        for seed in range(3)
    },
    # Louder, as beside the other design's frozen decoder; and with a projector of as many weights as learn there.
    "unified, frozen decoder, louder, seed 0": partial(trained, "unified", decoder="frozen", token_scale=1.0),
    "unified, frozen decoder, louder and wider, seed 0": partial(trained, "unified", decoder="frozen", token_scale=1.0, projector_dim=880),
    "unified, frozen decoder, four times as long, seed 0": partial(trained, "unified", decoder="frozen", steps=COURSE.SHIPPED_STEPS),
}

if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--seconds=")]
    limit = {"seconds": float(options[-1].partition("=")[2])} if options else {}
    run_missing("lesson_08", RUNS, [argument for argument in sys.argv[1:] if argument not in options], **limit)
