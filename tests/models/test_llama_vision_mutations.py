"""Would the parity tests notice? Each mistake that one could make is planted, and must move the logits far beyond their tolerance."""

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from support import largest_difference
from tiny_llama_vision import FOUR, ONE, TALL, TWO, batch, inputs_of, theirs

from minimllm import LlamaVision
from minimllm.layers import attention, masks
from minimllm.layers.blocks import GatedCrossAttentionBlock, quick_gelu
from minimllm.layers.rotary import RotaryTable
from minimllm.models.llama_vision import pictures, vision
from minimllm.models.llama_vision.vision import TileEmbedding, TilePositions

TOLERANCE, VISIBLE = 1e-5, 2e-4  # twenty times the tolerance
CASE = batch(("tttItIIttt", [TALL, TWO, ONE]), ("ttItItt", [FOUR, TWO]), ("ttt", []), side="left")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """By reference: ours, and the logits of theirs."""
    folder = tmp_path_factory.mktemp("mllama")
    theirs().save_pretrained(folder)
    with torch.no_grad():
        expected = {reference: theirs(reference)(**inputs_of(*CASE)).logits for reference in ("meta", "transformers")}
    return {reference: (LlamaVision.from_pretrained(folder, reference=reference), expected[reference]) for reference in expected}


def difference(model, expected):
    ids, mask, tiles = CASE
    with torch.no_grad():
        return largest_difference(model(ids, tiles, mask)[mask.bool()], expected[mask.bool()])


def other_mask(change: Callable) -> Callable:
    """The cross-attention mask, changed: ``change`` gets it and the number of tiles."""

    def mutate(model, patch):
        rule = masks.cross_attention_mask
        patch.setattr(pictures, "cross_attention_mask", lambda ids, num_tiles, *rest: change(rule(ids, num_tiles, *rest), num_tiles))

    return mutate


def all_tiles(mask, num_tiles):
    return mask.any(dim=-1, keepdim=True).expand_as(mask)


def to_the_end(mask, num_tiles):
    return mask.cummax(dim=1).values


def from_the_next_token(mask, num_tiles):
    return F.pad(mask[:, :-1], (0, 0, 0, 0, 1, 0))


def without_runs(mask, num_tiles):
    """Only the last of several pictures side by side."""
    later = mask.any(-1).flip(2).cumsum(2).flip(2) > 1
    return mask & ~later[..., None]


def other_tile_mask(change: Callable) -> Callable:
    def mutate(model, patch):
        rule = masks.tile_mask
        patch.setattr(vision, "tile_mask", lambda tiles, tokens, padded: change(rule(tiles, tokens, padded), tiles, tokens, padded))

    return mutate


def no_looking_at_padding(mask, tiles, tokens, padded):
    real = ((tiles > 0)[:, :, None] & (torch.arange(padded) < tokens)).flatten(1)
    return real[:, None, None, :].expand_as(mask)


def each_tile_alone(mask, tiles, tokens, padded):
    number = torch.arange(mask.shape[-1]) // padded
    return mask & (number[:, None] == number)


def no_rows_of_zeros(model, patch):
    patch.setattr(vision, "F", SimpleNamespace(pad=lambda x, widths: x))


def rows_of_zeros_before_the_norm(model, patch):
    norm, model.vision.pre_norm = model.vision.pre_norm, torch.nn.Identity()
    patch.setattr(vision, "F", SimpleNamespace(pad=lambda x, widths: norm(F.pad(x, widths))))


def positions(formula: Callable) -> Callable:
    def mutate(model, patch):
        patch.setattr(TilePositions, "forward", lambda self, x, ids: formula(self, x, self.table[ids], self.gate.tanh()))

    return mutate


def gates_as_they_are(kind: type) -> Callable:
    """The gate itself in place of its hyperbolic tangent."""

    def mutate(model, patch):
        for module in model.modules():
            if isinstance(module, kind):
                for name, gate in module.named_parameters(recurse=False):
                    if name.endswith("gate"):
                        gate.data.copy_(gate.data.atanh())

    return mutate


