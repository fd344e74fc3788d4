"""The colours of the figures, as eyes see them that lack one kind of cone, and in grey: what is told by a colour can be told apart.

The three matrices are those of Machado, Oliveira and Fernandes (2009) for a cone that is lacking, on linear RGB; distances are of CIE
L*a*b* (1976), where a just noticeable one is about 2.
"""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from minimllm import COLOURS, PALETTE, figures
from minimllm.figures import page

ORDINARY = np.eye(3)
VISIONS = {
    "ordinary": ORDINARY,
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
LINES = ("BLUE", "VERMILION", "GREEN", "PURPLE", "ORANGE", "SKY", "INK")
APART = 15.0


def lab(colour, vision=ORDINARY) -> np.ndarray:
    """L*, a* and b* of a colour of matplotlib's, as this vision sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.clip(vision @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
    xyz = to_xyz @ linear / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def too_close(colours: dict[str, str], vision: np.ndarray) -> list[tuple[str, str]]:
    seen = {name: lab(colour, vision) for name, colour in colours.items()}
    return [(one, other) for one, other in itertools.combinations(seen, 2) if np.linalg.norm(seen[one] - seen[other]) < APART]


@pytest.mark.parametrize("vision", VISIONS.values(), ids=VISIONS)
def test_colours_of_lines_are_told_apart(vision):
    assert too_close({name: getattr(page, name) for name in LINES}, vision) == []


def test_colours_that_look_alike_to_some_are_found():
    """A red and a green of one lightness are one colour to two of the three, and far apart to the others."""
    alike = {"red": "#B05A4A", "green": "#6E6E3C"}
    assert [name for name, vision in VISIONS.items() if too_close(alike, vision)] == ["protanopia", "deuteranopia"]


def test_amounts_grow_darker_step_by_step_to_every_eye_and_in_grey():
    for vision in VISIONS.values():
        lightness = [lab(page.AMOUNT(share)[:3], vision)[0] for share in np.linspace(0, 1, 33)]
        assert np.all(np.diff(lightness) < -0.5) and lightness[0] - lightness[-1] > 60


def test_signs_are_pale_at_zero_and_told_apart_at_equal_distance_from_it():
    for vision in VISIONS.values():
        below, above = ([lab(page.SIGNED(0.5 + side * share)[:3], vision) for share in (0.15, 0.25, 0.35, 0.45)] for side in (-1, 1))
        assert all(np.linalg.norm(one - other) > APART for one, other in zip(below, above, strict=True))
        for side in (below, above):
            assert np.all(np.diff([lab("white")[0], *(colour[0] for colour in side)]) < 0)


def test_curves_are_told_apart_in_grey_by_their_dashes():
    """Seven colours are not seven greys; each curve has dashes of its own besides, the first none."""
    series = {f"curve {number}": [number, number + 1.5, number] for number in range(len(LINES))}
    lines = figures.curves([0, 1, 2], series, x_title="x", y_title="y").axes[0].get_lines()
    assert [line.get_color().lstrip("#").upper() for line in lines] == [getattr(page, name).lstrip("#") for name in LINES]
    dashes = [line._unscaled_dash_pattern for line in lines]
    assert len({str(each) for each in dashes}) == len(LINES) and dashes[0] == (0, None)


def test_a_curve_called_as_a_colour_has_that_colour_and_an_edge():
    """The word blue is not drawn in red."""
    lines = figures.curves([0, 1], {"white": [0, 1], "at": [1, 0], "blue": [1, 2]}, x_title="x", y_title="y").axes[0].get_lines()
    assert lines[0].get_color() == PALETTE[COLOURS.index("white")] and lines[2].get_color() == PALETTE[COLOURS.index("blue")]
    assert [len(line.get_path_effects()) for line in lines] == [2, 0, 2]
