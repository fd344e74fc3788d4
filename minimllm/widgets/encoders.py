"""Widgets of lessons 01 and 02: patches, and the attention of an image encoder."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from minimllm import figures
from minimllm.figures import Picture
from minimllm.inspection.costs import layer_multiply_adds

from .explorer import Explorer, explore, slider_at
from .uploading import own_picture

MEAN = "mean of the heads"


def patch_explorer(pictures: Mapping[str, Picture], patch_sizes: Sequence[int] = (4, 8, 14, 16, 28, 32, 56), dim: int = 768) -> Explorer:
    """Lesson 01: choose picture and patch size, and see the grid, the sequence, the number of tokens and what an encoder layer costs.

    ``pictures`` share one size, which every patch size divides; ``dim`` is the layer's width (768: ViT-B), its MLP four times that. A
    picture of one's own is cut to that size around its middle.
    """
    arrays = {name: figures.as_array(picture) for name, picture in pictures.items()}
    sizes = {array.shape[:2] for array in arrays.values()}
    if len(sizes) != 1 or any(side % size for side in next(iter(sizes)) for size in patch_sizes):
        raise ValueError(f"pictures must share one size that the patch sizes {tuple(patch_sizes)} divide, got {sorted(sizes)}")
    ((height, width),) = sizes

    def draw(picture: str, patch_size: int) -> Figure:
        rows, columns = height // patch_size, width // patch_size
        count, numbers = rows * columns, 3 * patch_size**2
        figure, (grid, costs, line) = figures.placed(7.2, 4.6, (0.05, 1.35, 2.9, 2.9), (4.0, 1.75, 3.1, 2.5), (0.05, 0.05, 7.1, 0.75))
        array = arrays[picture]
        figures.patch_grid(array, patch_size, numbers=count <= 64, title=f"{rows} × {columns} = {count:,} tokens", axes=grid)
        figures.layer_cost(count, dim, axes=costs)
        size = f"{patch_size} × {patch_size} × 3 = {numbers:,}"
        figures.patch_sequence(array, patch_size, title=f"The sequence: {count:,} vectors of {size} numbers", axes=line)
        return figure

    def alt(picture: str, patch_size: int) -> str:
        rows, columns = height // patch_size, width // patch_size
        cost = layer_multiply_adds(rows * columns, dim)
        return (
            f"The picture {picture} cut into {rows} by {columns} patches of {patch_size} pixels, then the {rows * columns:,} patches in a "
            f"row. Beside it the cost of an encoder layer of width {dim}: {cost.linear / 1e6:,.0f} million multiply-adds in the linear "
            f"layers, {cost.attention / 1e6:,.0f} million in the attention."
        )

    def take(name: str, picture: Image.Image) -> dict:
        arrays[name] = figures.as_array(ImageOps.fit(picture, (width, height)))
        return {}

    return own_picture(explore(draw, alt, picture=list(arrays), patch_size=slider_at(patch_sizes, 16)), "picture", take)


def attention_explorer(
    pictures: Sequence[Picture], attention: torch.Tensor | np.ndarray, names: Sequence[str] | None = None, extra: int = 1
) -> Explorer:
    """Lesson 02: choose picture, layer and head, and see where in the picture the class token looks.

    Args:
        pictures: ``n`` pictures.
        attention: softmax weights ``(n, layers, heads, queries, keys)``, computed beforehand; the first ``extra`` tokens are no patches.
        names: what the menu calls the pictures.
    """
    weights = np.asarray(attention.detach().cpu() if isinstance(attention, torch.Tensor) else attention, dtype=np.float64)
    if weights.ndim != 5 or len(pictures) != weights.shape[0] or extra < 1:
        raise ValueError(
            f"attention must be (pictures, layers, heads, queries, keys) for {len(pictures)} pictures, with a class token first; "
            f"got {weights.shape}, extra={extra}"
        )
    names = list(names or (f"picture {place}" for place in range(len(pictures))))
    layers, heads = weights.shape[1:3]
    arrays = [figures.as_array(picture) for picture in pictures]

    def seen(picture: int, layer: int, head: int | str) -> np.ndarray:
        rows = weights[picture, layer, :, 0, extra:]
        return rows.mean(axis=0) if head == MEAN else rows[head]

    def draw(picture: int, layer: int, head: int | str) -> Figure:
        figure, (left, right) = figures.placed(7.2, 3.4, (0.05, 0.1, 2.95, 2.95), (3.15, 0.1, 3.75, 2.95))
        figures.picture(arrays[picture], title=names[picture], axes=left)
        who = head if head == MEAN else f"head {head}"
        figures.attention_map(arrays[picture], seen(picture, layer, head), title=f"Layer {layer}, {who}", axes=right)
        return figure

    def alt(picture: int, layer: int, head: int | str) -> str:
        map_ = seen(picture, layer, head)
        side = int(len(map_) ** 0.5)
        row, column = divmod(int(map_.argmax()), side)
        return (
            f"{names[picture]}, and over it the attention of the class token in layer {layer}, "
            f"{head if head == MEAN else f'head {head}'}: strongest, {map_.max():.2f}, in row {row}, column {column} "
            f"of {side} by {side} patches, counted from 0; {map_.sum():.2f} of the attention is on patches."
        )

    menu = {name: place for place, name in enumerate(names)}
    choice = {MEAN: MEAN} | {f"head {head}": head for head in range(heads)}  # None would be no choice at all
    return explore(draw, alt, picture=menu, layer=list(range(layers)), head=choice)
