"""Exercises of lesson 01: cut a picture, turn the linear layer into a convolution, stretch the positions."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from minimllm.layers.patches import interpolate_positions, patchify

from . import Exercise, Wrong

Grid = tuple[int, int]

# ---- cutting ----------------------------------------------------------------------------------------------------------


def patchify_cases() -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(shape, generator=generator), size) for shape, size in (((2, 3, 8, 12), 4), ((1, 1, 6, 6), 2), ((3, 3, 4, 4), 4))]


def cut(pattern: str) -> Callable[[Tensor, int], Tensor]:
    return lambda images, patch_size: rearrange(images, pattern, ph=patch_size, pw=patch_size)


PATCHIFY = Exercise(
    reference=patchify,
    cases=patchify_cases,
    batched=(0,),
    mistakes=dict(
        pixel_first=Wrong(cut("b c (r ph) (k pw) -> b (r k) (ph pw c)")).hint("""
            The patches are right, but each is flattened pixel by pixel (red, green, blue of the first pixel, then of the second). Flatten
            channel first: all of red, then all of green, then all of blue. Otherwise the weights of a convolution do not fit."""),
        column_by_column=Wrong(cut("b c (r ph) (k pw) -> b (k r) (c ph pw)")).hint("""
            The patches come column by column. Reading order is row by row: in the reshape to one axis, the rows of patches must come before
            the columns of patches."""),
        patch_on_its_side=Wrong(cut("b c (r ph) (k pw) -> b (r k) (c pw ph)")).hint("""
            Each patch lies on its side: inside a patch, columns of pixels are read before rows. Exchange the last two axes."""),
        only_reshaped=Wrong(lambda right, images: images.reshape(right.shape)).hint("""
            A reshape alone does not move a number: what it calls a patch is a run of pixels from one row. Split height and width into
            (which patch, where in it), then permute so that the two 'which patch' axes stand together, and only then reshape."""),
        interleaved=Wrong(cut("b c (ph r) (pw k) -> b (r k) (c ph pw)")).hint("""
            Each of your patches collects pixels from all over the picture. When you split the height, the outer axis is 'which row of
            patches' and the inner axis 'which row inside the patch': reshape to (rows, patch_size), not to (patch_size, rows)."""),
        values_first=Wrong(lambda right: right.mT).hint("""
            Two axes are exchanged: the result is (batch, values, patches), which is what F.unfold returns. A sequence is (batch, patches,
            values): transpose axes 1 and 2."""),
        overlapping=Wrong(lambda images, patch_size: F.unfold(images, patch_size).transpose(1, 2)).hint("""
            There are far too many patches: they overlap. The window must move by patch_size each time (stride=patch_size), not by 1."""),
    ),
    afterthought="Something to think of: what would change in a trained model if its patches came column by column from the start?",
)

# ---- one convolution --------------------------------------------------------------------------------------------------


def convolution_cases() -> list[tuple[Tensor, Tensor, Tensor, int]]:
    generator = torch.Generator().manual_seed(2)

    def case(batch: int, channels: int, height: int, width: int, dim: int, size: int) -> tuple[Tensor, Tensor, Tensor, int]:
        images = torch.rand(batch, channels, height, width, generator=generator)
        weight = torch.randn(dim, channels * size**2, generator=generator)
        return images, weight, torch.randn(dim, generator=generator), size

    return [case(2, 3, 8, 12, 5, 4), case(1, 1, 6, 4, 3, 2)]


def embed(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return F.linear(patchify(images, patch_size), weight, bias)


def convolved(
    images: Tensor,
    weight: Tensor,
    bias: Tensor,
    patch_size: int,
    *,
    fold: str = "dim (c ph pw) -> dim c ph pw",
    flip: Callable[[Tensor], Tensor] = lambda kernel: kernel,
    stride: int | None = None,
    unfold: str = "b dim r k -> b (r k) dim",
) -> Tensor:
    """The convolution, with what people get wrong as options."""
    kernel = flip(rearrange(weight, fold, c=images.shape[1], ph=patch_size, pw=patch_size))
    return rearrange(F.conv2d(images, kernel, bias, stride=stride or patch_size), unfold)


CONVOLUTION = Exercise(
    reference=embed,
    cases=convolution_cases,
    batched=(0,),
    mistakes=dict(
        no_bias=Wrong(lambda right, bias: right - bias).hint("""
            Every token is off by the same vector: the bias. Give it to the convolution, too."""),
        pixel_first_kernel=Wrong(partial(convolved, fold="dim (ph pw c) -> dim c ph pw")).hint("""
            The kernel is folded pixel first. A row of the linear layer's weight runs through all of red, then green, then blue: fold it to
            (channels, patch_size, patch_size) directly, without a permute."""),
        turned_kernel=Wrong(partial(convolved, fold="dim (c pw ph) -> dim c ph pw")).hint("""
            Each kernel lies on its side: its rows and columns are exchanged. Leave its last two axes as they are."""),
        flipped_kernel=Wrong(partial(convolved, flip=lambda kernel: kernel.flip(2, 3))).hint("""
            The kernel is turned upside down. That is right for the convolution of mathematics; F.conv2d computes a cross-correlation, which
            does not flip. Leave out the flip."""),
        stride_of_one=Wrong(partial(convolved, stride=1)).hint("""
            Far too many tokens: the kernel moves one pixel at a time. With stride=patch_size it meets each patch exactly once."""),
        still_a_picture=Wrong(partial(convolved, unfold="b dim r k -> b dim r k")).hint("""
            The numbers are right, but still lie as a picture (batch, dim, rows, columns). Flatten rows and columns, then move dim
            last."""),
        channels_before_tokens=Wrong(lambda right: right.mT).hint("""
            Nearly there: (batch, dim, tokens) must become (batch, tokens, dim). Transpose the last two axes."""),
        reshaped_not_transposed=Wrong(lambda right: right.mT.reshape(right.shape)).hint("""
            The last step was a reshape, which leaves the numbers where they are and only renames the axes, so each token is mixed of
            several. Flatten the two axes of the grid, then transpose."""),
        tokens_by_column=Wrong(partial(convolved, unfold="b dim r k -> b (k r) dim")).hint("""
            The tokens come column by column. Flatten rows and columns in that order before dim is moved last."""),
    ),
    afterthought="Something to think of: a 1 × 1 convolution is a linear layer, too. On what?",
)

# ---- positions --------------------------------------------------------------------------------------------------------


def position_cases() -> list[tuple[Tensor, Grid, Grid]]:
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(1 + old[0] * old[1], 6, generator=generator), old, new) for old, new in (((4, 6), (6, 3)), ((3, 3), (5, 5)))]


