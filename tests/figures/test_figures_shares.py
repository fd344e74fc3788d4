"""Bars of shares: what they show, and what they refuse."""

import pytest

from minimllm import figures


def test_bars_show_names_shares_intervals_and_chance():
    intervals = [(0.0, 0.2), (0.6, 0.8), (0.1, 0.3)]
    figure = figures.bars(["a", "b", "c"], [0.1, 0.7, 0.2], intervals=intervals, chance=[0.5, 0.5, 0.1], title="shares")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.7, 0.2]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert {text.get_text() for text in axes.texts} == {"10.0%", "70.0%", "20.0%"}
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first name stands on top"
    assert "chance" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_largest_bar_stands_out():
    first, second, _ = (bar.get_facecolor() for bar in figures.bars(["a", "b", "c"], [0.1, 0.7, 0.2]).axes[0].patches)
    assert first != second


@pytest.mark.parametrize("shares", [[0.5], [0.5, 1.5], [float("nan"), 0.1]])
def test_bars_refuse_what_is_no_share(shares):
    with pytest.raises(ValueError, match="2 names need as many shares"):
        figures.bars(["a", "b"], shares)


def test_what_the_tick_means_can_be_said():
    figure = figures.bars(["a", "b"], [0.1, 0.7], chance=[0.5, 0.5], chance_name="blind")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["blind"]
