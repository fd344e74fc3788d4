"""From what an image encoder sees to tokens of a sentence: the projector, and putting its tokens in their places."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minimllm.models.unified_config import UnifiedConfig


class Projector(nn.Module):
    """From the width of the image encoder to that of the words, each visual token on its own: a linear layer, or two with GELU between.

    Its config may add learned positions and a norm, which LLaVA does not have.
    """

    def __init__(self, config: UnifiedConfig):
        super().__init__()
        tokens, dim = config.image_tokens, config.language.dim
        inner = config.projector_dim or dim
        two, bias = config.projector == "mlp", config.projector_bias
        self.up = nn.Linear(config.feature_dim, inner, bias) if two else None
        self.down = nn.Linear(inner if two else config.feature_dim, dim, bias)
        inside, after = (config.projector_positions in (name, "both") for name in ("inside", "after"))
        # They must be of the size of what they are added to, or the model hardly notices where in the picture a token comes from.
        self.inner_positions = nn.Parameter(torch.empty(tokens, inner).normal_(std=0.7)) if inside else None
        self.positions = nn.Parameter(torch.empty(tokens, dim).normal_(std=0.5)) if after else None
        self.scale = nn.Parameter(torch.tensor(float(config.token_scale))) if config.token_scale is not None else None

    def forward(self, features: Float[Tensor, "images tokens feature_dim"]) -> Float[Tensor, "images tokens dim"]:
        x = features
        if self.up is not None:
            x = self.up(x)
            x = F.gelu(x if self.inner_positions is None else x + self.inner_positions)
        x = self.down(x)
        if self.positions is not None:
            x = x + self.positions
        return x if self.scale is None else F.rms_norm(x, x.shape[-1:]) * self.scale


def splice(
    x: Float[Tensor, "batch length dim"], is_image: Bool[Tensor, "batch length"], tokens: Float[Tensor, "images tokens dim"]
) -> Float[Tensor, "batch length dim"]:
    """Put the tokens of all images, in reading order, in the places of the placeholders; everything else stays."""
    return x.masked_scatter(is_image[..., None], tokens.to(x.dtype))


def check_placeholders(is_image: Bool[Tensor, "batch length"], images: int, image_tokens: int) -> None:
    """Raise a ``ValueError`` with both numbers unless every image has its placeholders, each row a whole number of images."""
    placeholders = int(is_image.sum())
    if placeholders != images * image_tokens:
        raise ValueError(
            f"the texts hold {placeholders} image tokens, and {images} images make {images * image_tokens}; "
            f"write the image token {image_tokens} times for each image, and give the images in the order of the texts"
        )
    of_row = is_image.sum(dim=1)
    if (of_row % image_tokens).any():
        row = int((of_row % image_tokens).argmax())
        raise ValueError(f"row {row} holds {of_row[row]} image tokens, and an image has {image_tokens}: an image cannot lie in two rows")
