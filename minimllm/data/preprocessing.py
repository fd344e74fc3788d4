"""From pictures of any size to what an image encoder was trained on: resize, crop, normalise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from minimllm.data.pictures import as_picture, as_pictures, check_area, decode
from minimllm.data.resizing import BICUBIC, BILINEAR, RESAMPLING, resized_part

BYTE = 1 / 255  # by which a byte becomes a number in [0, 1]


@dataclass(frozen=True)
class Preparation:
    """How a checkpoint wants its pictures, mean and standard deviation aside; by default as OpenAI's CLIP. Each is an option of a
    ``preprocessor_config.json``, which :mod:`minimllm.weights.processors` reads and writes.

    Attributes:
        resize: whether pictures are resized (``do_resize``).
        size: the shorter side (``shortest_edge``), or ``(height, width)``; ``None``: the model's own, its side where the centre is cut
            out of a picture, and else its height and width.
        center_crop: whether the model's height and width are cut out of the middle, black where a picture is smaller (``do_center_crop``).
        pad: whether pictures are first made square with a margin of the mean colour, as LLaVA-1.5 was trained (``do_pad``).
        resample: the filter by Pillow's number (2 bilinear, 3 bicubic ...).
        rescale_factor: by which bytes are multiplied before they are normalised (``do_rescale``).
        convert_rgb: whether a picture of another mode becomes RGB; else it is refused (``do_convert_rgb``).
        longest_edge: for a model that sees cut pictures, as :func:`~minimllm.data.splitting.split_pictures` makes them: the longer side
            before they are cut. Of the other options ``resample``, ``rescale_factor`` and ``convert_rgb`` then count. ``None``: whole ones.
        split: whether such a model's pictures are really cut (``do_image_splitting``).
    """

    resize: bool = True
    size: int | tuple[int, int] | None = None
    center_crop: bool = True
    pad: bool = False
    resample: int = BICUBIC
    rescale_factor: float = BYTE
    convert_rgb: bool = True
    longest_edge: int | None = None
    split: bool = True

    def __post_init__(self):
        if self.resample not in RESAMPLING:
            raise ValueError(f"resample must be one of Pillow's filters, {RESAMPLING[0]} to {RESAMPLING[-1]}; got {self.resample!r}")
        if not self.rescale_factor > 0:
            raise ValueError(f"rescale_factor must be above 0, got {self.rescale_factor}")
        if self.longest_edge is not None:
            check_tile_size(self.longest_edge, "longest_edge")

    def resized(self, height: int, width: int, model: tuple[int, int]) -> tuple[int, int]:
        """To what size a picture of ``height`` x ``width`` pixels is resized, for a model of images of the size ``model``."""
        if not self.resize:
            return height, width
        size = self.size
        if size is None:
            if self.center_crop and model[0] != model[1]:
                raise ValueError(f"the centre is cut out as a square, and this model was made for images of {model[0]} x {model[1]} pixels")
            size = model[0] if self.center_crop else model
        if not isinstance(size, int):
            return size
        longer = int(size * max(height, width) / min(height, width))
        return (longer, size) if width <= height else (size, longer)


STRETCHED = Preparation(center_crop=False, resample=BILINEAR)  # as ViTs are published: to the model's size, whatever the proportions


def normalise(
    images: Float[Tensor, "batch channels height width"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch channels height width"]:
    """``(images - mean) / std``, channel by channel."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def preprocess(
    images: Float[Tensor, "batch channels height width"] | Image.Image | Sequence[Image.Image | Tensor],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Float[Tensor, "batch channels image_size image_size"]:
    """Shortest side to ``image_size`` (bicubic), square from the centre, normalised: the preparation that OpenAI published with CLIP.

    Pillow pictures are resized as bytes, by Pillow, as there; tensors as floats, and cut back to [0, 1], which bicubic overshoots.
    The crop starts at half of what is left over, rounded to even as torchvision does. ``transformers``, and so
    :func:`prepare_pictures`, rounds down, so that its crop lies one pixel further up or left where the excess is 3, 7, 11 ... pixels.
    A picture becomes RGB before it is resized, as in ``transformers`` 5; OpenAI's code does so afterwards, and drops what is transparent.

    Args:
        images: ``(batch, channels, height, width)`` floats in [0, 1], or Pillow pictures of any mode and size (EXIF is not applied), or
            a list that may hold tensors ``(channels, height, width)`` as well.
        image_size: side of the result in pixels.
        mean, std: one number per channel.

    Returns:
        ``(batch, channels, image_size, image_size)``.

    Raises:
        ValueError: no images, tensors that are no floats in [0, 1] (or NaN), a number of channels that mean and std do not have, and
            pictures that :func:`~minimllm.data.pictures.decode` refuses.
    """
    return _prepared(images, (image_size, image_size), mean, std, Preparation(), lambda excess: round(excess / 2))


