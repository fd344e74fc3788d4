"""How each hand draws what a sketch describes: its colours, its outlines, how its lines run, and where in the picture they come to lie."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt64

from minimllm.data import chance
from minimllm.data.things.grounds import ground_colours
from minimllm.data.things.paints import OTHER_PALETTE, PALETTE
from minimllm.data.things.sketch import BAR, MARK, PART, Layer
from minimllm.data.things.truth import STYLES, Things

FLAT, OUTLINED, LINE, GLYPH = range(len(STYLES))
_TINT = np.array([[0.78, 0.08, 0.02], [0.12, 0.74, 0.14], [0.02, 0.10, 0.76]])
"""By which the third hand mixes the colours that have no name."""
_PENS = np.array([(0.10, 0.12, 0.42), (0.10, 0.10, 0.10), (0.40, 0.20, 0.10), (0.60, 0.08, 0.14), (0.05, 0.34, 0.22)])


@dataclass
class Look:
    """What the pictures of a batch look like.

    Attributes:
        hand: whose they are.
        style: index into ``STYLES``; the pen draws lines.
        behind, main: colours of the ground and of the thing.
        ink, paper: the two colours of the styles ``line`` and ``glyph``; outlines are of ink.
        width: of outlines, in sides of the picture; 0: there is none.
        thin: of the outlines of those parts that would be lost on their ground.
        gain, shift: by which all other colours are multiplied and raised, so that no two pictures have the same.
        fine, reach: see :class:`~minimllm.data.things.sketch.Sketch`.
    """

    hand: str
    style: Int[np.ndarray, "n"]
    behind: Float[np.ndarray, "n 3"]
    main: Float[np.ndarray, "n 3"]
    ink: Float[np.ndarray, "n 3"]
    paper: Float[np.ndarray, "n 3"]
    width: Float[np.ndarray, "n"]
    thin: Float[np.ndarray, "n"]
    gain: Float[np.ndarray, "n 1"]
    shift: Float[np.ndarray, "n 3"]
    fine: float = 1.0
    reach: float = 0.0

    def painted(self, layers: list[Layer], rows: Int[np.ndarray, "m"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each layer in the pictures ``rows`` its fill ``(m, layers, 3)``, and its outline's width ``(m, layers)`` and colour."""
        kind = np.array([layer.kind for layer in layers])
        own = np.stack([np.broadcast_to(layer.colour, (len(rows), 3)) for layer in layers], axis=1)
        dark = own.mean(2) < 0.33
        colour = own @ _TINT + 0.10 if self.hand == "paper" else own
        style, ink, paper, behind, gain, shift = (
            values[rows][:, None] for values in (self.style, self.ink, self.paper, self.behind, self.gain, self.shift)
        )
        in_ink = np.where(style == GLYPH, kind != MARK, (kind == BAR) | dark & (kind >= MARK))
        fill = np.where((style >= LINE)[..., None], np.where(in_ink[..., None], ink, paper), np.clip(colour * gain + shift, 0, 1))
        edged = (kind == PART) & (style != FLAT) | (style == LINE) & ~in_ink
        width = np.where(edged, self.width[rows, None] * np.where(kind == PART, 1.0, 0.6), 0.0)

        near = (np.abs(fill - behind).max(2) < 0.14) & (style <= OUTLINED)  # what would be lost on its ground
        lost = near & (style == FLAT) & (kind == PART)
        fill = np.where((near & (kind == BAR))[..., None], np.where(behind.mean(2, keepdims=True) < 0.5, 0.8, 0.2), fill)
        line = np.where(lost[..., None], 0.72 * fill, np.where((style == GLYPH)[..., None], paper, ink))
        return fill, np.where(lost, self.thin[rows, None], width), line


