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
