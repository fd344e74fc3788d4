"""The sizes of a multimodal model with gated cross-attention."""

from dataclasses import dataclass, fields, replace
from typing import Any

from minimllm.data.preprocessing import Preparation
from minimllm.models.clip_config import MEAN, STD, CLIPConfig
from minimllm.models.language_model import LanguageModelConfig
from minimllm.models.unified_config import UnifiedConfig
from minimllm.models.vit_config import ViTConfig


@dataclass(frozen=True)
class CrossAttentionConfig:
    """An image encoder, a projector and a decoder as the unified design has them, and what the gated blocks are like.

    Attributes:
        vision, language: of the image encoder and of the decoder.
        image_token_id: the id that stands in a text for a whole picture; an entry of the decoder's vocabulary like any other.
        cross_before: before which blocks of the decoder, counted from 0, a gated block is put; Llama 3.2 11B has them before 3, 7, 11, ...
        cross_mlp: whether the gated blocks have their second half, the MLP behind a gate of its own.
        cross_norm: epsilon of the RMS norm on their queries and keys; ``None``: no norm.
        cross_key_value_heads: their key and value heads; ``None``: as the decoder.
        thumbnail: a hybrid of both designs: the token that stands for a picture in the text is the whole picture in one token, through a
            projector of its own. (NVLM-H, Dai et al. 2024, has the tokens of a small version of the picture there.)

        feature_layer, final_norm, keep_class_token, projector, projector_bias, image_mean, image_std, preparation, projector_dim, merge,
        normalise_features, projector_positions, token_scale: as in :class:`~minimllm.models.unified_config.UnifiedConfig`.

    Raises:
        ValueError: for a value outside its range, or options that exclude each other.
    """

    vision: ViTConfig
    language: LanguageModelConfig
    image_token_id: int
    cross_before: tuple[int, ...]
    cross_mlp: bool = True
    cross_norm: float | None = 1e-5
    cross_key_value_heads: int | None = None
    thumbnail: bool = False

    feature_layer: int = -2
    final_norm: bool = False
    keep_class_token: bool = False
    projector: str = "mlp"
    projector_bias: bool = True
    image_mean: tuple[float, ...] = MEAN
    image_std: tuple[float, ...] = STD
    preparation: Preparation = Preparation()
    projector_dim: int | None = None
    merge: int = 1
    normalise_features: bool = False
    projector_positions: str | None = None
    token_scale: float | None = None

    def __post_init__(self):
        self.unified  # noqa: B018 (checks the options that both designs have)
        layers, before = self.language.layers, self.cross_before
        if not before or list(before) != sorted(set(before)) or not 0 <= before[0] <= before[-1] < layers:
            raise ValueError(f"cross_before names blocks of the decoder, 0 to {layers - 1}, in rising order and at least one; got {before}")
        if not 0 <= self.image_token_id < self.language.vocab_size:
            raise ValueError(
                f"image_token_id {self.image_token_id} is outside the vocabulary of {self.language.vocab_size}: in this design the token "
                "of a picture is read like any other; take an id of the vocabulary, or a larger vocabulary"
            )
        if self.thumbnail:
            self.whole  # noqa: B018 (checks that all patches can be merged into one)

    @property
    def unified(self) -> UnifiedConfig:
        """The same encoder, projector and decoder in the other design, where the pictures stand in the text."""
        shared = {field.name for field in fields(UnifiedConfig)} & {field.name for field in fields(self)}
        return UnifiedConfig(**{name: getattr(self, name) for name in shared})

    @property
    def whole(self) -> UnifiedConfig:
        """The unified design with the whole picture in one token: what the thumbnail's projector is made from."""
        rows, columns = self.vision.grid
        if rows != columns or self.keep_class_token:
            raise ValueError(
                f"a thumbnail is made of a square grid of patches without the class token; got {rows} x {columns} patches, "
                f"keep_class_token={self.keep_class_token}"
            )
        return replace(self.unified, merge=rows)

    @property
    def visual_tokens(self) -> int:
        """How many tokens of a picture the gated blocks look at."""
        return self.unified.image_tokens

    @classmethod
    def tiny(
        cls, vocab_size: int = 128, image_token_id: int = 2, vision: ViTConfig | None = None, **changes: Any
    ) -> "CrossAttentionConfig":
        """Small, for tests: the course's CLIP encoder (or ``vision``), 16 visual tokens, its decoder's sizes, whole gated blocks before the
        second and the third block. The course's own is :meth:`course`.
        """
        vision = CLIPConfig.tiny().image if vision is None else vision
        return replace(cls(vision, LanguageModelConfig.tiny(vocab_size), image_token_id, (1, 2)), **changes)

    @classmethod
    def course(cls, vocab_size: int, image_token_id: int = 2, vision: ViTConfig | None = None, **changes: Any) -> "CrossAttentionConfig":
        """The course's own: projector and decoder as in ``UnifiedConfig.course``, 4 visual tokens, and gated attention without the
        MLP before the first and the third block.
        """
        language = UnifiedConfig.course(vocab_size).language
        ours = dict(merge=2, normalise_features=True, projector_dim=192, projector_positions="both", token_scale=0.3)
        ours |= dict(language=language, cross_before=(0, 2), cross_mlp=False, cross_key_value_heads=4)
        return cls.tiny(vocab_size, image_token_id, vision, **ours | changes)
