"""Large animals and birds: how each is drawn."""

from minimllm.data.things.paints import BROWN, INK, ORANGE, WHITE
from minimllm.data.things.sketch import Sketch


def owl(s: Sketch) -> None:
    wide, tuft = s.between(0.6, 0.75), s.between(0.14, 0.3)
    s.part(ORANGE, *s.both(s.ellipse(0.25, 1.0, 0.18, 0.09)))
    s.part(
        s.main,
        s.ellipse(0, 0.2, wide, 0.82),
        s.ellipse(0, -0.38, wide * 0.95, 0.52),
        *s.both(s.polygon((wide * 0.3, -0.75), (wide * 0.95, -0.82 - tuft), (wide * 0.92, -0.3))),
    )
    s.mark(s.tone(1.55), s.ellipse(0, 0.45, wide * 0.62, 0.5))
    spots = [
        s.stroke((x - 0.08, y), (x, y + 0.07), (x + 0.08, y), width=0.045) for x, y in ((-0.18, 0.35), (0.18, 0.35), (0, 0.5), (0, 0.72))
    ]
    s.dot(s.tone(0.7), *spots)
    s.part(s.tone(0.7), *s.both(s.curve((wide * 0.75, -0.1), (wide * 1.15, 0.35), (wide * 0.95, 0.85), (wide * 0.62, 0.5))))
    eye = s.between(0.25, 0.33)
    s.mark(WHITE, *s.both(s.ellipse(0.29, -0.38, eye)))
    s.mark(ORANGE, *s.where(s.chance(0.4), *s.both(s.ellipse(0.29, -0.38, eye * 0.75))))
    s.dot(INK, *s.both(s.ellipse(0.28, -0.38, eye * s.between(0.4, 0.6))))
    s.mark(ORANGE, s.polygon((-0.1, -0.25), (0.1, -0.25), (0, 0.02)))


def penguin(s: Sketch) -> None:
    wide, lift = s.between(0.5, 0.62), s.between(0.1, 0.4)
    s.part(ORANGE, *s.both(s.ellipse(0.24, 1.0, 0.22, 0.1)))
    s.part(s.tone(0.85), *s.both(s.stroke((wide * 0.8, -0.15), (wide + 0.1, 0.2), (wide + lift, 0.55), width=(0.2, 0.2, 0.08))))
    s.part(
        s.main,
        s.curve(
            (0, -1.0),
            (0.36, -0.85),
            (wide * 0.85, -0.3),
            (wide, 0.4),
            (0.3, 0.98),
            (-0.3, 0.98),
            (-wide, 0.4),
            (-wide * 0.85, -0.3),
            (-0.36, -0.85),
        ),
    )
    s.mark(WHITE, s.ellipse(0, 0.38, wide * 0.72, 0.56), *s.both(s.ellipse(0.15, -0.5, 0.2, 0.24)))
    s.dot(INK, *s.both(s.ellipse(0.17, -0.56, 0.06, 0.075)))
    s.dot(ORANGE, s.polygon((-0.13, -0.42), (0.13, -0.42), (0, -0.22)))


def penguin_side(s: Sketch) -> None:
    """Facing left, the head turned aside."""
    s.part(ORANGE, s.ellipse(-0.12, 1.0, 0.26, 0.09), s.ellipse(0.18, 1.0, 0.2, 0.08))
    beak = s.between(-0.85, -0.7)
    s.part(ORANGE, s.polygon((-0.35, -0.82), (beak, -0.66), (-0.35, -0.58)))
    s.part(
        s.main,
        s.curve(
            (-0.05, -1.05),
            (0.3, -0.8),
            (0.42, -0.3),
            (0.52, 0.5),
            (0.7, 0.95),
            (0.1, 0.98),
            (-0.35, 0.85),
            (-0.5, 0.3),
            (-0.35, -0.3),
            (-0.42, -0.75),
        ),
    )
    s.mark(
        WHITE,
        s.curve((-0.28, -0.42), (-0.02, 0.0), (0.05, 0.5), (-0.1, 0.92), (-0.36, 0.78), (-0.47, 0.3), (-0.36, -0.2)),
        s.ellipse(-0.2, -0.68, 0.13, 0.15),
    )
    s.dot(INK, s.ellipse(-0.2, -0.7, 0.05, 0.06))
    s.part(s.tone(0.7), s.stroke((0.12, -0.3), (0.3, 0.1), (s.between(0.2, 0.6), 0.5), width=(0.16, 0.24, 0.08)))