def activation(function: Callable) -> Callable:
    def mutate(model, patch):
        for block in [*model.vision.blocks, *model.vision.global_blocks]:
            block.mlp.activation = function

    return mutate


def without(start: str, end: str) -> Callable:
    """Leave out the modules whose names begin and end so."""

    def mutate(model, patch):
        for name in [name for name, _ in model.named_modules() if name.startswith(start) and name.endswith(end)]:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, torch.nn.Identity())

    return mutate


def features(change: Callable) -> Callable:
    def mutate(model, patch):
        model.vision.register_forward_hook(lambda module, args, output: change(output))

    return mutate


def block_layout(x):
    last, collected = x[..., :32], x[..., 32:]
    return torch.cat([last, collected.unflatten(-1, (32, 2)).transpose(-1, -2).flatten(-2)], dim=-1)


def collected_first(x):
    return torch.cat([x[..., 32:], x[..., :32]], dim=-1)


def tables_of_real_tiles(model, patch):
    """The terms of empty tiles left out."""
    with torch.no_grad():
        for module in (model.vision.positions, model.vision.pre_tile, model.vision.post_tile):
            for number, (rows, columns) in enumerate([(0, 0), *vision.arrangements()]):
                module.table[number, rows * columns :] = 0


def tile_term_on_the_class_token(model, patch):
    before, place = model.vision.pre_tile.forward, model.vision.positions.forward
    model.vision.pre_tile.forward = lambda x, ids: x
    model.vision.positions.forward = lambda x, ids: place(before(x, ids), ids)


def tile_term_before_the_norm(model, patch):
    norm, after = model.vision.norm, model.vision.post_tile.forward
    model.vision.norm = torch.nn.Identity()
    model.vision.post_tile.forward = lambda x, ids: norm(after(x, ids))


def class_token_last(model, patch):
    cat = torch.cat
    patch.setattr(vision.torch, "cat", lambda parts, dim: cat(parts[::-1] if dim == 2 else parts, dim=dim))


def columns_first(model, patch):
    """Tiles of a grid numbered down the columns."""
    encode = model.vision.forward
    order = torch.tensor([0, 2, 1, 3])

    def forward(pixels, ids, mask):
        swapped = torch.where((ids == 6)[:, None, None, None, None], pixels[:, order], pixels)
        return encode(swapped, ids, mask)

    model.vision.forward = forward


def rows_and_columns_swapped(model, patch):
    encode = model.vision.forward
    swap = torch.tensor([0, 1, 5, 7, 8, 2, 6, 3, 4])
    model.vision.forward = lambda pixels, ids, mask: encode(pixels, swap[ids], mask)


def reference(name: str) -> Callable:
    """Of the image encoder alone, or of the cross-attention alone: the other code's half."""

    def mutate(model, patch):
        for module in [model.vision] if name == "vision" else model.cross_blocks:
            module.reference = {"meta": "transformers", "transformers": "meta"}[module.reference]

    return mutate


