"""The sizes of a ViT, and how they are read from and written to the ``config.json`` of a ViT folder."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minimllm.data.preprocessing import STRETCHED, Preparation
from minimllm.layers.blocks import ACTIVATIONS
from minimllm.layers.patches import check_divides, check_patch_size
from minimllm.weights import pretrained, processors, saving


@dataclass(frozen=True)
class ViTConfig:
    """The sizes of a ViT. ``ViTConfig.tiny(classes=10)`` takes a preset and changes what is named.

    Attributes:
        image_size: side of the images in pixels, or ``(height, width)``.
        patch_size: side of a patch in pixels.
        channels: channels of an image.
        dim, layers, heads, mlp_dim: width of a token, number of blocks, heads per block, width inside the MLP.
        classes: number of classes; 0 for no head.
        activation: see :class:`~minimllm.layers.blocks.MLP`.
        norm_eps: epsilon of the layer norms (1e-6 in the paper's code and timm, 1e-12 in transformers).
        query_key_value_bias: biases of the query, key and value projections.
        patch_bias: bias of the patch embedding; CLIP has none.
        pre_norm: a layer norm before the first block, as in CLIP.
        class_token: a token in front of the patches that stands for the whole image; SigLIP, and so SmolVLM, has none.
        drop_margin: whether the patches need not divide the image: what is left over at the right and below is not read, as of SigLIP's
            384 pixels in patches of 14.
        position_std: standard deviation of the positions and the class token at the start.
        class_names: what the classes are called, in their order; ``None``: nothing in particular.
        image_mean, image_std: by which images in [0, 1] are normalised, per channel; ``None``: not known, and 0.5 where pictures are
            prepared. Inside a CLIP or a multimodal model theirs count, and so with the next.
        preparation: what else is done to pictures, as :func:`~minimllm.data.preprocessing.prepare_pictures` does it.
    """

    image_size: int | tuple[int, int] = 32
    patch_size: int = 8
    channels: int = 3
    dim: int = 96
    layers: int = 3
    heads: int = 4
    mlp_dim: int = 384
    classes: int = 10
    activation: str = "gelu"
    norm_eps: float = 1e-6
    query_key_value_bias: bool = True
    patch_bias: bool = True
    pre_norm: bool = False
    class_token: bool = True
    drop_margin: bool = False
    position_std: float = 0.5
    class_names: tuple[str, ...] | None = None
    image_mean: tuple[float, ...] | None = field(default=None, repr=False)
    image_std: tuple[float, ...] | None = field(default=None, repr=False)
    preparation: Preparation = field(default=STRETCHED, repr=False)

    def __post_init__(self):
        check_patch_size(self.patch_size)
        if len(self.size) != 2:
            raise ValueError(f"image_size must be a side or (height, width), got {self.image_size}")
        if not self.drop_margin or min(self.size) < self.patch_size:
            check_divides(*self.size, self.patch_size)
        for name in ("channels", "dim", "layers", "heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.classes < 0:
            raise ValueError(f"classes must be 0 (no head) or more, got {self.classes}")
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise ValueError(
                f"class_names must name {self.classes} classes, or be None; got {len(self.class_names)}: {self.class_names!r:.80}"
            )
        check_normalisation(self.image_mean, self.image_std, self.channels)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the images, in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else tuple(self.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """``(rows, columns)`` of patches."""
        return self.size[0] // self.patch_size, self.size[1] // self.patch_size

    @classmethod
    def tiny(cls, **changes) -> "ViTConfig":
        """The course size: 16 patches of 8 x 8 from 32 x 32 pixels, 96 wide, 3 deep; 0.36 million parameters."""
        return replace(cls(), **changes)

    @classmethod
    def digits(cls, **changes) -> "ViTConfig":
        """For scikit-learn's handwritten digits: 8 x 8 grey pixels in 16 patches of 2 x 2."""
        return replace(cls(image_size=8, patch_size=2, channels=1), **changes)

    @classmethod
    def base_16(cls, **changes) -> "ViTConfig":
        """ViT-B/16: 224 pixels, 12 layers of 768, 12 heads; 86.6 million parameters with 1000 classes."""
        base = cls(image_size=224, patch_size=16, dim=768, layers=12, heads=12, mlp_dim=3072, classes=1000, position_std=0.02)
        return replace(base, **changes)

    @classmethod
    def large_16(cls, **changes) -> "ViTConfig":
        """ViT-L/16: 224 pixels, 24 layers of 1024, 16 heads; 304 million parameters with 1000 classes."""
        return replace(cls.base_16(dim=1024, layers=24, heads=16, mlp_dim=4096), **changes)

    @classmethod
    def huge_14(cls, **changes) -> "ViTConfig":
        """ViT-H/14: 224 pixels, 32 layers of 1280, 16 heads; 632 million parameters with 1000 classes."""
        return replace(cls.base_16(patch_size=14, dim=1280, layers=32, heads=16, mlp_dim=5120), **changes)


def config_to_transformers(config: ViTConfig) -> dict[str, Any]:
    """The values of a ``config.json``; a ``ValueError`` names an option that transformers cannot express."""
    saving.only(config, "ViTForImageClassification", patch_bias=True, pre_norm=False, class_token=True)
    names = config.class_names or [f"LABEL_{number}" for number in range(config.classes)]
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": config.image_size if isinstance(config.image_size, int) else list(config.image_size),
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "hidden_act": config.activation,
        "layer_norm_eps": float(config.norm_eps),
        "qkv_bias": config.query_key_value_bias,
    }


