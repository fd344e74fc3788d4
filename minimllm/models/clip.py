"""CLIP (Radford et al. 2021): two encoders learn to agree. Numerically equal to ``CLIPModel`` of transformers, and to open_clip."""

from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from minimllm.models.clip_config import CLIPConfig, config_from_transformers, config_to_transformers, pictures_to_transformers
from minimllm.models.resnet import ResNet, ResNetConfig
from minimllm.models.text_encoder import TextEncoder
from minimllm.models.vit import ViT, ViTConfig
from minimllm.weights import pretrained, saving


class CLIP(nn.Module):
    """An image encoder, a text encoder, a projection of each into one space, and the temperature with which they are compared.

    Args:
        config: the sizes.
        seed: of the random weights; the global random state is neither read nor changed.
    """

    def __init__(self, config: CLIPConfig, seed: int = 0):
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.text_encoder = TextEncoder(config.text)
            self.text_projection = projection(config.text.dim, config.embed_dim)
            if isinstance(config.image, ResNetConfig):
                self.image_encoder, self.image_projection = ResNet(config.image, config.embed_dim), nn.Identity()
            else:
                self.image_encoder, self.image_projection = ViT(config.image, seed), projection(config.image.dim, config.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(config.initial_logit_scale))
        bias = config.initial_logit_bias
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(float(bias)))

    def encode_image(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch embed_dim"]:
        """``(batch, channels, height, width)`` normalised images -> ``(batch, embed_dim)``, each of length 1.

        Raises:
            ValueError: images of another size or number of channels, of integers, or with values that are not finite.
        """
        if not images.is_meta and images.is_floating_point() and not images.isfinite().all():
            wrong = (~images.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(f"images {wrong[:8]} of the batch hold values that are not finite (NaN or infinity)")
        return F.normalize(self.image_projection(self.image_encoder(images)), dim=-1)

    def encode_text(
        self, ids: Int[Tensor, "batch length"], mask: Shaped[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch embed_dim"]:
        """``(batch, length)`` token ids -> ``(batch, embed_dim)``, each of length 1; mask and errors as in the text encoder."""
        return F.normalize(self.text_projection(self.text_encoder(ids, mask)), dim=-1)

    def forward(
        self,
        images: Float[Tensor, "images channels height width"],
        ids: Int[Tensor, "texts length"],
        mask: Shaped[Tensor, "texts length"] | None = None,
    ) -> Float[Tensor, "images texts"]:
        """Cosine similarity of each image with each text, times ``exp(logit_scale)``: ``(images, texts)`` logits."""
        return self.compare(self.encode_image(images), self.encode_text(ids, mask))

    def compare(self, images: Float[Tensor, "images embed_dim"], texts: Float[Tensor, "texts embed_dim"]) -> Float[Tensor, "images texts"]:
        """As :meth:`forward`, of embeddings; plus ``logit_bias``, if there is one."""
        logits = self.logit_scale.exp() * images @ texts.T
        return logits if self.logit_bias is None else logits + self.logit_bias

    @classmethod
    def from_pretrained(cls, folder: str | PathLike, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "CLIP":
        """Load a folder (or hub name) written by ``CLIPModel.save_pretrained``.

        Args:
            folder: the folder, with ``config.json`` and safetensors, or the name of a repository on the Hugging Face hub.
            dtype: of the weights; ``None`` keeps the files', or takes the config's where they are of several types.
            device: where to; ``None``: the processor's memory, where the weights are the files' own pages.

        Raises:
            ValueError: another kind of model, an option that is not implemented, a missing, unexpected or wrongly shaped
                tensor, a damaged file; the message names it.
        """
        with pretrained.opened(folder) as folder:
            config = config_from_transformers(pretrained.read_config(folder, "clip"), folder)
            return pretrained.load(cls, config, folder, WEIGHT_NAMES, dtype, device, file_shapes("image_encoder", config.image))

    def save_pretrained(self, folder: str | PathLike, tokenizer: Any = None) -> Path:
        """Write a folder that ``CLIPModel`` opens, with equal logits, and ``CLIPImageProcessor``, which prepares pictures alike.

        Args:
            folder: where to; a folder written so before is replaced.
            tokenizer: the model's own, of the course or of transformers, which ``AutoTokenizer`` then opens.

        Raises:
            ValueError: an option that transformers cannot express, by name; and what :func:`~minimllm.weights.saving.save` refuses.
        """
        values, image = config_to_transformers(self.config), self.config.image
        saving.check_tokenizer(tokenizer, self.config.text.vocab_size)
        shapes, pictures = file_shapes("image_encoder", image), pictures_to_transformers(self.config, image)
        return saving.save(folder, self, values, WEIGHT_NAMES, shapes=shapes, preprocessor=pictures, tokenizer=tokenizer)


def file_shapes(encoder: str, image: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Our name -> shape in the files, where they fold the same numbers otherwise; ``encoder`` is where the ViT lies in our model."""
    return {f"{encoder}.patches.projection.weight": (image.dim, image.channels, image.patch_size, image.patch_size)}


def projection(dim: int, embed_dim: int) -> nn.Linear:
    linear = nn.Linear(dim, embed_dim, bias=False)
    nn.init.normal_(linear.weight, std=dim**-0.5)
    return linear


def block_names(ours: str, theirs: str) -> pretrained.WeightNames:
    parts = {
        "attention_norm": "layer_norm1",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.out_proj",
        "mlp_norm": "layer_norm2",
        "mlp.up": "mlp.fc1",
        "mlp.down": "mlp.fc2",
    }
    return {f"{ours}.blocks.{{i}}.{part}": (f"{theirs}.encoder.layers.{{i}}.{name}",) for part, name in parts.items()}


# Ours on the left, theirs on the right. "pre_layrnorm" is how it is spelled there.
WEIGHT_NAMES: pretrained.WeightNames = {
    "logit_scale": ("logit_scale",),
    "text_encoder.tokens": ("text_model.embeddings.token_embedding",),
    "text_encoder.positions": ("text_model.embeddings.position_embedding",),
    **block_names("text_encoder", "text_model"),
    "text_encoder.norm": ("text_model.final_layer_norm",),
    "text_projection": ("text_projection",),
    "image_encoder.class_token": ("vision_model.embeddings.class_embedding",),
    "image_encoder.patches.projection": ("vision_model.embeddings.patch_embedding",),
    "image_encoder.positions.table": ("vision_model.embeddings.position_embedding.weight",),
    "image_encoder.pre_norm": ("vision_model.pre_layrnorm",),
    **block_names("image_encoder", "vision_model"),
    "image_encoder.norm": ("vision_model.post_layernorm",),
    "image_projection": ("visual_projection",),
}
