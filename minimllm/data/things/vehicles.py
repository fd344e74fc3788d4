"""What drives, flies and sails: how each is drawn. Sides face left unless something else is said."""

import numpy as np

from minimllm.data.things.paints import DARK, GREY, INK, ORANGE, RED, SKY, STEEL, WHITE, YELLOW
from minimllm.data.things.sketch import Sketch


def _wheel(s: Sketch, x, y, radius) -> None:
    s.part(DARK, s.ellipse(x, y, radius))
    s.mark(STEEL, s.ellipse(x, y, radius * 0.45))


def car(s: Sketch) -> None:
    roof, hood, r = s.between(-0.55, -0.35), s.between(-0.75, -0.5), s.between(0.2, 0.27)
    s.part(
        s.main,
        s.curve((-0.62, 0.0), (-0.34, roof), (0.4, roof), (0.75, 0.02), (0.3, 0.12), (-0.4, 0.12)),
        s.box(-1.1, -0.06, 1.1, 0.4, 0.17),
    )
    s.mark(
        SKY,
        s.polygon((-0.46, -0.02), (-0.27, roof + 0.13), (0.0, roof + 0.13), (0.0, -0.02)),
        s.polygon((0.09, -0.02), (0.09, roof + 0.13), (0.36, roof + 0.13), (0.56, -0.02)),
    )
    s.mark(YELLOW, s.ellipse(-1.02, 0.12, 0.07, 0.08))
    s.mark(RED, s.box(0.99, 0.05, 1.1, 0.17))
    s.mark(s.tone(0.65), s.stroke((0.12, 0.12), (0.24, 0.12), width=0.05), s.stroke((0.045, 0.0), (0.045, 0.36), width=0.03))
    for x in (hood + 0.02, -hood):
        _wheel(s, x, 0.4, r)


def car_front(s: Sketch) -> None:
    roof = s.between(-0.8, -0.6)
    s.part(INK, *s.both(s.box(0.5, 0.45, 0.82, 0.85, 0.08)))
    s.part(
        s.main, s.curve((-0.62, -0.05), (-0.46, roof), (0, roof - 0.06), (0.46, roof), (0.62, -0.05)), s.box(-0.88, -0.12, 0.88, 0.62, 0.2)
    )
    s.mark(SKY, s.polygon((-0.55, -0.1), (-0.4, roof + 0.14), (0.4, roof + 0.14), (0.55, -0.1)))
    s.mark(s.either(s.chance(0.6), (0.98, 0.92, 0.6), WHITE), *s.both(s.ellipse(0.62, 0.15, 0.15, 0.13)))
    s.mark(DARK, s.box(-0.36, 0.08, 0.36, 0.24, 0.05), s.box(-0.7, 0.4, 0.7, 0.48))
    s.part(s.tone(0.8), *s.both(s.ellipse(0.86, -0.2, 0.14, 0.09)))


def bus(s: Sketch) -> None:
    top = s.between(-0.75, -0.55)
    s.part(s.main, s.box(-1.15, top, 1.15, 0.5, 0.12))
    s.mark(SKY, s.box(-1.08, top + 0.2, -0.86, 0.1, 0.04), *(s.box(x, top + 0.2, x + 0.32, 0.0, 0.04) for x in (-0.36, 0.04, 0.44)))
    s.mark(s.tone(1.5, SKY), s.box(0.84, top + 0.2, 1.04, 0.0, 0.04))
    s.mark(SKY, s.box(-0.78, top + 0.2, -0.46, 0.46, 0.03))
    s.mark(s.either(s.chance(0.5), WHITE, s.tone(0.65)), s.box(-0.4, 0.12, 1.15, 0.24))
    s.mark(YELLOW, s.ellipse(-1.07, 0.26, 0.06))
    r = s.between(0.17, 0.22)
    for x in (-0.62, 0.65):
        _wheel(s, x, 0.5, r)


def bus_front(s: Sketch) -> None:
    top = s.between(-1.0, -0.8)
    s.part(INK, *s.both(s.box(0.42, 0.7, 0.68, 0.98, 0.06)))
    s.part(DARK, *s.both(s.box(0.78, -0.55, 0.95, -0.1, 0.06)))
    s.part(s.main, s.box(-0.76, top, 0.76, 0.84, 0.16))
    s.mark(SKY, s.box(-0.62, top + 0.34, 0.62, 0.22, 0.08))
    s.dot(
        INK,
        s.box(-0.42, top + 0.1, 0.42, top + 0.25, 0.04),
        s.stroke((0, top + 0.34), (0, 0.22), width=0.04),
        s.box(-0.3, 0.52, 0.3, 0.66, 0.04),
    )
    s.mark(s.either(s.chance(0.6), (0.98, 0.92, 0.6), WHITE), *s.both(s.ellipse(0.55, 0.5, 0.12)))


