"""What both multimodal designs take from an image encoder: the features of its patches."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from minimllm.models.unified_config import UnifiedConfig
from minimllm.models.vit import ViT


def feature_encoder(config: UnifiedConfig, seed: int) -> ViT:
    """The image encoder up to ``feature_layer``: without its head, and without its norm unless ``final_norm``."""
    vision = ViT(config.vision_used, seed)
    if not config.final_norm:
        vision.norm = nn.Identity()
    return vision


def visual_features(
    vision: ViT, images: Float[Tensor, "images channels height width"], config: UnifiedConfig
) -> Float[Tensor, "images tokens feature_dim"]:
    """What the image encoder gives for normalised images, as the projector takes it: ``(images, image_tokens, feature_dim)``.

    Raises:
        ValueError: images of another size or number of channels, or of integers.
    """
    x = vision.encode(images)
    x = x if config.keep_class_token or not config.vision.class_token else x[:, 1:]
    if config.normalise_features:
        x = F.rms_norm(x, x.shape[-1:])
    if config.merge == 1:
        return x
    rows = config.vision.grid[0] // config.merge
    return rearrange(x, "b (rows m columns n) d -> b (rows columns) (m n d)", rows=rows, m=config.merge, n=config.merge)


def check_features(features: Float[Tensor, "images tokens feature_dim"], config: UnifiedConfig) -> None:
    """Raise a ``ValueError`` with both shapes unless these are features of pictures as :func:`visual_features` gives them."""
    expected = (config.image_tokens, config.feature_dim)
    if tuple(features.shape[1:]) != expected:
        raise ValueError(
            f"features must be of shape (pictures, {expected[0]}, {expected[1]}): {expected[0]} tokens of {expected[1]} numbers for each "
            f"picture; got {tuple(features.shape)}"
        )


@torch.no_grad()
def copy_encoder(encoder: ViT, vision: ViT, config: UnifiedConfig) -> None:
    """Copy the weights of a trained image encoder into ``vision``, which may have fewer blocks and no norm at its end.

    Raises:
        ValueError: if the encoder has other sizes than ``config.vision``.
    """
    if encoder.config != config.vision:
        raise ValueError(f"the encoder is a {encoder.config}, and this model was made for a {config.vision}")
    given = encoder.state_dict()
    vision.load_state_dict({name: given[name] for name in vision.state_dict()})
