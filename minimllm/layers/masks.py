"""Every attention mask of the course as a pure function that returns a bool tensor: True = may attend."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, Shaped
from torch import Tensor


def causal_mask(length: int, device: torch.device | str | None = None, past: int = 0) -> Bool[Tensor, "length keys"]:
    """Row ``i`` is what token ``i`` may attend to: itself and the tokens before it, the ``past`` ones in a cache among them."""
    return torch.ones(length, past + length, dtype=torch.bool, device=device).tril(past)


def padding_mask(mask: Shaped[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 1 length"]:
    """From 1 on real tokens and 0 on padding to what may be attended to, the same for every head and every row.

    Args:
        mask: ``(batch, length)``, bool or integers.

    Raises:
        ValueError: if it does not have two dimensions, or holds anything but 0 and 1.
    """
    check_mask(mask)
    return mask.bool()[:, None, None, :]


def check_mask(mask: Shaped[Tensor, "..."]) -> None:
    """Raise a ``ValueError`` unless this is a mask of 1 on real tokens and 0 on padding, ``(batch, length)``."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"expected a mask as a tensor (batch, length), got a {type(mask).__name__}; torch.tensor(mask) makes one")
    if mask.ndim != 2:
        raise ValueError(f"expected a mask of shape (batch, length), got {tuple(mask.shape)}")
    if mask.is_floating_point() or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            f"a mask is 1 on real tokens and 0 on padding, bool or integer; got {mask.dtype} with {mask.unique()[:5].tolist()}"
        )


def of_token_before(
    flags: Bool[Tensor, "batch length"], mask: Shaped[Tensor, "batch length"] | None = None
) -> Bool[Tensor, "batch length"]:
    """For each token, the flag of the one before it, False for the first; what ``mask`` says is padding is passed over."""
    if mask is None:
        return F.pad(flags[:, :-1], (1, 0))
    places = torch.arange(flags.shape[1], device=flags.device).where(mask.bool(), -1)
    latest = F.pad(places[:, :-1], (1, 0), value=-1).cummax(dim=1).values
    return flags.gather(1, latest.clamp(min=0)) & (latest >= 0)


def segment_mask(segments: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Several texts behind one prefix: a token may attend to the prefix and to its own segment, and there to itself and what came before.

    Args:
        segments: 0 in the prefix, which comes first; the number of the segment behind it; -1 on padding, which is seen by none but padding.

    Returns:
        ``(batch, 1, length, length)``, the same for every head.
    """
    own = segments[:, :, None] == segments[:, None, :]
    return ((own | (segments == 0)[:, None, :]) & causal_mask(segments.shape[1], segments.device))[:, None]


def same_picture_mask(pictures: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Tokens of one picture may attend to each other in both directions.

    Args:
        pictures: the number of the picture whose token this is, counted from 1; 0 on all other tokens.

    Returns:
        ``(batch, 1, length, length)``, for use beside a causal mask: ``causal | same_picture``.
    """
    return ((pictures[:, :, None] == pictures[:, None, :]) & (pictures > 0)[:, :, None])[:, None]


def cross_attention_mask(
    ids: Int[Tensor, "batch length"],
    num_tiles: Sequence[Sequence[int]] | None,
    image_token_id: int,
    max_tiles: int = 4,
    mask: Shaped[Tensor, "batch length"] | None = None,
) -> Bool[Tensor, "batch length images max_tiles"]:
    """Which tiles of which pictures each token may attend to: those of the last picture before it, as in Llama 3.2 Vision.

    A token sees a picture from the picture's own token up to the next one. Pictures whose tokens stand side by side count together: each
    token of the run sees the pictures of the run so far, and the text behind it sees all of them. Any token between breaks the run.
    Before the first picture a token sees nothing.

    Args:
        ids: token ids, ``(batch, length)``.
        num_tiles: how many tiles each picture has, a list per row, as in ``Tiles.num_tiles``; ``None``: there are no pictures.
        image_token_id: the id that stands for a picture.
        max_tiles: most tiles of a picture.
        mask: 1 on real tokens, 0 on padding, which is passed over, as if the row had none; ``None``: padding counts as text.

    Returns:
        ``(batch, length, images, max_tiles)``, ``images`` being the most pictures of a row; the tiles and pictures that a row does not
        have are False.

    Raises:
        ValueError: another number of image tokens than of pictures in a row, or of rows; a picture with 0 or more than ``max_tiles`` tiles.
    """
    if ids.ndim != 2 or ids.is_floating_point():
        raise ValueError(f"expected integer token ids of shape (batch, length), got {ids.dtype} {tuple(ids.shape)}")
    num_tiles = [[] for _ in ids] if num_tiles is None else num_tiles
    if not all(isinstance(row, (list, tuple)) and all(type(count) is int for count in row) for row in num_tiles):
        raise ValueError(f"num_tiles must hold a list of whole numbers for each row of ids, got {num_tiles!r}")
    if len(num_tiles) != len(ids):
        raise ValueError(f"the texts are {len(ids)} rows, and num_tiles has {len(num_tiles)}; each row needs a list, which may be empty")
    places = ids == image_token_id if mask is None else (ids == image_token_id) & mask.bool()
    for row, (found, tiles) in enumerate(zip(places.sum(dim=1).tolist(), num_tiles, strict=True)):
        if found != len(tiles):
            raise ValueError(
                f"row {row} has {found} image tokens (id {image_token_id}) and {len(tiles)} images; each image needs one token"
            )
        if any(not 1 <= count <= max_tiles for count in tiles):
            raise ValueError(f"row {row} has images of {list(tiles)} tiles; each has 1 to {max_tiles}")
    images = max((len(tiles) for tiles in num_tiles), default=0)
    padded = [[*tiles, *[0] * (images - len(tiles))] for tiles in num_tiles]
    held = torch.arange(max_tiles) < torch.tensor(padded, dtype=torch.long).view(len(ids), images, 1)

    count = places.cumsum(dim=1)  # pictures up to here
    begins = places & ~of_token_before(places, mask)  # a picture that follows no other directly
    first = torch.where(begins, count - 1, 0).cummax(dim=1).values  # number of the first picture of the latest run
    number = torch.arange(images, device=ids.device)
    visible = (number >= first[..., None]) & (number < count[..., None])
    return visible[..., None] & held.to(ids.device)[:, None]


def tile_mask(tiles: Shaped[Tensor, "images tiles"], tokens: int, padded: int) -> Bool[Tensor, "images 1 length length"]:
    """What the tokens of a picture's tiles may attend to in the image encoder of Llama 3.2 Vision: all but padding from padding.

    Only padding is kept from looking at padding. What is real does see it: an empty tile moves the features of the others, in Meta's code
    and in transformers, and the weights were trained so.

    Args:
        tiles: 1 on tiles that hold something, 0 on empty ones.
        tokens: number of tokens of a tile.
        padded: the same, with the rows of zeros behind them.

    Returns:
        ``(images, 1, length, length)`` with ``length = tiles * padded``, the same for every head.
    """
    place = torch.arange(padded, device=tiles.device)
    padding = ((tiles == 0)[:, :, None] | (place >= tokens)).flatten(1)
    return ~(padding[:, :, None] & padding[:, None, :])[:, None]