def truck(s: Sketch) -> None:
    top, cab = s.between(-0.8, -0.6), s.between(-0.45, -0.3)
    s.part(s.either(s.chance(0.5), WHITE, s.tone(1.45)), s.box(-0.4, top, 1.15, 0.42, 0.04))
    s.mark(GREY, *s.where(s.chance(0.4), *(s.stroke((x, top + 0.1), (x, 0.3), width=0.03) for x in (-0.05, 0.35, 0.75))))
    s.part(
        s.main, s.curve((-1.12, 0.45), (-1.14, 0.02), (-0.98, -0.1), (-0.86, cab), (-0.5, cab), (-0.46, 0.0), (-0.46, 0.48), (-0.8, 0.48))
    )
    s.mark(SKY, s.polygon((-0.93, -0.05), (-0.82, cab + 0.12), (-0.58, cab + 0.12), (-0.58, -0.05)))
    s.part(DARK, s.box(-1.14, 0.4, 1.14, 0.5))
    s.mark(YELLOW, s.ellipse(-1.06, 0.2, 0.06))
    r = s.between(0.19, 0.25)
    for x in (-0.78, 0.3, 0.78):
        _wheel(s, x, 0.52, r)


def tractor(s: Sketch) -> None:
    big, small = s.between(0.5, 0.6), s.between(0.24, 0.32)
    s.bar(DARK, s.stroke((-0.66, -0.2), (-0.66, s.between(-0.8, -0.6)), width=0.09))
    cab = s.between(-0.95, -0.8)
    s.part(s.main, s.box(-1.05, -0.2, 0.2, 0.3, 0.1), s.box(-0.15, -0.25, 0.75, 0.35, 0.08))
    s.part(
        s.tone(0.85),
        s.stroke((-0.12, cab), (0.72, cab), width=0.14),
        s.stroke((-0.05, cab), (-0.12, -0.2), width=0.08),
        s.stroke((0.65, cab), (0.68, -0.2), width=0.08),
    )
    s.mark(SKY, s.polygon((-0.02, cab + 0.12), (0.58, cab + 0.12), (0.6, -0.28), (-0.06, -0.28)))
    s.mark(s.tone(0.6), *(s.stroke((-0.92, y), (-0.5, y), width=0.045) for y in (-0.06, 0.05, 0.16)))
    s.part(DARK, s.ellipse(0.45, 0.98 - big, big), s.ellipse(-0.72, 0.98 - small, small))
    s.mark(s.either(s.chance(0.5), YELLOW, STEEL), s.ellipse(0.45, 0.98 - big, big * 0.5), s.ellipse(-0.72, 0.98 - small, small * 0.45))


def bicycle(s: Sketch) -> None:
    r, thick = s.between(0.4, 0.48), s.between(0.075, 0.11)
    for x in (-0.68, 0.68):
        s.bar(DARK, s.arc(x, 0.4, r, r, 0, np.pi, thick), s.arc(x, 0.4, r, r, np.pi, 2 * np.pi, thick))
    spokes = s.chance(0.4)
    s.bar(
        GREY,
        *s.where(
            spokes,
            *(
                s.stroke((x - r * c, 0.4 - r * d), (x + r * c, 0.4 + r * d), width=0.025)
                for x in (-0.68, 0.68)
                for c, d in ((1, 0), (0, 1), (0.7, 0.7), (0.7, -0.7))
            ),
        ),
    )
    bar = s.between(-0.3, -0.18)
    tubes = [
        ((-0.46, bar), (0.2, bar)),
        ((-0.4, bar + 0.04), (-0.02, 0.42)),
        ((0.16, bar - 0.15), (-0.02, 0.42)),
        ((0.2, bar), (0.68, 0.4)),
        ((-0.02, 0.42), (0.68, 0.4)),
        ((-0.52, -0.42), (-0.68, 0.4)),
    ]
    s.bar(s.main, *(s.stroke(*tube, width=thick * 1.05) for tube in tubes))
    s.bar(
        INK,
        s.stroke((0.02, bar - 0.17), (0.32, bar - 0.17), width=0.11),
        s.stroke((-0.52, -0.42), (-0.5, -0.58), (-0.78, s.between(-0.62, -0.5)), width=0.08),
        s.ellipse(-0.02, 0.42, 0.1),
    )


