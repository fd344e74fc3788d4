"""One attention for the whole course (Vaswani et al. 2017, section 3.2): self or cross, grouped queries, q/k norm, rotary, cached."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minimllm.layers.norms import RMSNorm

Rotary = tuple[Float[Tensor, "*batch length head_dim"], Float[Tensor, "*batch length head_dim"]]


class KeyValueCache:
    """Keys and values of one attention, kept between calls so that each token is projected once.

    Self-attention appends those of the new tokens; cross-attention stores those of its context at the first call and reuses them.

    Attributes:
        keys, values: all that is kept, ``(batch, heads, length, head_dim)``; ``None`` before the first call.
    """

    def __init__(self):
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self._rooms: list[_Room] | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append along the length, ``(batch, heads, length, head_dim)``, and return all that is kept."""
        self.leave_inference()
        self.check_rows(len(keys))
        if self.keys is None:
            self.keys, self.values = keys, values
        elif torch.is_grad_enabled():  # what a backward pass may need must not be written over
            self.keys, self.values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        else:
            self._rooms = self._rooms or [_Room(), _Room()]
            self.keys, self.values = self._rooms[0].append(self.keys, keys), self._rooms[1].append(self.values, values)
        return self.keys, self.values

    def check_rows(self, rows: int) -> None:
        """Raise a ``ValueError`` unless what is kept has as many rows."""
        if self.keys is not None and len(self.keys) != rows:
            raise ValueError(f"the cache holds {len(self.keys)} rows, and the new tokens are {rows}; make a new cache")

    def leave_inference(self) -> None:
        """Make what was kept in ``torch.inference_mode`` ordinary tensors outside of it, where others can neither be extended nor learn."""
        if self.keys is not None and self.keys.is_inference() and not torch.is_inference_mode_enabled():
            self.keys, self.values, self._rooms = self.keys.clone(), self.values.clone(), None


