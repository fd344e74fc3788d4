"""Instruments, books and chairs: how each is drawn."""

import numpy as np

from minimllm.data.things.paints import CREAM, DARK, GREY, INK, STEEL, TAN, WHITE, WOOD, YELLOW
from minimllm.data.things.sketch import Sketch


def guitar(s: Sketch) -> None:
    """Upright."""
    waist, low = s.between(0.26, 0.36), s.between(0.5, 0.62)
    s.part((0.42, 0.26, 0.16), s.box(-0.085, -1.0, 0.085, 0.2), s.box(-0.15, -1.2, 0.15, -0.88, 0.05))
    s.bar(STEEL, *s.both(*(s.ellipse(0.19, y, 0.05) for y in (-1.12, -0.98))))
    s.part(
        s.main,
        s.curve(
            (0, -0.28),
            (0.3, -0.25),
            (0.4, -0.02),
            (waist, 0.2),
            (low * 0.95, 0.42),
            (low, 0.72),
            (0.3, 1.02),
            (0, 1.05),
            (-0.3, 1.02),
            (-low, 0.72),
            (-low * 0.95, 0.42),
            (-waist, 0.2),
            (-0.4, -0.02),
            (-0.3, -0.25),
        ),
    )
    s.mark((0.2, 0.12, 0.08), s.ellipse(0, 0.32, 0.17), s.box(-0.22, 0.74, 0.22, 0.82))
    s.part((0.42, 0.26, 0.16), s.box(-0.085, -0.9, 0.085, 0.2))
    s.mark(CREAM, *(s.stroke((x, -1.0), (x, 0.76), width=0.018) for x in (-0.04, 0.0, 0.04)))


def guitar_electric(s: Sketch) -> None:
    """Upright, with horns."""
    s.part(TAN, s.box(-0.07, -1.0, 0.07, 0.2), s.polygon((-0.07, -0.95), (-0.14, -1.3), (0.12, -1.25), (0.07, -0.95)))
    s.bar(STEEL, *(s.ellipse(-0.18, y, 0.045) for y in (-1.0, -1.1, -1.2)))
    horn = s.between(-0.35, -0.2)
    s.part(
        s.main,
        s.curve(
            (-0.1, 0.05),
            (-0.35, horn),
            (-0.5, horn + 0.15),
            (-0.36, 0.3),
            (-0.55, 0.6),
            (-0.4, 0.98),
            (0, 1.02),
            (0.45, 0.95),
            (0.52, 0.6),
            (0.34, 0.35),
            (0.5, 0.0),
            (0.35, -0.08),
            (0.1, 0.1),
        ),
    )
    s.mark(s.either(s.chance(0.5), WHITE, INK), s.curve((-0.2, 0.2), (0.2, 0.2), (0.3, 0.65), (0.1, 0.85), (-0.2, 0.75)))
    s.part(TAN, s.box(-0.07, -0.95, 0.07, 0.28))
    s.mark(DARK, s.box(-0.16, 0.4, 0.16, 0.48), s.box(-0.16, 0.58, 0.16, 0.66), s.box(-0.14, 0.78, 0.14, 0.84))


def trumpet(s: Sketch) -> None:
    """The bell to the left."""
    flare = s.between(0.34, 0.48)
    s.part(
        s.tone(0.85),
        s.stroke((-0.3, 0.28), (0.4, 0.28), (0.56, 0.14), (0.4, 0.0), width=0.1),
        s.stroke((-0.3, 0.0), (-0.44, 0.14), (-0.3, 0.28), width=0.1),
    )
    s.part(s.tone(0.8), *(s.box(x - 0.065, -0.2, x + 0.065, 0.42, 0.05) for x in (-0.12, 0.08, 0.28)))
    s.part(STEEL, *(s.stroke((x, -0.3), (x, -0.2), width=0.08) for x in (-0.12, 0.08, 0.28)))
    s.part(
        s.main,
        s.curve(
            (-1.05, -flare),
            (-0.92, -0.16),
            (-0.55, -0.07),
            (0.2, -0.055),
            (0.95, -0.05),
            (0.95, 0.05),
            (0.2, 0.055),
            (-0.55, 0.07),
            (-0.92, 0.16),
            (-1.05, flare),
            (-1.08, 0),
        ),
    )
    s.part(s.tone(0.8), s.ellipse(-1.05, 0, 0.07, flare))
    s.part(STEEL, s.polygon((0.92, -0.05), (1.12, -0.12), (1.12, 0.12), (0.92, 0.05)))


