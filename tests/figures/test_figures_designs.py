"""The figure of both designs' costs: its curves are the formulas, its marks what was measured."""

import numpy as np
import pytest
from support import unchecked

from minimllm import LanguageModelConfig, figures
from minimllm.figures.designs import QUANTITIES, design_cost
from minimllm.inspection.costs import Design

LANGUAGE = LanguageModelConfig.tiny(60)
DESIGNS = {"unified": Design(LANGUAGE), "cross-attention": Design(LANGUAGE, 2)}


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_curves_are_the_formulas_and_marks_the_measurements(quantity):
    measured = {"unified": ([4, 16], [1e6, 2e6])}
    axes = figures.design_costs(DESIGNS, quantity, 64, at=256, measured=measured).axes[0]
    curves = {line.get_label(): line for line in axes.lines if line.get_label() in DESIGNS}
    assert curves.keys() == DESIGNS.keys()
    for name, design in DESIGNS.items():
        x, y = curves[name].get_data()
        assert x[0] == 1 and x[-1] == 10_000
        assert np.array_equal(y, [design_cost(design, quantity, int(count), 64) for count in x])
    marks = [line.get_data() for line in axes.lines if line.get_marker() == "o"]
    assert sorted(len(x) if np.ndim(x) else 1 for x, _ in marks) == [1, 1, 2], "one at 256 for each design, two measured"
    assert axes.get_title(loc="left") == QUANTITIES[quantity]


def test_what_a_quantity_is():
    design = DESIGNS["cross-attention"]
    assert design_cost(design, "reading", 16, 64) == design.multiply_adds(16, 64).total
    assert design_cost(design, "word", 16, 64) == design.next_word_multiply_adds(16, 64).total
    assert design_cost(design, "kept", 16, 64, 2) == design.cache_bytes(16, 64, 2)
    with unchecked(), pytest.raises(ValueError, match="'price'"):
        design_cost(design, "price", 16, 64)


@pytest.mark.parametrize(
    "count, unit, words", [(6_979_584_000, "", "6.98 G"), (209_846_272, "B", "210 MB"), (12, "", "12"), (999, "B", "999 B")]
)
def test_amounts_in_three_digits(count, unit, words):
    assert figures.amount(count, unit) == words
