"""Figures of tiles: the grid that is chosen is framed, tiles lie where they should, masks are coloured where something may be seen."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from minimllm import cross_attention_mask, figures
from minimllm.figures import PICTURE_COLOURS
from minimllm.models.llama_vision.tiles import arrangements

PICTURE = torch.rand(3, 42, 64, generator=torch.Generator().manual_seed(0))


def boxes(axes, colour: str) -> list[Rectangle]:
    return [patch for patch in axes.patches if np.allclose(patch.get_edgecolor()[:3], to_rgb(colour))]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("size", "rows", "columns", "new"),
    [((420, 640), 1, 2, (420, 640)), ((640, 420), 2, 1, (640, 420)), ((150, 300), 1, 1, (280, 560)), ((3000, 3000), 2, 2, (1120, 1120))],
)
def test_a_picture_lies_at_the_top_left_of_its_numbered_tiles(size, rows, columns, new):
    axes = figures.tiling(PICTURE, size=size, empty=True).axes[0]
    tiles = boxes(axes, figures.ORANGE)
    assert [tile.get_xy() for tile in tiles] == [(column, row) for row in range(rows) for column in range(columns)]
    assert texts(axes)[: rows * columns] == [str(number) for number in range(rows * columns)]
    left, right, bottom, top = axes.images[0].get_extent()
    assert (left, top) == (0, 0) and np.allclose((bottom * 560, right * 560), new)
    assert len(boxes(axes, figures.GREY)) == 4 - rows * columns


def test_left_over_tiles_are_drawn_only_where_asked_for():
    axes = figures.tiling(PICTURE, 32).axes[0]
    assert not boxes(axes, figures.GREY) and len(boxes(axes, figures.ORANGE)) == 4


def test_tiles_of_several_pictures_are_equally_large_and_stay_apart():
    shapes = [(30, 30), (42, 64), (40, 150), (30, 190), (64, 42), (108, 192), (150, 40), (190, 30)]
    figure = figures.tilings({str(shape): torch.rand(3, *shape) for shape in shapes}, 56)
    assert [axes.get_title("left").split("\n")[1] for axes in figure.axes] == [
        f"id {number}: {rows} × {columns}" for number, (rows, columns) in enumerate(arrangements(), start=1)
    ]
    figure.canvas.draw()
    places = [axes.get_window_extent() for axes in figure.axes]
    sides = [place.width / np.ptp(axes.get_xlim()) for place, axes in zip(places, figure.axes, strict=True)]
    assert np.allclose(sides, sides[0], rtol=0.02)
    assert not any(one.overlaps(other) for place, one in enumerate(places) for other in places[:place])
    assert all(figure.bbox.contains(*corner) for place in places for corner in place.corners())


@pytest.mark.parametrize(("size", "chosen"), [((420, 640), 1), ((150, 300), 0), ((3000, 3000), 5), ((100, 2000), 3), ((640, 420), 4)])
def test_the_choice_is_framed_and_every_scale_written(size, chosen):
    axes = figures.canvas_choice(PICTURE, size=size).axes[0]
    (frame,) = boxes(axes, figures.ORANGE)
    words = texts(axes)
    assert len(words) == 8 and words[0].startswith("1 × 1:") and words[-1].startswith("4 × 1:")
    bold = [place for place, text in enumerate(axes.texts) if text.get_fontweight() == "bold"]
    assert bold == [chosen] and frame.get_y() < 1 if chosen < 4 else frame.get_y() > 1
    shrinks = [text.get_color() == figures.GREY for text in axes.texts]
    assert shrinks == [float(word.split("×")[2].split()[0]) < 1 for word in words]


def test_equal_scales_are_marked():
    assert [word.endswith("=") for word in texts(figures.canvas_choice(PICTURE, size=(420, 640)).axes[0])] == [False] * 2 + [True] * 2 + [
        False
    ] * 4


def test_a_mask_is_coloured_where_a_token_sees_a_tile_and_hatched_where_there_is_none():
    words = ["<start>", "<|image|> A", "why", "<|image|> B", "?", "<pad>"]
    visible = cross_attention_mask(torch.tensor([[1, 9, 2, 9, 3, 0]]), [[4, 1]], 9)[0]
    tiles = [[PICTURE] * 4, [PICTURE]]
    axes = figures.picture_mask(visible, words, [4, 1], pictures=tiles, highlight=4).axes[0]
    seen = [patch for patch in axes.patches if patch.get_width() == patch.get_height() == 1 and not patch.get_hatch()]
    first = {patch.get_xy() for patch in seen if patch.get_x() < 4}
    assert first == {(tile, row) for tile in range(4) for row in (1, 2)}
    assert {patch.get_xy() for patch in seen} - first == {(4.6, row) for row in (3, 4, 5)}
    assert len([patch for patch in axes.patches if patch.get_hatch()]) == 3 and len(axes.images) == 5
    _, _, bottom, top = axes.images[0].get_extent()
    assert axes.images[0].origin == "upper" and top < bottom < 0, "above the matrix, whose rows count downwards, and upright"
    labels = {label.get_text(): label.get_color() for label in axes.get_yticklabels()}
    assert labels["<|image|> A"] == PICTURE_COLOURS[0] and labels["<|image|> B"] == PICTURE_COLOURS[1]
    assert boxes(axes, figures.INK)[0].get_y() == 4


def test_pictures_of_one_tile_have_short_names_and_no_numbers():
    visible = cross_attention_mask(torch.tensor([[9, 9]]), [[1, 1]], 9, max_tiles=1)[0]
    assert texts(figures.picture_mask(visible, ["<|image|> A", "<|image|> B"], [1, 1]).axes[0]) == ["A", "B"]
    visible = cross_attention_mask(torch.tensor([[9, 9]]), [[1, 1]], 9)[0]
    assert "picture B" in texts(figures.picture_mask(visible, ["<|image|> A", "<|image|> B"], [1, 1]).axes[0])


def test_a_text_without_pictures_has_a_mask_without_columns():
    axes = figures.picture_mask(torch.zeros(2, 0, 4), ["a", "word"], []).axes[0]
    assert not axes.patches and [label.get_text() for label in axes.get_yticklabels()] == ["a", "word"]


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 words and 1 pictures need a mask .* got \\(2, 4\\)"):
        figures.picture_mask(torch.zeros(2, 4), ["a", "word"], [1])


def test_features_are_coloured_by_their_state_and_numbered():
    axes = figures.feature_order([0, 0, 1, 2], [0, 1, 0, 0], ["output", "third", "seventh"]).axes[0]
    colours = [patch.get_facecolor() for patch in axes.patches[:4]]
    assert colours[0] == colours[1] != colours[2] != colours[3]
    assert texts(axes)[::2] == ["0", "1", "0", "0"] and texts(axes)[1::2] == ["0", "1", "2", "3"]
    assert [label.get_text() for label in axes.get_legend().get_texts()] == ["output", "third", "seventh"]
    with pytest.raises(ValueError, match="of 1 states"):
        figures.feature_order([0, 1], [0, 0], ["output"])


@pytest.mark.parametrize(
    ("options", "message"),
    [(dict(row=0), "row 0"), (dict(side=0.0), "side 0.0"), (dict(side=3.0), "width=7.2"), (dict(width=1.0), "width=1.0")],
)
def test_tilings_that_have_no_room_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        figures.tilings({"wide": torch.rand(3, 20, 90), "tall": torch.rand(3, 90, 20)}, 56, **options)


def test_tilings_of_nothing_are_refused():
    with pytest.raises(ValueError, match="0 pictures"):
        figures.tilings({})
