"""The colours of the drawn things: those with a name, of which a thing's own is one, and those that all things of a kind have."""

import numpy as np

COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "grey", "white")
"""What a thing's own colour may be."""

PALETTE = np.array(
    [
        (0.87, 0.17, 0.18),
        (0.96, 0.55, 0.13),
        (0.98, 0.82, 0.20),
        (0.36, 0.68, 0.25),
        (0.20, 0.47, 0.82),
        (0.55, 0.30, 0.72),
        (0.96, 0.60, 0.70),
        (0.56, 0.36, 0.22),
        (0.18, 0.18, 0.20),
        (0.60, 0.62, 0.64),
        (0.95, 0.95, 0.93),
    ]
)
"""Red, green and blue of each of ``COLOURS``."""
OTHER_PALETTE = np.array(
    [
        (0.72, 0.10, 0.28),
        (0.98, 0.64, 0.36),
        (0.90, 0.86, 0.42),
        (0.10, 0.52, 0.42),
        (0.12, 0.30, 0.62),
        (0.68, 0.46, 0.86),
        (0.98, 0.46, 0.62),
        (0.66, 0.48, 0.36),
        (0.24, 0.20, 0.28),
        (0.70, 0.68, 0.74),
        (0.99, 0.96, 0.88),
    ]
)
"""The same for the hand that never trains anything."""

INK, WHITE, CREAM = (0.12, 0.12, 0.14), (0.98, 0.98, 0.97), (0.98, 0.90, 0.72)
PINK, RED, ORANGE, YELLOW = (0.95, 0.62, 0.66), (0.86, 0.18, 0.18), (0.96, 0.58, 0.14), (0.98, 0.80, 0.22)
GREEN, LEAF, BLUE, SKY = (0.38, 0.66, 0.26), (0.24, 0.52, 0.20), (0.22, 0.46, 0.78), (0.66, 0.86, 0.96)
BROWN, WOOD, TAN, GREY, STEEL, DARK = (
    (0.45, 0.28, 0.17),
    (0.68, 0.46, 0.26),
    (0.88, 0.70, 0.46),
    (0.56, 0.58, 0.60),
    (0.76, 0.79, 0.82),
    (0.28, 0.29, 0.32),
)
