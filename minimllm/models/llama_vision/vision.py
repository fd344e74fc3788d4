"""The image encoder of Llama 3.2 Vision: the tiles of a picture through two stacks of blocks, equal to ``MllamaVisionModel``."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minimllm.layers.attention import Attention
from minimllm.layers.blocks import MLP, check_reference
from minimllm.layers.masks import tile_mask
from minimllm.layers.patches import PatchEmbedding, check_divides, check_patch_size
from minimllm.models.llama_vision.tiles import arrangements


@dataclass(frozen=True)
class TileEncoderConfig:
    """The sizes of the image encoder; the defaults are those of all released Llama 3.2 Vision models but the 11B base.

    Attributes:
        tile_size: side of a tile, in pixels (448 in the 11B base model).
        patch_size: side of a patch, in pixels.
        channels: channels of an image.
        dim, heads, mlp_dim: width of a token, heads per block, width inside the MLP.
        layers, global_layers: number of blocks of the first and of the second stack, whose blocks are gated.
        collected: which blocks of the first stack give a state to the result, numbered from 0.
        max_tiles: most tiles of a picture.
        norm_eps: epsilon of the layer norms in the blocks.
        position_std: standard deviation of the positions and the class token at the start.
    """

    tile_size: int = 560
    patch_size: int = 14
    channels: int = 3
    dim: int = 1280
    layers: int = 32
    global_layers: int = 8
    heads: int = 16
    mlp_dim: int = 5120
    collected: tuple[int, ...] = (3, 7, 15, 23, 30)
    max_tiles: int = 4
    norm_eps: float = 1e-5
    position_std: float = 0.02

    def __post_init__(self):
        check_patch_size(self.patch_size)
        check_divides(self.tile_size, self.tile_size, self.patch_size)
        arrangements(self.max_tiles)
        for name in ("channels", "dim", "layers", "heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.global_layers < 0 or any(not 0 <= number < self.layers for number in self.collected):
            raise ValueError(f"collected {self.collected} must number blocks among {self.layers}, from 0; global_layers be 0 or more")

    @property
    def tokens(self) -> int:
        """Tokens of a tile: its patches and a class token."""
        return (self.tile_size // self.patch_size) ** 2 + 1

    @property
    def features(self) -> int:
        """Width of the result: the last state and the collected ones side by side."""
        return self.dim * (1 + len(self.collected))

    @classmethod
    def tiny(cls, **changes: Any) -> "TileEncoderConfig":
        """The course size: tiles of 32 pixels, 16 patches each, 96 wide, 3 blocks and a gated one."""
        sizes = dict(tile_size=32, patch_size=8, dim=96, layers=3, global_layers=1, heads=4, mlp_dim=384, collected=(1, 2))
        return replace(cls(**sizes, position_std=0.5), **changes)


class TileEmbedding(nn.Module):
    """A vector for each tile of each arrangement, the same for all tokens of the tile, added behind a gate: ``x + tanh(gate) * vector``."""

    def __init__(self, config: TileEncoderConfig):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1))
        self.table = nn.Parameter(torch.randn(len(arrangements(config.max_tiles)) + 1, config.max_tiles, config.dim) * config.position_std)

    def forward(self, x: Float[Tensor, "images tiles tokens dim"], ids: Int[Tensor, " images"]) -> Float[Tensor, "images tiles tokens dim"]:
        return x + self.gate.tanh() * self.table[ids][:, :, None]


class TilePositions(nn.Module):
    """A vector for each place in a tile, alike in all tiles, and one for each place in each tile; the gate moves between the two.

    ``x + (1 - tanh(gate)) * local + tanh(gate) * table[arrangement]``; at the start the gate is 0, and tiles do not differ.
    """

    def __init__(self, config: TileEncoderConfig):
        super().__init__()
        grids = len(arrangements(config.max_tiles)) + 1
        self.gate = nn.Parameter(torch.zeros(1))
        self.local = nn.Parameter(torch.randn(config.tokens, config.dim) * config.position_std)
        self.table = nn.Parameter(torch.randn(grids, config.max_tiles, config.tokens, config.dim) * config.position_std)

    def forward(self, x: Float[Tensor, "images tiles tokens dim"], ids: Int[Tensor, " images"]) -> Float[Tensor, "images tiles tokens dim"]:
        amount = self.gate.tanh()
        return x + (1 - amount) * self.local + amount * self.table[ids]


class TileBlock(nn.Module):
    """A block of the encoder: as a ViT's, with no bias in the attention; in the second stack each half has a gate, 0 at the start."""

    def __init__(self, config: TileEncoderConfig, gated: bool):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.attention = Attention(config.dim, config.heads, bias=False)
        self.mlp_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.mlp = MLP(config.dim, config.mlp_dim)
        self.attention_gate = nn.Parameter(torch.zeros(1)) if gated else None
        self.mlp_gate = nn.Parameter(torch.zeros(1)) if gated else None

    def forward(self, x: Float[Tensor, "images length dim"], mask: Bool[Tensor, "..."]) -> Float[Tensor, "images length dim"]:
        look = self.attention(self.attention_norm(x), mask=mask)
        x = x + (look if self.attention_gate is None else self.attention_gate.tanh() * look)
        thought = self.mlp(self.mlp_norm(x))
        return x + (thought if self.mlp_gate is None else self.mlp_gate.tanh() * thought)