def interleaved_rotation(model, patch):
    def rotate(x, rotary):
        rotary = rotary if rotary[0].ndim == 2 else tuple(angle.unsqueeze(-3) for angle in rotary)
        cosine, sine = (angle[..., : x.shape[-1] // 2].repeat_interleave(2, dim=-1) for angle in rotary)
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return x * cosine + turned * sine

    patch.setattr(attention, "rotate", rotate)


def unscaled_rotation(model, patch):
    head_dim, base, _ = model.language_model.angles.options
    model.language_model.angles = RotaryTable(head_dim, base)


def cross_blocks_elsewhere(*numbers: int) -> Callable:
    def mutate(model, patch):
        model.config = replace(model.config, cross_layers=numbers)

    return mutate


def no_mask_of_rows_on_the_mlp(model, patch):
    for block in model.cross_blocks:
        norm, mlp = block.mlp_norm, block.mlp

        def forward(x, context=None, mask=None, cache=None, block=block, norm=norm, mlp=mlp):
            sees = mask.any(-1, keepdim=True)
            look = block.attention(block.attention_norm(x), context, (mask | ~sees)[:, None], cache=cache)
            x = x + block.attention_gate.tanh() * look * (sees if block.reference == "meta" else 1)
            return x + block.mlp_gate.tanh() * mlp(norm(x))

        block.forward = forward


def no_bias_of_the_projector(model, patch):
    model.projector.bias.data.zero_()


def scale_of_the_model_width(model, patch):
    """Scores divided by the root of the width of the model, not of a head."""
    for block in model.cross_blocks:
        block.attention.query_norm.weight.data.mul_((8 / 32) ** 0.5)


MISTAKES = {
    "collected states behind each other, not interleaved": features(block_layout),
    "collected states before the last one": features(collected_first),
    "states from the other side of their blocks": reference("vision"),
    "the other reference's row mask": reference("text"),
    "no row mask on the MLP": no_mask_of_rows_on_the_mlp,
    "padding hidden from the image tokens": other_tile_mask(no_looking_at_padding),
    "nothing hidden from the image tokens": other_tile_mask(lambda mask, *rest: torch.ones_like(mask)),
    "every tile alone": other_tile_mask(each_tile_alone),
    "no rows of zeros": no_rows_of_zeros,
    "rows of zeros before the norm": rows_of_zeros_before_the_norm,
    "local positions not faded out": positions(lambda self, x, table, amount: x + self.local + amount * table),
    "no positions of the tiles": positions(lambda self, x, table, amount: x + (1 - amount) * self.local),
    "no local positions": positions(lambda self, x, table, amount: x + amount * table),
    "gate of the positions without tanh": gates_as_they_are(TilePositions),
    "gates of the tile terms without tanh": gates_as_they_are(TileEmbedding),
    "gates of the encoder without tanh": gates_as_they_are(vision.TileBlock),
    "gates of the cross-attention without tanh": gates_as_they_are(GatedCrossAttentionBlock),
    "tile terms on tiles with content alone": tables_of_real_tiles,
    "the first tile term on the class token, too": tile_term_on_the_class_token,
    "the second tile term before the norm": tile_term_before_the_norm,
    "the class token behind the patches": class_token_last,
    "tiles numbered down the columns": columns_first,
    "rows and columns of the grid swapped": rows_and_columns_swapped,
    "GELU by tanh": activation(lambda x: F.gelu(x, approximate="tanh")),
    "QuickGELU": activation(quick_gelu),
    "no norm before the encoder": without("vision", "pre_norm"),
    "no norm between the stacks": without("vision.norm", "norm"),
    "no norm of the queries": without("cross_blocks", "query_norm"),
    "no norm of the keys": without("cross_blocks", "key_norm"),
    "scores by the width of the model": scale_of_the_model_width,
    "no bias of the projector": no_bias_of_the_projector,
    "text sees empty tiles": other_mask(all_tiles),
    "pictures seen to the end": other_mask(to_the_end),
    "the image token does not see its picture": other_mask(from_the_next_token),
    "of pictures side by side only the last": other_mask(without_runs),
    "rotation of neighbours, not of halves": interleaved_rotation,
    "rotation without scaling": unscaled_rotation,
    "cross-attention one block earlier": cross_blocks_elsewhere(0, 3),
    "cross-attention in the middle": cross_blocks_elsewhere(1, 2),
}


@pytest.mark.parametrize("name", ["meta", "transformers"])
def test_without_a_mistake_there_is_no_difference(pairs, name):
    model, expected = pairs[name]
    assert difference(copy.deepcopy(model), expected) < TOLERANCE


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_visible(pairs, mistake, monkeypatch):
    for model, expected in pairs.values():
        mutant = copy.deepcopy(model)
        with monkeypatch.context() as patch:
            MISTAKES[mistake](mutant, patch)
            assert difference(mutant, expected) > VISIBLE
