"""Animals that live with people: how each is drawn. A function draws a whole batch, in the words of :mod:`minimllm.data.things.sketch`."""

from minimllm.data.things.paints import INK, PINK, RED, WHITE
from minimllm.data.things.sketch import Sketch


def cat_face(s: Sketch) -> None:
    wide, high, tip = s.between(0.78, 0.95), s.between(0.6, 0.75), s.between(-1.1, -0.85)
    spread = s.between(0.7, 0.9)
    ears = s.both(s.polygon((-wide * 0.97, 0.15), (-spread, tip), (-0.12, -0.5)))
    s.part(s.main, *ears, s.ellipse(0, 0.12, wide, high))
    s.mark(PINK, *s.both(s.polygon((-wide * 0.82, -0.12), (-spread * 0.96, tip * 0.8), (-0.34, -0.42))))
    striped = s.chance(0.4)
    stripes = [s.stroke((x, -0.52), (x * 0.8, -0.3), width=0.08) for x in (-0.16, 0.0, 0.16)]
    s.mark(s.tone(0.6), *s.where(striped, *stripes))
    bright, eye = s.chance(0.4), s.between(0.09, 0.15)
    s.mark(s.either(bright, (0.75, 0.85, 0.3), INK), *s.both(s.ellipse(0.34, -0.02, eye, eye * 1.25)))
    s.dot(INK, *s.where(bright, *s.both(s.ellipse(0.34, -0.02, eye * 0.35, eye * 1.1))))
    s.mark(s.tone(1.6), *s.where(s.chance(0.4), s.ellipse(0, 0.42, 0.3, 0.22)))
    s.mark((0.85, 0.45, 0.5), s.polygon((-0.1, 0.24), (0.1, 0.24), (0, 0.36)))
    s.mark(INK, *s.both(s.stroke((0, 0.34), (0.04, 0.5), (0.2, 0.5), width=0.045)))
    reach = s.between(1.0, 1.2)
    s.bar(INK, *s.both(s.stroke((0.45, 0.3), (reach, 0.18), width=0.035), s.stroke((0.45, 0.4), (reach, 0.44), width=0.035)))


def cat_sitting(s: Sketch) -> None:
    """From the side, the tail raised, the face towards us."""
    tail = s.between(-0.6, 0.0)
    s.part(s.tone(0.9), s.stroke((0.5, 0.85), (0.95, 0.75), (1.0, 0.3), (0.8, tail), width=(0.2, 0.2, 0.14)))
    s.part(s.main, s.curve((-0.45, 1.0), (-0.5, 0.3), (-0.3, -0.15), (0.15, -0.1), (0.55, 0.35), (0.65, 0.85), (0.4, 1.0)))
    s.mark(s.tone(0.75), s.stroke((0.15, 0.95), (0.1, 0.7), (0.35, 0.5), width=0.05), s.stroke((-0.2, 0.95), (-0.2, 0.5), width=0.05))
    ear = s.between(-1.15, -0.98)
    ears = [s.polygon((-0.75, -0.5), (-0.72, ear), (-0.35, -0.72)), s.polygon((0.15, -0.5), (0.12, ear), (-0.25, -0.72))]
    s.part(s.main, *ears, s.ellipse(-0.3, -0.42, s.between(0.44, 0.5), 0.38))
    s.mark(INK, s.ellipse(-0.48, -0.46, 0.06, 0.08), s.ellipse(-0.12, -0.46, 0.06, 0.08))
    s.mark((0.85, 0.45, 0.5), s.polygon((-0.37, -0.34), (-0.23, -0.34), (-0.3, -0.26)))
    s.bar(INK, s.stroke((-0.55, -0.3), (-0.95, -0.36), width=0.03), s.stroke((-0.55, -0.24), (-0.95, -0.2), width=0.03))
    s.bar(INK, s.stroke((-0.05, -0.3), (0.33, -0.36), width=0.03), s.stroke((-0.05, -0.24), (0.33, -0.2), width=0.03))


