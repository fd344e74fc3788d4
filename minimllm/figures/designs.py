"""What a picture costs in both designs, over the number of its tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from minimllm.inspection.costs import Design

from .page import BLUE, GREEN, GREY, PURPLE, VERMILION, own_axes, style

QUANTITIES = {
    "reading": "multiply-adds to read picture and text",
    "word": "multiply-adds for one word written",
    "kept": "bytes of keys and values kept",
}
COLOURS = (BLUE, VERMILION, GREEN, PURPLE)


def design_cost(design: Design, quantity: str, image_tokens: int, text_tokens: int, bytes_per_number: int = 4) -> int:
    """One of the ``QUANTITIES`` of a design. ``ValueError`` for another."""
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {', '.join(QUANTITIES)}, got {quantity!r}")
    if quantity == "kept":
        return design.cache_bytes(image_tokens, text_tokens, bytes_per_number)
    count = design.multiply_adds if quantity == "reading" else design.next_word_multiply_adds
    return count(image_tokens, text_tokens).total


@style()
def design_costs(
    designs: Mapping[str, Design],
    quantity: str,
    text_tokens: int,
    *,
    at: int | None = None,
    measured: Mapping[str, tuple[Sequence[int], Sequence[float]]] | None = None,
    bytes_per_number: int = 4,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """One of the ``QUANTITIES`` of each design over the number of image tokens, by the formulas; the axes are logarithmic.

    A word's cost is drawn from 0 on an even axis: the designs differ there by a quarter, which a logarithmic axis hides.

    ``at`` marks a number of image tokens; ``measured`` holds for each design's name numbers of image tokens and what was measured there.
    """
    axes = own_axes(axes, 4.4, 3.4)
    x = np.unique(np.geomspace(1, 10_000, 80).round().astype(int))
    even = quantity == "word"
    axes.set(xscale="log", yscale="linear" if even else "log", xlabel="image tokens", xlim=(1, 10_000))
    if at is not None:
        axes.axvline(at, color=GREY, linewidth=1, linestyle=":")
    ends = []
    for (name, design), colour in zip(designs.items(), COLOURS, strict=False):
        values = [design_cost(design, quantity, int(count), text_tokens, bytes_per_number) for count in x]
        axes.plot(x, values, color=colour, label=name)
        if at is not None:
            axes.plot(at, design_cost(design, quantity, at, text_tokens, bytes_per_number), "o", color=colour)
        if measured is not None and name in measured:
            axes.plot(*measured[name], "o", color=colour, markerfacecolor="white", markeredgewidth=1.6)
        ends += [values[0], values[-1]]
    low, high = np.floor(np.log10(min(ends))), np.ceil(np.log10(max(ends)) + 0.3)
    axes.set_ylim(*((0, 1.5 * max(ends)) if even else (10**low, 10**high)))
    axes.xaxis.set_major_locator(FixedLocator([1, 10, 100, 1000, 10_000]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: amount(float(count))))
    if not even:
        axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(int(low), int(high) + 1)]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: amount(float(count), "B" if quantity == "kept" else "")))
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.legend(loc="upper left", frameon=False)
    axes.set_title(title or QUANTITIES[quantity])
    return axes.figure


def amount(count: float, unit: str = "") -> str:
    """A count in three digits: ``6.98 G``; of bytes, ``210 MB``."""
    for size, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {name}{unit}"
    return f"{count:.0f} {unit}".strip()
