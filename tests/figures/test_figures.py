"""Figures: always an image with its text, in one style, refusing what they cannot draw."""

import base64
import io
import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image
from support import unchecked

from minimllm import figures
from minimllm.inspection.costs import layer_multiply_adds

PICTURE = torch.rand(3, 24, 36, generator=torch.Generator().manual_seed(0))
NUMBERS = np.arange(12).reshape(3, 4) - 5.0

DRAWINGS = {
    "picture": lambda: figures.picture(PICTURE, title="t"),
    "patch_grid": lambda: figures.patch_grid(PICTURE, 12, numbers=True, highlight=[1], title="t"),
    "patch_sequence": lambda: figures.patch_sequence(PICTURE, 4, title="t"),
    "matrix": lambda: figures.matrix(NUMBERS, title="t", row_title="r", column_title="c", colour_bar="b"),
    "confusion_matrix": lambda: figures.confusion_matrix(np.eye(3, dtype=int), ["a", "b", "c"], title="t"),
    "curves": lambda: figures.curves([1, 2], {"a": [1, 2], "b": ([2, 2], [1, 1], [3, 3])}, x_title="x", y_title="y", title="t"),
    "layer_cost": lambda: figures.layer_cost(196, 768),
    "attention_map": lambda: figures.attention_map(PICTURE, torch.ones(2, 3) / 6, title="t"),
    "position_similarity": lambda: figures.position_similarity(torch.randn(6, 5), (2, 3), title="t"),
}


class Page:
    """Collects what ``show`` would put on the page."""

    def __init__(self, monkeypatch):
        self.bundles = []
        monkeypatch.setattr(figures.page, "display", lambda bundle, raw: self.bundles.append(bundle))


