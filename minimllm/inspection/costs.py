"""What a transformer layer costs, counted from its shapes; and what a decoder with pictures costs, in either design."""

from dataclasses import dataclass
from typing import NamedTuple

from minimllm.models.cross_attention_config import CrossAttentionConfig
from minimllm.models.language_model_config import LanguageModelConfig
from minimllm.models.unified_config import UnifiedConfig


class LayerCost(NamedTuple):
    """Multiply-adds of one encoder layer for one sequence: what grows with the number of tokens, and what grows with its square."""

    linear: int
    attention: int

    @property
    def total(self) -> int:
        return self.linear + self.attention


def layer_multiply_adds(tokens: int, dim: int, mlp_dim: int | None = None) -> LayerCost:
    """Multiply-adds of one encoder layer over ``tokens`` tokens of width ``dim``; the MLP is four times as wide unless ``mlp_dim`` says.

    Every token goes through query, key, value and output (``4 dim**2``) and the MLP (``2 dim mlp_dim``). Every pair of tokens costs
    ``dim`` for its score and ``dim`` for its share of the result (``2 tokens**2 dim``). Norms, softmax and biases are left out; they are
    small beside these. A multiply-add is often counted as two floating-point operations.

    Raises:
        ValueError: for a count or a width below 1.
    """
    mlp_dim = 4 * dim if mlp_dim is None else mlp_dim
    if min(tokens, dim, mlp_dim) < 1:
        raise ValueError(f"tokens and widths must be at least 1, got tokens={tokens}, dim={dim}, mlp_dim={mlp_dim}")
    return LayerCost(linear=tokens * (4 * dim**2 + 2 * dim * mlp_dim), attention=2 * tokens**2 * dim)


def cache_bytes(layers: int, key_value_heads: int, head_dim: int, tokens: int, batch: int = 1, bytes_per_number: int = 4) -> int:
    """Memory of the keys and values that a decoder keeps of ``tokens`` tokens: one of each in every layer and key/value head.

    ``bytes_per_number`` is 4 in float32 and 2 in bfloat16. Fewer key/value heads than query heads make it smaller, and nothing else in
    this formula does: it is what grouped-query attention is for.

    Raises:
        ValueError: for a count below 1; of tokens, below 0.
    """
    counts = dict(layers=layers, key_value_heads=key_value_heads, head_dim=head_dim, batch=batch, bytes_per_number=bytes_per_number)
    if min(counts.values()) < 1 or tokens < 0:
        raise ValueError(f"counts must be at least 1 and tokens at least 0, got tokens={tokens} and {counts}")
    return 2 * layers * batch * key_value_heads * tokens * head_dim * bytes_per_number