def dog_face(s: Sketch) -> None:
    wide, ear, drop = s.between(0.62, 0.75), s.between(0.2, 0.3), s.between(0.35, 0.7)
    s.part(s.main, s.curve((-wide, -0.2), (-0.45, -0.75), (0.45, -0.75), (wide, -0.2), (wide * 0.9, 0.45), (0, 0.85), (-wide * 0.9, 0.45)))
    s.mark(s.tone(1.5), s.ellipse(0, 0.4, wide * 0.62, 0.42), *s.where(s.chance(0.5), s.curve((-0.14, 0.2), (0, -0.75), (0.14, 0.2))))
    s.mark(s.tone(0.6), *s.where(s.chance(0.35), s.ellipse(0.32, -0.15, 0.24, 0.28)))
    s.mark((0.93, 0.4, 0.45), *s.where(s.chance(0.65), s.curve((-0.15, 0.5), (0.15, 0.5), (0.16, 0.85), (0, 0.98), (-0.16, 0.85))))
    flap = s.curve((-wide * 0.72, -0.72), (-wide - ear, -0.6), (-wide - ear * 1.2, drop * 0.5), (-wide - 0.05, drop), (-wide * 0.85, 0.0))
    s.part(s.tone(0.62), *s.both(flap))
    eye = s.between(0.08, 0.12)
    s.mark(INK, *s.both(s.ellipse(0.3, -0.12, eye, eye * 1.2)))
    s.dot(INK, s.ellipse(0, 0.2, s.between(0.15, 0.22), 0.13), *s.both(s.stroke((0, 0.25), (0.02, 0.5), (0.28, 0.5), width=0.05)))


def dog_standing(s: Sketch) -> None:
    """From the side, facing left."""
    leg, tail = s.between(0.75, 1.0), s.between(-0.9, -0.45)
    far = [s.stroke((x, 0.2), (x + 0.02, leg - 0.05), width=0.19) for x in (-0.22, 0.62)]
    s.part(s.tone(0.75), *far)
    near = [s.stroke((-0.4, 0.2), (-0.4, leg), width=0.2), s.stroke((0.5, 0.15), (0.42, 0.45), (0.46, leg), width=(0.34, 0.2))]
    body = s.curve((-0.6, -0.2), (-0.1, -0.22), (0.55, -0.2), (0.68, 0.1), (0.5, 0.32), (0.0, 0.34), (-0.5, 0.38))
    s.part(
        s.main,
        *near,
        s.stroke((0.6, -0.1), (0.9, -0.3), (0.98, tail), width=(0.16, 0.08)),
        body,
        s.stroke((-0.42, 0.0), (-0.6, -0.5), width=0.42),
        s.ellipse(-0.66, -0.58, 0.34, 0.3),
        s.stroke((-0.75, -0.5), (-1.12, -0.44), width=(0.36, 0.24)),
    )
    s.part(s.tone(0.6), s.curve((-0.6, -0.85), (-0.38, -0.8), (-0.26, -0.35), (-0.42, -0.22), (-0.56, -0.5)))
    s.mark(INK, s.ellipse(-0.8, -0.64, 0.055, 0.065), s.ellipse(-1.2, -0.5, 0.09, 0.08))
    s.mark(RED, *s.where(s.chance(0.5), s.stroke((-0.62, -0.22), (-0.3, -0.12), width=0.1)))


def rabbit_face(s: Sketch) -> None:
    long, lean, fat = s.between(0.55, 0.75), s.between(0.0, 0.2), s.between(0.16, 0.22)
    ear = s.ellipse(-0.3 - lean, -0.65, fat, long, turn=-lean)
    s.part(s.main, *s.both(ear), s.ellipse(0, 0.35, s.between(0.6, 0.72), 0.56))
    s.mark(PINK, *s.both(s.ellipse(-0.3 - lean, -0.65, fat * 0.5, long * 0.75, turn=-lean)))
    eye = s.between(0.08, 0.12)
    s.mark(INK, *s.both(s.ellipse(0.28, 0.22, eye, eye * 1.3)))
    s.mark(WHITE, s.box(-0.11, 0.52, 0.11, s.between(0.68, 0.8)))
    s.mark(INK, s.stroke((0, 0.55), (0, 0.68), width=0.03), *s.both(s.stroke((0, 0.44), (0.05, 0.54), (0.22, 0.52), width=0.045)))
    s.mark(PINK, s.polygon((-0.1, 0.35), (0.1, 0.35), (0, 0.46)), *s.where(s.chance(0.4), *s.both(s.ellipse(0.42, 0.45, 0.1, 0.08))))
    s.bar(
        INK,
        *s.where(s.chance(0.6), *s.both(s.stroke((0.4, 0.45), (0.9, 0.36), width=0.03), s.stroke((0.4, 0.52), (0.9, 0.58), width=0.03))),
    )


