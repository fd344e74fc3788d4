"""Gives a picture to every entrance for pictures, and judges what comes back beside Pillow's own reading of the same picture."""

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from soak import picture_contents, picture_files, picture_paths, pictures  # noqa: F401 (each adds its kinds)
from soak.pool import Fault, Log

import minimllm
from minimllm import (
    CLIP,
    CLIPConfig,
    CrossAttentionConfig,
    CrossAttentionMLLM,
    LlamaVision,
    LlamaVisionConfig,
    Tokenizer,
    UnifiedConfig,
    UnifiedMLLM,
    answer,
    describe_pictures,
    prepare_tiles,
    preprocess,
    zero_shot,
)
from minimllm.data.photos import as_tensor, open_picture, picture_folder

COUNT, KINDS = 500, pictures.KINDS
HALF = (0.5,) * 3
LEVELS = 2.01 / 255  # two steps of a byte: one where 16 bits or transparency were rounded otherwise, one where that is resized
DOCUMENTED = (ValueError,)


def prepare(folder: Path) -> None:
    """Build the models once; the cases are forked from here."""
    global TOKENIZER, CLASSIFIER, MODELS
    TOKENIZER = Tokenizer.from_texts(
        ["what colour is the star ?", "a red star and a blue ring", *(f"word{number}" for number in range(30))]
    )
    CLASSIFIER = CLIP(CLIPConfig.tiny(TOKENIZER.vocab_size, TOKENIZER.eos_token_id)).eval()
    image = TOKENIZER.image_token_id
    MODELS = {
        "unified": UnifiedMLLM(UnifiedConfig.tiny(TOKENIZER.vocab_size, image)).eval(),
        "cross-attention": CrossAttentionMLLM(CrossAttentionConfig.tiny(TOKENIZER.vocab_size)).eval(),
        "Llama 3.2 Vision": LlamaVision(LlamaVisionConfig.tiny(TOKENIZER.vocab_size, image_token_id=image)).eval(),
    }
    good = Image.new("RGB", (9, 5), "red")
    for use in entrances().values():  # what is imported and made at the first use
        use(good)
    good.save(folder / "good.png")
    picture_folder_of(folder, folder / "good.png", None)
    shutil.rmtree(folder / "root")


def entrances() -> dict[str, Callable]:
    """What takes a Pillow picture, each as a function of it; beside another, so that it is named by its place."""
    question = ["what colour is the star ?"]
    found = {
        "preprocess": lambda picture: preprocess(picture, 32, HALF, HALF),
        "preprocess to grey": lambda picture: preprocess([picture], 32, (0.5,), (0.5,)),
        "prepare_tiles": lambda picture: prepare_tiles([[picture]], 24, mean=HALF, std=HALF).pixel_values,
        "zero_shot": lambda picture: zero_shot(CLASSIFIER, TOKENIZER, [picture], ["red star", "blue ring"]),
    }
    if hasattr(minimllm, "split_pictures"):
        found["split_pictures"] = lambda picture: minimllm.split_pictures([picture], tile_size=32, longest_edge=64)[0].images
    if hasattr(minimllm, "prepare_pictures"):
        found["prepare_pictures"] = lambda picture: minimllm.prepare_pictures(CLASSIFIER, [picture])
    for name, model in MODELS.items():
        found[f"answer of {name}"] = lambda picture, model=model: answer(model, TOKENIZER, [picture], question, max_new_tokens=1)
    found["describe_pictures"] = lambda picture: describe_pictures(MODELS["unified"], TOKENIZER, picture, max_new_tokens=1)
    return found


NUMBERS = ("preprocess", "preprocess to grey", "prepare_tiles", "split_pictures", "prepare_pictures")


def run(seed: int, folder: Path, log: Log) -> None:
    kind = pictures.kind_of(seed)
    log.tell(kind=kind)
    warnings.simplefilter("ignore")
    subject = pictures.make(seed, folder)
    log.tell(at="Pillow's own reading")
    filters, limit = warnings.filters[:], Image.MAX_IMAGE_PIXELS
    if subject.path is not None:
        check_files(subject, log, folder)
    if subject.must != "refused" or subject.path is None:
        check_pictures(subject, log)
    if warnings.filters != filters or Image.MAX_IMAGE_PIXELS != limit:
        raise Fault("the warnings or Pillow's limit are others than before")


# ---- what Pillow reads ----------------------------------------------------------------------------------------------


def on_white(picture: Image.Image) -> np.ndarray | None:
    """The picture as ``(height, width, 3)`` numbers from 0 to 255, computed in floats; ``None`` where its mode has no such meaning."""
    if picture.mode == "F":
        return None
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        values = np.asarray(picture if picture.mode == "I" else picture.convert("I"), dtype=np.float64)
        if values.size and (values.min() < 0 or values.max() > 65_535):
            return None
        return np.repeat(values[..., None] / 257, 3, axis=-1)
    try:
        if not picture.has_transparency_data:
            return np.asarray(picture.convert("RGB"))
        values = np.asarray(picture.convert("RGBA"), dtype=np.float64)
    except ValueError:  # no way from this mode to RGB
        return None
    share = values[..., 3:] / 255
    return values[..., :3] * share + 255 * (1 - share)


