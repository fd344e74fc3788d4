"""Reads and writes how a checkpoint wants its pictures: ``preprocessor_config.json``, or in transformers 5 ``processor_config.json``.

Every option by which the processors of transformers change pictures is read, and one that is not implemented is a ``ValueError`` that
names it, as in ``config.json``.
"""

import math
from pathlib import Path
from typing import Any

from minimllm.data.preprocessing import BYTE, Preparation
from minimllm.data.resizing import BICUBIC, BILINEAR, LANCZOS, RESAMPLING
from minimllm.weights.tensors import read_json

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of the pictures that OpenAI trained on
HALF = (0.5, 0.5, 0.5)

# The image processors of transformers that are understood, and what each takes for an option that a file leaves out.
_CLIP = dict(do_center_crop=True, resample=BICUBIC, image_mean=MEAN, image_std=STD, default_to_square=False)
_VIT = dict(do_center_crop=False, resample=BILINEAR, image_mean=HALF, image_std=HALF, default_to_square=True)
_SPLIT = dict(resample=LANCZOS, image_mean=HALF, image_std=HALF, do_image_splitting=True)
DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": _CLIP,
    "LlavaImageProcessor": _CLIP,
    "ViTImageProcessor": _VIT,
    "MllamaImageProcessor": _VIT,
    "SmolVLMImageProcessor": _SPLIT,
    "Idefics3ImageProcessor": _SPLIT,
}
SPLIT = ("SmolVLMImageProcessor", "Idefics3ImageProcessor")
WHOLE = ("CLIPImageProcessor", "LlavaImageProcessor", "ViTImageProcessor")


class Options:
    """The options of a folder's image processor; what a file leaves out is at the processor's own default.

    Args:
        folder: of the checkpoint.
        processor: which one it is where the file does not say.
        understood: which ones the model can follow.
    """

    def __init__(self, folder: Path, processor: str, understood: tuple[str, ...]):
        self.path, values = picture_file(folder)
        self.given, self.values = values is not None, values or {}
        for name in ("feature_extractor_type", "image_processor_type"):  # the older and the newer one, which counts
            if self.values.get(name) is not None:
                processor = str(self.values[name]).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
                if processor not in understood:
                    self.refuse(name, f"which is not implemented; implemented: {', '.join(understood)}")
        self.processor = processor
        self.defaults = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True, **DEFAULTS[processor]}

    def refuse(self, name: str, why: str) -> None:
        raise ValueError(f"{self.path} has {name} = {self.values.get(name)!r}, {why}")

    def flag(self, name: str) -> bool:
        value = self.values.get(name, self.defaults.get(name))
        if not isinstance(value, bool | None):
            self.refuse(name, "expected true or false")
        return bool(value)  # null is false, too

    def converts(self) -> bool:
        """Whether a picture of another mode becomes RGB; so it does where the file does not say, and transformers has an error."""
        return self.values.get("do_convert_rgb") is None or self.flag("do_convert_rgb")

    def sides(self, name: str, square: bool) -> int | tuple[int, int] | None:
        """A size: the shorter side, or ``(height, width)``; ``None`` where the file leaves it out."""
        value = self.values.get(name)
        if value is None:
            return None
        value = {key: side for key, side in value.items() if side is not None} if isinstance(value, dict) else value
        if isinstance(value, int):
            sides = [value, value] if square else [value]
        elif isinstance(value, list) and len(value) == 2:
            sides = value
        elif isinstance(value, dict) and value.keys() == {"height", "width"}:
            sides = [value["height"], value["width"]]
        elif isinstance(value, dict) and value.keys() == {"shortest_edge"} and not (square and name == "crop_size"):
            sides = [value["shortest_edge"]]
        else:
            sides = []
        if not sides or not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 2**31 for side in sides):
            self.refuse(name, "which is not implemented; implemented: whole numbers for height and width, or for shortest_edge of a size")
        return sides[0] if len(sides) == 1 else (sides[0], sides[1])

    def longest_edge(self, name: str, default: int) -> int:
        """A size that says the longer side alone."""
        value = self.values.get(name)
        if value is None:
            return default
        edge = value.get("longest_edge") if isinstance(value, dict) else None
        others = [key for key, side in value.items() if side is not None and key != "longest_edge"] if isinstance(value, dict) else []
        if type(edge) is not int or edge < 1 or others:
            self.refuse(name, "expected longest_edge alone, a whole number of pixels")
        return edge

    def numbers(self, name: str, channels: int) -> tuple[float, ...]:
        """The mean or the standard deviation, a number for each channel."""
        value = self.values.get(name, self.defaults[name])
        if name not in self.values and channels != 3:
            value = [0.0 if name == "image_mean" else 1.0] * channels
        fine = isinstance(value, list | tuple) and len(value) == channels
        fine = fine and all(isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in value)
        if not fine or (name == "image_std" and min(value) <= 0):
            self.refuse(name, f"expected a number for each of {channels} channels, and deviations above 0")
        return tuple(float(each) for each in value)

    def rescaling(self) -> float:
        if not self.flag("do_rescale"):
            return 1.0
        value = self.values.get("rescale_factor", BYTE)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            self.refuse("rescale_factor", "expected a number above 0")
        return float(value)

    def resampling(self) -> int:
        value = self.values.get("resample", self.defaults["resample"])
        if not isinstance(value, int) or isinstance(value, bool) or value not in RESAMPLING:
            self.refuse("resample", f"which is not implemented; implemented: Pillow's filters {RESAMPLING[0]} to {RESAMPLING[-1]}")
        return value

    def normalisation(self, channels: int) -> dict[str, tuple[float, ...]]:
        """``image_mean`` and ``image_std``; 0 and 1 where pictures are not normalised."""
        if not self.flag("do_normalize"):
            return {"image_mean": (0.0,) * channels, "image_std": (1.0,) * channels}
        return {name: self.numbers(name, channels) for name in ("image_mean", "image_std")}