def rabbit_side(s: Sketch) -> None:
    """Sitting, facing left."""
    s.part(WHITE, s.ellipse(0.85, 0.62, 0.18))
    ear, lean = s.between(-1.25, -1.0), s.between(0.0, 0.35)
    s.part(s.tone(0.85), s.stroke((-0.35, -0.5), (-0.15 + lean, ear), width=(0.2, 0.28, 0.08)))
    s.part(
        s.main,
        s.stroke((-0.5, -0.5), (-0.45 + lean, ear), width=(0.2, 0.28, 0.08)),
        s.ellipse(-0.52, -0.3, 0.38, 0.31),
        s.ellipse(0.2, 0.42, 0.62, s.between(0.46, 0.56)),
        s.ellipse(-0.2, 0.25, 0.36, 0.4),
        s.stroke((-0.4, 0.5), (-0.42, 0.88), width=0.2),
        s.stroke((0.0, 0.92), (0.5, 0.92), width=0.2),
    )
    s.mark(s.tone(0.8), s.arc(0.4, 0.55, 0.36, 0.36, 2.6, 4.9, 0.05))
    s.mark(INK, s.ellipse(-0.62, -0.36, 0.07, 0.08))
    s.mark(PINK, s.ellipse(-0.88, -0.26, 0.06, 0.05))


def pig_face(s: Sketch) -> None:
    wide = s.between(0.78, 0.92)
    s.part(s.tone(0.85), *s.both(s.polygon((-wide * 0.9, -0.15), (-s.between(0.75, 0.95), s.between(-0.95, -0.75)), (-0.2, -0.55))))
    s.part(s.main, s.ellipse(0, 0.08, wide, 0.74))
    eye = s.between(0.07, 0.11)
    s.mark(INK, *s.both(s.ellipse(0.42, -0.12, eye, eye * 1.2)))
    snout, low = s.between(0.3, 0.4), s.between(0.2, 0.32)
    s.part(s.tone(0.8), s.ellipse(0, low, snout, 0.25))
    s.mark(s.tone(0.4), *s.both(s.ellipse(snout * 0.4, low, 0.065, 0.11)))
    s.mark(s.tone(0.45), *s.where(s.chance(0.5), s.arc(0, 0.45, 0.28, 0.18, 0.3, 2.84, 0.05)))


def pig_side(s: Sketch) -> None:
    """Standing, facing left."""
    leg = s.between(0.75, 0.95)
    s.part(s.tone(0.78), *(s.stroke((x, 0.3), (x, leg - 0.04), width=0.2) for x in (-0.3, 0.62)))
    s.bar(s.tone(0.8), s.arc(1.02, 0.0, 0.13, 0.13, 0.6, 6.2, 0.06), s.stroke((0.8, 0.05), (0.95, 0.1), width=0.06))
    legs = [s.stroke((x, 0.3), (x, leg), width=0.22) for x in (-0.48, 0.42)]
    s.part(s.main, *legs, s.ellipse(0.1, 0.08, s.between(0.76, 0.86), 0.52), s.ellipse(-0.66, -0.08, 0.4, 0.38))
    s.part(s.tone(0.85), s.polygon((-0.75, -0.4), (-0.62, -0.68), (-0.4, -0.35)), s.box(-1.18, -0.08, -0.92, 0.26, 0.1))
    s.mark(INK, s.ellipse(-0.78, -0.16, 0.06, 0.07), s.ellipse(-1.1, 0.08, 0.035, 0.06))