def train(s: Sketch) -> None:
    """A steam engine."""
    stack = s.between(-0.75, -0.55)
    s.part(
        GREY,
        *s.where(
            s.chance(0.4), s.ellipse(-0.62, stack - 0.22, 0.17), s.ellipse(-0.38, stack - 0.36, 0.22), s.ellipse(-0.1, stack - 0.34, 0.16)
        ),
    )
    s.part(INK, s.polygon((-0.78, stack), (-0.5, stack), (-0.56, -0.1), (-0.72, -0.1)), s.sector(-0.1, -0.12, 0.14, 0.17, np.pi, 2 * np.pi))
    s.part(s.main, s.box(-0.95, -0.18, 0.4, 0.32, 0.16), s.box(0.3, -0.6, 0.95, 0.32))
    s.part(s.tone(0.6), s.box(0.2, -0.74, 1.05, -0.58, 0.04))
    s.mark(SKY, s.box(0.44, -0.46, 0.82, -0.12, 0.03))
    s.mark(YELLOW, *(s.box(x, -0.18, x + 0.07, 0.32) for x in (-0.5, -0.05)), s.ellipse(-0.94, 0.0, 0.08))
    s.part(RED, s.polygon((-1.0, 0.32), (-0.8, 0.32), (-0.8, 0.72), (-1.15, 0.72)), s.box(-0.95, 0.3, 1.0, 0.44))
    for x, r in ((-0.55, 0.2), (-0.12, 0.2), (0.6, 0.32)):
        s.part(DARK, s.ellipse(x, 0.74 - r, r))
        s.mark(s.either(s.chance(0.5), RED, STEEL), s.ellipse(x, 0.74 - r, r * 0.5))
    s.bar(GREY, s.stroke((-0.55, 0.54), (0.6, 0.46), width=0.06))


def train_front(s: Sketch) -> None:
    """An electric one, on rails."""
    s.bar(
        GREY,
        *s.both(s.stroke((0.3, 0.75), (0.7, 1.1), width=0.09)),
        *(s.stroke((-x, y), (x, y), width=0.08) for x, y in ((0.5, 0.9), (0.62, 1.04))),
    )
    top = s.between(-1.0, -0.8)
    s.part(s.main, s.box(-0.62, top, 0.62, 0.75, 0.22))
    s.mark(SKY, s.box(-0.47, top + 0.28, 0.47, 0.05, 0.07))
    s.mark(s.either(s.chance(0.5), YELLOW, WHITE), *s.both(s.ellipse(0.38, 0.4, 0.11)))
    s.dot(INK, s.stroke((0, top + 0.28), (0, 0.05), width=0.05), s.box(-0.25, top + 0.09, 0.25, top + 0.2, 0.04))
    s.mark(s.tone(0.65), s.box(-0.62, 0.58, 0.62, 0.66), s.ellipse(0, 0.4, 0.09))


def airplane(s: Sketch) -> None:
    """Seen from above, the nose up."""
    sweep, body = s.between(0.1, 0.45), s.between(0.13, 0.19)
    wing = s.polygon((0.05, -0.3), (1.05, sweep), (1.05, sweep + 0.2), (0.05, 0.2))
    s.part(s.tone(0.8), *s.both(wing, s.polygon((0.03, 0.6), (0.45, 0.85), (0.45, 1.0), (0.03, 0.9))))
    s.part(GREY, *s.where(s.chance(0.5), *s.both(s.stroke((0.5, sweep * 0.5 - 0.2), (0.5, sweep * 0.5 + 0.05), width=0.13))))
    s.part(s.main, s.curve((0, -1.05), (body, -0.75), (body, 0.2), (0.07, 0.95), (-0.07, 0.95), (-body, 0.2), (-body, -0.75)))
    s.mark(DARK, *s.where(s.chance(0.6), s.curve((-body * 0.6, -0.75), (0, -0.88), (body * 0.6, -0.75), (0, -0.68))))


def airplane_side(s: Sketch) -> None:
    fin = s.between(-0.65, -0.45)
    s.part(s.tone(0.7), s.polygon((0.62, -0.1), (0.85, fin), (1.08, fin), (1.0, 0.02)))
    s.part(s.main, s.curve((-1.1, 0.1), (-0.85, -0.13), (-0.4, -0.2), (0.6, -0.15), (1.05, -0.05), (0.7, 0.14), (0.0, 0.24), (-0.7, 0.24)))
    s.mark(
        SKY,
        *(s.ellipse(x, -0.03, 0.055, 0.06) for x in np.linspace(-0.5, 0.6, 7)),
        s.polygon((-0.96, 0.0), (-0.84, -0.1), (-0.7, -0.1), (-0.7, 0.02)),
    )
    s.part(
        s.tone(0.75),
        s.polygon((-0.25, 0.08), (0.18, 0.08), (0.62, s.between(0.5, 0.7)), (0.4, 0.55)),
        s.polygon((0.72, 0.0), (0.92, 0.0), (1.15, 0.18), (1.02, 0.18)),
    )
    s.part(GREY, s.stroke((-0.05, 0.32), (0.12, 0.33), width=0.15))


