"""CLIP's text encoder: a causal transformer whose output at the end token stands for the whole text (Radford et al. 2021, section 2.4)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from minimllm.layers.blocks import EncoderBlock
from minimllm.layers.masks import causal_mask, check_mask, padding_mask


@dataclass(frozen=True)
class TextConfig:
    """The sizes of a text encoder; the defaults are those of CLIP ViT-B/32.

    Attributes:
        vocab_size: number of token ids.
        context_length: longest text in tokens, start and end token included.
        dim, layers, heads, mlp_dim: width of a token, number of blocks, heads per block, width inside the MLP.
        activation: see :class:`~minimllm.layers.blocks.MLP`.
        norm_eps: epsilon of the layer norms.
        eos_token_id: the id at whose first place the text is pooled; see :func:`end_positions` for the meaning of 2.
        embedding_std: standard deviation of token and position embeddings at the start.
    """

    vocab_size: int = 49408
    context_length: int = 77
    dim: int = 512
    layers: int = 12
    heads: int = 8
    mlp_dim: int = 2048
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    eos_token_id: int = 49407
    embedding_std: float = 0.02

    def __post_init__(self):
        for name in ("vocab_size", "context_length", "dim", "layers", "heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")


def end_positions(ids: Int[Tensor, "batch length"], eos_token_id: int) -> Int[Tensor, " batch"]:
    """Where each text is pooled: at the first end token, as in transformers; where there is none, at position 0.

    It must be the first, because the padding may consist of end tokens too. An ``eos_token_id`` of 2 is special: configs of
    2021 carry it by mistake, and there the highest id of the text marks its end, as in OpenAI's code.
    """
    return (ids if eos_token_id == 2 else ids == eos_token_id).int().argmax(dim=-1)


class TextEncoder(nn.Module):
    """Token embeddings, learned positions, causal pre-norm blocks, a final norm.

    Because no token sees what comes after it, only the end token has seen the whole text; and padding behind it changes nothing.

    Args:
        config: the sizes.
    """

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.dim)
        self.positions = nn.Embedding(config.context_length, config.dim)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=config.embedding_std)
        self.blocks = nn.ModuleList(
            EncoderBlock(config.dim, config.heads, config.mlp_dim, config.activation, config.norm_eps) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)

    def encode(
        self, ids: Int[Tensor, "batch length"], mask: Shaped[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch length dim"]:
        """All tokens after the final norm. Arguments and errors as :meth:`forward`."""
        check_ids(ids, mask, self.config.vocab_size, self.config.context_length)
        visible = causal_mask(ids.shape[1], ids.device)
        if mask is not None:
            # Padding on the left sees nothing at all; its attention is then zero, as in transformers, and nobody attends to it.
            visible = visible & padding_mask(mask)
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask=visible)
        return self.norm(x)

    def forward(self, ids: Int[Tensor, "batch length"], mask: Shaped[Tensor, "batch length"] | None = None) -> Float[Tensor, "batch dim"]:
        """``(batch, length)`` token ids -> ``(batch, dim)``, read at each text's end token.

        Args:
            ids: token ids; the texts of a batch are padded to one length.
            mask: 1 on real tokens, 0 on padding; without it all are taken as real, which changes nothing if the padding is behind.

        Raises:
            ValueError: ids that are no batch of integers, an empty text, one longer than ``context_length``, an id outside the
                vocabulary, a mask of another shape.
        """
        x = self.encode(ids, mask)
        return x[torch.arange(len(x), device=x.device), end_positions(ids, self.config.eos_token_id)]


def check_ids(ids: Tensor, mask: Tensor | None, vocab_size: int, context_length: int) -> None:
    """Raise a ``ValueError`` unless these are token ids of this vocabulary, and no more than there are positions."""
    if not isinstance(ids, Tensor):
        raise ValueError(f"expected token ids as a tensor (batch, length), got a {type(ids).__name__}; torch.tensor(ids) makes one")
    if ids.ndim != 2 or ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"expected integer token ids, int64 or int32, of shape (batch, length), got {ids.dtype} {tuple(ids.shape)}")
    if 0 in ids.shape:
        raise ValueError(f"got token ids of shape {tuple(ids.shape)}; at least one text of at least one token is needed")
    if ids.shape[1] > context_length:
        raise ValueError(f"the text is {ids.shape[1]} tokens long, and this model reads at most {context_length}; shorten it")
    lowest, highest = (0, 0) if ids.is_meta else (int(end) for end in ids.aminmax())
    if lowest < 0 or highest >= vocab_size:
        raise ValueError(f"token ids reach from {lowest} to {highest}; this model's vocabulary has the ids 0 to {vocab_size - 1}")
    if mask is not None:
        if isinstance(mask, Tensor) and mask.shape != ids.shape:
            raise ValueError(f"the mask has shape {tuple(mask.shape)}, the token ids have {tuple(ids.shape)}; they must be equal")
        check_mask(mask)
