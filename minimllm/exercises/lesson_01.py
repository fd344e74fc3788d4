"""Exercises of lesson 01: cut a picture, turn the linear layer into a convolution, stretch the positions."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from minimllm.layers.patches import interpolate_positions
from minimllm.layers.patches import patchify as reference_patchify

from . import Exercise, Mistake

Grid = tuple[int, int]

# ---- cutting ----------------------------------------------------------------------------------------------------------


def patchify_cases() -> list[tuple[Tensor, int]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(shape, generator=generator), size) for shape, size in (((2, 3, 8, 12), 4), ((1, 1, 6, 6), 2), ((3, 3, 4, 4), 4))]


def pixel_first(images: Tensor, patch_size: int) -> Tensor:
    return rearrange(images, "b c (r ph) (k pw) -> b (r k) (ph pw c)", ph=patch_size, pw=patch_size)


def column_by_column(images: Tensor, patch_size: int) -> Tensor:
    return rearrange(images, "b c (r ph) (k pw) -> b (k r) (c ph pw)", ph=patch_size, pw=patch_size)


def patch_on_its_side(images: Tensor, patch_size: int) -> Tensor:
    return rearrange(images, "b c (r ph) (k pw) -> b (r k) (c pw ph)", ph=patch_size, pw=patch_size)


def only_reshaped(images: Tensor, patch_size: int) -> Tensor:
    batch, channels = images.shape[:2]
    return images.reshape(batch, -1, channels * patch_size**2)


def interleaved(images: Tensor, patch_size: int) -> Tensor:
    return rearrange(images, "b c (ph r) (pw k) -> b (r k) (c ph pw)", ph=patch_size, pw=patch_size)


def values_first(images: Tensor, patch_size: int) -> Tensor:
    return F.unfold(images, patch_size, stride=patch_size)


def overlapping(images: Tensor, patch_size: int) -> Tensor:
    return F.unfold(images, patch_size).transpose(1, 2)


PATCHIFY = Exercise(
    reference=reference_patchify,
    cases=patchify_cases,
    batched=(0,),
    mistakes=(
        Mistake(
            pixel_first,
            "The patches are right, but each is flattened pixel by pixel (red, green, blue of the first pixel, then of the second). "
            "Flatten channel first: all of red, then all of green, then all of blue. Otherwise the weights of a convolution do not fit.",
        ),
        Mistake(
            column_by_column,
            "The patches come column by column. Reading order is row by row: in the reshape to one axis, the rows of patches must come "
            "before the columns of patches.",
        ),
        Mistake(
            patch_on_its_side,
            "Each patch lies on its side: inside a patch, columns of pixels are read before rows. Exchange the last two axes.",
        ),
        Mistake(
            only_reshaped,
            "A reshape alone does not move a number: what it calls a patch is a run of pixels from one row. Split height and width into "
            "(which patch, where in it), then permute so that the two 'which patch' axes stand together, and only then reshape.",
        ),
        Mistake(
            interleaved,
            "Each of your patches collects pixels from all over the picture. When you split the height, the outer axis is 'which row of "
            "patches' and the inner axis 'which row inside the patch': reshape to (rows, patch_size), not to (patch_size, rows).",
        ),
        Mistake(
            values_first,
            "Two axes are exchanged: the result is (batch, values, patches), which is what F.unfold returns. A sequence is "
            "(batch, patches, values): transpose axes 1 and 2.",
        ),
        Mistake(
            overlapping,
            "There are far too many patches: they overlap. The window must move by patch_size each time (stride=patch_size), not by 1.",
        ),
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


def _convolve(images: Tensor, weight: Tensor, bias: Tensor | None, patch_size: int, pattern: str, stride: int | None = None) -> Tensor:
    kernel = rearrange(weight, f"dim ({pattern}) -> dim c ph pw", c=images.shape[1], ph=patch_size, pw=patch_size)
    return F.conv2d(images, kernel, bias, stride=stride or patch_size)


def embed(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return F.linear(reference_patchify(images, patch_size), weight, bias)


def no_bias(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return _convolve(images, weight, None, patch_size, "c ph pw").flatten(2).transpose(1, 2)


def pixel_first_kernel(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return _convolve(images, weight, bias, patch_size, "ph pw c").flatten(2).transpose(1, 2)


def turned_kernel(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return _convolve(images, weight, bias, patch_size, "c pw ph").flatten(2).transpose(1, 2)


def flipped_kernel(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    kernel = rearrange(weight, "dim (c ph pw) -> dim c ph pw", ph=patch_size, pw=patch_size)
    return F.conv2d(images, kernel.flip(2, 3), bias, stride=patch_size).flatten(2).transpose(1, 2)


def stride_of_one(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return _convolve(images, weight, bias, patch_size, "c ph pw", stride=1).flatten(2).transpose(1, 2)


def still_a_picture(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return _convolve(images, weight, bias, patch_size, "c ph pw")


def channels_before_tokens(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return _convolve(images, weight, bias, patch_size, "c ph pw").flatten(2)


def reshaped_not_transposed(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return _convolve(images, weight, bias, patch_size, "c ph pw").reshape(len(images), -1, len(weight))


def tokens_by_column(images: Tensor, weight: Tensor, bias: Tensor, patch_size: int) -> Tensor:
    return rearrange(_convolve(images, weight, bias, patch_size, "c ph pw"), "b dim r k -> b (k r) dim")


CONVOLUTION = Exercise(
    reference=embed,
    cases=convolution_cases,
    batched=(0,),
    mistakes=(
        Mistake(no_bias, "Every token is off by the same vector: the bias. Give it to the convolution, too."),
        Mistake(
            pixel_first_kernel,
            "The kernel is folded pixel first. A row of the linear layer's weight runs through all of red, then green, then blue: fold it "
            "to (channels, patch_size, patch_size) directly, without a permute.",
        ),
        Mistake(turned_kernel, "Each kernel lies on its side: its rows and columns are exchanged. Leave its last two axes as they are."),
        Mistake(
            flipped_kernel,
            "The kernel is turned upside down. That is right for the convolution of mathematics; F.conv2d computes a cross-correlation, "
            "which does not flip. Leave out the flip.",
        ),
        Mistake(
            stride_of_one,
            "Far too many tokens: the kernel moves one pixel at a time. With stride=patch_size it meets each patch exactly once.",
        ),
        Mistake(
            still_a_picture,
            "The numbers are right, but still lie as a picture (batch, dim, rows, columns). Flatten rows and columns, then move dim last.",
        ),
        Mistake(
            channels_before_tokens, "Nearly there: (batch, dim, tokens) must become (batch, tokens, dim). Transpose the last two axes."
        ),
        Mistake(
            reshaped_not_transposed,
            "The last step was a reshape, which leaves the numbers where they are and only renames the axes, so each token is mixed of "
            "several. Flatten the two axes of the grid, then transpose.",
        ),
        Mistake(tokens_by_column, "The tokens come column by column. Flatten rows and columns in that order before dim is moved last."),
    ),
    afterthought="Something to think of: a 1 × 1 convolution is a linear layer, too. On what?",
)

# ---- positions --------------------------------------------------------------------------------------------------------


def position_cases() -> list[tuple[Tensor, Grid, Grid]]:
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(1 + old[0] * old[1], 6, generator=generator), old, new) for old, new in (((4, 6), (6, 3)), ((3, 3), (5, 5)))]


def _stretch(rows: Tensor, old: Grid, new: Grid, mode: str = "bicubic", **options) -> Tensor:
    picture = rearrange(rows, "(r k) dim -> 1 dim r k", r=old[0])
    return rearrange(F.interpolate(picture, size=new, mode=mode, **options), "1 dim r k -> (r k) dim")


def class_token_lost(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    return _stretch(table[1:], old_grid, new_grid)


def class_token_last(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    return torch.cat([_stretch(table[1:], old_grid, new_grid), table[:1]])


def class_token_swept_in(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    count = 1 + new_grid[0] * new_grid[1]
    return F.interpolate(table.T[None], size=count, mode="linear", align_corners=False)[0].T


def grid_shifted_by_class_token(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    return torch.cat([table[:1], _stretch(table[:-1], old_grid, new_grid)])


def corners_aligned(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    return torch.cat([table[:1], _stretch(table[1:], old_grid, new_grid, align_corners=True)])


def bilinear(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    return torch.cat([table[:1], _stretch(table[1:], old_grid, new_grid, "bilinear", align_corners=False)])


def nearest(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    return torch.cat([table[:1], _stretch(table[1:], old_grid, new_grid, "nearest")])


def smoothed(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    return torch.cat([table[:1], _stretch(table[1:], old_grid, new_grid, antialias=True)])


def grid_transposed(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    picture = rearrange(table[1:], "(k r) dim -> 1 dim r k", r=old_grid[0])
    picture = F.interpolate(picture, size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([table[:1], rearrange(picture, "1 dim r k -> (k r) dim")])


def dim_not_moved(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    picture = table[1:].reshape(1, table.shape[1], *old_grid)
    picture = F.interpolate(picture, size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([table[:1], picture.reshape(-1, table.shape[1])])


POSITIONS = Exercise(
    reference=interpolate_positions,
    cases=position_cases,
    mistakes=(
        Mistake(class_token_lost, "The class token's row is gone: one row is missing. Keep table[:1] and put it back in front."),
        Mistake(class_token_last, "The class token's row ended up last. It is the first token, so its row stays the first row."),
        Mistake(
            class_token_swept_in,
            "The whole table was stretched as one line, class token included. The class token has no place in the picture: set its row "
            "aside, and stretch the others as a grid, in two dimensions.",
        ),
        Mistake(
            grid_shifted_by_class_token,
            "Every place is shifted by one: the grid was taken from the start of the table, with the class token as its first place. It "
            "starts at row 1.",
        ),
        Mistake(
            corners_aligned,
            "Only the corners fit: align_corners=True puts the centres of the corner patches where the corners of the picture were. "
            "Patches have an area, so stretch with align_corners=False.",
        ),
        Mistake(bilinear, "Stretched with mode='bilinear'. Close, but the published models, and this exercise, use mode='bicubic'."),
        Mistake(nearest, "Neighbouring places got the very same vector: that is mode='nearest'. mode='bicubic' blends between places."),
        Mistake(
            smoothed,
            "Shrinking was done with antialias=True. Some libraries do so (timm); transformers, and this exercise, do not, and weights are "
            "used the way they were trained.",
        ),
        Mistake(
            grid_transposed,
            "Rows and columns of the grid are exchanged. The table runs row by row, so it folds to (rows, columns, dim) and back.",
        ),
        Mistake(
            dim_not_moved,
            "The table was reshaped to (dim, rows, columns) directly, which mixes places and dimensions. Fold it to (rows, columns, dim) "
            "first, then permute dim to the front; and the other way at the end.",
        ),
    ),
    afterthought="Something to think of: why is a table for 14 × 14 better stretched to 24 × 24 than learned anew?",
)

EXERCISES = {"patchify": PATCHIFY, "embed_by_convolution": CONVOLUTION, "resize_positions": POSITIONS}