def stretched(
    table: Tensor,
    old_grid: Grid,
    new_grid: Grid,
    *,
    mode: str = "bicubic",
    fold: str = "(r k) dim -> 1 dim r k",
    unfold: str = "1 dim r k -> (r k) dim",
    **options,
) -> Tensor:
    """The positions stretched, with what people get wrong as options."""
    picture = F.interpolate(rearrange(table[1:], fold, r=old_grid[0], k=old_grid[1]), size=new_grid, mode=mode, **options)
    return torch.cat([table[:1], rearrange(picture, unfold)])


def class_token_swept_in(table, new_grid):
    return F.interpolate(table.T[None], size=1 + new_grid[0] * new_grid[1], mode="linear", align_corners=False)[0].T


def dim_not_moved(table, old_grid, new_grid):
    picture = F.interpolate(table[1:].reshape(1, -1, *old_grid), size=new_grid, mode="bicubic")
    return torch.cat([table[:1], picture.reshape(-1, table.shape[1])])


POSITIONS = Exercise(
    reference=interpolate_positions,
    cases=position_cases,
    mistakes=dict(
        class_token_lost=Wrong(lambda right: right[1:]).hint("""
            The class token's row is gone: one row is missing. Keep table[:1] and put it back in front."""),
        class_token_last=Wrong(lambda right: right.roll(-1, dims=0)).hint("""
            The class token's row ended up last. It is the first token, so its row stays the first row."""),
        class_token_swept_in=Wrong(class_token_swept_in).hint("""
            The whole table was stretched as one line, class token included. The class token has no place in the picture: set its row aside,
            and stretch the others as a grid, in two dimensions."""),
        grid_shifted_by_class_token=Wrong(lambda again, table: again(table=torch.cat([table[:1], table[:-1]]))).hint("""
            Every place is shifted by one: the grid was taken from the start of the table, with the class token as its first place. It
            starts at row 1."""),
        corners_aligned=Wrong(partial(stretched, align_corners=True)).hint("""
            Only the corners fit: align_corners=True puts the centres of the corner patches where the corners of the picture were. Patches
            have an area, so stretch with align_corners=False."""),
        bilinear=Wrong(partial(stretched, mode="bilinear")).hint("""
            Stretched with mode='bilinear'. Close, but the published models, and this exercise, use mode='bicubic'."""),
        nearest=Wrong(partial(stretched, mode="nearest")).hint("""
            Neighbouring places got the very same vector: that is mode='nearest'. mode='bicubic' blends between places."""),
        smoothed=Wrong(partial(stretched, antialias=True)).hint("""
            Shrinking was done with antialias=True. Some libraries do so (timm); transformers, and this exercise, do not, and weights are
            used the way they were trained."""),
        grid_transposed=Wrong(partial(stretched, fold="(k r) dim -> 1 dim r k", unfold="1 dim r k -> (k r) dim")).hint("""
            Rows and columns of the grid are exchanged. The table runs row by row, so it folds to (rows, columns, dim) and back."""),
        dim_not_moved=Wrong(dim_not_moved).hint("""
            The table was reshaped to (dim, rows, columns) directly, which mixes places and dimensions. Fold it to (rows, columns, dim)
            first, then permute dim to the front; and the other way at the end."""),
    ),
    afterthought="Something to think of: why is a table for 14 × 14 better stretched to 24 × 24 than learned anew?",
)

EXERCISES = {"patchify": PATCHIFY, "embed_by_convolution": CONVOLUTION, "resize_positions": POSITIONS}
