"""The bars of what a process holds are as long as the formula says, one behind the other."""

import pytest

from minimllm import Spread, figures


def test_bars_stand_for_the_bytes():
    spreads = {"one": Spread(1000), "four": Spread(1000, 4), "four, spread": Spread(1000, 4, True)}
    axes = figures.held(spreads, most=20_000, title="held").axes[0]
    for part, bars in zip(figures.HELD, axes.containers, strict=True):
        assert bars.get_label() == part
        assert [bar.get_width() for bar in bars] == [spread.held()[part] for spread in spreads.values()]
    first, second, third = ([bar.get_x() for bar in bars] for bars in axes.containers)
    assert first == [0, 0, 0] and second == [4000, 4000, 1000] and third == [8000, 8000, 2000]
    assert [text.get_text() for text in axes.texts] == ["16 kB", "16 kB", "4 kB"]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(spreads)
    assert [line.get_xdata()[0] for line in axes.lines] == [20_000] and axes.get_xlim()[1] == pytest.approx(1.16 * 20_000)
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "from the top down"
