"""From pixels to tokens: patches, their linear embedding, and learned positions (Dosovitskiy et al. 2021, section 3.1)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def patchify(images: Shaped[Tensor, "batch channels height width"], patch_size: int) -> Shaped[Tensor, "batch patches values"]:
    """Cut images into non-overlapping square patches, row by row from the top left.

    Each patch is flattened channel first, as ``(channels, patch_size, patch_size)``, so that a linear layer on it equals a
    convolution with kernel and stride ``patch_size`` (equation 1 of the ViT paper).

    Args:
        images: ``(batch, channels, height, width)``, of any dtype.
        patch_size: side of a patch, in pixels.

    Returns:
        ``(batch, patches, channels * patch_size**2)`` with ``patches = (height // patch_size) * (width // patch_size)``.

    Raises:
        ValueError: if the images do not have four dimensions, a dimension is empty, or a side is no multiple of ``patch_size``.
    """
    rows, columns = patch_grid(images, patch_size)
    return rearrange(images, "b c (rows ph) (columns pw) -> b (rows columns) (c ph pw)", rows=rows, columns=columns)


def unpatchify(
    patches: Shaped[Tensor, "batch patches values"], patch_size: int, height: int, width: int
) -> Shaped[Tensor, "batch channels height width"]:
    """Put patches back together: the exact inverse of :func:`patchify`.

    Args:
        patches: ``(batch, patches, channels * patch_size**2)``.
        patch_size: side of a patch, in pixels.
        height, width: size of the images, in pixels.

    Returns:
        ``(batch, channels, height, width)``; the number of channels follows from the length of a patch.

    Raises:
        ValueError: if the number of patches or their length does not fit the sizes given.
    """
    check_patch_size(patch_size)
    if patches.ndim != 3 or patches.shape[0] == 0:
        raise ValueError(f"expected patches of shape (batch, patches, values) with at least one sample, got {tuple(patches.shape)}")
    check_divides(height, width, patch_size)
    rows, columns = height // patch_size, width // patch_size
    if patches.shape[1] != rows * columns:
        raise ValueError(
            f"got {patches.shape[1]} patches, but {height} x {width} pixels in patches of {patch_size} x {patch_size} "
            f"make {rows} x {columns} = {rows * columns}"
        )
    if patches.shape[2] == 0 or patches.shape[2] % patch_size**2:
        raise ValueError(
            f"each patch has {patches.shape[2]} values, which is not a whole number of channels "
            f"of {patch_size} x {patch_size} = {patch_size**2} values"
        )
    return rearrange(patches, "b (rows columns) (c ph pw) -> b c (rows ph) (columns pw)", rows=rows, ph=patch_size, pw=patch_size)


def check_patch_size(patch_size: int) -> None:
    if not isinstance(patch_size, int) or isinstance(patch_size, bool) or patch_size < 1:
        raise ValueError(f"patch_size must be a whole number of pixels, 1 or more; got {patch_size!r}")


def check_four_dimensions(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"expected images of shape (batch, channels, height, width), got {tuple(images.shape)}; "
            "a single image needs a batch dimension: image[None]"
        )


def check_divides(height: int, width: int, patch_size: int) -> None:
    if height < 1 or width < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            f"images of {height} x {width} pixels cannot be cut into patches of {patch_size} x {patch_size}: "
            f"height and width must be multiples of {patch_size}; resize or pad the images, or choose another patch_size"
        )


def patch_grid(images: Tensor, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches that these images make; raises a ``ValueError`` that says what does not fit."""
    check_patch_size(patch_size)
    check_four_dimensions(images)
    if images.shape[0] == 0 or images.shape[1] == 0:
        raise ValueError(f"got an empty batch: images of shape {tuple(images.shape)}; at least one image with one channel is needed")
    check_divides(images.shape[2], images.shape[3], patch_size)
    return images.shape[2] // patch_size, images.shape[3] // patch_size


class PatchEmbedding(nn.Module):
    """Flattened patches through one linear layer: the strided convolution of ViT, written as the matrix product it is.

    Follows ``ViTPatchEmbeddings`` of transformers, which computes the same as ``Conv2d(channels, dim, patch_size, patch_size)``.

    Args:
        patch_size: side of a patch, in pixels.
        channels: channels of an image, 3 for RGB.
        dim: width of a token.
        bias: ViT has one; CLIP and Llama 3.2 Vision have none.
    """

    def __init__(self, patch_size: int, channels: int, dim: int, bias: bool = True):
        super().__init__()
        self.patch_size, self.channels = patch_size, channels
        self.projection = nn.Linear(channels * patch_size**2, dim, bias=bias)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch patches dim"]:
        """``(batch, channels, height, width)`` floats -> ``(batch, patches, dim)``.

        Raises:
            ValueError: integer images, another number of channels, an empty batch, or sides that ``patch_size`` does not divide.
        """
        check_images(images, self.channels)
        return self.projection(patchify(images.to(self.projection.weight.dtype), self.patch_size))

    @torch.no_grad()
    def as_convolution(self) -> nn.Conv2d:
        """The ``nn.Conv2d`` that computes the same: its kernel is this weight, each row folded back into a small picture."""
        weight, bias = self.projection.weight, self.projection.bias
        convolution = nn.Conv2d(self.channels, weight.shape[0], self.patch_size, self.patch_size, bias=bias is not None)
        convolution = convolution.to(weight)
        convolution.weight.copy_(rearrange(weight, "dim (c ph pw) -> dim c ph pw", c=self.channels, ph=self.patch_size))
        if bias is not None:
            convolution.bias.copy_(bias)
        return convolution


def check_images(images: Tensor, channels: int) -> None:
    """Raise a ``ValueError`` unless these are float images with this many channels."""
    check_four_dimensions(images)
    if not images.is_floating_point():
        raise ValueError(f"expected float images, got {images.dtype}; bring integers to [0, 1] with images.float() / 255, then normalise")
    if images.shape[1] != channels:
        raise ValueError(f"expected images with {channels} channels, got {images.shape[1]} in a batch of shape {tuple(images.shape)}")


def interpolate_positions(
    table: Float[Tensor, "positions dim"], old_grid: tuple[int, int], new_grid: tuple[int, int], extra: int = 1
) -> Float[Tensor, "new_positions dim"]:
    """Stretch a learned position table to another grid of patches (ViT section 3.2, bicubic as in transformers).

    Args:
        table: ``(extra + rows * columns, dim)``.
        old_grid, new_grid: ``(rows, columns)`` of patches.
        extra: leading rows without a place in the picture (1 for the class token); they are kept as they are.

    Returns:
        ``(extra + new_rows * new_columns, dim)``; the very same tensor if the grids are equal.

    Raises:
        ValueError: if the table does not have ``extra + rows * columns`` rows, or a grid is empty.
    """
    rows, columns = old_grid
    if min(*old_grid, *new_grid) < 1:
        raise ValueError(f"a grid needs at least one row and one column; got {old_grid} -> {new_grid}")
    if table.shape[0] != extra + rows * columns:
        raise ValueError(
            f"the table has {table.shape[0]} rows, but a grid of {rows} x {columns} with {extra} extra needs {extra + rows * columns}"
        )
    if old_grid == new_grid:
        return table
    picture = rearrange(table[extra:], "(rows columns) dim -> 1 dim rows columns", rows=rows)
    picture = F.interpolate(picture, size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([table[:extra], rearrange(picture, "1 dim rows columns -> (rows columns) dim")])


class LearnedPositions(nn.Module):
    """One learned vector per place in the grid, added to the token there (ViT section 3.1; the table is 1-D, as in BERT).

    Args:
        grid: ``(rows, columns)`` of patches.
        dim: width of a token.
        class_token: whether the first token stands for the whole image and has a vector of its own.
        std: standard deviation at the start. It must be of the size of the patch embeddings: at 0.02 beside patches near 0.7
            the model hardly notices where a patch is, and learns far more slowly.
    """

    def __init__(self, grid: tuple[int, int], dim: int, class_token: bool = True, std: float = 0.5):
        super().__init__()
        self.grid, self.extra = tuple(grid), int(class_token)
        self.table = nn.Parameter(torch.empty(self.extra + grid[0] * grid[1], dim).normal_(std=std))

    def forward(self, tokens: Float[Tensor, "batch tokens dim"], grid: tuple[int, int] | None = None) -> Float[Tensor, "batch tokens dim"]:
        """Add the vector of each place; ``grid`` other than the trained one stretches the table first."""
        return tokens + interpolate_positions(self.table, self.grid, grid or self.grid, self.extra)