def reading(subject: pictures.Subject) -> tuple[str, Image.Image | None]:
    """``refused``, ``either`` or ``right``, and the picture as RGB, as Pillow alone reads it."""
    if subject.must == "refused":
        return "refused", None
    try:
        picture = subject.opened()
        frames = getattr(picture, "n_frames", 1)
        picture.load()
        pixels = on_white(picture)
    except Exception:
        return "refused", None
    several = frames > 1 and picture.format != "MPO"
    if several or 0 in picture.size or pixels is None:
        return "refused", None
    return subject.must or "right", Image.fromarray(pixels.round().astype(np.uint8))


def upright(subject: pictures.Subject) -> Image.Image | None:
    """The picture as its camera held it; ``None`` where the camera's notes cannot be read."""
    with contextlib.suppress(Exception):
        return Image.fromarray(on_white(ImageOps.exif_transpose(subject.opened())).round().astype(np.uint8))
    return None


# ---- what the package makes of it -------------------------------------------------------------------------------------


def check_pictures(subject: pictures.Subject, log: Log) -> None:
    """Pillow pictures, opened afresh for every entrance."""
    must, plain = reading(subject)
    if must == "refused" and subject.must != "refused":
        try:
            subject.opened()
        except Exception:  # the user's own call ends so; nothing reaches the package
            return
    for name, use in list(entrances().items())[: 3 if is_large(plain) else None]:
        given = subject.opened()
        value, error = log.call(name, lambda given=given, use=use: use(given))
        judge(name, must, value, error, ["picture", "Pillow", "expected"] if subject.path is None else ["picture 0", subject.path.name])
        if error is None and name in NUMBERS:
            equal(name, value, use(plain), 2 * LEVELS)
        elif error is None and name == "zero_shot":
            equal(name, value, use(plain), 0.05)
        elif error is None and not (isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)):
            raise Fault(f"{name}: gave {value!r}, expected one text")


def check_files(subject: pictures.Subject, log: Log, folder: Path) -> None:
    """The file itself: one picture, and a folder of them."""
    must, plain = reading(subject)
    if plain is not None and plain.width * plain.height > Image.MAX_IMAGE_PIXELS:
        must = "refused"
    kinds = (ValueError, FileNotFoundError) if subject.missing else (ValueError,)
    turned = upright(subject) if must == "right" else plain
    must, turned = ("either", plain) if turned is None else (must, turned)
    value, error = log.call("open_picture", lambda: open_picture(subject.path), kinds)
    judge("open_picture", must, value, error, [str(subject.path), repr(str(subject.path))])
    if error is None and value.mode != "RGB":
        raise Fault(f"open_picture: gave a picture of mode {value.mode}")
    if error is None:
        size = 64 if is_large(turned) else None
        equal("open_picture", as_tensor(value, size), as_tensor(turned, size), LEVELS)
    if subject.missing or subject.path.parent != folder:
        return
    kinds = (ValueError, FileNotFoundError)  # a class without pictures
    found, error = log.call("picture_folder", lambda: picture_folder_of(folder, subject.path, subject.folder), kinds)
    must = must if subject.folder is None else "either"
    judge("picture_folder", must, found, error, [subject.path.name, "class", "again"])
    if error is None and len(found[0]) != 2:
        raise Fault(f"picture_folder: gave {len(found[0])} pictures, and the folder holds 2")
    if error is None:
        equal("picture_folder", found[0][0], as_tensor(turned, 32), LEVELS)


def picture_folder_of(folder: Path, path: Path, prepare: Callable[[Path], None] | None):
    """``picture_folder`` of a class with this file and one with a good file."""
    root = folder / "root"
    for name in "ab":
        (root / name).mkdir(parents=True)
    ending = "" if path.suffix.lower() in pictures.ENDING else ".png"
    os.symlink(path, root / "a" / (path.name[:200] + ending if len(path.name) > 200 else path.name + ending))
    Image.new("RGB", (9, 5), "red").save(root / "b" / "good.png")
    if prepare is not None:
        prepare(root)
    return picture_folder(root)


def is_large(picture: Image.Image | None) -> bool:
    return picture is not None and picture.width * picture.height > 10**7


def judge(where: str, must: str, value: object, error: Exception | None, names: list[str]) -> None:
    if error is None and must == "refused":
        raise Fault(f"{where}: took what is no picture, and gave {str(value)[:200]}")
    if error is not None and must == "right":
        raise Fault(f"{where}: refused a picture that Pillow reads: {error}")
    if error is not None and not any(name in str(error) for name in names):
        raise Fault(f"{where}: the message names neither of {names}: {error}")


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)


def equal(where: str, value: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    if not close(value, expected, tolerance):
        differs = f"by up to {(value - expected).abs().max():.4f}" if value.shape == expected.shape else "in shape"
        raise Fault(f"{where}: {tuple(value.shape)} differs from Pillow's reading, {tuple(expected.shape)}, {differs}")
