"""Animals of the water, the meadow and the air."""

import numpy as np

from minimllm.data.things.paints import INK, SKY, TAN, WHITE
from minimllm.data.things.sketch import Sketch


def fish(s: Sketch) -> None:
    """From the side, facing left."""
    tall, fin = s.between(0.38, 0.55), s.between(0.35, 0.55)
    s.part(
        s.tone(0.8),
        s.curve((0.6, 0.0), (1.1, -fin), (1.02, 0.0), (1.1, fin)),
        s.curve((-0.3, -tall * 0.8), (0.1, -tall - 0.28), (0.45, -tall * 0.5), (0.0, 0)),
    )
    s.part(s.tone(0.8), s.curve((-0.1, tall * 0.7), (0.25, tall + 0.2), (0.3, tall * 0.5)))
    s.part(
        s.main,
        s.curve(
            (-0.95, 0.02),
            (-0.55, -tall * 0.85),
            (0.0, -tall),
            (0.45, -tall * 0.55),
            (0.8, -0.06),
            (0.8, 0.08),
            (0.45, tall * 0.6),
            (0.0, tall),
            (-0.55, tall * 0.85),
        ),
    )
    banded = s.chance(0.35)
    s.mark(WHITE, *s.where(banded, s.arc(-0.75, 0, 0.5, tall * 1.1, -0.75, 0.75, 0.14), s.arc(-0.3, 0, 0.55, tall, -0.6, 0.6, 0.12)))
    s.mark(s.tone(0.72), *s.where(~banded, s.arc(-0.85, 0, 0.45, tall, -0.8, 0.8, 0.05)))
    s.part(s.tone(0.75), s.curve((-0.2, 0.0), (0.18, 0.05), (0.1, 0.26)))
    s.mark(WHITE, s.ellipse(-0.6, -0.12, 0.13))
    s.dot(INK, s.ellipse(-0.62, -0.12, 0.075), s.stroke((-0.9, 0.12), (-0.75, 0.14), width=0.04))


def whale(s: Sketch) -> None:
    """Facing left, with its spout."""
    fluke, back = s.between(-0.75, -0.45), s.between(-0.55, -0.4)
    spout = s.chance(0.7)
    water = [((x * side - 0.35, y + back + 0.45) for x, y in ((0.0, -0.45), (0.03, -0.85), (0.2, -1.0), (0.34, -0.82))) for side in (1, -1)]
    s.part(SKY, *s.where(spout, *(s.stroke(*jet, width=(0.1, 0.12)) for jet in water)))
    s.part(
        s.main,
        s.curve(
            (-1.0, 0.15),
            (-0.85, -0.35),
            (-0.35, back),
            (0.25, -0.25),
            (0.62, -0.02),
            (0.82, fluke + 0.3),
            (1.0, fluke + 0.4),
            (0.85, 0.32),
            (0.45, 0.62),
            (-0.3, 0.72),
            (-0.85, 0.55),
        ),
    )
    s.part(
        s.main,
        s.curve(
            (0.85, fluke + 0.42),
            (0.55, fluke + 0.08),
            (0.68, fluke - 0.02),
            (0.9, fluke + 0.14),
            (1.12, fluke - 0.05),
            (1.25, fluke + 0.08),
            (1.0, fluke + 0.45),
        ),
    )
    s.mark(s.tone(1.6), s.curve((-0.97, 0.22), (-0.4, 0.38), (0.25, 0.45), (0.42, 0.6), (-0.3, 0.72), (-0.85, 0.55)))
    s.mark(INK, s.ellipse(-0.62, 0.05, 0.06, 0.07))
    s.part(s.tone(0.8), s.curve((-0.3, 0.38), (-0.1, 0.4), (0.05, 0.85), (-0.2, 0.75)))


