"""Saving and training, killed at any moment: afterwards a folder opens as the old or as the new one, and a run goes on to the same end.

Half of the processes are killed after a random time, the other half at a random one of their own calls to the file system, the short ones
between two renamings included.
"""

import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from soak.pool import Fault, Log
from support import randomise
from tiny_run import TinyModel, config, same
from tiny_run import run as training
from torch import nn

from minimllm import (
    CLIP,
    CLIPConfig,
    LanguageModel,
    LanguageModelConfig,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    clip_vit,
    load,
    save,
)
from minimllm.training.checkpoints import latest_checkpoint
from minimllm.training.optimizers import make_optimizers

COUNT = 100
STEPS = 25
EVENTS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.scandir",
    "os.listdir",
    "fcntl.flock",
}


def prepare(folder: Path) -> None:
    """Old and new models of each form, and an undisturbed training."""
    global TOKENIZERS, MODELS, UNDISTURBED
    TOKENIZERS = [Tokenizer.from_words([f"word{number}" for number in range(count)]) for count in (20, 40)]
    MODELS = {"language model": [], "unified": [], "clip": []}
    for seed, tokenizer in enumerate(TOKENIZERS):
        size = tokenizer.vocab_size
        vision = clip_vit(image_size=8, patch_size=4, dim=8, layers=1, heads=2, mlp_dim=12)
        language = LanguageModelConfig(size, dim=16, layers=1 + seed, heads=4, mlp_dim=24, context_length=32)
        text = replace(CLIPConfig.tiny(size, tokenizer.eos_token_id).text, dim=8, layers=1, heads=2, mlp_dim=12)
        MODELS["language model"].append(randomise(LanguageModel(language), seed))
        half = dict(image_mean=(0.5 - seed / 10,) * 3, image_std=(0.5,) * 3, feature_layer=-1)
        MODELS["unified"].append(randomise(UnifiedMLLM(UnifiedConfig(vision, language, tokenizer.image_token_id, **half)), seed))
        MODELS["clip"].append(randomise(CLIP(CLIPConfig(vision, text, embed_dim=4 + seed)), seed))
    make_optimizers(TinyModel(), config())  # what they import
    UNDISTURBED = training(None, steps=STEPS)
    training(folder / "first", steps=2)


