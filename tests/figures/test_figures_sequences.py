"""Figures of sequences: a box for every token, what is scored below it, and masks in the colours of what is seen."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from minimllm import figures

WORDS = ["<start>", torch.rand(3, 4, 4), "what", "is", "?", "red", "<end>"]
ROLES = ["start", "picture", "question", "question", "question", "answer", "answer"]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_every_token_has_a_box_and_every_scored_one_its_label():
    labels = ["red" if role == "answer" else "" for role in ROLES]
    figure = figures.token_row(WORDS, ROLES, labels, title="a row")
    axes = figure.axes[0]
    assert len(axes.patches) == len(WORDS) and len(axes.images) == 1
    written = texts(axes)
    assert written.count("·") == 5 and written.count("red") == 3 and "a row" in written
    assert [label.get_text() for label in axes.get_legend().get_texts()] == ["start", "picture", "question", "answer"]


def test_a_long_row_is_broken_into_lines_that_stay_on_the_page():
    figure = figures.token_row(["triangle"] * 30, ["question"] * 30, width=5.0)
    boxes = figure.axes[0].patches
    assert max(box.get_x() + box.get_width() for box in boxes) <= 5.0
    assert len({round(box.get_y(), 3) for box in boxes}) > 3


def test_a_mask_shows_white_where_nothing_may_be_seen_and_else_the_role_of_what_is_seen():
    attend = torch.ones(3, 3, dtype=torch.bool).tril()
    figure = figures.attention_mask(attend, ["a", "b", "c"], ["start", "picture", "question"], highlight=1)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert (shown[0, 1:] == 1).all() and (shown[1, 2] == 1).all()
    assert np.allclose(shown[2, 1], 1 - 0.75 * (1 - np.array(to_rgb(figures.ROLES["picture"]))))
    assert np.allclose(shown[1, 0], shown[2, 0])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="7 tokens need as many roles and labels, got 6 and no"):
        figures.token_row(WORDS, ROLES[:-1])
    with pytest.raises(ValueError, match="unknown role 'noun'"):
        figures.token_row(["dog"], ["noun"])
    with pytest.raises(ValueError, match="2 tokens need a mask of 2 × 2"):
        figures.attention_mask(torch.ones(3, 3), ["a", "b"], ["start", "start"])