def check_normalisation(mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int) -> None:
    """Raise a ``ValueError`` unless these are numbers for each channel, deviations above 0; ``None`` are not known."""
    for name, values in (("image_mean", mean), ("image_std", std)):
        if values is not None and len(values) != channels:
            raise ValueError(f"{name} needs one number for each of {channels} channels, got {values}")
    if std is not None and min(std) <= 0:
        raise ValueError(f"image_std must be above 0, got {std}")


def config_from_transformers(values: dict, folder: Path | None = None) -> ViTConfig:
    """Our config from the values of a ``config.json``; what a file leaves out has the default of transformers."""
    size = values.get("image_size", 224)
    size = (
        pretrained.whole_numbers(values, "image_size", ())
        if isinstance(size, list)
        else pretrained.option(values, "image_size", 224, kind=int)
    )
    with pretrained.told_by_file(values, **SIZES):
        config = ViTConfig(
            image_size=size,
            patch_size=pretrained.option(values, "patch_size", 16, kind=int),
            channels=pretrained.option(values, "num_channels", 3, kind=int),
            dim=pretrained.option(values, "hidden_size", 768, kind=int),
            layers=pretrained.option(values, "num_hidden_layers", 12, kind=int),
            heads=pretrained.option(values, "num_attention_heads", 12, kind=int),
            mlp_dim=pretrained.option(values, "intermediate_size", 3072, kind=int),
            classes=pretrained.number_of_classes(values),
            class_names=pretrained.class_names(values),
            activation=pretrained.option(values, "hidden_act", "gelu", allowed=tuple(ACTIVATIONS)),
            norm_eps=pretrained.number(values, "layer_norm_eps", 1e-12, least=0),
            query_key_value_bias=pretrained.option(values, "qkv_bias", True, kind=bool),
        )
    pictures = {} if folder is None else processors.read_preparation(folder, "ViTImageProcessor", config.size, config.channels)
    return replace(config, **pictures)


def pictures_to_transformers(config: ViTConfig) -> dict[str, Any] | None:
    """The values of ``preprocessor_config.json``, if mean and deviation are known."""
    if config.image_mean is None or config.image_std is None:
        return None
    how = config.preparation, config.size, config.image_mean, config.image_std
    return processors.preparation_to_transformers("ViTImageProcessor", *how)


# What the sizes of a transformer are called in the files.
SIZES = {
    "dim": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "channels": "num_channels",
    "patch_size": "patch_size",
}
