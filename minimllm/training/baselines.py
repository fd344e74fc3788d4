"""What a transformer has to be compared with: a plain convolutional network of the same number of parameters."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """A small VGG (Simonyan and Zisserman 2015) with batch normalisation: stages of two 3 x 3 convolutions, each stage at half the size and
    twice the width of the one before it, then the mean over all places and one linear layer.

    Args:
        image_size: side of the images in pixels.
        channels: channels of an image.
        classes: number of classes.
        width: channels of the first stage.
        stages: number of stages; the last works on ``image_size / 2 ** (stages - 1)`` pixels.
        seed: of the random weights; the global random state is neither read nor changed.

    Raises:
        ValueError: if the images are too small for so many stages.
    """

    def __init__(self, image_size: int, channels: int, classes: int, width: int, stages: int = 2, seed: int = 0):
        super().__init__()
        if image_size % 2 ** (stages - 1):
            raise ValueError(f"{stages} stages halve the image {stages - 1} times, and {image_size} pixels cannot be halved so often")
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            layers: list[nn.Module] = []
            for stage in range(stages):
                wide = width * 2**stage
                layers += [nn.MaxPool2d(2)] if stage else []
                for wide_in in (wide // 2 if stage else channels, wide):
                    layers += [nn.Conv2d(wide_in, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            self.features = nn.Sequential(*layers)
            self.head = nn.Linear(wide, classes)

    @classmethod
    def matching(cls, model: nn.Module, image_size: int, channels: int, classes: int, stages: int = 2, seed: int = 0) -> "SmallCNN":
        """The network whose number of parameters is closest to ``model``'s."""
        wanted, width = count_parameters(model), 1
        size = lambda width: count_parameters(cls(image_size, channels, classes, width, stages))  # noqa: E731
        while size(width) < wanted:
            width += 1
        width = min((width - 1, width), key=lambda width: abs(size(width) - wanted) if width else wanted)
        return cls(image_size, channels, classes, width, stages, seed)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.head(self.features(images).mean(dim=(2, 3)))


def count_parameters(model: nn.Module) -> int:
    """How many trainable numbers a model has."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
