"""The figure of a split picture: every sub-picture where its marker says, and the whole behind them."""

import numpy as np
import pytest
import torch

from minimllm import figures

PICTURE = torch.rand(3, 42, 64, generator=torch.Generator().manual_seed(0))


def squares(axes) -> list[tuple[float, float]]:
    return [patch.get_xy() for patch in axes.patches]


@pytest.mark.parametrize(("size", "rows", "columns"), [((427, 640), 3, 4), ((3000, 200), 4, 1), ((1, 1), 4, 4)])
def test_rows_of_sub_pictures_and_the_whole_last(size, rows, columns):
    axes = figures.splitting(PICTURE, size=size).axes[0]
    names = [text.get_text() for text in axes.texts]
    assert names == [f"row {row} col {column}" for row in range(1, rows + 1) for column in range(1, columns + 1)] + ["the whole"]
    places = np.array(squares(axes))
    assert np.allclose(places[:-1].reshape(rows, columns, 2)[..., 0], 1.12 * np.arange(columns))
    assert np.allclose(places[:-1].reshape(rows, columns, 2)[..., 1], 1.12 * np.arange(rows)[:, None])
    assert places[-1, 0] > places[:-1, 0].max() + 1 and len(axes.images) == rows * columns + 1


def test_each_sub_picture_shows_its_part():
    halves = torch.zeros(3, 20, 40)
    halves[:, :10, 20:], halves[:, 10:, :20] = 1.0, 0.5  # black white / grey black
    axes = figures.splitting(halves, 20, 40).axes[0]
    left, right = (np.asarray(image.get_array()) for image in axes.images[:2])
    assert left[5, 5].max() == 0 and 100 < left[-5, 5].min() < 150 and right[5, 5].min() == 255 and right[-5, 5].max() == 0
    whole = np.asarray(axes.images[-1].get_array())
    assert whole.shape[0] == whole.shape[1] and whole[5, -5].min() == 255 and whole[-5, -5].max() == 0


def test_what_is_not_split_is_one_square():
    for options in (dict(split=False), dict(longest_edge=512)):
        axes = figures.splitting(PICTURE, **options).axes[0]
        assert [text.get_text() for text in axes.texts] == ["the whole"] and squares(axes) == [(0, 0)]
