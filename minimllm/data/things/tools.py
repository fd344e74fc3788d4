"""Tools and other things to use: how each is drawn."""

import numpy as np

from minimllm.data.things.paints import BROWN, CREAM, DARK, GREY, INK, STEEL, WHITE
from minimllm.data.things.sketch import Sketch


def hammer(s: Sketch) -> None:
    """Upright, the claw to the right."""
    head, thick = s.between(0.2, 0.3), s.between(0.16, 0.24)
    s.part(s.main, s.stroke((0, -0.6), (0, 1.0), width=(thick * 0.8, thick, thick * 1.1)))
    s.part(
        STEEL,
        s.box(-0.58, -0.72 - head, -0.3, -0.62 + head * 0.6, 0.05),
        s.box(-0.35, -0.82, 0.2, -0.54),
        s.curve((0.15, -0.84), (0.5, -0.78), (0.75, -0.42), (0.42, -0.58), (0.15, -0.54)),
    )


def saw(s: Sketch) -> None:
    """Lying, the handle to the right."""
    tip, teeth = s.between(0.1, 0.22), 12
    zigzag = []
    for i in range(teeth):
        x = 0.45 - 1.5 * i / teeth
        zigzag += [(x, 0.34), (x - 0.06, 0.48)]
    s.part(STEEL, s.polygon((-1.05, 0.34 - tip), (0.5, s.between(-0.3, -0.15)), (0.5, 0.34), *zigzag, (-1.05, 0.34)))
    grip = s.curve((0.4, -0.32), (0.8, -0.38), (1.1, -0.2), (1.12, 0.4), (0.92, 0.52), (0.45, 0.4))
    s.part(s.main, grip, holes=[s.curve((0.68, -0.1), (0.88, -0.12), (0.92, 0.22), (0.7, 0.22))])
    s.mark(DARK, s.ellipse(0.52, -0.08, 0.04), s.ellipse(0.52, 0.2, 0.04))


def scissors(s: Sketch) -> None:
    """Open, the points up."""
    open_, r = s.between(0.18, 0.38), s.between(0.22, 0.28)
    blade = s.polygon((-0.1, 0.2), (open_, -1.0), (open_ + 0.1, -0.95), (0.1, 0.1))
    s.part(STEEL, *s.both(blade))
    x, y = -open_ - 0.12, 0.72
    for side in (1, -1):
        s.part(
            s.main,
            s.arc(side * x, y, r, r * 1.15, 0, np.pi, 0.15),
            s.arc(side * x, y, r, r * 1.15, np.pi, 2 * np.pi, 0.15),
            s.stroke((0, 0.1), (side * x * 0.75, 0.48), width=0.15),
        )
    s.mark(DARK, s.ellipse(0, 0.08, 0.065))


def key(s: Sketch) -> None:
    """Lying, the bow to the left."""
    r, hole = s.between(0.36, 0.46), s.between(0.16, 0.24)
    shaft = s.stroke((-0.6 + r * 0.9, 0), (1.0, 0), width=s.between(0.14, 0.2))
    bits = [s.box(0.55, 0.0, 0.7, s.between(0.26, 0.4)), s.box(0.82, 0.0, 0.98, s.between(0.26, 0.4))]
    s.part(s.main, s.ellipse(-0.6, 0, r), shaft, *bits, holes=[s.ellipse(-0.6, 0, hole)])


def pencil(s: Sketch) -> None:
    """Upright, the point down."""
    w = s.between(0.15, 0.22)
    s.part((0.93, 0.5, 0.55), s.box(-w, -1.05, w, -0.8, 0.06))
    s.part(STEEL, s.box(-w, -0.86, w, -0.68))
    s.part(CREAM, s.polygon((-w, 0.55), (w, 0.55), (0, 1.05)))
    s.part(s.main, s.box(-w, -0.7, w, 0.6))
    s.mark(s.tone(0.75), s.box(-w, -0.7, -w * 0.36, 0.6))
    s.mark(INK, s.polygon((-w * 0.36, 0.87), (w * 0.36, 0.87), (0, 1.05)))


