"""Fruit and what else grows: how each is drawn."""

import numpy as np

from minimllm.data.things.paints import BROWN, CREAM, GREEN, INK, LEAF, WHITE
from minimllm.data.things.sketch import Sketch


def _leaf(s: Sketch, x, y, long, turn) -> None:
    cosine, sine = np.cos(turn), np.sin(turn)

    def place(along, off):
        return x + long * (along * cosine - off * sine), y + long * (along * sine + off * cosine)

    s.part(GREEN, s.curve(place(0, 0), place(0.4, -0.26), place(1, 0), place(0.4, 0.26)))


def apple(s: Sketch) -> None:
    wide, dip = s.between(0.72, 0.86), s.between(0.1, 0.22)
    s.bar(BROWN, s.stroke((0.0, -0.4), (0.03, -0.7), (s.between(0.0, 0.2), -0.92), width=0.1))
    _leaf(s, 0.06, -0.68, s.between(0.4, 0.6), s.between(-0.7, -0.1))
    right = [(0.32, -0.62), (wide * 0.85, -0.5), (wide, 0.0), (wide * 0.78, 0.6), (0.34, 0.9), (0.0, 0.82)]
    s.part(s.main, s.curve((0, -0.55 + dip), *right, *((-x, y) for x, y in right[-2::-1])))
    s.mark(s.tone(1.6), *s.where(s.chance(0.6), s.ellipse(-wide * 0.5, -0.2, 0.12, 0.22, turn=0.5)))


def banana(s: Sketch) -> None:
    bend, fat = s.between(0.5, 0.75), s.between(0.36, 0.5)
    s.part(
        s.main,
        s.stroke(
            (-0.9, -0.45), (-0.62, 0.1), (0.0, bend * 0.62), (0.62, 0.1), (0.88, -0.4), width=(0.12, fat * 0.85, fat, fat * 0.85, 0.12)
        ),
    )
    s.mark(s.tone(0.82), s.stroke((-0.7, -0.05), (-0.35, 0.28), (0.1, bend * 0.6), (0.6, 0.14), width=(0.03, 0.05, 0.03)))
    s.part(BROWN, s.stroke((0.86, -0.36), (0.93, -0.6), width=0.13))
    s.part(INK, s.stroke((-0.9, -0.42), (-0.92, -0.48), width=0.1))


def bananas(s: Sketch) -> None:
    """Two of them, joined at the stalk."""
    fat = s.between(0.34, 0.44)
    s.part(s.tone(0.88), s.stroke((0.5, -0.8), (0.35, -0.1), (-0.15, 0.35), (-0.95, 0.3), width=(0.14, fat, fat, 0.1)))
    s.part(s.main, s.stroke((0.55, -0.8), (0.72, 0.05), (0.35, 0.65), (-0.5, 0.9), width=(0.14, fat, fat, 0.1)))
    s.part(BROWN, s.stroke((0.52, -0.75), (0.56, -1.0), width=0.18))
    s.mark(INK, s.stroke((-0.5, 0.9), (-0.54, 0.91), width=0.1), s.stroke((-0.95, 0.3), (-0.98, 0.29), width=0.1))


def pear(s: Sketch) -> None:
    neck, belly = s.between(0.24, 0.34), s.between(0.6, 0.74)
    s.bar(BROWN, s.stroke((0.0, -0.75), (s.between(-0.1, 0.2), -1.1), width=0.1))
    _leaf(s, 0.05, -0.88, s.between(0.35, 0.5), s.between(-0.6, 0.0))
    s.part(
        s.main,
        s.curve(
            (0, -0.85),
            (neck, -0.6),
            (neck * 1.25, -0.2),
            (belly, 0.35),
            (belly * 0.7, 0.85),
            (0, 0.98),
            (-belly * 0.7, 0.85),
            (-belly, 0.35),
            (-neck * 1.25, -0.2),
            (-neck, -0.6),
        ),
    )
    s.mark(s.tone(1.6), *s.where(s.chance(0.6), s.ellipse(-belly * 0.45, 0.3, 0.1, 0.22, turn=0.3)))


def cherry(s: Sketch) -> None:
    """Two on their stalks."""
    r, top = s.between(0.36, 0.46), s.between(-0.05, 0.15)
    s.bar(
        LEAF,
        s.stroke((0.2, -0.95), (-0.3, -0.45), (-0.5, 0.35), width=0.075),
        s.stroke((0.2, -0.95), (0.35, -0.3), (0.5, 0.2), width=0.075),
    )
    _leaf(s, 0.18, -0.92, s.between(0.5, 0.75), s.between(-0.1, 0.4))
    s.part(s.main, s.ellipse(-0.48, 0.55, r), s.ellipse(0.5, 0.3 + top, r))
    s.mark(s.tone(1.6), s.ellipse(-0.6, 0.4, 0.1, 0.08), s.ellipse(0.38, 0.16 + top, 0.1, 0.08))


def strawberry(s: Sketch) -> None:
    wide, tip = s.between(0.66, 0.82), s.between(0.9, 1.1)
    s.part(
        s.main,
        s.curve(
            (0, -0.5),
            (wide * 0.7, -0.58),
            (wide, -0.15),
            (wide * 0.6, 0.5),
            (0, tip),
            (-wide * 0.6, 0.5),
            (-wide, -0.15),
            (-wide * 0.7, -0.58),
        ),
    )
    seeds = [
        (-0.42, -0.1),
        (-0.14, -0.15),
        (0.14, -0.15),
        (0.42, -0.1),
        (-0.28, 0.18),
        (0, 0.14),
        (0.28, 0.18),
        (-0.14, 0.45),
        (0.14, 0.45),
        (0, 0.72),
    ]
    s.mark(CREAM, *(s.ellipse(x * wide / 0.74, y, 0.045, 0.075) for x, y in seeds))
    s.bar(LEAF, s.stroke((0, -0.5), (0.05, -0.9), width=0.09))
    star = [(0.0, -0.7), (0.3, -0.78), (0.72, -0.62), (0.4, -0.5), (0.32, -0.18), (0.1, -0.42)]
    s.part(GREEN, s.polygon(*star, (0, -0.15), *((-x, y) for x, y in star[:0:-1])))


