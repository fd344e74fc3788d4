"""The ResNet of CLIP (Radford et al. 2021, section 2.4), numerically equal to ``ModifiedResNet`` of open_clip."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from minimllm.layers.attention import Attention
from minimllm.layers.patches import LearnedPositions, check_images

EXPANSION = 4  # a bottleneck's output is four times as wide as its inside


@dataclass(frozen=True)
class ResNetConfig:
    """The sizes of a ResNet image encoder.

    Attributes:
        image_size: side of the images in pixels, a multiple of :attr:`reduction`.
        channels: channels of an image.
        width: channels after the stem, and inside the bottlenecks of the first stage; each further stage doubles it.
        layers: number of bottlenecks in each stage. The published models have four stages.
        heads: heads of the attention that pools the last map.
    """

    image_size: int = 224
    channels: int = 3
    width: int = 64
    layers: tuple[int, ...] = (3, 4, 6, 3)
    heads: int = 32

    def __post_init__(self):
        if not self.layers or min(self.layers) < 1:
            raise ValueError(f"layers are the bottlenecks of each stage, one or more; got {self.layers}")
        if self.channels < 1 or self.width < 2 or self.width % 2:
            raise ValueError(f"channels must be 1 or more and width an even number; got {self.channels} and {self.width}")
        if self.image_size < 1 or self.image_size % self.reduction:
            raise ValueError(
                f"image_size must be a multiple of {self.reduction}, the factor by which the map shrinks; got {self.image_size}"
            )

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the images, in pixels."""
        return self.image_size, self.image_size

    @property
    def dim(self) -> int:
        """Channels of the last map."""
        return EXPANSION * self.width * 2 ** (len(self.layers) - 1)

    @property
    def reduction(self) -> int:
        """How many pixels of a side become one place of the last map: the stem makes 4, each stage but the first doubles it."""
        return 4 * 2 ** (len(self.layers) - 1)

    @classmethod
    def tiny(cls, **changes) -> "ResNetConfig":
        """For 32 x 32 pixels: two stages, which end in a map of 4 x 4 as the patches of ``ViTConfig.tiny()``, and as many parameters."""
        return replace(cls(image_size=32, width=28, layers=(1, 3), heads=4), **changes)

    @classmethod
    def resnet_50(cls, **changes) -> "ResNetConfig":
        """CLIP's RN50."""
        return replace(cls(), **changes)


class Bottleneck(nn.Module):
    """Narrow, look around, widen, add: 1 x 1, 3 x 3 and 1 x 1 convolutions beside a residual connection (He et al. 2015).

    Where the map shrinks, a convolution with stride 2 would look at every other pixel only and let fine patterns alias; CLIP
    instead averages each 2 x 2 square ("blur pooling", after Zhang 2019) between convolutions of stride 1.
    """

    def __init__(self, channels: int, inner: int, stride: int = 1):
        super().__init__()
        outer = EXPANSION * inner
        self.reduce, self.reduce_norm = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.look, self.look_norm = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.shrink = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.widen, self.widen_norm = nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer)
        nn.init.zeros_(self.widen_norm.weight)  # at the start each block passes its input on
        self.shortcut = nn.Identity()
        if stride > 1 or channels != outer:
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(channels, outer, 1, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outer new_height new_width"]:
        """``(batch, channels, height, width)`` -> ``(batch, 4 * inner, height / stride, width / stride)``."""
        y = F.relu(self.reduce_norm(self.reduce(x)))
        y = self.shrink(F.relu(self.look_norm(self.look(y))))
        y = self.widen_norm(self.widen(y))
        return F.relu(y + self.shortcut(x))


class AttentionPooling(nn.Module):
    """One question to the whole map: the mean of its places asks, all places (and the mean) answer, by multi-head attention.

    Global average pooling gives every place the same weight; here the weights depend on the picture.

    Args:
        grid: ``(rows, columns)`` of the map.
        dim: its channels.
        heads: of the attention.
        output_dim: width of the result.
    """

    def __init__(self, grid: tuple[int, int], dim: int, heads: int, output_dim: int):
        super().__init__()
        self.positions = LearnedPositions(grid, dim, class_token=True, std=dim**-0.5)
        self.attention = Attention(dim, heads)
        self.attention.output = nn.Identity()  # its place is taken by the projection, which leads out of the map's width
        self.projection = nn.Linear(dim, output_dim)
        for linear in (self.attention.query, self.attention.key, self.attention.value, self.projection):
            nn.init.normal_(linear.weight, std=dim**-0.5)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch output_dim"]:
        """``(batch, dim, rows, columns)`` -> ``(batch, output_dim)``."""
        places = rearrange(x, "b c h w -> b (h w) c")
        tokens = self.positions(torch.cat([places.mean(dim=1, keepdim=True), places], dim=1))
        return self.projection(self.attention(tokens[:, :1], context=tokens)[:, 0])


class ResNet(nn.Module):
    """A stem of three convolutions, stages of bottlenecks, attention pooling.

    Args:
        config: the sizes.
        output_dim: width of an image's embedding; the pooling's last linear layer is the projection.
    """

    def __init__(self, config: ResNetConfig, output_dim: int):
        super().__init__()
        self.config = config
        width = config.width
        stem, channels = [], config.channels
        for out, stride in ((width // 2, 2), (width // 2, 1), (width, 1)):
            stem += [nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.stem = nn.Sequential(*stem, nn.AvgPool2d(2))
        stages = []
        for stage, layers in enumerate(config.layers):
            inner, blocks = width * 2**stage, []
            for block in range(layers):
                blocks.append(Bottleneck(channels, inner, stride=2 if stage > 0 and block == 0 else 1))
                channels = EXPANSION * inner
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.pooling = AttentionPooling((config.image_size // config.reduction,) * 2, config.dim, config.heads, output_dim)

    def feature_map(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """``(batch, channels, height, width)`` -> ``(batch, dim, height / reduction, width / reduction)``, before the pooling.

        Raises:
            ValueError: images of another size or number of channels, or of integers.
        """
        check_images(images, self.config.channels)
        if tuple(images.shape[2:]) != self.config.size:
            size, height, width = self.config.image_size, *images.shape[2:]
            raise ValueError(f"this model was made for images of {size} x {size} pixels and got {height} x {width}; resize them")
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch output_dim"]:
        """``(batch, channels, height, width)`` -> ``(batch, output_dim)``; errors as :meth:`feature_map`."""
        return self.pooling(self.feature_map(images))