def shards(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    model.save_pretrained(folder, tokenizer=tokenizer, max_shard_size="3KB")


def one_file(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    model.save_pretrained(folder, tokenizer=tokenizer)


def shipped(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    save(folder, model, tokenizer, {"words": tokenizer.vocab_size})


SAVERS: dict[str, tuple[str, Callable]] = {
    "save_pretrained in shards": ("language model", shards),
    "save_pretrained of LLaVA": ("unified", one_file),
    "save_pretrained of CLIP in one file": ("clip", one_file),
    "save": ("unified", shipped),
}
PLACES = ("a folder", "a link", "the working folder", "a new folder")
KINDS = {f"{saver} to {place}": (saver, place) for saver in SAVERS for place in PLACES} | {"training": (), "training, again and again": ()}


def run(seed: int, folder: Path, log: Log) -> None:
    kind = list(KINDS)[seed % len(KINDS)]
    log.tell(kind=kind)
    warnings.simplefilter("ignore")
    rng = random.Random(f"killing {seed}")
    if kind.startswith("training"):
        kill_training(rng, folder, log, times=8 if "again" in kind else 3)
    else:
        kill_saving(*KINDS[kind], rng, folder, log)


# ---- being killed ---------------------------------------------------------------------------------------------------


def killed(work: Callable[[], None], rng: random.Random, quiet: Callable[[], None], slow: float = 1.0) -> str:
    """Do ``work`` in a process that is killed in the middle of it; when that was. ``quiet`` does the same, and is measured."""
    if rng.random() < 0.5:
        count = counted(quiet)
        number = rng.randint(1, count)
        end = child(work, lambda: die_at(number))
        return f"at call {number} of {count} to the file system" + ("" if end else ", which it outlived")
    started = time.perf_counter()
    child(quiet)
    seconds = rng.random() * slow * (time.perf_counter() - started)
    child(work, seconds=seconds)
    return f"after {seconds * 1000:.1f} ms"


def child(work: Callable[[], None], prepare: Callable[[], None] = lambda: None, seconds: float | None = None) -> bool:
    """Whether it was killed; an error of its own is a fault."""
    process = os.fork()
    if process == 0:
        try:
            prepare()
            work()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise Fault("the work failed of its own accord; its traceback is above")
    return os.WIFSIGNALED(status)


def die_at(number: int) -> None:
    """Before the so-manieth call to the file system from here on."""
    left = number

    def hook(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in EVENTS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def counted(work: Callable[[], None]) -> int:
    """How many calls to the file system it takes, in a process that lives."""
    reading, writing = os.pipe()
    count = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        count += event in EVENTS

    def counting() -> None:
        sys.addaudithook(hook)
        work()
        os.write(writing, str(count).encode())

    child(counting)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return int(pipe.read())


# ---- saving ---------------------------------------------------------------------------------------------------------


def kill_saving(saver: str, place: str, rng: random.Random, folder: Path, log: Log) -> None:
    (name, write), target = SAVERS[saver], folder / "model"
    old, new = MODELS[name]

    def stage(where: Path) -> Path:
        """A place with the old model in it, and the path by which the new one is saved there."""
        where.mkdir()
        if place != "a new folder":
            write(old, TOKENIZERS[0], where / "model")
        if place == "a link":
            (where / "link").symlink_to("model")
        return where / {"a link": "link"}.get(place, "model")

    def saving(where: Path) -> Callable[[], None]:
        def work() -> None:
            if place == "the working folder":
                os.chdir(where)
            write(new, TOKENIZERS[1], Path(".") if place == "the working folder" else where)

        return work

    path, rehearsal = stage(folder / "real"), stage(folder / "rehearsal")
    target = folder / "real" / "model"
    log.tell(at=f"{saver} to {place}")
    when = killed(saving(path), rng, saving(rehearsal))
    there = "a new folder" != place or (target.exists() and any(not each.name.startswith(".") for each in target.iterdir()))
    if place == "a link" and not path.is_symlink():
        raise Fault(f"killed {when}: the link is gone")
    found, error = log.call(f"opening, killed {when}", lambda: opened(name, write, path), (Exception,))
    if error is None and found not in ("old", "new"):
        raise Fault(f"killed {when}: {found}")
    if error is not None and (place != "a new folder" or (target / "config.json").exists()):
        raise Fault(f"killed {when}: the folder does not open: {type(error).__name__}: {error}; it holds {held(target)}")
    if error is None and found == "old" and not there:
        raise Fault(f"killed {when}: {found}, where there was none")
    for model, tokenizer, expected in ((new, TOKENIZERS[1], "new"), (old, TOKENIZERS[0], "old")):
        _, error = log.call(
            f"saving again, killed {when}", lambda model=model, tokenizer=tokenizer: write(model, tokenizer, path), (Exception,)
        )
        if error is not None or opened(name, write, path) != expected:
            raise Fault(f"killed {when}: saving again gives {error!r}; the folder holds {held(target)}")
    left = [each for each in (*held(target), *held(target.parent)) if each.startswith(".") or "unfinished" in each or "replaced" in each]
    if left:
        raise Fault(f"killed {when}: {left} is left behind after the next two savings")


def opened(name: str, write: Callable, path: Path) -> str:
    """``old`` or ``new``, if the folder holds all of that one and nothing of the other; else what is wrong with it."""
    if write is shipped:
        model, tokenizer = load(path)
    else:
        model, tokenizer = type(MODELS[name][0]).from_pretrained(path), None
    for number, each in enumerate(MODELS[name]):
        if same(model, each) and model.config.__class__ is each.config.__class__:
            other = tokenizer is not None and tokenizer.vocab_size != TOKENIZERS[number].vocab_size
            mean = getattr(each.config, "image_mean", None)
            if other or (mean is not None and getattr(model.config, "image_mean", None) != mean):
                return "a mix: the weights of one, tokenizer or pictures of the other"
            return ("old", "new")[number]
    return "neither the old nor the new model"


def held(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


# ---- training -------------------------------------------------------------------------------------------------------


def kill_training(rng: random.Random, folder: Path, log: Log, times: int) -> None:
    log.tell(at="training")
    whens: list[str] = []
    for number in range(times):
        work, rehearsal = (partial(training, folder / name, steps=STEPS) for name in ("run", f"rehearsal{number}"))
        whens.append(killed(work, rng, rehearsal))
        found, error = log.call(f"latest_checkpoint, killed {whens}", lambda: latest_checkpoint(folder / "run"), (Exception,))
        if error is not None:
            raise Fault(f"killed {whens}: {error}")
    (model, history), error = log.call(f"resuming, killed {whens}", lambda: training(folder / "run", steps=STEPS), (Exception,))
    if error is not None:
        raise Fault(f"killed {whens}: resuming gives {error!r}")
    expected, whole = UNDISTURBED
    if not same(model, expected) or history.losses != whole.losses:
        raise Fault(f"killed {whens}: other weights or losses than undisturbed")
    left = [name for name in held(folder / "run") if not name.startswith("step-")]
    if left or len(held(folder / "run")) != 2:
        raise Fault(f"killed {whens}: the folder holds {held(folder / 'run')}")