def turtle(s: Sketch) -> None:
    """From the side, facing left."""
    dome, head = s.between(0.6, 0.8), s.between(-0.35, 0.05)
    skin = s.either(s.chance(0.5), s.tone(1.45), np.array([0.62, 0.75, 0.35]))
    s.part(
        skin,
        s.stroke((-0.5, 0.35), (-0.85, head + 0.15), width=0.26),
        s.ellipse(-0.95, head, 0.25, 0.2),
        s.stroke((-0.45, 0.4), (-0.55, 0.78), width=0.26),
        s.stroke((0.42, 0.4), (0.5, 0.78), width=0.26),
        s.polygon((0.7, 0.25), (1.0, 0.48), (0.65, 0.45)),
    )
    s.part(s.main, s.sector(0, 0.42, 0.78, dome + 0.2, np.pi, 2 * np.pi))
    scutes = [(-0.05, 0.02, 0.2), (-0.45, 0.14, 0.14), (0.36, 0.14, 0.14), (-0.22, -0.3, 0.12), (0.16, -0.3, 0.12)]
    s.mark(s.tone(0.66), *(s.sector(x, y * dome / 0.7, r, r, 0, 2 * np.pi, corners=6) for x, y, r in scutes))
    s.part(s.tone(0.75), s.stroke((-0.72, 0.42), (0.72, 0.42), width=0.14))
    s.mark(INK, s.ellipse(-1.02, head - 0.05, 0.05, 0.06), s.stroke((-1.16, head + 0.07), (-1.0, head + 0.09), width=0.03))


def snail(s: Sketch) -> None:
    """Facing left."""
    round_, up = s.between(0.48, 0.58), s.between(-0.5, -0.2)
    skin = np.broadcast_to(TAN, (s.count, 3)) * s.between(0.85, 1.05)[:, None]
    s.bar(
        skin * 0.8, s.stroke((-0.78, up + 0.2), (-1.0, up - 0.3), width=0.07), s.stroke((-0.68, up + 0.2), (-0.62, up - 0.35), width=0.07)
    )
    s.bar(INK, s.ellipse(-1.0, up - 0.32, 0.07), s.ellipse(-0.62, up - 0.36, 0.07))
    s.part(skin, s.stroke((-0.75, up + 0.25), (-0.68, 0.5), (-0.3, 0.72), (0.5, 0.72), (1.05, 0.76), width=(0.36, 0.36, 0.3, 0.3, 0.06)))
    s.part(s.main, s.ellipse(0.2, 0.15, round_))
    angles = np.linspace(0, 4.2 * np.pi, 26)
    spiral = [
        (0.2 + round_ * 0.85 * (1 - a / 14.5) * np.cos(a + 1.6), 0.15 + round_ * 0.85 * (1 - a / 14.5) * np.sin(a + 1.6)) for a in angles
    ]
    s.mark(s.tone(0.55), s.stroke(*spiral[:13], width=0.07, smooth=False), s.stroke(*spiral[12:], width=0.07, smooth=False))
    s.mark(INK, s.stroke((-0.9, up + 0.38), (-0.78, up + 0.42), width=0.035))


def butterfly(s: Sketch) -> None:
    top, low, wide = s.between(0.75, 0.95), s.between(0.5, 0.8), s.between(0.85, 1.05)
    s.bar(INK, *s.both(s.stroke((0.03, -0.5), (0.12, -0.8), (0.3, -0.95), width=0.045), s.ellipse(0.31, -0.96, 0.05)))
    hind = s.curve((0.05, 0.1), (wide * 0.6, 0.15), (wide * 0.8, 0.5), (wide * 0.5, low), (0.15, 0.45))
    s.part(s.tone(0.85), *s.both(hind))
    fore = s.curve((0.05, 0.1), (0.2, -0.45), (wide * 0.7, -top), (wide, -top * 0.75), (wide * 0.85, 0.05), (0.4, 0.2))
    s.part(s.main, *s.both(fore))
    rim = s.chance(0.45)
    s.mark(INK, *s.where(rim, *s.both(s.stroke((wide * 0.65, -top * 0.98), (wide * 0.97, -top * 0.72), (wide * 0.84, 0.02), width=0.13))))
    s.mark(s.tone(1.6), *s.both(s.ellipse(wide * 0.62, -top * 0.45, 0.14, 0.18, turn=0.5), s.ellipse(wide * 0.5, 0.4, 0.11)))
    s.mark(WHITE, *s.where(rim, *s.both(s.ellipse(wide * 0.9, -top * 0.5, 0.04), s.ellipse(wide * 0.88, -top * 0.2, 0.04))))
    s.part(INK, s.stroke((0, -0.42), (0, 0.1), (0, 0.6), width=(0.14, 0.18, 0.08)), s.ellipse(0, -0.48, 0.11))
