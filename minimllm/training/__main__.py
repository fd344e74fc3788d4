"""Train on pictures of one's own: ``python -m minimllm.training clip --pairs SOURCE --out FOLDER --steps N``.

Alone, or by several processes: ``torchrun --nproc-per-node=4 -m minimllm.training clip ...``. Called again after an interruption, with any
number of processes, it goes on; once it is finished it changes nothing.
"""

import argparse
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # worker processes are forked

import torch  # noqa: E402  (after the environment)

from minimllm import (  # noqa: E402
    CLIP,
    Ahead,
    CLIPConfig,
    Pairs,
    RunLog,
    Tokenizer,
    TrainingConfig,
    ViT,
    ViTConfig,
    begin,
    clamp_temperature,
    class_batches,
    classification_loss,
    clip_batches,
    clip_loss,
    count_parameters,
    fingerprint,
    finished_run,
    load,
    memory_expected,
    say_once,
    started_as,
    to_device,
    train,
    write_record,
)

PRESETS = {"clip": (CLIPConfig, ("tiny", "base_32", "base_16", "large_14")), "vit": (ViTConfig, ("tiny", "base_16", "large_16", "huge_14"))}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m minimllm.training", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="clip | vit")
    common = argparse.ArgumentParser(add_help=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    positive = partial(number, int, 1)
    common.add_argument("--out", required=True, type=Path, help="the folder for the model, its history and the checkpoints")
    common.add_argument("--steps", required=True, type=positive, help="how many batches to train on")
    common.add_argument("--batch-size", type=positive, default=128, help="pictures in a batch, over all processes")
    common.add_argument("--seed", type=int, default=0, help="of the weights at the start and of the order of the pictures")
    common.add_argument("--checkpoint-every", type=positive, default=100, help="steps between two checkpoints")
    common.add_argument("--init", metavar="FOLDER", help="go on from a trained model, with its tokenizer, in place of a preset")
    common.add_argument("--learning-rate", type=partial(number, float, 0), help="AdamW's peak (default: that of the course, 0.003)")
    common.add_argument("--skip-faults", action="store_true", help="leave out damaged pictures and missing texts, and report them")
    common.add_argument("--workers", type=partial(number, int, 0), default=1, help="processes that decode, for each that trains (Linux)")
    common.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to train: cpu, cuda, mps")
    common.add_argument("--micro-batch-size", type=positive, help="most pictures that go through the model at once, to save memory")
    common.add_argument("--bfloat16", action="store_true", help="matrix products in bfloat16")
    common.add_argument("--recompute", action="store_true", help="compute blocks twice and keep less, to save memory")
    for name, source, what in (
        ("clip", "--pairs", "pictures with texts: a folder with metadata.csv or .txt beside each, shards (.tar), a data set on the hub"),
        ("vit", "--images", "a folder of pictures by class: FOLDER/class/picture.jpg"),
    ):
        command = commands.add_parser(name, parents=[common], help=f"train a {name.upper().replace('VIT', 'ViT')} on {what}")
        command.add_argument(source, required=True, dest="source", metavar="SOURCE", help=what)
        command.add_argument("--preset", choices=PRESETS[name][1], default="tiny", help="the size of the model (default: tiny)")
    return parser.parse_args(arguments)


def number(kind: type, least: float, text: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = least - 1
    if value < least or (kind is float and value == 0):
        raise argparse.ArgumentTypeError(f"expected a number {'above 0' if kind is float else f'of {least} or more'}, got {text!r}")
    return value


def make_clip(options: argparse.Namespace, pairs: Pairs) -> tuple[CLIP, Tokenizer]:
    """The model to start from, and its tokenizer: of ``--init``, or new ones, with the words of the captions."""
    if options.init:
        return opened(options.init, CLIP)
    tokenizer = Tokenizer.from_texts(pairs.texts, lenient=True)
    config = getattr(CLIPConfig, options.preset)()
    text = replace(config.text, vocab_size=tokenizer.vocab_size, eos_token_id=tokenizer.eos_token_id)
    return CLIP(replace(config, text=text), seed=options.seed), tokenizer


def make_vit(options: argparse.Namespace, pairs: Pairs) -> tuple[ViT, None]:
    classes = tuple(sorted(set(pairs.texts)))
    if options.init:
        model, _ = opened(options.init, ViT)
        if model.config.class_names != classes:
            raise ValueError(f"the model of {options.init} names the classes {model.config.class_names}, the folder {classes}")
        return model, None
    half = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}
    return ViT(getattr(ViTConfig, options.preset)(classes=len(classes), class_names=classes, **half), seed=options.seed), None


def opened(folder: str, kind: type) -> tuple:
    model, tokenizer = load(Path(folder).resolve() if Path(folder).is_dir() else folder)
    if not isinstance(model, kind):
        raise ValueError(f"{folder} holds a {type(model).__name__}, expected a {kind.__name__}")
    if kind is CLIP and not isinstance(tokenizer, Tokenizer):
        raise ValueError(f"{folder} holds no tokenizer of the course, with which its texts could be read; train one from the captions")
    return model, tokenizer


def where(source: str) -> str:
    """A source on this machine by its whole path, so that it is the same from every folder."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def main(options: argparse.Namespace) -> None:
    options.steps = TrainingConfig(options.steps).steps  # fewer where MINIMLLM_STEPS asks for it
    settings = {name: getattr(options, name) for name in ("command", "steps", "batch_size", "seed", "preset", "learning_rate")}
    settings |= {"bfloat16": options.bfloat16, "source": where(options.source), "init": options.init and where(options.init)}
    done = finished_run(options.out)
    if done is not None:
        other = {name: value for name, value in settings.items() if done["settings"].get(name, value) != value}
        if "source" in other and not Path(options.source).exists() and done["settings"]["source"].endswith(f"/{options.source}"):
            del other["source"]  # the pictures are no longer there
        if other:
            then = {name: done["settings"][name] for name in other}
            told = f"a finished training with {then}, not {other}"
            raise ValueError(f"{options.out} holds {told}; name another folder, or go on from it with --init")
        return say_once(f"{options.out} is finished: {len(done['losses'])} steps; nothing to do")

    pairs = Pairs(options.source, skip=options.skip_faults, by_class=options.command == "vit")
    clip = options.command == "clip"
    model, tokenizer = make_clip(options, pairs) if clip else make_vit(options, pairs)
    begin(options.out, {**settings, "source": None} | {"texts": fingerprint(pairs.texts)})
    batches_of = partial(clip_batches, model, tokenizer) if clip else partial(class_batches, model)
    make_batch = batches_of(pairs, options.batch_size, options.seed)
    loss = clip_loss if clip else classification_loss
    rates = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    same = {name: getattr(options, name) for name in ("checkpoint_every", "micro_batch_size", "bfloat16", "recompute")}
    config = TrainingConfig(options.steps, options.batch_size, seed=options.seed, **rates, **same)

    few = min(4, options.batch_size)
    batch = to_device(make_batch(0).cut(0, few), "cpu")
    batch = (*batch[:3], None) if clip else batch
    rank, count = started_as()
    rows = min(options.micro_batch_size or options.batch_size, -(-options.batch_size // count))
    expected = memory_expected(model, lambda: loss(model, batch)[0], few, rows)
    say_once(
        f"{type(model).__name__} of {count_parameters(model):,} parameters on {len(pairs):,} pairs of {options.source}, {count} processes",
        f"{options.steps} steps of {options.batch_size}; memory expected: {expected / 1e6:.0f} MB a process beside the libraries",
    )
    batches = Ahead(make_batch, options.steps, options.workers)
    history = train(
        model,
        batches,
        loss,
        config,
        device=options.device,
        after_step=(lambda model, step: clamp_temperature(model)) if clip else None,
        checkpoints=options.out / "checkpoints",
        progress=partial(RunLog, options.out),
    )
    if rank == 0:
        card = {**settings, "pairs": len(pairs), "left_out": pairs.faults, "processes": count}
        card |= {"parameters": count_parameters(model), "seconds": round(history.seconds, 1), "waited": round(batches.waited, 1)}
        model.to("cpu").save_pretrained(options.out, **({"tokenizer": tokenizer} if clip else {}))
        write_record(options.out / "card.json", card)
        write_record(options.out / "history.json", {"losses": history.losses, "metrics": history.metrics, "settings": settings})
        if pairs.faults:
            say_once(f"{len(pairs.faults)} were left out:", *(f"  {fault}" for fault in pairs.faults))
        waited = batches.waited / max(history.seconds, 1e-9)
        say_once(f"the last loss is {history.losses[-1]:.4f}; {waited:.0%} of the time went in waiting for pictures")
        say_once(f"minimllm.load({str(options.out.resolve())!r}) opens the model")


if __name__ == "__main__":
    try:
        main(parse())
    except ValueError as error:
        sys.exit(f"minimllm.training: {error}")