def look_of(things: Things) -> Look:
    """The look of pictures, as their keys have it."""
    keys = things.key.numpy().view(np.uint64)
    luck = chance.uniform(keys, 16, purpose=12)
    palette = OTHER_PALETTE if things.hand == "paper" else PALETTE
    main = np.clip(palette[things.colour.numpy()] + 0.16 * (luck[:, :3] - 0.5), 0, 1)
    behind = ground_colours(keys, things.ground.numpy(), main)
    style = np.full(len(things), LINE) if things.hand == "pen" else things.style.numpy().copy()
    on_dark = behind.mean(1, keepdims=True) < 0.45

    ink = np.where(luck[:, 3, None] < 0.5, 0.04 + 0.1 * luck[:, 4, None], 0.35 * main)
    ink = np.where(luck[:, 5, None] < 0.35, np.where(main.mean(1, keepdims=True) < 0.62, main * 0.85, 0.5 * luck[:, 6:9]), ink)
    if things.hand == "pen":
        ink = _PENS[(luck[:, 3] * len(_PENS)).astype(np.int64)]
    two_coloured = np.isin(style, (LINE, GLYPH))[:, None]
    see_through = (style == GLYPH)[:, None] | (luck[:, 9, None] < 0.6) | (things.hand == "pen")
    paper = np.where(see_through, behind, 0.94 + 0.06 * luck[:, 10, None])
    ink = np.where(two_coloured & on_dark & see_through, 0.88 + 0.12 * luck[:, 4:7], ink)

    thin, thick = (0.014, 0.03) if things.hand == "pen" else (0.012, 0.045)
    width = (thin + (thick - thin) * luck[:, 11] ** 1.5) * things.size.numpy()
    gain, shift = 0.82 + 0.3 * luck[:, 12, None], 0.12 * (luck[:, 13:16] - 0.5)
    fine, reach = (0.3, 0.5) if things.hand == "paper" else (1.0, 0.0)
    return Look(things.hand, style, behind, main, ink, paper, np.where(style == FLAT, 0.0, width), width / 2, gain, shift, fine, reach)


def moved(
    points: Float[np.ndarray, "m corners 2"], rows: Int[np.ndarray, "m"], things: Things, keys: UInt64[np.ndarray, "n"], look: Look
) -> Float[np.ndarray, "m corners 2"]:
    """The corners of a sketch where the pictures ``rows`` have them, in sides of the picture.

    First the drawing is made a little broader or taller, slanted and bent, by amounts of its own. Then it is mirrored and turned, and what
    has come out is made as large as the truth says, measured over its outline, and put where the truth says.
    """
    luck = chance.uniform(keys[rows], 8, purpose=13)[:, :, None]
    give = 2 * luck - 1
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    x, y = np.moveaxis((points - (low + high) / 2) / ((high - low).max(-1, keepdims=True) / 2), -1, 0)

    stretch = 0.18 * give[:, 0]
    if things.hand == "paper":
        stretch = np.sign(give[:, 0]) * (0.12 + 0.12 * np.abs(give[:, 0]))
    x, y = x * np.exp(stretch) + 0.12 * give[:, 1] * y, y * np.exp(-stretch)
    x, y = x + 0.05 * give[:, 2] * np.sin(2 * y + 6 * luck[:, 3]), y + 0.05 * give[:, 4] * np.sin(2 * x + 6 * luck[:, 5])
    if things.hand == "pen":
        x, y = x + _shaky(x, y, keys[rows], 14), y + _shaky(x, y, keys[rows], 15)

    x = np.where(things.mirrored.numpy()[rows, None], -x, x)
    turn = things.turn.double().numpy()[rows, None]
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    points = np.stack([x, y], axis=-1)
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    size, edge = things.size.double().numpy()[rows, None, None], look.width[rows, None, None]
    scale = (size - 2 * edge) / (high - low).max(-1, keepdims=True)
    room = 1 - ((high - low) * scale + 2 * edge)
    return (points - low) * scale + edge + things.place.double().numpy()[rows, None] * room


def _shaky(x: np.ndarray, y: np.ndarray, keys: np.ndarray, purpose: int) -> np.ndarray:
    """What a hand that is not steady adds: a few waves across the drawing."""
    luck = chance.uniform(keys, 9, purpose)[:, :, None]
    waves = (np.sin((4 + 7 * luck[:, k]) * x + (4 + 7 * luck[:, k + 3]) * y + 6.3 * luck[:, k + 6]) for k in range(3))
    return 0.022 * sum(waves)