def prepare_pictures(
    model: Any, pictures: Float[Tensor, "pictures channels height width"] | Image.Image | Sequence[Image.Image | Tensor]
) -> Float[Tensor, "pictures channels model_height model_width"]:
    """Pictures as the model's checkpoint asks for them: equal to what its processor in ``transformers`` (the one that uses Pillow) makes.

    Args:
        model: a ViT, a CLIP, or a multimodal model whose image encoder sees whole pictures; its ``config`` has the options of the
            checkpoint's ``preprocessor_config.json``.
        pictures: Pillow pictures of any mode and size (EXIF is not applied), floats in [0, 1] (a batch, or in the list one by one).

    Returns:
        ``(pictures, channels, height, width)``, the model's own size; of Pillow pictures in float32, of tensors in their type.

    Raises:
        ValueError: a model that does not see whole pictures, a picture that does not come out at the model's size; and as
            :func:`preprocess`.
    """
    config = model.config
    use = None
    if hasattr(model, "prepare_tiles"):
        use = "cuts pictures into tiles: model.prepare_tiles([[picture], ...])"
    elif not hasattr(config, "preparation"):
        use = "sees no pictures"
    elif config.preparation.longest_edge is not None:
        use = "of this checkpoint cuts pictures into sub-pictures: model.split_pictures([picture, ...])"
    if use is not None:
        raise ValueError(f"a {type(model).__name__} {use}")
    encoder = getattr(config, "image", None) or getattr(config, "vision", None) or config
    mean, std = (given or (0.5,) * encoder.channels for given in (config.image_mean, config.image_std))
    return _prepared(pictures, encoder.size, mean, std, config.preparation, lambda excess: excess // 2)


def _prepared(
    images: Any, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], steps: Preparation, half: Callable[[int], int]
) -> Tensor:
    """Every picture at the model's size and normalised; ``half`` says how many of the pixels left over lie before the crop."""
    images = as_pictures(images)
    if isinstance(images, Tensor):
        check_range(images, len(mean))
        return normalise(_sized(images, "images", size, mean, steps, half).clamp(0, 1) * (255 * steps.rescale_factor), mean, std)
    if not images:
        raise ValueError("expected a tensor or Pillow pictures, at least one; got none")
    tensors = []
    for number, picture in enumerate(images):
        name = f"picture {number}"
        if isinstance(picture, Tensor):
            picture = check_range(picture[None], len(mean))
            picture = _sized(picture, name, size, mean, steps, half)[0].clamp(0, 1) * (255 * steps.rescale_factor)
        else:
            picture = _sized(as_mode(picture, name, len(mean), steps), name, size, mean, steps, half)
            numbers = np.asarray(picture, dtype=np.float64) * steps.rescale_factor
            picture = torch.from_numpy(numbers.astype(np.float32)).view(*size, -1).permute(2, 0, 1)
        tensors.append(picture)
    return normalise(torch.stack(tensors), mean, std)


def as_mode(picture: Image.Image, name: str, channels: int, steps: Preparation) -> Image.Image:
    """The picture, decoded: RGB, or grey for a model of one channel; errors as :func:`~minimllm.data.pictures.decode`."""
    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None:
        raise ValueError(f"Pillow pictures become grey or RGB, and this model takes {channels} channels; give a tensor")
    if channels == 3 and not steps.convert_rgb and picture.mode != mode:
        told = f"{name} is of mode {picture.mode}, and the model's checkpoint has do_convert_rgb = False"
        raise ValueError(f"{told}: it takes pictures of mode RGB alone; picture.convert('RGB') makes one")
    return decode(picture, name).convert(mode)