def helicopter(s: Sketch) -> None:
    rotor = s.between(0.85, 1.1)
    s.bar(DARK, s.stroke((-0.25 - rotor, -0.72), (-0.25 + rotor, -0.72), width=0.08), s.stroke((-0.25, -0.72), (-0.25, -0.4), width=0.1))
    s.part(
        s.main,
        s.stroke((0.2, -0.05), (1.1, -0.22), width=(0.36, 0.12)),
        s.polygon((0.98, -0.2), (1.08, -0.55), (1.22, -0.55), (1.16, -0.12)),
    )
    s.bar(DARK, s.stroke((1.0, -0.42), (1.28, -0.02), width=0.05), s.stroke((1.28, -0.42), (1.0, -0.02), width=0.05))
    s.bar(
        DARK,
        s.stroke((-0.95, 0.72), (-0.8, 0.78), (0.4, 0.78), width=0.08),
        s.stroke((-0.5, 0.35), (-0.58, 0.76), width=0.06),
        s.stroke((0.05, 0.35), (0.12, 0.76), width=0.06),
    )
    s.part(
        s.main, s.curve((-0.92, 0.12), (-0.75, -0.25), (-0.25, s.between(-0.5, -0.42)), (0.3, -0.2), (0.42, 0.1), (0.1, 0.45), (-0.6, 0.46))
    )
    s.mark(SKY, s.curve((-0.84, 0.06), (-0.68, -0.2), (-0.34, -0.32), (-0.3, 0.08)))
    s.mark(SKY, *s.where(s.chance(0.5), s.box(-0.18, -0.26, 0.12, 0.06, 0.05)))


def sailboat(s: Sketch) -> None:
    mast, jib = s.between(-1.1, -0.9), s.chance(0.7)
    s.bar((0.5, 0.34, 0.22), s.stroke((0, mast - 0.05), (0, 0.5), width=0.07))
    sail = s.either(s.chance(0.5), WHITE, s.tone(1.5))
    s.part(sail, s.polygon((0.08, mast), (s.between(0.65, 0.85), 0.32), (0.08, 0.32)))
    s.part(s.tone(0.9, sail), *s.where(jib, s.polygon((-0.08, mast + 0.25), (-0.08, 0.32), (-0.62, 0.32))))
    s.part(s.main, s.polygon((-0.9, 0.45), (0.95, 0.45), (0.62, 0.85), (-0.6, 0.85)))
    s.part(
        (0.35, 0.62, 0.85),
        *s.where(
            s.chance(0.4),
            s.stroke((-1.1, 0.92), (-0.7, 0.84), (-0.3, 0.94), (0.1, 0.84), (0.5, 0.94), (0.8, 0.84), (1.1, 0.92), width=0.12),
        ),
    )


def rocket(s: Sketch) -> None:
    """Upright, its fire below."""
    wide = s.between(0.28, 0.38)
    s.part(ORANGE, s.curve((-0.2, 0.6), (0.2, 0.6), (0.15, 0.9), (0, s.between(1.05, 1.3)), (-0.15, 0.9)))
    s.mark(YELLOW, s.curve((-0.1, 0.62), (0.1, 0.62), (0, 0.95)))
    fins = s.either(s.chance(0.6), RED, s.tone(0.7))
    s.part(fins, *s.both(s.curve((wide * 0.8, 0.05), (wide + 0.34, 0.5), (wide + 0.3, 0.85), (wide * 0.6, 0.55))))
    s.part(
        s.main,
        s.curve((0, -1.1), (wide * 0.7, -0.65), (wide, -0.1), (wide * 0.7, 0.6), (-wide * 0.7, 0.6), (-wide, -0.1), (-wide * 0.7, -0.65)),
    )
    s.mark(fins, s.curve((0, -1.1), (wide * 0.46, -0.8), (wide * 0.7, -0.62), (0, -0.56), (-wide * 0.7, -0.62), (-wide * 0.46, -0.8)))
    s.mark(DARK, s.ellipse(0, -0.2, 0.2))
    s.mark(SKY, s.ellipse(0, -0.2, 0.14))