def elephant(s: Sketch) -> None:
    """From the side, facing left."""
    leg, up = s.between(0.85, 1.0), s.chance(0.3)
    s.part(s.tone(0.75), *(s.box(x, 0.2, x + 0.26, leg - 0.05, 0.08) for x in (-0.12, 0.62)))
    s.bar(s.tone(0.8), s.stroke((0.95, 0.0), (1.1, 0.25), (1.06, 0.5), width=(0.09, 0.06)))
    trunk = s.stroke((-0.85, -0.2), (-1.12, 0.2), (-1.15, 0.6), (-1.0, 0.85), (-0.82, 0.8), width=(0.36, 0.26, 0.17))
    raised = s.stroke((-0.85, -0.2), (-1.2, 0.1), (-1.38, -0.2), (-1.32, -0.65), (-1.12, -0.75), width=(0.36, 0.26, 0.16))
    s.part(
        s.main,
        *s.where(~up, trunk),
        *s.where(up, raised),
        *(s.box(x, 0.1, x + 0.29, leg, 0.1) for x in (-0.38, 0.4)),
        s.ellipse(0.28, -0.08, 0.74, s.between(0.5, 0.6)),
        s.ellipse(-0.66, -0.34, 0.42, 0.44),
    )
    s.part(WHITE, *s.where(s.chance(0.6), s.stroke((-0.8, 0.08), (-0.95, 0.3), (-1.0, 0.32), width=(0.13, 0.04))))
    ear = s.between(0.3, 0.4)
    s.part(s.tone(0.85), s.curve((-0.55, -0.7), (-0.1, -0.72), (ear - 0.25, -0.3), (-0.15, 0.15), (-0.45, 0.05), (-0.6, -0.3)))
    s.mark(INK, s.ellipse(-0.8, -0.42, 0.055, 0.065))


def giraffe(s: Sketch) -> None:
    """From the side, facing left."""
    neck, leg = s.between(-1.35, -1.05), s.between(0.95, 1.15)
    s.part(s.tone(0.78), *(s.stroke((x, 0.3), (x, leg - 0.04), width=0.12) for x in (-0.12, 0.48)))
    s.bar(s.tone(0.5), s.stroke((0.55, 0.05), (0.72, 0.35), width=0.06))
    legs = [s.stroke((x, 0.3), (x, leg), width=0.14) for x in (-0.28, 0.38)]
    body = s.curve((-0.4, -0.02), (0.0, -0.12), (0.5, 0.02), (0.58, 0.25), (0.4, 0.42), (-0.2, 0.46), (-0.42, 0.25))
    s.bar(
        s.tone(0.5),
        s.stroke((-0.52, neck - 0.1), (-0.5, neck - 0.32), width=0.06),
        s.stroke((-0.42, neck - 0.1), (-0.38, neck - 0.3), width=0.06),
    )
    s.part(
        s.main,
        *legs,
        body,
        s.stroke((-0.2, 0.15), (-0.42, neck), width=(0.46, 0.24, 0.2)),
        s.stroke((-0.45, neck), (-0.82, neck + 0.14), width=(0.28, 0.18)),
        s.stroke((-0.4, neck - 0.02), (-0.2, neck - 0.1), width=(0.12, 0.05)),
    )
    spots = [(-0.3, 0.1), (-0.1, 0.2), (0.12, 0.1), (0.33, 0.16), (0.22, 0.32), (-0.05, 0.36), (-0.26, 0.3), (-0.26, -0.12), (-0.38, -0.3)]
    along = [s.ellipse(-0.33 - 0.08 * t, 0.0 + (neck + 0.15) * t, 0.07, 0.06) for t in (0.5, 0.75, 0.95)]
    s.mark((0.66, 0.38, 0.16), *(s.ellipse(x, y, 0.085, 0.065, turn=x * 5) for x, y in spots), *along)
    s.mark(INK, s.ellipse(-0.54, neck - 0.02, 0.045, 0.055))
    s.mark(BROWN, *(s.box(x - 0.08, leg - 0.02, x + 0.08, leg + 0.08) for x in (-0.28, 0.38)))


def duck(s: Sketch) -> None:
    """Swimming, facing left."""
    beak = s.between(-1.15, -0.95)
    s.part(ORANGE, s.curve((-0.62, -0.5), (beak, -0.45), (beak + 0.02, -0.3), (-0.6, -0.26)))
    tail = s.between(-0.25, 0.05)
    s.part(
        s.main,
        s.curve((-0.7, 0.25), (-0.55, 0.05), (-0.1, 0.05), (0.5, 0.1), (1.0, tail), (0.9, 0.45), (0.55, 0.8), (-0.25, 0.82), (-0.68, 0.6)),
        s.stroke((-0.38, 0.35), (-0.42, -0.4), width=0.46),
        s.ellipse(-0.42, -0.45, s.between(0.32, 0.4), 0.35),
    )
    s.mark(WHITE, *s.where(s.chance(0.3), s.stroke((-0.6, -0.02), (-0.2, -0.02), width=0.08)))
    s.mark(s.tone(0.8), s.curve((-0.05, 0.3), (0.35, 0.22), (0.68, 0.3), (0.4, 0.58), (0.05, 0.55)))
    s.mark(INK, s.ellipse(-0.52, -0.52, 0.06, 0.07))