@dataclass(frozen=True)
class Design:
    """What a decoder with pictures costs, from its sizes: the unified design, or with ``cross_layers`` the one with gated cross-attention.

    Counted are the blocks of the decoder and the gated blocks. Left out is what both designs have alike: image encoder, projector and
    output layer; and, as in :func:`layer_multiply_adds`, what is small. Attention counts every pair of a query and a key, whether the
    mask allows it or not, as it is computed here; kernels that skip the pairs that the causal mask forbids do about half of them.

    Attributes:
        language: the sizes of the decoder.
        cross_layers: how many gated blocks it has; 0: none, the picture's tokens stand in the text.
        cross_mlp: whether the gated blocks have an MLP.
        cross_norm: whether they normalise queries and keys.
        cross_key_value_heads: their key and value heads; ``None``: as the decoder.

    In all methods ``text_tokens`` counts all that stands in the text but the picture itself. The cross-attention design has one token
    more there, which stands for the picture, and is added here; with ``image_tokens`` 0 there is no picture, and neither has any.
    """

    language: LanguageModelConfig
    cross_layers: int = 0
    cross_mlp: bool = True
    cross_norm: bool = True
    cross_key_value_heads: int | None = None

    @classmethod
    def of(cls, config: UnifiedConfig | CrossAttentionConfig) -> "Design":
        """The design of a model's config."""
        if isinstance(config, UnifiedConfig):
            return cls(config.language)
        return cls(config.language, len(config.cross_before), config.cross_mlp, config.cross_norm is not None, config.cross_key_value_heads)

    def multiply_adds(self, image_tokens: int, text_tokens: int) -> LayerCost:
        """Multiply-adds of reading a picture and a text at once: what grows with the number of tokens, and what with pairs of them."""
        tokens = self._in_text(image_tokens, text_tokens)
        return self._cost(tokens, tokens, new_image_tokens=image_tokens, image_tokens=image_tokens)

    def next_word_multiply_adds(self, image_tokens: int, text_tokens: int) -> LayerCost:
        """Multiply-adds of one more token behind these, whose keys and values have been kept."""
        return self._cost(1, self._in_text(image_tokens, text_tokens) + 1, new_image_tokens=0, image_tokens=image_tokens)

    def cache_bytes(self, image_tokens: int, text_tokens: int, bytes_per_number: int = 4) -> int:
        """Memory of the keys and values kept of both; see :func:`cache_bytes`."""
        language, sizes = self.language, (self.head_dim, self._in_text(image_tokens, text_tokens))
        kept = cache_bytes(language.layers, language.key_value_heads or language.heads, *sizes, bytes_per_number=bytes_per_number)
        if self.cross_layers:
            kept += cache_bytes(self.cross_layers, self._cross_heads, self.head_dim, image_tokens, bytes_per_number=bytes_per_number)
        return kept

    def parameters(self) -> int:
        """Weights of the decoder, embedding and output layer included, and of the gated blocks."""
        language, dim = self.language, self.language.dim
        norms = 2 * dim + 2 * self.head_dim * (language.normalise_heads is not None)
        decoder = language.layers * (self._linear(language.key_value_heads) + norms) + dim  # and the last norm
        embedding = language.vocab_size * dim * (1 if language.tied else 2)
        halves = 1 + self.cross_mlp  # each with a norm and a gate
        gated = self._linear(self._cross_heads, self.cross_mlp) + halves * (dim + 1) + 2 * self.head_dim * self.cross_norm
        return decoder + embedding + self.cross_layers * gated

    @property
    def head_dim(self) -> int:
        return self.language.head_dim or self.language.dim // self.language.heads

    @property
    def _cross_heads(self) -> int:
        return self.cross_key_value_heads or self.language.key_value_heads or self.language.heads

    def _in_text(self, image_tokens: int, text_tokens: int) -> int:
        if image_tokens < 0 or text_tokens < 1:
            raise ValueError(f"expected image tokens of 0 or more and text tokens of 1 or more, got {image_tokens} and {text_tokens}")
        return text_tokens + (min(image_tokens, 1) if self.cross_layers else image_tokens)

    def _linear(self, key_value_heads: int | None, mlp: bool = True) -> int:
        """Weights of a block's matrices, and so its multiply-adds for a token."""
        query, key = self.language.heads * self.head_dim, (key_value_heads or self.language.heads) * self.head_dim
        return self.language.dim * (2 * query + 2 * key + 3 * self.language.mlp_dim * mlp)

    def _cost(self, tokens: int, keys: int, new_image_tokens: int, image_tokens: int) -> LayerCost:
        language, width = self.language, self.language.heads * self.head_dim
        linear = language.layers * tokens * self._linear(language.key_value_heads)
        attention = language.layers * 2 * tokens * keys * width
        if self.cross_layers and image_tokens:  # a gated block without a picture is passed over
            of_image = 2 * language.dim * self._cross_heads * self.head_dim  # its key and its value; nothing else is done with it
            of_text = self._linear(self._cross_heads, self.cross_mlp) - of_image
            linear += self.cross_layers * (tokens * of_text + new_image_tokens * of_image)
            attention += self.cross_layers * 2 * tokens * image_tokens * width
        return LayerCost(linear, attention)