class _Room:
    """Memory for more tokens than there are yet, so that a new token is written behind the others instead of copying them all."""

    def __init__(self):
        self.memory: Tensor | None = None
        self.kept: Tensor | None = None  # what lies in it now

    def append(self, kept: Tensor, new: Tensor) -> Tensor:
        past, length = kept.shape[2], kept.shape[2] + new.shape[2]
        if kept is not self.kept or length > self.memory.shape[2]:
            self.memory = kept.new_empty(*kept.shape[:2], length + length // 4 + 32, kept.shape[3])
            self.memory[:, :, :past] = kept
        self.memory[:, :, past:length] = new
        self.kept = self.memory[:, :, :length]
        return self.kept


def rotate(x: Float[Tensor, "batch heads length head_dim"], rotary: Rotary) -> Float[Tensor, "batch heads length head_dim"]:
    """Turn each pair ``(x[i], x[i + head_dim / 2])`` by its position's angle (RoPE, Su et al. 2021, in the half-split form of Llama).

    ``rotary`` is ``(cosine, sine)``, each ``(length, head_dim)`` or ``(batch, length, head_dim)``, the angles repeated in both halves.
    """
    cosine, sine = rotary if rotary[0].ndim == 2 else (angle.unsqueeze(-3) for angle in rotary)
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cosine, torch.cat([-second, first], dim=-1), sine).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention: every query mixes the values, weighted by the softmax of its scaled dot products with the keys.

    Args:
        dim: width of the tokens that ask (queries) and of the result.
        heads: number of query heads.
        key_value_heads: number of key and value heads; fewer than ``heads`` shares each among a group of queries
            (Ainslie et al. 2023). ``None``: as many as ``heads``.
        head_dim: width of a head; ``None``: ``dim // heads``.
        context_dim: width of the tokens that are attended to in cross-attention; ``None``: ``dim``.
        bias, output_bias: biases of the query, key and value projections, and of the output projection (``None``: as ``bias``).
        normalise_heads: epsilon of an RMS norm on each query and key head (as in Llama 3.2's cross-attention); ``None``: no norm.

    Raises:
        ValueError: if the numbers of heads do not divide.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        key_value_heads: int | None = None,
        head_dim: int | None = None,
        context_dim: int | None = None,
        bias: bool = True,
        output_bias: bool | None = None,
        normalise_heads: float | None = None,
    ):
        super().__init__()
        key_value_heads = heads if key_value_heads is None else key_value_heads
        if heads < 1 or key_value_heads < 1 or heads % key_value_heads:
            raise ValueError(f"{heads} query heads cannot share {key_value_heads} key/value heads evenly; choose a divisor of {heads}")
        if head_dim is None and dim % heads:
            raise ValueError(f"a width of {dim} does not split into {heads} heads; choose a divisor of {dim}, or give head_dim")
        head_dim = dim // heads if head_dim is None else head_dim
        context_dim = dim if context_dim is None else context_dim
        self.heads, self.key_value_heads, self.head_dim = heads, key_value_heads, head_dim
        self.query = nn.Linear(dim, heads * head_dim, bias=bias)
        self.key = nn.Linear(context_dim, key_value_heads * head_dim, bias=bias)
        self.value = nn.Linear(context_dim, key_value_heads * head_dim, bias=bias)
        self.output = nn.Linear(heads * head_dim, dim, bias=bias if output_bias is None else output_bias)
        self.query_norm = nn.Identity() if normalise_heads is None else RMSNorm(head_dim, eps=normalise_heads)
        self.key_norm = nn.Identity() if normalise_heads is None else RMSNorm(head_dim, eps=normalise_heads)

    def project(self, x, context=None, rotary=None, cache=None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(batch, heads, length, head_dim)``, keys and values ``(batch, key_value_heads, keys, head_dim)``."""
        queries = self.query_norm(split_heads(self.query(x), self.heads))
        if context is not None and cache is not None and cache.keys is not None:
            cache.leave_inference()
            return queries, cache.keys, cache.values  # a picture does not change while we write about it
        source = x if context is None else context
        keys = self.key_norm(split_heads(self.key(source), self.key_value_heads))
        values = split_heads(self.value(source), self.key_value_heads)
        if rotary is not None:
            queries, keys = rotate(queries, rotary), rotate(keys, rotary)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        return queries, keys, values

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        context: Float[Tensor, "batch keys context_dim"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        rotary: Rotary | None = None,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length dim"]:
        """Attend.

        Args:
            x: the tokens that ask, ``(batch, length, dim)``.
            context: the tokens to attend to, ``(batch, keys, context_dim)``; ``None``: ``x`` itself.
            mask: True = may attend; any shape that broadcasts to ``(batch, heads, length, keys)``. Each row needs one True.
            rotary: cosines and sines for :func:`rotate`, of the positions of ``x``; self-attention only.
            cache: keys and values of earlier calls, extended in place.

        Returns:
            ``(batch, length, dim)``.
        """
        queries, keys, values = self.project(x, context, rotary, cache)
        grouped = self.key_value_heads != self.heads
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=grouped)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def weights(self, x, context=None, mask=None, rotary=None, cache=None) -> Float[Tensor, "batch heads length keys"]:
        """The attention weights of the same call: each row is the softmax over the keys, and sums to 1.

        The fused kernel that :meth:`forward` uses never returns them; this is the textbook formula, softmax(Q K^T / sqrt(d)).
        """
        queries, keys, _ = self.project(x, context, rotary, cache)
        keys = keys.repeat_interleave(self.heads // self.key_value_heads, dim=1)
        scores = queries @ keys.transpose(-1, -2) * self.head_dim**-0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1)


def split_heads(x: Float[Tensor, "batch length width"], heads: int) -> Float[Tensor, "batch heads length head_dim"]:
    """``rearrange(x, "b length (heads d) -> b heads length d", heads=heads)``, in less time: it counts where one token is written."""
    return x.view(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)
