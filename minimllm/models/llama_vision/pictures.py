"""What a Llama 3.2 Vision has read so far: its texts, its pictures, and which token sees which of them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from minimllm.layers.masks import cross_attention_mask
from minimllm.models.language_model import Cache
from minimllm.models.llama_vision.config import LlamaVisionConfig
from minimllm.models.llama_vision.tiles import Tiles, arrangements


@dataclass(frozen=True)
class Pictures:
    """Texts with their pictures; a later turn of a conversation brings more of both, and :func:`read` gives a longer one.

    Attributes:
        ids: all token ids so far, ``(batch, length)``.
        real: False on padding among them; ``None``: there is none.
        num_tiles: tiles of every picture so far, a list per row.
        places: for every row, which of its pictures stands at each place of the cross-attention's keys; -1 at a place without picture,
            which a row has that gets fewer pictures in a turn than another one.
    """

    ids: Int[Tensor, "batch length"]
    real: Bool[Tensor, "batch length"] | None
    num_tiles: list[list[int]]
    places: list[list[int]]

    def visible(self, new: int, config: LlamaVisionConfig) -> Bool[Tensor, "batch new keys"] | None:
        """What the last ``new`` tokens may attend to, or ``None`` if there is no picture.

        Raises:
            ValueError: another number of image tokens than of pictures in a row, naming both.
        """
        seen = cross_attention_mask(self.ids, self.num_tiles, config.image_token_id, config.vision.max_tiles, self.real)[:, -new:]
        places = torch.tensor(self.places, device=seen.device)
        if places.numel() == 0:
            return None
        pictures = seen.shape[2]
        seen = F.pad(seen, (0, 0, 0, 1))  # one more, which nobody sees, for the places without picture
        places = torch.where(places < 0, pictures, places)[:, None, :, None].expand(-1, new, -1, seen.shape[3])
        return seen.gather(2, places).flatten(2).repeat_interleave(config.vision.tokens, dim=2)


def read(
    ids: Int[Tensor, "batch length"], tiles: Tiles | None, cache: Cache | None, mask: Shaped[Tensor, "batch length"] | None = None
) -> Pictures:
    """These texts and pictures, behind those that the cache has read."""
    none = [[] for _ in ids]
    earlier = None if cache is None else cache.pictures.get("read")
    new = none if tiles is None else tiles.num_tiles
    if earlier is None:
        earlier = Pictures(ids[:, :0], None, none, none)
    real = None
    if mask is not None or earlier.real is not None:
        past, new_ones = (torch.ones_like(part, dtype=torch.bool) for part in (earlier.ids, ids))
        real = torch.cat([past if earlier.real is None else earlier.real, new_ones if mask is None else mask.bool()], dim=1)
    width = 0 if tiles is None else tiles.pixel_values.shape[1]
    places = [
        [*old, *range(len(past), len(past) + len(row)), *[-1] * (width - len(row))]
        for old, past, row in zip(earlier.places, earlier.num_tiles, new, strict=True)
    ]
    num_tiles = [[*past, *row] for past, row in zip(earlier.num_tiles, new, strict=True)]
    return Pictures(torch.cat([earlier.ids, ids], dim=1), real, num_tiles, places)


def check_pictures(ids: Tensor, tiles: Tiles | None, features: Tensor | None, segments: Tensor | None, config: LlamaVisionConfig) -> None:
    """Raise a ``ValueError`` unless these are pictures for these texts and this model."""
    if segments is not None and bool(((ids == config.image_token_id) & (segments != 0)).any()):
        raise ValueError("a picture within a segment is not implemented: pictures stand in the prefix, segment 0, which all segments share")
    if tiles is not None:
        check_tiles(tiles, ids, config)
    if features is not None:
        vision = config.vision
        expected = None if tiles is None else (*tiles.pixel_values.shape[:3], vision.tokens, vision.features)
        if tuple(features.shape) != expected:
            what = "features are of tiles: give both" if tiles is None else f"the features of these tiles have shape {expected}"
            raise ValueError(f"{what}; got features of shape {tuple(features.shape)}")


def check_tiles(tiles: Tiles, ids: Tensor, config: LlamaVisionConfig) -> None:
    """Raise a ``ValueError`` unless these are tiles for these texts and this model."""
    if not isinstance(tiles, Tiles):
        raise ValueError(f"expected Tiles, as prepare_tiles makes them of Pillow pictures; got a {type(tiles).__name__}")
    pixels, vision = tiles.pixel_values, config.vision
    expected = (vision.max_tiles, vision.channels, vision.tile_size, vision.tile_size)
    if pixels.ndim != 6 or tuple(pixels.shape[2:]) != expected or not pixels.is_floating_point():
        raise ValueError(f"expected float tiles (batch, images, {', '.join(map(str, expected))}), got {pixels.dtype} {tuple(pixels.shape)}")
    if not len(pixels) == len(tiles.num_tiles) == len(ids):
        raise ValueError(f"tiles of {len(pixels)} samples with {len(tiles.num_tiles)} lists of num_tiles do not fit {len(ids)} texts")
    if tiles.aspect_ratio_ids.shape != pixels.shape[:2] or tiles.aspect_ratio_mask.shape != pixels.shape[:3]:
        shapes = f"{tuple(tiles.aspect_ratio_ids.shape)} and {tuple(tiles.aspect_ratio_mask.shape)}"
        raise ValueError(f"aspect_ratio_ids and aspect_ratio_mask have shapes {shapes}, the tiles {tuple(pixels.shape)}")
    grids = arrangements(vision.max_tiles)
    for row, numbers in enumerate(tiles.aspect_ratio_ids.tolist()):
        if not all(0 <= number <= len(grids) for number in numbers):
            raise ValueError(f"row {row} has aspect_ratio_ids {numbers}; the arrangements are 1 to {len(grids)}, and 0 is no picture")
        counts = [grids[number - 1][0] * grids[number - 1][1] if number else 0 for number in numbers]
        told = [*tiles.num_tiles[row], *[0] * (len(numbers) - len(tiles.num_tiles[row]))]
        if counts != told:
            raise ValueError(f"row {row} has aspect_ratio_ids {numbers}, so {counts} tiles, and num_tiles {tiles.num_tiles[row]}")
        # Without a picture, the first place is 1, too: so it is in Meta's code.
        masks = [[1] * max(count, 1) + [0] * (vision.max_tiles - max(count, 1)) for count in counts]
        if tiles.aspect_ratio_mask[row].tolist() != masks:
            found = tiles.aspect_ratio_mask[row].tolist()
            raise ValueError(f"row {row} has aspect_ratio_ids {numbers}, whose aspect_ratio_mask is {masks}; got {found}")
    if not pixels.isfinite().all():
        raise ValueError("the tiles hold values that are not finite (NaN or infinity)")
