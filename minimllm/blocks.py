"""The blocks that models stack: a residual stream, into which attention and an MLP write in turn."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minimllm.attention import Attention, KeyValueCache, Rotary


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x * sigmoid(1.702 x)``: the approximation of GELU that OpenAI's CLIP was trained with. Not interchangeable with GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu, "relu": F.relu}


class MLP(nn.Module):
    """Two linear layers with a nonlinearity between: each token on its own, ``dim -> mlp_dim -> dim``.

    Args:
        activation: ``gelu`` (exact, with the error function: ViT), ``quick_gelu`` (CLIP) or ``relu``.

    Raises:
        ValueError: for another activation.
    """

    def __init__(self, dim: int, mlp_dim: int, activation: str = "gelu"):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; known are {', '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.up, self.down = nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return self.down(self.activation(self.up(x)))


class EncoderBlock(nn.Module):
    """Pre-norm transformer block: ``x + attention(norm(x))``, then ``x + mlp(norm(x))`` (ViT equations 2 and 3).

    BERT and the transformer of 2017 normalise after the sum instead; before it, the residual stream stays an open road
    from the first layer to the last.

    Args:
        dim, heads, mlp_dim: width of the tokens, number of heads, width inside the MLP.
        activation: see :class:`MLP`.
        norm_eps: epsilon of the two layer norms.
        query_key_value_bias: whether the query, key and value projections have a bias (the output projection always has).
    """

    def __init__(
        self, dim: int, heads: int, mlp_dim: int, activation: str = "gelu", norm_eps: float = 1e-6, query_key_value_bias: bool = True
    ):
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.attention = Attention(dim, heads, bias=query_key_value_bias, output_bias=True)
        self.mlp_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLP(dim, mlp_dim, activation)

    def forward(
        self, x: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "..."] | None = None, keep: int | None = None
    ) -> Float[Tensor, "batch kept dim"]:
        """One round of looking around and thinking it over.

        Args:
            x: ``(batch, length, dim)``.
            mask: as in :class:`~minimllm.attention.Attention`.
            keep: how many leading tokens are still needed afterwards; ``None``: all. The others are looked at, and then dropped:
                in the last block of a classifier, which reads the class token alone, that saves most of the work.

        Returns:
            ``(batch, keep or length, dim)``.
        """
        normed = self.attention_norm(x)
        if keep is None:
            x = x + self.attention(normed, mask=mask)
        else:
            x = x[:, :keep] + self.attention(normed[:, :keep], context=normed, mask=mask)
        return x + self.mlp(self.mlp_norm(x))


class SwiGLU(nn.Module):
    """The MLP of Llama (Shazeer 2020): ``down(silu(gate(x)) * up(x))``; one half decides how much of the other passes. No biases."""

    def __init__(self, dim: int, mlp_dim: int):
        super().__init__()
        self.gate, self.up = nn.Linear(dim, mlp_dim, bias=False), nn.Linear(dim, mlp_dim, bias=False)
        self.down = nn.Linear(mlp_dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class DecoderBlock(nn.Module):
    """A block of Llama: as :class:`EncoderBlock`, with RMS norms, rotary positions, grouped queries, SwiGLU, and no biases.

    Args:
        dim, heads, mlp_dim: width of the tokens, number of query heads, width inside the MLP.
        key_value_heads, head_dim, normalise_heads: see :class:`~minimllm.attention.Attention`.
        norm_eps: epsilon of the two RMS norms.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int,
        *,
        key_value_heads: int | None = None,
        head_dim: int | None = None,
        norm_eps: float = 1e-5,
        normalise_heads: float | None = None,
    ):
        super().__init__()
        self.attention_norm = nn.RMSNorm(dim, eps=norm_eps)
        self.attention = Attention(
            dim, heads, key_value_heads=key_value_heads, head_dim=head_dim, bias=False, normalise_heads=normalise_heads
        )
        self.mlp_norm = nn.RMSNorm(dim, eps=norm_eps)
        self.mlp = SwiGLU(dim, mlp_dim)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        mask: Bool[Tensor, "..."] | None = None,
        rotary: Rotary | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """``(batch, length, dim)`` -> the same shape; arguments as of :class:`~minimllm.attention.Attention`."""
        x = x + self.attention(self.attention_norm(x), mask=mask, rotary=rotary, cache=cache)
        return x + self.mlp(self.mlp_norm(x))