def _sized(image: Any, name: str, size: tuple[int, int], mean: Sequence[float], steps: Preparation, half: Callable[[int], int]) -> Any:
    """A Pillow picture, or tensors, at the model's size: made square, resized and cropped as the steps say."""
    height, width = image.shape[-2:] if isinstance(image, Tensor) else (image.height, image.width)
    if steps.pad and height != width:
        image = _square(image, name, mean)
        height = width = max(height, width)
    resized = steps.resized(height, width, size)
    if not steps.center_crop and resized != size:
        options = f"do_resize = {steps.resize}, size = {steps.size}, do_center_crop = False"
        raise ValueError(
            f"{name}: {height} x {width} pixels become {resized[0]} x {resized[1]} as the model's checkpoint has it ({options}), and the "
            f"model takes {size[0]} x {size[1]}; crop the picture to these proportions first"
        )
    window = (half(resized[0] - size[0]), half(resized[1] - size[1]), *size) if steps.center_crop else (0, 0, *size)
    try:
        return resized_part(image, resized, window, steps.resample)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _square(image: Any, name: str, mean: Sequence[float]) -> Any:
    """In the middle of a square of the mean colour."""
    colour = tuple(int(value * 255) for value in mean)
    height, width = image.shape[-2:] if isinstance(image, Tensor) else (image.height, image.width)
    side = max(height, width)
    check_area(side * side, f"{name} fills a square of {side} x {side} pixels (do_pad of the model's checkpoint)")
    left, top = (side - width) // 2, (side - height) // 2
    if isinstance(image, Tensor):
        square = (image.new_tensor(colour) / 255).view(-1, 1, 1).expand(*image.shape[:-2], side, side).clone()
        square[..., top : top + height, left : left + width] = image
        return square
    square = Image.new(image.mode, (side, side), colour if len(colour) > 1 else colour[0])
    square.paste(image, (left, top))
    return square


def as_pillow(images: Any) -> list[Image.Image]:
    """Pictures as Pillow's, for what cuts pictures; floats in [0, 1] of three channels are rounded to bytes."""
    return [as_picture(check_range(image[None], channels=3)[0]) if isinstance(image, Tensor) else image for image in as_pictures(images)]


def check_range(images: Tensor, channels: int) -> Tensor:
    """Raise a ``ValueError`` unless these are float images in [0, 1] with this many channels."""
    if images.ndim != 4 or 0 in images.shape or not images.is_floating_point():
        hint = "" if images.is_floating_point() else "; of bytes, images / 255"
        raise ValueError(f"expected float images of shape (batch, channels, height, width), got {images.dtype} {tuple(images.shape)}{hint}")
    if images.shape[1] != channels:
        raise ValueError(f"expected images with {channels} channels, got {images.shape[1]} in {tuple(images.shape)}")
    if not ((images >= 0) & (images <= 1)).all():  # a comparison with NaN is False
        lowest, highest = images.aminmax()
        raise ValueError(f"expected images in [0, 1], not yet normalised; these reach from {lowest:g} to {highest:g}")
    return images


def check_tile_size(tile_size: int, name: str = "tile_size") -> None:
    if not isinstance(tile_size, int) or isinstance(tile_size, bool) or tile_size < 1:
        raise ValueError(f"{name} must be a whole number of pixels, 1 or more; got {tile_size!r}")


def channel_values(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    try:
        values = [torch.tensor([float(each) for each in given]).view(3, 1, 1) for given in (mean, std)]
        fits = bool(torch.cat(values).isfinite().all()) and bool((values[1] > 0).all())
    except (TypeError, ValueError, RuntimeError):  # a single number, a text, another number of channels
        fits = False
    if not fits:
        raise ValueError(f"mean and std need one number for each of 3 channels, std above 0; got {mean!r} and {std!r}")
    return values[0], values[1]