def picture_file(folder: Path) -> tuple[Path, dict[str, Any] | None]:
    """The file with the options, and they, if there is one; as in transformers 5, a ``processor_config.json`` that has them goes first."""
    path = folder / "processor_config.json"
    found = read_json(path).get("image_processor") if path.exists() else None
    if found is not None:
        if not isinstance(found, dict):
            raise ValueError(f"{path} has image_processor = {found!r}, expected an object")
        return path, found
    path = folder / "preprocessor_config.json"
    return path, read_json(path) if path.exists() else None


def read_preparation(folder: Path, processor: str, size: tuple[int, int], channels: int) -> dict[str, Any]:
    """``image_mean``, ``image_std`` and ``preparation`` of a model that sees whole pictures, of ``size`` pixels; none without a file.

    Raises:
        ValueError: an option that is not implemented, or asks for pictures of another size than the model's; it names file and value.
    """
    options = Options(folder, processor, WHOLE)
    if not options.given:
        return {}
    resize, crop, pads = (options.flag(name) for name in ("do_resize", "do_center_crop", "do_pad"))
    (height, width), model = size, f"the model takes images of {size[0]} x {size[1]} pixels"
    wanted = options.sides("size", options.flag("default_to_square"))
    if resize and "size" in options.values and wanted is None:
        options.refuse("size", "expected whole numbers for height and width, or for shortest_edge")
    if wanted is None:  # the default of transformers is 224, which means: the model's own
        wanted = size if options.defaults["default_to_square"] else min(size)
    if crop and options.sides("crop_size", True) not in (None, size):
        options.refuse("crop_size", f"and {model}")
    if resize and not crop and wanted not in (size, min(size)):
        options.refuse("size", f"with do_center_crop = False, and {model}")
    squares = options.processor == "LlavaImageProcessor"
    fixed = (crop or wanted == size) and options.sides("pad_size", True) in (None, size)
    if pads and not squares and not fixed:
        options.refuse("do_pad", "which is implemented for a LlavaImageProcessor alone")
    own = size if not crop else height if height == width else None  # what a Preparation takes by itself
    preparation = Preparation(
        resize=resize,
        size=None if wanted == own or not resize else wanted,
        center_crop=crop,
        pad=pads and squares,
        resample=options.resampling(),
        rescale_factor=options.rescaling(),
        convert_rgb=options.converts() or channels == 1,
    )
    return {**options.normalisation(channels), "preparation": preparation}