class TileEncoder(nn.Module):
    """Patches of all tiles, positions, a stack of blocks, and a second stack with gates; states from within the first come out as well.

    All blocks look at all tiles of a picture at once, the first stack, too, which is often called local.

    Args:
        config: the sizes.
        seed: of the random weights; the global random state is neither read nor changed.
        reference: ``meta`` collects what goes into the blocks ``collected``, for which the weights were trained, ``transformers`` what
            comes out of them, as its releases from some 4.5x on do.
    """

    def __init__(self, config: TileEncoderConfig, seed: int = 0, reference: str = "meta"):
        super().__init__()
        check_reference(reference)
        self.config, self.reference = config, reference
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.patches = PatchEmbedding(config.patch_size, config.channels, config.dim, bias=False)
            self.class_token = nn.Parameter(torch.randn(config.dim) * config.position_std)
            self.pre_tile, self.post_tile = TileEmbedding(config), TileEmbedding(config)
            self.positions = TilePositions(config)
            self.pre_norm, self.norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)  # 1e-5, whatever norm_eps is
            self.blocks = nn.ModuleList(TileBlock(config, gated=False) for _ in range(config.layers))
            self.global_blocks = nn.ModuleList(TileBlock(config, gated=True) for _ in range(config.global_layers))

    def embed(
        self, pixels: Float[Tensor, "images tiles channels tile tile"], ids: Int[Tensor, " images"]
    ) -> Float[Tensor, "images tiles tokens dim"]:
        """The tokens that enter the first block: a class token and patches of every tile, with their positions, normalised."""
        x = rearrange(self.patches(pixels.flatten(0, 1)), "(n tiles) patches d -> n tiles patches d", n=len(pixels))
        x = self.pre_tile(x, ids)  # the class token does not get it
        x = torch.cat([self.class_token.expand(*x.shape[:2], 1, -1), x], dim=2)
        return self.pre_norm(self.positions(x, ids))

    def forward(
        self,
        pixels: Float[Tensor, "images tiles channels tile tile"],
        ids: Int[Tensor, " images"],
        mask: Int[Tensor, "images tiles"],
    ) -> Float[Tensor, "images tiles tokens features"]:
        """Pictures to features.

        Args:
            pixels: ``(images, tiles, channels, tile, tile)``, normalised.
            ids: numbers of the arrangements, 0 for no picture.
            mask: 1 on tiles that hold something.

        Returns:
            ``(images, tiles, 1 + patches, dim * (1 + collected))``: the last state, then the collected ones interleaved, number by number:
            feature ``dim + d * k + j`` is number ``d`` of the ``j``-th of ``k`` states.
        """
        x = self.embed(pixels, ids)
        tiles, tokens = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -tokens % 8))  # rows of zeros, to a length that processors like
        attend = tile_mask(mask, tokens, x.shape[2])
        x = rearrange(x, "n tiles tokens d -> n (tiles tokens) d")
        states = {}
        for number, block in enumerate(self.blocks):
            before, x = x, block(x, attend)
            if number in self.config.collected:
                states[number] = before if self.reference == "meta" else x
        x = rearrange(self.norm(x), "n (tiles tokens) d -> n tiles tokens d", tiles=tiles)
        x = rearrange(self.post_tile(x, ids), "n tiles tokens d -> n (tiles tokens) d")
        for block in self.global_blocks:
            x = block(x, attend)
        if self.config.collected:
            collected = torch.stack([states[number] for number in self.config.collected], dim=-1)
            x = torch.cat([x, collected.flatten(-2)], dim=-1)
        return rearrange(x, "n (tiles tokens) f -> n tiles tokens f", tiles=tiles)[:, :, :tokens]