def drum(s: Sketch) -> None:
    wide, high = s.between(0.75, 0.9), s.between(0.55, 0.8)
    s.part(YELLOW, s.box(-wide, high - 0.14, wide, high), s.ellipse(0, high, wide, 0.24))
    s.part(s.main, s.box(-wide, -0.25, wide, high - 0.12), s.ellipse(0, high - 0.12, wide, 0.22))
    zigzag = [
        (-wide, -0.1),
        (-wide * 0.62, high + 0.02),
        (-wide * 0.2, 0.02),
        (wide * 0.2, high + 0.1),
        (wide * 0.62, 0.0),
        (wide, high - 0.1),
    ]
    s.mark(s.either(s.chance(0.5), WHITE, YELLOW), s.stroke(*zigzag, width=0.06, smooth=False))
    s.part(YELLOW, s.ellipse(0, -0.25, wide * 1.02, 0.27))
    s.part((0.97, 0.95, 0.9), s.ellipse(0, -0.29, wide * 0.94, 0.21))
    lean = s.between(0.5, 0.9)
    s.bar(WOOD, *s.both(s.stroke((0.12, -0.36), (lean, -0.95), width=0.075), s.ellipse(0.12, -0.36, 0.08)))


def bell(s: Sketch) -> None:
    flare, top = s.between(0.75, 0.92), s.between(0.34, 0.46)
    s.bar(s.tone(0.75), s.arc(0, -0.86, 0.13, 0.13, 0, np.pi, 0.08), s.arc(0, -0.86, 0.13, 0.13, np.pi, 2 * np.pi, 0.08))
    s.part(s.tone(0.6), s.ellipse(0, 0.76, 0.2))
    s.part(
        s.main,
        s.curve(
            (0, -0.8),
            (top, -0.66),
            (top * 1.35, -0.05),
            (flare * 0.75, 0.4),
            (flare, 0.66),
            (0, 0.72),
            (-flare, 0.66),
            (-flare * 0.75, 0.4),
            (-top * 1.35, -0.05),
            (-top, -0.66),
        ),
    )
    s.mark(s.tone(0.75), *s.where(s.chance(0.5), s.stroke((-flare * 0.8, 0.42), (0, 0.47), (flare * 0.8, 0.42), width=0.06)))
    s.mark(s.tone(1.6), *s.where(s.chance(0.5), s.stroke((-top * 0.7, -0.4), (-top * 0.95, 0.1), width=0.08)))


def book(s: Sketch) -> None:
    """Open."""
    drop = s.between(0.05, 0.2)
    s.part(s.main, s.polygon((-1.05, -0.5), (0, -0.36), (1.05, -0.5), (1.05, 0.62), (0, 0.74), (-1.05, 0.62)))
    page = s.curve((0, -0.4), (-0.45, -0.66), (-0.95, -0.6), (-0.95, 0.5), (-0.45, 0.46), (0, 0.6 + drop * 0.3))
    s.part((0.98, 0.97, 0.93), *s.both(page))
    s.mark(
        GREY, *s.both(*(s.stroke((-0.8, y - 0.06), (-0.45, y - 0.08), (-0.14, y + 0.06), width=0.05) for y in (-0.35, -0.1, 0.15, 0.38)))
    )
    s.mark(DARK, s.stroke((0, -0.4), (0, 0.6), width=0.05))


def book_closed(s: Sketch) -> None:
    thick = s.between(0.1, 0.2)
    s.part(s.tone(0.75), s.box(-0.7, -0.9 + thick, 0.72, 0.98, 0.06))
    s.part((0.98, 0.97, 0.93), s.box(-0.6, 0.7, 0.7, 0.92))
    s.part(s.main, s.box(-0.7, -0.95, 0.7, 0.76, 0.06))
    s.mark(s.tone(0.7), s.box(-0.7, -0.95, -0.52, 0.76))
    s.mark(s.either(s.chance(0.5), WHITE, YELLOW), s.box(-0.3, -0.65, 0.5, s.between(-0.35, -0.2), 0.03))


def chair(s: Sketch) -> None:
    """Seen aslant from the left."""
    back, seat = s.between(-1.1, -0.85), s.between(0.0, 0.15)
    s.part(s.tone(0.72), *(s.stroke((x, seat), (x, 0.85), width=0.12) for x in (-0.28, 0.5)))
    s.part(
        s.main,
        s.stroke((-0.45, back), (-0.42, 1.0), width=0.13),
        s.stroke((0.28, back), (0.28, seat), width=0.13),
        s.stroke((0.3, seat + 0.1), (0.3, 1.0), width=0.13),
    )
    slats = s.chance(0.5)
    s.part(
        s.tone(0.88),
        *s.where(slats, *(s.box(-0.45, y, 0.28, y + 0.16) for y in (-0.84, -0.5))),
        *s.where(~slats, s.box(-0.42, -0.85, 0.26, -0.25, 0.05)),
    )
    s.part(s.tone(1.2), s.polygon((-0.5, seat + 0.05), (-0.32, seat - 0.14), (0.62, seat - 0.14), (0.42, seat + 0.05)))
    s.part(
        s.main,
        s.polygon((-0.5, seat + 0.03), (0.42, seat + 0.03), (0.62, seat - 0.14), (0.62, seat), (0.42, seat + 0.18), (-0.5, seat + 0.18)),
    )
