"""From pictures of any size to what an image encoder was trained on: resize, crop, normalise, with torchvision."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms


def normalise(
    images: Float[Tensor, "batch channels height width"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch channels height width"]:
    """``(images - mean) / std``, channel by channel."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def preprocess(
    images: Float[Tensor, "batch channels height width"] | Image.Image | Sequence[Image.Image],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Float[Tensor, "batch channels image_size image_size"]:
    """Shortest side to ``image_size`` (bicubic), square from the centre, normalised: the preparation that OpenAI published with CLIP.

    Pillow pictures are resized as bytes, by Pillow, as there; tensors as floats, and cut back to [0, 1], which bicubic overshoots.
    The crop starts at half of what is left over, rounded to even as torchvision does. ``transformers`` rounds down, so that its crop
    lies one pixel further up or left where the excess is 3, 7, 11 ... pixels.

    Args:
        images: ``(batch, channels, height, width)`` floats in [0, 1], or Pillow pictures of any mode and size (EXIF is not applied).
        image_size: side of the result in pixels.
        mean, std: one number per channel.

    Returns:
        ``(batch, channels, image_size, image_size)``.

    Raises:
        ValueError: no images, tensors that are no floats in [0, 1] (or NaN), a number of channels that mean and std do not have, and
            pictures that :func:`decode` refuses.
    """
    if isinstance(images, Tensor):
        return normalise(fit(check_range(images, len(mean)), image_size).clamp(0, 1), mean, std)
    pictures = [images] if isinstance(images, Image.Image) else list(images)
    wrong = next((type(picture).__name__ for picture in pictures if not isinstance(picture, Image.Image)), None)
    if not pictures or wrong:
        raise ValueError(f"expected a tensor or Pillow pictures, at least one; got {wrong or 'none'}")
    mode = {1: "L", 3: "RGB"}.get(len(mean))
    if mode is None:
        raise ValueError(f"Pillow pictures become grey or RGB, and this model takes {len(mean)} channels; give a tensor")
    pictures = [decode(picture, f"picture {number}", lambda whole: whole.convert(mode)) for number, picture in enumerate(pictures)]
    tensors = [transforms.to_dtype(transforms.to_image(fit(picture, image_size)), torch.float32, scale=True) for picture in pictures]
    return normalise(torch.stack(tensors), mean, std)


def decode(picture: Image.Image, where: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The picture, decoded to its end and converted.

    Args:
        where: where it stands in the batch, for messages, which name its file as well.
        convert: to the mode that is wanted.

    Raises:
        ValueError: a picture of 0 pixels, an animation, a file that cannot be read to its end.
    """
    name = f"{where} ({picture.filename})" if getattr(picture, "filename", None) else where
    if 0 in picture.size:
        raise ValueError(f"{name} has {picture.height} x {picture.width} pixels; each side needs 1 pixel or more")
    try:
        # A camera's MPO file is one photograph with previews, and no animation.
        frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        picture.load()
        converted = convert(picture)
    except Exception as error:  # the decoders raise many kinds
        told = str(error) or type(error).__name__
        raise ValueError(f"{name} cannot be read to its end: {told}; open the file again, or fetch it anew") from error
    if frames > 1:
        raise ValueError(
            f"{name} is an animation of {frames} frames, or has so many pages; choose one: picture.seek(number), then picture.copy()"
        )
    return converted


def fit(image, image_size: int):
    """Resize the shortest side and crop the centre; Pillow picture in, Pillow picture out, and so with tensors."""
    height, width = transforms.get_size(image)
    if (height, width) == (image_size, image_size):
        return image
    image = transforms.resize(image, [image_size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return transforms.center_crop(image, [image_size, image_size])


def check_range(images: Tensor, channels: int) -> Tensor:
    """Raise a ``ValueError`` unless these are float images in [0, 1] with this many channels."""
    if images.ndim != 4 or 0 in images.shape or not images.is_floating_point():
        raise ValueError(f"expected float images of shape (batch, channels, height, width), got {images.dtype} {tuple(images.shape)}")
    if images.shape[1] != channels:
        raise ValueError(f"expected images with {channels} channels, got {images.shape[1]}")
    if not ((images >= 0) & (images <= 1)).all():  # a comparison with NaN is False
        lowest, highest = images.aminmax()
        raise ValueError(f"expected images in [0, 1], not yet normalised; these reach from {lowest:g} to {highest:g}")
    return images