def watermelon(s: Sketch) -> None:
    """A slice: half a round."""
    deep, rind = s.between(0.8, 1.0), s.between(0.1, 0.16)
    s.part(s.tone(0.75, GREEN), s.sector(0, -0.4, 1.0, deep, 0, np.pi))
    s.mark((0.85, 0.93, 0.72), s.sector(0, -0.4, 1 - rind, deep - rind, 0, np.pi))
    s.mark(s.main, s.sector(0, -0.4, 0.92 - rind, deep - rind - 0.08, 0, np.pi))
    seeds = [(-0.5, -0.22), (-0.25, -0.1), (0, -0.22), (0.25, -0.1), (0.5, -0.22), (-0.12, 0.15), (0.14, 0.15)]
    s.dot(INK, *(s.ellipse(x, y, 0.04, 0.07, turn=-x * 0.5) for x, y in seeds))


def watermelon_wedge(s: Sketch) -> None:
    """A slice standing on its rind."""
    wide = s.between(0.75, 0.95)
    s.part(s.tone(0.75, GREEN), s.curve((-wide, 0.45), (0, 0.68), (wide, 0.45), (wide * 0.98, 0.72), (0, 1.0), (-wide * 0.98, 0.72)))
    s.part((0.85, 0.93, 0.72), s.curve((-wide, 0.38), (0, 0.56), (wide, 0.38), (wide, 0.56), (0, 0.8), (-wide, 0.56)))
    s.part(s.main, s.polygon((0, -1.0), (wide * 0.97, 0.42), (wide * 0.5, 0.56), (0, 0.62), (-wide * 0.5, 0.56), (-wide * 0.97, 0.42)))
    s.mark(INK, *(s.ellipse(x, y, 0.045, 0.08) for x, y in ((0, -0.4), (-0.2, -0.02), (0.2, -0.02), (-0.42, 0.3), (0, 0.28), (0.42, 0.3))))


def pineapple(s: Sketch) -> None:
    wide, top = s.between(0.45, 0.58), s.between(-1.15, -0.95)
    leaves = [s.polygon((-0.14, -0.3), (-0.5, -0.8), (0.06, -0.35)), s.polygon((-0.16, -0.3), (-0.28, top * 0.97), (0.1, -0.32))]
    s.part(LEAF, *s.both(*leaves))
    s.part(
        s.tone(1.0, GREEN),
        s.polygon((-0.17, -0.3), (0, top - 0.12), (0.17, -0.3)),
        *s.both(s.polygon((-0.1, -0.3), (-0.45, -0.52), (0.05, -0.25))),
    )
    s.part(s.main, s.ellipse(0, 0.36, wide, 0.68))
    lines = []
    for t in (-0.45, -0.1, 0.25):
        half = wide * 0.86
        lines.append(s.stroke((-half, 0.36 + t * 0.9 - 0.12), (half * 0.95, 0.36 + t * 0.9 + 0.3), width=0.05))
    s.mark(s.tone(0.68), *s.both(*lines))


def carrot(s: Sketch) -> None:
    wide, tip = s.between(0.26, 0.36), s.between(0.95, 1.15)
    s.bar(
        GREEN,
        *s.both(s.stroke((0, -0.45), (0.15, -0.75), (0.4, -0.98), width=(0.1, 0.2, 0.08))),
        s.stroke((0, -0.45), (0, -1.1), width=(0.1, 0.22, 0.08)),
    )
    s.part(
        s.main,
        s.curve(
            (0, -0.5),
            (wide * 0.85, -0.48),
            (wide, -0.2),
            (wide * 0.6, 0.4),
            (0.03, tip),
            (-0.03, tip),
            (-wide * 0.6, 0.4),
            (-wide, -0.2),
            (-wide * 0.85, -0.48),
        ),
    )
    s.mark(
        s.tone(0.72),
        s.stroke((-wide * 0.9, -0.15), (-0.05, -0.12), width=0.045),
        s.stroke((wide * 0.75, 0.12), (0.06, 0.15), width=0.045),
        s.stroke((-wide * 0.6, 0.38), (-0.02, 0.4), width=0.045),
    )


def mushroom(s: Sketch) -> None:
    cap, foot = s.between(0.75, 0.98), s.between(0.26, 0.36)
    s.part((0.95, 0.90, 0.80), s.curve((-0.24, -0.1), (0.24, -0.1), (foot, 0.7), (foot * 0.8, 0.95), (-foot * 0.8, 0.95), (-foot, 0.7)))
    s.part(
        s.main,
        s.curve(
            (-1.0, 0.05),
            (-0.85, -0.35),
            (-0.45, -cap),
            (0, -cap - 0.05),
            (0.45, -cap),
            (0.85, -0.35),
            (1.0, 0.05),
            (0.5, 0.14),
            (0, 0.1),
            (-0.5, 0.14),
        ),
    )
    spots = [
        (0, -0.55, 0.17),
        (-0.5, -0.3, 0.14),
        (0.52, -0.3, 0.14),
        (-0.18, -0.12, 0.09),
        (0.22, -0.15, 0.1),
        (0.8, -0.05, 0.08),
        (-0.8, -0.05, 0.08),
    ]
    s.mark(WHITE, *s.where(s.chance(0.8), *(s.ellipse(x, y, r, r * 0.85) for x, y, r in spots)))
