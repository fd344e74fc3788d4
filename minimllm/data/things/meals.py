"""What is made to be eaten: how each is drawn."""

import numpy as np

from minimllm.data.things.paints import CREAM, GREEN, ORANGE, PINK, RED, TAN, WHITE, YELLOW
from minimllm.data.things.sketch import Sketch


def pizza(s: Sketch) -> None:
    """A slice, its tip down."""
    wide, tip = s.between(0.7, 0.92), s.between(0.9, 1.1)
    s.part(s.main, s.polygon((-wide, -0.55), (wide, -0.55), (0.05, tip), (-0.05, tip)))
    s.part((0.78, 0.50, 0.24), s.stroke((-wide, -0.56), (0, -0.78), (wide, -0.56), width=s.between(0.22, 0.3)))
    r = s.between(0.14, 0.19)
    s.mark(RED, s.ellipse(-0.32, -0.3, r), s.ellipse(0.32, -0.22, r), s.ellipse(-0.05, 0.2, r))
    olives = s.chance(0.5)
    s.mark(GREEN, *s.where(olives, s.ellipse(0.02, -0.42, 0.08, 0.06), s.ellipse(-0.22, 0.02, 0.07, 0.05), s.ellipse(0.14, 0.42, 0.06)))
    s.mark((0.98, 0.9, 0.6), *s.where(~olives, s.ellipse(0.0, -0.1, 0.08, 0.06)))


def hamburger(s: Sketch) -> None:
    bun, thick = s.between(0.55, 0.85), s.between(0.12, 0.2)
    s.part(s.tone(0.92), s.box(-0.88, 0.45, 0.88, 0.85, 0.18))
    s.part((0.40, 0.22, 0.14), s.box(-0.95, 0.42 - thick * 2, 0.95, 0.48, 0.1))
    s.part(YELLOW, s.polygon((-0.92, 0.12), (0.92, 0.12), (0.7, 0.22), (0.45, 0.36), (0.2, 0.2), (-0.7, 0.2)))
    s.part(RED, *s.where(s.chance(0.5), s.box(-0.86, -0.02, 0.86, 0.14, 0.06)))
    s.part(GREEN, s.stroke((-0.95, 0.04), (-0.6, 0.12), (-0.3, 0.0), (0.0, 0.12), (0.3, 0.0), (0.6, 0.12), (0.95, 0.04), width=0.14))
    s.part(
        s.main,
        s.curve(
            (-0.93, 0.0),
            (-0.88, -bun * 0.55),
            (-0.5, -bun),
            (0, -bun - 0.08),
            (0.5, -bun),
            (0.88, -bun * 0.55),
            (0.93, 0.0),
            (0.5, 0.02),
            (-0.5, 0.02),
        ),
    )
    s.mark(
        CREAM,
        *s.where(
            s.chance(0.8),
            *(
                s.ellipse(x, -0.3 - bun * y, 0.07, 0.045, turn=x)
                for x, y in ((-0.45, 0.1), (-0.15, 0.5), (0.2, 0.2), (0.5, 0.15), (0.25, 0.62), (-0.1, 0.05))
            ),
        ),
    )


def ice_cream(s: Sketch) -> None:
    """Scoops in a cone."""
    tip, r, two = s.between(0.95, 1.15), s.between(0.46, 0.56), s.chance(0.4)
    s.part((0.88, 0.62, 0.32), s.polygon((-0.42, 0.02), (0.42, 0.02), (0.03, tip), (-0.03, tip)))
    s.mark((0.68, 0.42, 0.18), *s.both(s.stroke((-0.3, 0.08), (0.12, 0.62), width=0.04), s.stroke((-0.02, 0.06), (0.2, 0.4), width=0.04)))
    s.part(s.either(s.chance(0.5), CREAM, (0.52, 0.32, 0.2)), *s.where(two, s.ellipse(0, -0.85, r * 0.9)))
    s.part(
        s.main, s.ellipse(0, -0.28, r), s.stroke((-r * 0.95, -0.02), (-0.22, 0.12), (0.05, 0.0), (0.25, 0.14), (r * 0.95, -0.02), width=0.2)
    )
    s.mark(s.tone(1.6), *s.where(s.chance(0.5), s.ellipse(-0.2, -0.45, 0.1, 0.07, turn=-0.6)))
    s.part(RED, *s.where(~two & s.chance(0.4), s.ellipse(0, -0.85, 0.15)))


