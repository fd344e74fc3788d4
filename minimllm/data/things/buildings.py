"""Buildings: how each is drawn."""

import numpy as np

from minimllm.data.things.paints import BROWN, DARK, GREY, INK, SKY, YELLOW
from minimllm.data.things.sketch import Sketch


def house(s: Sketch) -> None:
    eave, ridge, wide = s.between(-0.25, -0.05), s.between(-1.05, -0.8), s.between(0.7, 0.85)
    roof = s.either(s.chance(0.6), (0.72, 0.26, 0.18), DARK)
    s.part((0.6, 0.32, 0.24), *s.where(s.chance(0.7), s.box(0.35, -0.95, 0.58, -0.2)))
    s.part(s.main, s.polygon((-wide, eave), (0, ridge + 0.1), (wide, eave), (wide, 0.9), (-wide, 0.9)))
    s.part(roof, s.stroke((-wide - 0.2, eave + 0.06), (0, ridge), (wide + 0.2, eave + 0.06), width=0.2, smooth=False))
    door = s.between(-0.3, 0.0)
    s.mark(BROWN, s.box(door - 0.02, 0.3, door + 0.32, 0.9))
    s.mark(SKY, s.box(door - 0.42, 0.2, door - 0.12, 0.5), *s.where(s.chance(0.6), s.box(door + 0.42, 0.2, door + 0.68, 0.5)))
    s.dot(YELLOW, s.ellipse(door + 0.24, 0.62, 0.035))


def castle(s: Sketch) -> None:
    tower, keep = s.between(-0.75, -0.55), s.between(-0.3, -0.1)

    def battlement(left: float, right: float, top, bottom: float, teeth: int) -> list:
        step = (right - left) / (2 * teeth - 1)
        merlons = [s.box(left + 2 * i * step, top - 0.14, left + (2 * i + 1) * step, top + 0.05) for i in range(teeth)]
        return [s.box(left, top, right, bottom), *merlons]

    pointed = s.chance(0.45)
    roof = s.either(s.chance(0.5), (0.75, 0.25, 0.25), (0.3, 0.4, 0.7))
    s.part(s.tone(0.88), *battlement(-0.32, 0.32, keep - 0.55, 0.9, 3))
    s.part(s.main, *battlement(-0.6, 0.6, keep + 0.15, 0.9, 5))
    s.part(s.tone(0.94), *battlement(-1.0, -0.52, tower, 0.9, 3), *battlement(0.52, 1.0, tower, 0.9, 3))
    s.part(roof, *s.where(pointed, *s.both(s.polygon((0.46, tower), (0.76, tower - 0.55), (1.06, tower)))))
    s.mark(DARK, s.sector(0, 0.55, 0.2, 0.24, np.pi, 2 * np.pi), s.box(-0.2, 0.53, 0.2, 0.9))
    s.mark(DARK, *s.both(s.box(0.7, tower + 0.25, 0.82, tower + 0.55, 0.04)), s.box(-0.06, keep - 0.35, 0.06, keep - 0.08, 0.03))
    s.bar((0.8, 0.2, 0.2), *s.where(~pointed, s.polygon((0.02, keep - 1.15), (0.36, keep - 1.02), (0.02, keep - 0.9))))
    s.bar(INK, *s.where(~pointed, s.stroke((0, keep - 1.15), (0, keep - 0.6), width=0.05)))


def church(s: Sketch) -> None:
    spire, roof = s.between(-0.85, -0.65), s.either(s.chance(0.5), (0.55, 0.28, 0.2), (0.32, 0.36, 0.44))
    s.bar(INK, s.stroke((0, spire - 0.48), (0, spire), width=0.075), s.stroke((-0.13, spire - 0.33), (0.13, spire - 0.33), width=0.075))
    s.part(s.tone(0.9), *s.both(s.box(0.2, 0.2, 0.85, 0.95)))
    s.part(roof, *s.both(s.polygon((0.2, -0.12), (0.92, 0.24), (0.2, 0.24))))
    s.part(s.main, s.box(-0.32, -0.28, 0.32, 0.95))
    s.part(roof, s.polygon((-0.4, -0.24), (0, spire), (0.4, -0.24)))
    s.mark(BROWN, s.sector(0, 0.6, 0.15, 0.18, np.pi, 2 * np.pi), s.box(-0.15, 0.58, 0.15, 0.95))
    s.mark(SKY, s.ellipse(0, 0.02, 0.13), *s.both(s.sector(0.55, 0.5, 0.1, 0.12, np.pi, 2 * np.pi), s.box(0.45, 0.49, 0.65, 0.72)))


def tent(s: Sketch) -> None:
    wide, peak = s.between(0.9, 1.1), s.between(-0.85, -0.65)
    s.bar(
        BROWN, s.stroke((0.0, peak - 0.14), (0.04, peak + 0.1), width=0.07), s.stroke((-0.06, peak - 0.14), (0.0, peak + 0.1), width=0.07)
    )
    s.part(s.main, s.polygon((0, peak), (wide, 0.8), (-wide, 0.8)))
    s.mark(s.tone(0.35), s.polygon((0, peak + 0.5), (s.between(0.3, 0.42), 0.8), (-0.36, 0.8)))
    s.mark(s.tone(1.4), *s.where(s.chance(0.5), s.polygon((0, peak + 0.5), (-0.36, 0.8), (-0.55, 0.8))))
    s.bar(
        GREY,
        *s.where(
            s.chance(0.4),
            s.stroke((wide * 0.6, 0.2), (wide + 0.25, 0.82), width=0.03),
            s.stroke((-wide * 0.6, 0.2), (-wide - 0.25, 0.82), width=0.03),
        ),
    )


def tent_ridge(s: Sketch) -> None:
    """Seen aslant: the front and one slope."""
    peak = s.between(-0.6, -0.4)
    s.part(s.tone(0.8), s.polygon((-0.35, peak), (0.7, peak + 0.05), (1.15, 0.6), (0.3, 0.72)))
    s.part(s.main, s.polygon((-0.35, peak), (0.32, 0.72), (-1.0, 0.72)))
    s.mark(s.tone(0.35), s.polygon((-0.35, peak + 0.25), (-0.1, 0.72), (-0.6, 0.72)))
    s.bar(BROWN, s.stroke((-0.35, peak - 0.08), (-0.35, peak + 0.25), width=0.05))
