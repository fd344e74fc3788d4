"""The blocks that models stack: a residual stream, into which attention and an MLP write in turn."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minimllm.layers.attention import Attention, KeyValueCache, Rotary
from minimllm.layers.norms import RMSNorm


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x * sigmoid(1.702 x)``: the approximation of GELU that OpenAI's CLIP was trained with. Not interchangeable with GELU."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GELU by its approximation with the hyperbolic tangent (Hendrycks and Gimpel 2016), which SigLIP and SmolVLM use."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
}


class MLP(nn.Module):
    """Two linear layers with a nonlinearity between: each token on its own, ``dim -> mlp_dim -> dim``.

    Args:
        activation: ``gelu`` (exact, with the error function: ViT), ``gelu_pytorch_tanh`` (SigLIP), ``quick_gelu`` (CLIP) or ``relu``.

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
            mask: as in :class:`~minimllm.layers.attention.Attention`.
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
        key_value_heads, head_dim, normalise_heads: see :class:`~minimllm.layers.attention.Attention`.
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
        self.attention_norm = RMSNorm(dim, eps=norm_eps)
        self.attention = Attention(
            dim, heads, key_value_heads=key_value_heads, head_dim=head_dim, bias=False, normalise_heads=normalise_heads
        )
        self.mlp_norm = RMSNorm(dim, eps=norm_eps)
        self.mlp = SwiGLU(dim, mlp_dim)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        mask: Bool[Tensor, "..."] | None = None,
        rotary: Rotary | None = None,
        cache: KeyValueCache | None = None,
        places: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "*places dim"]:
        """``(batch, length, dim)`` -> the same shape; arguments as of :class:`~minimllm.layers.attention.Attention`.

        With ``places``, ``(rows, places)`` of ``n`` tokens, -> ``(n, dim)``: what the last block makes of a token is read there alone,
        so its MLP, which is most of its work, can leave out those that nobody asks for.
        """
        x = x + self.attention(self.attention_norm(x), mask=mask, rotary=rotary, cache=cache)
        x = x if places is None else x[places]
        return x + self.mlp(self.mlp_norm(x))


class GatedCrossAttentionBlock(nn.Module):
    """A block in which text looks at pictures: cross-attention, then an MLP, each behind a gate (Llama 3.2 Vision; Flamingo before it).

    ``x + tanh(attention_gate) * attention(norm(x), pictures)``, then ``x + tanh(mlp_gate) * mlp(norm(x))``. Both gates are 0 at the start:
    put into a trained language model, the block changes nothing until it has learned something.

    Args:
        dim, heads: width of the text's tokens, number of query heads.
        mlp_dim: width inside the MLP; ``None`` leaves out that half of the block.
        context_dim: width of the pictures' tokens; ``None``: ``dim``.
        key_value_heads, head_dim, normalise_heads: see :class:`~minimllm.layers.attention.Attention`.
        norm_eps: epsilon of the RMS norms.
        reference: what the attention gives a token that may see no picture. ``meta``: nothing. ``transformers``: the average over all
            there is, as if nothing were masked. The MLP gives such a token nothing in either.

    Raises:
        ValueError: for another reference, or numbers of heads that do not divide.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int | None,
        *,
        context_dim: int | None = None,
        key_value_heads: int | None = None,
        head_dim: int | None = None,
        norm_eps: float = 1e-5,
        normalise_heads: float | None = 1e-5,
        reference: str = "meta",
    ):
        super().__init__()
        check_reference(reference)
        self.reference = reference
        sizes = dict(key_value_heads=key_value_heads, head_dim=head_dim, context_dim=context_dim)
        self.attention_norm = RMSNorm(dim, eps=norm_eps)
        self.attention = Attention(dim, heads, **sizes, bias=False, normalise_heads=normalise_heads)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.mlp_norm = None if mlp_dim is None else RMSNorm(dim, eps=norm_eps)
        self.mlp = None if mlp_dim is None else SwiGLU(dim, mlp_dim)
        self.mlp_gate = None if mlp_dim is None else nn.Parameter(torch.zeros(1))

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        context: Float[Tensor, "batch new_keys context_dim"] | None = None,
        mask: Bool[Tensor, "batch length keys"] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """Look at the pictures, and think it over.

        Args:
            x: the text, ``(batch, length, dim)``.
            context: the tokens of the pictures, ``(batch, keys, context_dim)``; with a cache, those of new pictures, or ``None``.
            mask: True = may attend, ``(batch, length, keys)``, a row without any True being a token that sees no picture;
                ``None``: every token sees everything. With a cache, over all pictures, earlier ones first.
            cache: keys and values of the pictures, extended in place by those of ``context``.

        Returns:
            ``(batch, length, dim)``; ``x`` itself if there is no picture, neither in ``context`` nor in the cache.
        """
        if context is None and (cache is None or cache.keys is None):
            return x
        sees = None if mask is None else mask.any(dim=-1, keepdim=True)
        if mask is not None:
            mask = (mask | ~sees)[:, None]  # a softmax over nothing would be NaN
        if context is not None and cache is not None:
            cache.extend(*self.attention.project(x[:, :0], context)[1:])
        look = self.attention(self.attention_norm(x), x[:, :0] if context is None else context, mask, cache=cache)
        if sees is not None and self.reference == "meta":
            look = look * sees
        x = x + self.attention_gate.tanh() * look
        if self.mlp is None:
            return x
        thought = self.mlp(self.mlp_norm(x))
        return x + self.mlp_gate.tanh() * (thought if sees is None else thought * sees)


def check_reference(reference: str) -> None:
    if reference not in ("meta", "transformers"):
        raise ValueError(f"reference must be 'meta' or 'transformers', got {reference!r}")
