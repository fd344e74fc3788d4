"""Figures of pictures beside sentences."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from minimllm import figures
from minimllm.data.words import SHAPES

PICTURES = list(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
TEXTS = ["a red star", "a blue ring", "a green cross", "a white heart"]
KINDS = np.array([[0, 1, 2, 3], [1, 0, 3, 3], [2, 3, 0, 3], [3, 3, 3, 0]])

DRAWINGS = {
    "gallery": lambda: figures.gallery(PICTURES, TEXTS, columns=3),
    "similarity": lambda: figures.similarity(torch.eye(4), pictures=PICTURES, texts=TEXTS, title="t", frame_pairs=True),
    "targets": lambda: figures.targets(KINDS, pictures=PICTURES, texts=TEXTS, title="t"),
    "embedding_map": lambda: figures.embedding_map(
        torch.randn(16, 2, generator=torch.Generator().manual_seed(1)), SHAPES * 2, ["#0072B2"] * 16, [False] * 8 + [True] * 8, title="t"
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_they_are_drawn_with_titles_the_same_every_time(name):
    figure = DRAWINGS[name]()
    assert isinstance(figure, Figure)
    assert any(axes.get_title(loc="left") for axes in figure.axes)
    assert figures.png(figure) == figures.png(DRAWINGS[name]())


def test_every_picture_of_a_gallery_is_under_its_name():
    figure = DRAWINGS["gallery"]()
    assert [axes.get_title(loc="left") for axes in figure.axes] == TEXTS


def test_sentences_stand_over_their_columns_and_pairs_are_framed():
    axes = DRAWINGS["similarity"]().axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == TEXTS
    corners = [patch.get_xy() for patch in axes.patches]
    assert corners == [(place - 0.5, place - 0.5) for place in range(4)]


def test_cells_of_a_batch_say_what_they_are():
    axes = DRAWINGS["targets"]().axes[0]
    written = np.array([text.get_text() for text in axes.texts]).reshape(4, 4)
    assert (written[KINDS == 0] == "1").all() and (written[KINDS == 1] == "·").all() and (written[KINDS > 1] == "0").all()
    assert {text.get_text() for text in axes.get_legend().get_texts()} == set(figures.TARGETS.values())


def test_every_shape_of_the_world_has_a_mark_of_its_own():
    assert set(figures.MARKS) == set(SHAPES)
