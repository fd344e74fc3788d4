"""The sizes of a unified embedding decoder, and its departures from LLaVA: each an option by name, off unless asked for."""

from dataclasses import dataclass, replace
from typing import Any

from minimllm.data.preprocessing import Preparation
from minimllm.models.clip_config import MEAN, STD, CLIPConfig
from minimllm.models.language_model_config import LanguageModelConfig
from minimllm.models.vit_config import ViTConfig


@dataclass(frozen=True)
class UnifiedConfig:
    """As LLaVA-1.5 unless the options of the second group are used.

    Attributes:
        vision: of the whole image encoder, of which only the blocks before ``feature_layer`` are computed.
        language: of the decoder; its ``normalise_heads`` is a departure from Llama as well.
        image_token_id: the id of the placeholder that a visual token replaces; it need not be in the decoder's vocabulary.
        feature_layer: which output of the encoder is used, counted as transformers does: ``k`` is that after ``k`` blocks, negative from
            the end. LLaVA takes -2, which leaves out the last block: in CLIP that block works for the class token alone.
        final_norm: whether the encoder's norm behind its last block is applied (SmolVLM; LLaVA leaves it out); needs ``feature_layer=-1``.
        keep_class_token: whether the class token comes along as a first visual token (``"full"`` in transformers).
        projector: ``linear`` (LLaVA, SmolVLM) or ``mlp``, two layers with GELU between (LLaVA-1.5).
        projector_bias: whether the layers of the projector have biases; SmolVLM's has none.
        image_mean, image_std, preparation: how pictures are made ready, as in :class:`~minimllm.models.clip_config.CLIPConfig`.

        projector_dim: width between the two layers of the projector; ``None``: the decoder's.
        merge: that many by that many neighbouring patches become one visual token, their features one after another, row by row (Qwen2-VL
            and others; SmolVLM, where it is called pixel shuffle).
        normalise_features: an RMS norm without weights on what the encoder gives, patch by patch.
        projector_positions: a learned vector for every place of the picture, added ``inside`` the projector (before GELU), ``after`` it,
            or ``both``.
        token_scale: an RMS norm on the projected tokens, times a learned number that starts at this value; ``None``: neither.
        shared_position: all tokens of a picture have the same rotary position, and the text goes on with the next.
        image_prefix: the tokens of a picture attend to each other in both directions, not only to those before (PaliGemma does so with
            all of the prompt).

    Raises:
        ValueError: for a value outside its range, or options that exclude each other.
    """

    vision: ViTConfig
    language: LanguageModelConfig
    image_token_id: int
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
    shared_position: bool = False
    image_prefix: bool = False

    def __post_init__(self):
        if not 1 <= self.blocks_used <= self.vision.layers:
            raise ValueError(
                f"feature_layer {self.feature_layer} is not the output of one of the {self.vision.layers} blocks: "
                f"choose 1 to {self.vision.layers}, or -{self.vision.layers} to -1"
            )
        if self.final_norm and self.blocks_used != self.vision.layers:
            raise ValueError(f"final_norm stands behind the last block: use feature_layer=-1 with it, got {self.feature_layer}")
        if self.projector not in ("linear", "mlp"):
            raise ValueError(f"projector must be 'linear' or 'mlp', got {self.projector!r}")
        if self.projector_positions not in (None, "inside", "after", "both"):
            raise ValueError(f"projector_positions must be None, 'inside', 'after' or 'both', got {self.projector_positions!r}")
        if self.projector == "linear" and (self.projector_positions in ("inside", "both") or self.projector_dim is not None):
            raise ValueError("a linear projector has no inside: projector_dim and positions inside need projector='mlp'")
        rows, columns = self.vision.grid
        if self.merge < 1 or rows % self.merge or columns % self.merge:
            raise ValueError(f"merge must divide the grid of {rows} x {columns} patches, got {self.merge}")
        if self.keep_class_token and not self.vision.class_token:
            raise ValueError("the image encoder has no class token that could be kept: use keep_class_token=False")
        if self.merge > 1 and self.keep_class_token:
            raise ValueError("the class token has no neighbours to be merged with: use merge=1 or keep_class_token=False")

    @property
    def blocks_used(self) -> int:
        """How many blocks of the image encoder are computed."""
        return self.feature_layer if self.feature_layer >= 0 else self.vision.layers + 1 + self.feature_layer

    @property
    def vision_used(self) -> ViTConfig:
        """The image encoder as far as it is used."""
        return replace(self.vision, layers=self.blocks_used, classes=0, class_names=None)

    @property
    def image_tokens(self) -> int:
        """Visual tokens of an image, and so placeholders."""
        rows, columns = self.vision.grid
        return rows * columns // self.merge**2 + self.keep_class_token

    @property
    def feature_dim(self) -> int:
        """Numbers of a visual token before the projector."""
        return self.vision.dim * self.merge**2

    @classmethod
    def tiny(cls, vocab_size: int, image_token_id: int = 2, vision: ViTConfig | None = None, **changes: Any) -> "UnifiedConfig":
        """The course size as LLaVA-1.5 would have it: the course's CLIP encoder (or ``vision``), 16 visual tokens, the course's decoder."""
        vision = CLIPConfig.tiny().image if vision is None else vision
        return replace(cls(vision, LanguageModelConfig.tiny(vocab_size), image_token_id), **changes)

    @classmethod
    def llava_1_5_7b(cls, **changes: Any) -> "UnifiedConfig":
        """LLaVA-1.5 7B: CLIP ViT-L/14 at 336 pixels, 576 visual tokens, and Vicuna; 7.05 billion parameters, without those never read."""
        vision = replace(CLIPConfig.large_14().image, image_size=336)
        language = LanguageModelConfig(32_064, context_length=4096, start_token_id=1, eos_token_id=2, pad_token_id=32_001)
        return replace(cls(vision, language, 32_000), **changes)

    @classmethod
    def course(cls, vocab_size: int, image_token_id: int = 2, vision: ViTConfig | None = None, **changes: Any) -> "UnifiedConfig":
        """The course's own: :meth:`tiny` with all departures that it profits from; 4 visual tokens.

        Its decoder has keys and values for every head, and the rotary base of Llama 3: looking an object up is learned sooner by far with
        more heads that can do it, and where most of a head does not turn with the distance.
        """
        language = LanguageModelConfig.tiny(vocab_size, normalise_heads=1e-5, key_value_heads=4, rotary_base=500_000.0)
        ours = dict(merge=2, normalise_features=True, projector_dim=192, projector_positions="both", token_scale=0.3)
        ours |= dict(shared_position=True, language=language)
        return cls.tiny(vocab_size, image_token_id, vision, **ours | changes)


def check_image_token(config: UnifiedConfig, model: str) -> None:
    """Raise a ``ValueError`` unless the embedding has a row for the image token, which ``model`` of transformers reads."""
    size = config.language.vocab_size
    if not 0 <= config.image_token_id < size:
        raise ValueError(
            f"the model has image_token_id = {config.image_token_id}, and {model} of transformers looks it up in the embedding before a "
            f"picture takes its place: it must be one of the {size} ids of the decoder, 0 to {size - 1}"
        )
