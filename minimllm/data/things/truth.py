"""What stands in each picture of the drawn things, drawn from a seed.

**Which pairs are held out.** Of every thing with four colours or more, every fourth, beginning with another one from thing to thing; they
appear in the split ``held_out`` alone, which has no others. So every colour is left to most of the things that may have it.
"""

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minimllm.data import chance
from minimllm.data.things.catalogue import HAS_COLOUR, KINDS, THINGS, VARIANTS

SPLITS = ("train", "validation", "test", "held_out")
HANDS = ("first", "pen", "paper")
"""Who draws: ``first`` for training; ``pen``, shaky outlines without any colour; ``paper``, cut with few cuts from paper of other colours,
in proportions that the first hand does not use."""
STYLES = ("flat", "outlined", "line", "glyph")
"""How the first hand draws: areas of colour, those with outlines, outlines alone, or one ink with gaps for the lines, as icons are."""
GROUNDS = ("white", "plain", "slanted", "blotched", "halves", "striped")
"""What is behind the thing."""
SMALLEST = 1 / 3
"""The least of a thing's longer side, in sides of the picture."""

_STYLE_SHARES = (0.45, 0.7, 0.85, 1.0)
_GROUND_SHARES = (0.3, 0.55, 0.7, 0.85, 0.93, 1.0)
_FOURTHS = (HAS_COLOUR.cumsum(1) + np.arange(len(THINGS))[:, None]) % 4 == 0
_HELD_OUT = HAS_COLOUR & _FOURTHS & (HAS_COLOUR.sum(1, keepdims=True) >= 4)
_TURNS = np.radians([kind.turn for kind in KINDS.values()])


def pairs_of(split: str) -> Bool[Tensor, "things colours"]:
    """Which pairs of thing and colour a split shows.

    Raises:
        ValueError: an unknown split.
    """
    return torch.from_numpy(_HELD_OUT.copy() if _check_split(split) == "held_out" else HAS_COLOUR & ~_HELD_OUT)


@dataclasses.dataclass(frozen=True)
class Things:
    """What a batch of pictures shows, one thing in each.

    Attributes:
        thing, colour: indices into ``THINGS`` and ``COLOURS``; the styles ``line`` and ``glyph`` and the hand ``pen`` do not show a colour.
        drawing: which of the thing's drawings it is, from 0: a cat's face, or a cat that sits.
        style: index into ``STYLES``.
        ground: index into ``GROUNDS``.
        size: the longer side of the upright box around the drawn thing, in sides of the picture.
        place: where that box stands, from 0 (at the left, at the top) to 1 (at the right, at the bottom) of the room it has.
        turn: in radians, clockwise as seen.
        mirrored: whether left and right are exchanged (before it is turned).
        key: 64 random bits of the picture's own, from which proportions, shades and the ground are drawn.
        hand: who draws, one of ``HANDS``.
        split: which split it is from.
    """

    thing: Int[Tensor, "n"]
    colour: Int[Tensor, "n"]
    drawing: Int[Tensor, "n"]
    style: Int[Tensor, "n"]
    ground: Int[Tensor, "n"]
    size: Float[Tensor, "n"]
    place: Float[Tensor, "n 2"]
    turn: Float[Tensor, "n"]
    mirrored: Bool[Tensor, "n"]
    key: Int[Tensor, "n"]
    hand: str
    split: str

    def __len__(self) -> int:
        return len(self.thing)

    def __getitem__(self, rows) -> "Things":
        """Some of the pictures, still as a batch: an index, a slice, a list of indices or a mask."""
        if isinstance(rows, int):
            rows = [range(len(self))[rows]]
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: value[rows] for name, value in tensors.items() if isinstance(value, Tensor)})

    @property
    def names(self) -> list[str]:
        """What each picture shows, as it is called."""
        return [THINGS[number] for number in self.thing.tolist()]


def things(n: int, seed: int, split: str, hand: str = "first", *, start: int = 0) -> Things:
    """Draws what ``n`` pictures show, one of the ``THINGS`` in each.

    Picture ``i`` depends on ``(seed, split, hand, start + i)`` alone. So a batch equals its rows, ``n`` may grow without changing what was
    there, and ``start=step * n`` walks along an endless stream. No two splits share a picture, whatever the seeds. All things are equally
    likely in ``train``, ``validation`` and ``test``; ``held_out`` has those with colours that are held out.

    Args:
        n: how many.
        seed: any integer from 0 to 2**63 - 1.
        split: ``train``, ``validation`` and ``test`` show the pairs of thing and colour that are not held out, ``held_out`` the others.
        hand: who draws, one of ``HANDS``.
        start: the number of the first picture.

    Raises:
        ValueError: an unknown split or hand, a negative ``n``, seed or start.
        TypeError: a seed or number that is no integer.
    """
    if hand not in HANDS:
        raise ValueError(f"unknown hand {hand!r}; choose one of {', '.join(HANDS)}")
    stream = SPLITS.index(_check_split(split)) + len(SPLITS) * HANDS.index(hand)
    n, start = chance.check_seed(n, "the number of things"), chance.check_seed(start, "start")
    keys = chance.scene_keys(chance.check_seed(seed), stream, start, n)
    luck = chance.uniform(keys, 10).T
    pairs = pairs_of(split).numpy()
    thing = chance.pick(np.broadcast_to(pairs.any(1), (n, len(THINGS))), luck[0])
    of_colour = split == "held_out"  # whose point is the colour: in styles that show it
    style = np.searchsorted(_STYLE_SHARES, luck[3] * (_STYLE_SHARES[1] if of_colour else 1), side="right")
    return Things(
        thing=torch.from_numpy(thing),
        colour=torch.from_numpy(chance.pick(pairs[thing], luck[1])),
        drawing=torch.from_numpy((luck[2] * VARIANTS[thing]).astype(np.int64)),
        style=torch.from_numpy(style if hand == "first" else np.zeros_like(style)),
        ground=torch.from_numpy(np.searchsorted(_GROUND_SHARES, luck[4], side="right")),
        size=torch.from_numpy(SMALLEST + (1 - SMALLEST) * luck[5]).float(),
        place=torch.from_numpy(luck[6:8].T.copy()).float(),
        turn=torch.from_numpy((2 * luck[8] - 1) * _TURNS[thing]).float(),
        mirrored=torch.from_numpy(luck[9] < 0.5),
        key=torch.from_numpy(keys.view(np.int64)),
        hand=hand,
        split=split,
    )


def _check_split(split: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    return split