def pixels(tag: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', tag)[1])))


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_return_a_figure_with_a_title_and_leave_matplotlib_alone(name):
    before, open_before = dict(matplotlib.rcParams), pyplot.get_fignums()
    figure = DRAWINGS[name]()
    assert isinstance(figure, Figure)
    assert any(axes.get_title(loc="left") for axes in figure.axes)
    assert dict(matplotlib.rcParams) == before and pyplot.get_fignums() == open_before
    assert len(figures.png(figure)) > 1000


@pytest.mark.parametrize("name", ["curves", "layer_cost", "matrix", "confusion_matrix", "position_similarity"])
def test_axes_are_labelled(name):
    axes = DRAWINGS[name]().axes[0]
    assert axes.get_xlabel() and axes.get_ylabel()


def test_show_emits_an_image_with_its_alternative_text_and_a_short_plain_text(monkeypatch):
    page = Page(monkeypatch)
    alt = 'Patches of "china", 3 < 4 & so on. ' * 5
    figures.show(DRAWINGS["patch_grid"](), alt)
    (bundle,) = page.bundles
    assert bundle["text/html"].startswith('<img alt="Patches of &quot;china&quot;, 3 &lt; 4 &amp; so on.')
    assert bundle["text/plain"].startswith("Figure: Patches of") and len(bundle["text/plain"]) < 120
    width, height = (int(re.search(rf'{side}="(\d+)"', bundle["text/html"])[1]) for side in ("width", "height"))
    file = pixels(bundle["text/html"])
    assert file.size == (pytest.approx(width * 1.5, abs=1), pytest.approx(height * 1.5, abs=1))


@pytest.mark.parametrize("alt", ["", "  ", 3])
def test_show_refuses_a_figure_without_alternative_text(alt):
    with unchecked(), pytest.raises(ValueError, match="alternative text"):
        figures.show(DRAWINGS["picture"](), alt)


def test_show_closes_the_figure(monkeypatch):
    Page(monkeypatch)
    figure = pyplot.figure()
    figures.show(figure, "nothing in it")
    assert figure.number not in pyplot.get_fignums()


def test_the_same_figure_gives_the_same_bytes_and_a_clean_ground():
    one, two = (figures.png(DRAWINGS["patch_grid"]()) for _ in range(2))
    assert one == two
    assert Image.open(io.BytesIO(one)).convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_source_shown_is_the_source(monkeypatch):
    page = Page(monkeypatch)
    figures.show_source(layer_multiply_adds)
    (bundle,) = page.bundles
    head = "`minimllm/inspection/costs.py` · `layer_multiply_adds`\n\n```python\ndef layer_multiply_adds("
    assert bundle["text/markdown"].startswith(head)
    assert "2 * tokens**2 * dim" in bundle["text/plain"]


def test_pictures_of_every_kind_become_the_same_array():
    array = (np.arange(4 * 6 * 3).reshape(4, 6, 3) * 3).astype(np.uint8)
    expected = array / 255
    for picture in (Image.fromarray(array), torch.tensor(expected).permute(2, 0, 1), array, expected):
        np.testing.assert_allclose(figures.as_array(picture), expected)
    assert figures.as_array(torch.rand(1, 5, 7)).shape == (5, 7, 3)


def test_patches_are_drawn_in_reading_order():
    """One colour per patch: the grid's picture and the sequence show the colours in the order of patchify."""
    from minimllm import patchify

    picture = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(1))
    tiles = figures.pictures._tiles(picture, 2).reshape(6, 2, 2, 3)
    np.testing.assert_allclose(tiles.transpose(0, 3, 1, 2).reshape(6, 12), patchify(picture[None], 2)[0].numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "draw, words",
    [
        (lambda: figures.picture(torch.rand(2, 3, 8, 8)), "one picture of a batch"),
        (lambda: figures.picture(np.zeros((3, 8, 8))), r"\(3, 8, 8\)"),
        (lambda: figures.patch_grid(PICTURE, 48), "24 × 36.*48 × 48"),
        (lambda: figures.patch_grid(PICTURE, 8), "24 × 36 pixels is not made of whole patches of 8 × 8"),
        (lambda: figures.patch_sequence(PICTURE, 9), "24 × 36 pixels is not made of whole patches of 9 × 9"),
        (lambda: figures.patch_grid(PICTURE, 0), "0 × 0"),
        (lambda: figures.matrix(np.zeros(3)), r"\(3,\)"),
        (lambda: figures.confusion_matrix(np.eye(3), ["a", "b"]), "2 names"),
        (lambda: figures.attention_map(PICTURE, np.ones(7)), r"\(7,\)"),
        (lambda: figures.position_similarity(np.ones((7, 4)), (2, 3)), "leave out the class token"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(draw, words):
    with unchecked(), pytest.raises(ValueError, match=words):
        draw()


def test_names_of_curves_do_not_lie_on_each_other():
    figure = figures.curves([0, 1], {"a": [0, 1], "b": [0, 1.0], "c": [0, 1.001]}, x_title="x", y_title="y")
    heights = sorted(text.xy[1] for text in figure.axes[0].texts)
    assert all(upper - lower > 0.07 for lower, upper in zip(heights, heights[1:], strict=False))


def test_several_drawings_stand_beside_each_other():
    drawings = (lambda axes: figures.picture(PICTURE, title="left", axes=axes), None, lambda axes: figures.matrix(NUMBERS, axes=axes))
    figure = figures.beside(*drawings, height=2, rows=2)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["left", ""]


def test_groups_colour_cells_by_what_they_belong_to():
    groups = np.array([[0, 0], [1, 0]])
    figure = figures.matrix([[7, 8], [9, 7]], groups=groups)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), groups)
    assert [text.get_text() for text in figure.axes[0].texts] == ["7", "8", "9", "7"]


def test_a_figure_that_is_a_cells_last_line_is_seen_with_its_titles_as_text():
    figure = figures.beside(
        lambda axes: figures.picture(PICTURE, title="a garden", axes=axes),
        lambda axes: figures.patch_grid(PICTURE, 12, title="and its <patches>", axes=axes),
        height=2,
    )
    tag = figure._repr_html_()
    assert tag.startswith('<img alt="A figure: a garden, and its &lt;patches&gt;"') and "base64" in tag
    assert 'alt="A figure: without a title"' in figures.picture(PICTURE)._repr_html_()


def test_show_takes_the_titles_where_a_learner_gives_no_text(monkeypatch):
    page = Page(monkeypatch)
    figures.show(figures.picture(PICTURE, title="mine"))
    assert 'alt="A figure: mine"' in page.bundles[0]["text/html"]


def test_where_many_patches_lie_side_by_side_only_the_ends_of_the_rows_have_numbers():
    few, many = (figures.patch_grid(np.zeros((4, width)), 1, numbers=True).axes[0].texts for width in (10, 11))
    assert [text.get_text() for text in few] == [str(place) for place in range(40)]
    assert [text.get_text() for text in many] == ["0", "10", "11", "21", "22", "32", "33", "43"]
    assert all(text.get_fontsize() >= 5 for text in many)
