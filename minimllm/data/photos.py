"""Photographs: the two that come with scikit-learn, pictures of one's own, and folders of them."""

import contextlib
import os
import threading
import warnings
from collections.abc import Callable
from io import BytesIO
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Float, Int
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from minimllm.data.pictures import decode, frame_count
from minimllm.data.preprocessing import Preparation
from minimllm.data.resizing import BILINEAR, resized_part

_FILES = {"china": "china.jpg", "flower": "flower.jpg"}


def photo_names() -> tuple[str, ...]:
    """The photographs that :func:`photo` knows."""
    return tuple(_FILES)


def photo(name: str) -> Image.Image:
    """A photograph that comes with scikit-learn, 640 x 427 pixels in colour: ``china``, a temple, or ``flower``, a dahlia.

    Raises:
        ValueError: another name.
    """
    if name not in _FILES:
        raise ValueError(f"unknown photograph {name!r}; choose one of {', '.join(_FILES)}, or open a file of your own with open_picture")
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(_FILES[name]))


def open_picture(path: str | PathLike) -> Image.Image:
    """A picture of one's own, read completely, upright as its camera noted (EXIF), as RGB; what is transparent becomes white.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a picture, is damaged or cut short, is animated, is too large to be meant, or of floats (mode F).
    """
    path = Path(path)
    if not os.path.exists(path):  # not path.exists(), which fails for a path that is too long
        raise FileNotFoundError(f"there is no picture at {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a picture")
    if not path.is_file():
        raise ValueError(f"{path} is neither a file nor a folder")
    return read_picture(path, str(path))


# The filter of warnings is one for all threads: who leaves puts back what was found on entering, another's "error" among it.
_OPENING = threading.Lock()


def read_picture(file: str | PathLike | BytesIO, path: str) -> Image.Image:
    """As :func:`open_picture`, of an open file too; ``path`` is how messages call it."""
    try:
        with contextlib.ExitStack() as opened:
            with _OPENING, warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                picture = opened.enter_context(Image.open(file))
                frames = frame_count(picture)
            upright = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture, or not of a kind that Pillow reads") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise ValueError(f"{path} is too large: {problem}") from None
    except Exception as problem:  # the decoders raise many kinds
        raise ValueError(f"{path} is damaged or cut short: {str(problem) or type(problem).__name__}") from None
    if frames > 1:
        raise ValueError(f"{path} is animated: it holds {frames} pictures, expected one; save the one you mean by itself")
    return decode(upright, path)


def as_tensor(picture: Image.Image, size: int | None = None) -> Float[Tensor, "channels height width"]:
    """A PIL picture as numbers in [0, 1]; with ``size``, its short side brought to ``size`` pixels and the middle square cut out."""
    from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype

    if size is not None:
        height, width = Preparation(size=size).resized(picture.height, picture.width, (size, size))
        window = (round((height - size) / 2), round((width - size) / 2), size, size)
        picture = resized_part(picture, (height, width), window, BILINEAR)
    return to_dtype(pil_to_tensor(picture), torch.float32, scale=True)


def picture_folder(folder: str | PathLike, size: int = 32) -> tuple[Float[Tensor, "n 3 size size"], Int[Tensor, "n"], list[str]]:
    """A folder of one's own pictures, one sub-folder per class, as ``(images in [0, 1], labels, class names)``.

    The layout is that of ``torchvision.datasets.ImageFolder``, which does the finding; classes and files are in alphabetical order. All
    pictures are held in memory.

    Raises:
        FileNotFoundError: no such folder, no class in it, or a class without pictures.
        ValueError: a picture that :func:`open_picture` refuses, by name; a link that leads back to a folder in which it lies.
    """
    from torchvision.datasets import ImageFolder

    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder at {folder}")
    _refuse_circles(folder)
    return _stacked(ImageFolder(folder, loader=open_picture), lambda picture: as_tensor(picture, size))


def _refuse_circles(folder: str | PathLike, above: tuple[str, ...] = ()) -> None:
    """``ImageFolder`` follows links, and would go round and round."""
    real = os.path.realpath(folder)
    if real in above:
        raise ValueError(f"{folder} is a link that leads back to {real}, in which it lies; remove it")
    _, inside, _ = next(os.walk(folder), ("", [], []))
    for name in inside:
        _refuse_circles(os.path.join(folder, name), (*above, real))


def public_dataset(
    name: str, split: str, folder: str | PathLike, download: bool = False
) -> tuple[Float[Tensor, "n channels side side"], Int[Tensor, "n"], list[str]]:
    """MNIST or CIFAR-10 through ``torchvision.datasets``, as ``(images in [0, 1], labels, class names)``.

    Args:
        name: ``MNIST`` (1 x 28 x 28) or ``CIFAR10`` (3 x 32 x 32).
        split: ``train`` or ``test``.
        folder: where the files are, or are to be put.
        download: fetch them if they are not there; without it, nothing touches the network.

    Raises:
        ValueError: another name or split.
        FileNotFoundError: the files are not there.
        RuntimeError or URLError: they could not be fetched.
    """
    from torchvision import datasets

    if name not in ("MNIST", "CIFAR10"):
        raise ValueError(f"unknown data set {name!r}; choose MNIST or CIFAR10")
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r}; {name} has train and test")
    try:
        dataset = getattr(datasets, name)(folder, train=split == "train", download=download)
    except RuntimeError:
        if download:
            raise
        raise FileNotFoundError(f"{name} is not in {folder} (or damaged there); with a network, call again with download=True") from None
    return _stacked(dataset, as_tensor)


def _stacked(dataset, convert: Callable[[Image.Image], Tensor]) -> tuple[Tensor, Tensor, list[str]]:
    images, labels = zip(*((convert(picture), label) for picture, label in dataset), strict=True)
    return torch.stack(images), torch.tensor(labels), list(dataset.classes)
