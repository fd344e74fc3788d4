"""What a transformer layer costs, counted from its shapes."""

from typing import NamedTuple


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
