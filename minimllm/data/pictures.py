"""Pictures as people have them, of any mode, become RGB of eight bits: one treatment at every entrance of the package."""

from collections.abc import Iterable
from os import PathLike
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

SIXTEEN_BITS = 65_535  # the largest value of modes I and I;16, by Pillow's own convention for files of 16 bits


def to_rgb(picture: Image.Image) -> Image.Image:
    """RGB from any mode; what is transparent is laid on white, as the image processors of transformers 5 do. EXIF is not applied.

    Modes I and I;16 hold 0 to 65,535 and are scaled by that. Here transformers cuts at 255, which turns such pictures white.

    Raises:
        ValueError: mode F, whose floats have no range; mode I with values outside 0 to 65,535; a mode that Pillow cannot convert.
    """
    if picture.mode == "F":
        raise ValueError("mode F has floats without a range; bring them to bytes, and give Image.fromarray(bytes)")
    if picture.mode.startswith("I"):
        picture = _eight_bits(picture)
    elif ("A" in picture.getbands() and picture.mode != "LAB") or picture.info.get("transparency") is not None:  # LAB's A is a colour
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture.convert("I"))
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > SIXTEEN_BITS:
        raise ValueError(
            f"mode {picture.mode} is read as 0 to {SIXTEEN_BITS:,}, and the values reach from {lowest:,} to {highest:,}; scale them first"
        )
    grey = ((values.astype(np.uint32) * 255 + SIXTEEN_BITS // 2) // SIXTEEN_BITS).astype(np.uint8)
    shade = picture.info.get("transparency")
    if isinstance(shade, int):
        grey[values == shade] = 255
    return Image.fromarray(grey)


def frame_count(picture: Image.Image) -> int:
    """Pictures in a file. A camera's MPO file is one photograph with previews, or seen by two lenses: its first picture counts."""
    return 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)


def decode(picture: Image.Image, where: str) -> Image.Image:
    """The picture, decoded to its end, as RGB.

    Args:
        where: where it stands in the batch, for messages, which name its file as well.

    Raises:
        ValueError: a picture of 0 pixels or far too many, an animation, a file that cannot be read to its end, what :func:`to_rgb` refuses.
    """
    name = f"{where} ({picture.filename})" if getattr(picture, "filename", None) else where
    if 0 in picture.size:
        raise ValueError(f"{name} has {picture.height} x {picture.width} pixels; each side needs 1 pixel or more")
    check_area(picture.width * picture.height, f"{name} has {picture.height} x {picture.width} pixels")
    try:
        frames = frame_count(picture)
        picture.load()
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large: {error}; shrink it") from error
    except Exception as error:  # the decoders raise many kinds
        told = str(error) or type(error).__name__
        raise ValueError(f"{name} cannot be read to its end: {told}; open the file again, or fetch it anew") from error
    if frames > 1:
        raise ValueError(
            f"{name} is an animation of {frames} frames, or has so many pages; choose one: picture.seek(number), then picture.copy()"
        )
    try:
        return to_rgb(picture)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as RGB: {error}") from error


def check_area(pixels: int, told: str) -> None:
    """Raise a ``ValueError`` for more pixels than Pillow itself opens: twice ``PIL.Image.MAX_IMAGE_PIXELS``."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > 2 * most:
        raise ValueError(f"{told}, too many to be meant (PIL.Image.MAX_IMAGE_PIXELS allows {2 * most:,}); shrink it")


def as_pictures(pictures: Any) -> Tensor | list[Image.Image | Tensor]:
    """What may be given as pictures: a tensor stays as it is, a Pillow picture becomes a list of one.

    Raises:
        ValueError: a path, an array, or something else in the list than Pillow pictures and tensors.
    """
    if isinstance(pictures, Tensor):
        return pictures
    if isinstance(pictures, Image.Image):
        return [pictures]
    if isinstance(pictures, str | PathLike):
        raise ValueError(f"expected a tensor or Pillow pictures, got the path {str(pictures)!r}; open it first: PIL.Image.open(path)")
    given = list(pictures) if isinstance(pictures, Iterable) and not isinstance(pictures, bytes | np.ndarray) else None
    if given is None:
        raise ValueError(f"expected a tensor or Pillow pictures, got a {type(pictures).__name__}; for an array of bytes, Image.fromarray")
    for number, picture in enumerate(given):
        if not isinstance(picture, Image.Image | Tensor):
            told = f"a {type(picture).__name__}" + (f" ({str(picture)!r})" if isinstance(picture, str | PathLike) else "")
            raise ValueError(
                f"expected a tensor or Pillow pictures, and picture {number} is {told}; Image.open takes a path, Image.fromarray bytes"
            )
    return given


def as_picture(image: Float[Tensor, "channels height width"]) -> Image.Image:
    """A Pillow picture from floats in [0, 1], each rounded to the nearest of 256 levels (torchvision's own conversion cuts off)."""
    from torchvision.transforms.v2.functional import to_pil_image

    return to_pil_image(image.detach().float().mul(255).round().byte().cpu())