def read_tiling(folder: Path, tile_size: int, max_tiles: int, channels: int) -> dict[str, Any]:
    """``image_mean``, ``image_std`` and ``preparation`` of a model that cuts pictures into tiles; none without a file.

    Raises:
        ValueError: an option that is not implemented, or asks for other tiles than the model's; it names file and value.
    """
    options = Options(folder, "MllamaImageProcessor", ("MllamaImageProcessor",))
    if not options.given:
        return {}
    for name in ("do_resize", "do_pad"):
        if options.values.get(name, True) is not True:
            options.refuse(name, "which is not implemented; implemented: True")
    if options.sides("size", True) not in (None, (tile_size, tile_size)):
        options.refuse("size", f"and the model has tiles of {tile_size} x {tile_size} pixels")
    if options.values.get("max_image_tiles", max_tiles) != max_tiles:
        options.refuse("max_image_tiles", f"and the model numbers the arrangements of at most {max_tiles}")
    steps = dict(resample=options.resampling(), rescale_factor=options.rescaling(), convert_rgb=options.converts())
    return {**options.normalisation(channels), "preparation": Preparation(center_crop=False, **steps)}


def read_splitting(folder: Path, size: int) -> dict[str, Any]:
    """``image_mean``, ``image_std`` and ``preparation`` of a model that sees pictures cut into sub-pictures of ``size`` pixels.

    A folder may instead say how whole pictures are prepared, as :func:`read_preparation` reads it. What its files do not say, or without
    any, is as SmolVLM has it: the longer side four times ``size``.

    Raises:
        ValueError: an option that is not implemented, or asks for other sub-pictures than the model's; it names file and value.
    """
    options = Options(folder, SPLIT[0], SPLIT + WHOLE)
    if options.processor in WHOLE:
        return read_preparation(folder, options.processor, (size, size), 3)
    if options.values.get("do_resize", True) is not True:
        options.refuse("do_resize", "which is not implemented; implemented: True")
    if options.longest_edge("max_image_size", size) != size:
        options.refuse("max_image_size", f"and the model takes images of {size} x {size} pixels")
    steps = dict(resample=options.resampling(), rescale_factor=options.rescaling(), convert_rgb=options.converts())
    steps |= dict(longest_edge=options.longest_edge("size", 4 * size), split=options.flag("do_image_splitting"))
    return {**options.normalisation(3), "preparation": Preparation(center_crop=False, **steps)}


def splitting_to_transformers(
    preparation: Preparation, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """The values of a ``preprocessor_config.json`` by which transformers cuts pictures alike."""
    return {
        **shared_options("SmolVLMImageProcessor", preparation, mean, std),
        "do_resize": True,
        "size": {"longest_edge": preparation.longest_edge},
        "do_image_splitting": preparation.split,
        "max_image_size": {"longest_edge": size},
        "do_pad": True,
    }


def preparation_to_transformers(
    processor: str, preparation: Preparation, size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """The values of a ``preprocessor_config.json`` by which transformers prepares pictures of ``size`` alike."""
    wanted = preparation.size
    if wanted is None:
        wanted = size[0] if preparation.center_crop else size
    sides = {"shortest_edge": wanted} if isinstance(wanted, int) else dict(zip(("height", "width"), wanted, strict=True))
    values = {
        **shared_options("LlavaImageProcessor" if preparation.pad else processor, preparation, mean, std),
        "do_resize": preparation.resize,
        "size": sides,
        "do_center_crop": preparation.center_crop,
        "crop_size": dict(zip(("height", "width"), size, strict=True)),
    }
    return {**values, "do_pad": True} if preparation.pad else values


def shared_options(processor: str, preparation: Preparation, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
    """The options that every image processor of transformers has: bytes times a factor, then ``(x - mean) / std``."""
    return {
        "image_processor_type": processor,
        "do_convert_rgb": preparation.convert_rgb and len(mean) == 3,  # a grey picture of one channel stays as it is
        "resample": preparation.resample,
        "do_rescale": True,
        "rescale_factor": preparation.rescale_factor,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