def ice_cream_soft(s: Sketch) -> None:
    """Swirled, in a wafer cup."""
    s.part((0.88, 0.64, 0.36), s.polygon((-0.4, 0.1), (0.4, 0.1), (s.between(0.12, 0.26), 1.0), (-0.2, 1.0)))
    s.mark(
        (0.70, 0.46, 0.22),
        s.stroke((-0.36, 0.35), (0.36, 0.35), width=0.045),
        s.stroke((-0.12, 0.38), (-0.1, 0.95), width=0.045),
        s.stroke((0.12, 0.38), (0.1, 0.95), width=0.045),
    )
    s.part(s.tone(0.92), s.ellipse(0, 0.02, 0.58, 0.2))
    s.part(s.main, s.ellipse(0, -0.26, 0.46, 0.19))
    s.part(s.main, s.ellipse(0, -0.52, 0.34, 0.17))
    s.part(s.main, s.curve((-0.2, -0.68), (-0.05, -0.9), (s.between(0.0, 0.15), -1.05), (0.14, -0.85), (0.22, -0.68), (0, -0.6)))


def donut(s: Sketch) -> None:
    hole, ring = s.between(0.2, 0.3), s.between(0.82, 0.9)
    flat = s.between(0.75, 1.0)
    turn = np.linspace(0, 2 * np.pi, 13)[:-1]
    s.part(TAN, s.ellipse(0, 0.04, 1.0, flat), holes=[s.ellipse(0, 0.03, hole * 0.8, hole * 0.8 * flat)])
    wave = [((ring - 0.07 * (i % 2)) * np.cos(a), (ring - 0.07 * (i % 2)) * np.sin(a) * flat) for i, a in enumerate(turn)]
    s.mark(s.main, s.curve(*wave), holes=[s.ellipse(0, 0, hole, hole * flat)])
    spots = [(0.6 * np.cos(a), 0.58 * np.sin(a) * flat, a * 2.3) for a in np.linspace(0.2, 6.2, 10)]
    sprinkled = s.chance(0.8)
    for colour, part in ((YELLOW, spots[::3]), (WHITE, spots[1::3]), ((0.3, 0.6, 0.85), spots[2::3])):
        s.dot(colour, *s.where(sprinkled, *(s.ellipse(x, y, 0.09, 0.035, turn=a) for x, y, a in part)))


def cake(s: Sketch) -> None:
    """With candles."""
    high = s.between(0.5, 0.7)
    for x in (-0.5, 0.0, 0.5):
        s.bar(s.either(s.chance(0.5), (0.3, 0.6, 0.88), YELLOW), s.box(x - 0.055, -0.62, x + 0.055, -0.05))
        s.bar(ORANGE, s.curve((x, -0.98), (x + 0.1, -0.75), (x, -0.62), (x - 0.1, -0.75)))
    s.part((0.82, 0.84, 0.88), s.ellipse(0, 0.3 + high, 1.05, 0.14))
    s.part(s.either(s.chance(0.5), (0.62, 0.38, 0.22), CREAM), s.box(-0.85, -0.05, 0.85, 0.32 + high, 0.1))
    s.mark(s.main, s.box(-0.85, 0.42, 0.85, 0.54))
    drips = [(-0.85, 0.14), (-0.6, 0.3), (-0.36, 0.14), (-0.12, 0.28), (0.12, 0.14), (0.36, 0.3), (0.6, 0.14), (0.85, 0.26)]
    s.part(s.main, s.curve((-0.86, -0.1), (0, -0.14), (0.86, -0.1), *drips[::-1]))


def cake_slice(s: Sketch) -> None:
    """A piece on its side: two layers and a berry."""
    top = s.between(-0.3, -0.1)
    s.part(s.main, s.polygon((-0.95, top + 0.28), (0.5, top - 0.22), (0.95, top + 0.2)))
    s.part((0.96, 0.82, 0.56), s.polygon((-0.95, top + 0.25), (0.95, top + 0.2), (0.95, 0.85), (-0.95, 0.85)))
    s.mark(
        s.main, s.polygon((-0.95, top + 0.24), (0.95, top + 0.18), (0.95, top + 0.34), (-0.95, top + 0.38)), s.box(-0.95, 0.42, 0.95, 0.56)
    )
    s.part(RED, s.curve((0.35, top - 0.5), (0.6, top - 0.38), (0.45, top - 0.05), (0.2, top - 0.05), (0.1, top - 0.38)))
    s.part(GREEN, s.ellipse(0.36, top - 0.5, 0.14, 0.06))
    s.mark(PINK, *s.where(s.chance(0.3), s.ellipse(-0.5, 0.7, 0.05), s.ellipse(0.4, 0.72, 0.05)))