def umbrella(s: Sketch) -> None:
    """Open."""
    high, hook = s.between(0.75, 0.95), s.chance(0.8)
    s.bar(
        BROWN,
        s.stroke((0, -0.9), (0, 0.75), width=0.075),
        *s.where(hook, s.stroke((0, 0.7), (0.02, 0.9), (0.15, 0.98), (0.28, 0.88), (0.28, 0.76), width=0.08)),
    )
    s.part(
        s.main,
        s.curve(
            (-1.0, 0.1),
            (-0.85, -0.4),
            (-0.4, -high + 0.05),
            (0, -high - 0.02),
            (0.4, -high + 0.05),
            (0.85, -0.4),
            (1.0, 0.1),
            (0.66, -0.03),
            (0.33, 0.1),
            (0, -0.03),
            (-0.33, 0.1),
            (-0.66, -0.03),
        ),
    )
    two = s.chance(0.6)
    s.mark(
        s.either(two, s.tone(1.5), s.tone(0.75)), s.curve((-0.33, 0.08), (-0.3, -0.4), (0, -high), (0.3, -0.4), (0.33, 0.08), (0, -0.03))
    )
    s.bar(INK, s.stroke((0, -high), (0, -high - 0.15), width=0.06))


def clock(s: Sketch) -> None:
    """An alarm clock, or one for the wall."""
    alarm = s.chance(0.5)
    s.part(
        s.tone(0.8), *s.where(alarm, *s.both(s.ellipse(0.5, -0.78, 0.3, 0.2, turn=0.6), s.stroke((0.45, 0.6), (0.68, 0.98), width=0.15)))
    )
    s.part(s.main, s.ellipse(0, 0, 0.86))
    s.mark(WHITE, s.ellipse(0, 0, s.between(0.64, 0.72)))
    s.dot(INK, *(s.ellipse(0.55 * np.sin(a), -0.55 * np.cos(a), 0.045) for a in np.arange(12) * np.pi / 6))
    hour, minute = s.between(0, 2 * np.pi), s.between(0, 2 * np.pi)
    s.dot(
        INK,
        s.stroke((0, 0), (0.32 * np.sin(hour), -0.32 * np.cos(hour)), width=0.1),
        s.stroke((0, 0), (0.48 * np.sin(minute), -0.48 * np.cos(minute)), width=0.07),
        s.ellipse(0, 0, 0.07),
    )


def light_bulb(s: Sketch) -> None:
    r = s.between(0.56, 0.66)
    s.part(
        s.main,
        s.curve(
            (0, -0.95),
            (r * 0.75, -0.78),
            (r, -0.3),
            (r * 0.72, 0.12),
            (0.28, 0.42),
            (-0.28, 0.42),
            (-r * 0.72, 0.12),
            (-r, -0.3),
            (-r * 0.75, -0.78),
        ),
    )
    s.mark(
        s.tone(0.55), s.stroke((-0.14, 0.4), (-0.2, -0.05), (-0.07, -0.15), (0, 0.0), (0.07, -0.15), (0.2, -0.05), (0.14, 0.4), width=0.05)
    )
    s.part(GREY, s.box(-0.28, 0.42, 0.28, 0.84, 0.06), s.ellipse(0, 0.84, 0.17, 0.14))
    s.mark(DARK, *(s.stroke((-0.28, y), (0.28, y - 0.04), width=0.05) for y in (0.55, 0.7)))
    rays = [
        s.stroke((0.9 * np.cos(a), -0.3 + 0.9 * np.sin(a)), (1.12 * np.cos(a), -0.3 + 1.12 * np.sin(a)), width=0.08)
        for a in np.linspace(-np.pi - 0.4, 0.4, 7)
    ]
    s.bar((0.98, 0.76, 0.2), *s.where(s.chance(0.35), *rays))
