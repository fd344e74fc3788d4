"""What each of several processes holds of a model that they train together."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from minimllm.inspection.training_costs import Spread

from .designs import amount
from .page import BLUE, ORANGE, SKY, own_axes, style

HELD = {"weights": BLUE, "gradients": ORANGE, "moments": SKY}


@style()
def held(spreads: Mapping[str, Spread], *, title: str = "", most: float | None = None, axes: Axes | None = None) -> Figure:
    """A bar for each, from the top down: the bytes of weights, gradients and AdamW's two moments in one process, and their sum in words.

    ``most`` marks the memory of a device, in bytes.
    """
    axes = own_axes(axes, 6.4, 1.3 + 0.34 * len(spreads))
    sums = [0.0] * len(spreads)
    for part, colour in HELD.items():
        sizes = [spread.held()[part] for spread in spreads.values()]
        axes.barh(range(len(sums)), sizes, left=sums, height=0.62, color=colour, label=part)
        sums = [left + size for left, size in zip(sums, sizes, strict=True)]
    for row, total in enumerate(sums):
        axes.annotate(amount(total, "B"), (total, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    if most is not None:
        axes.axvline(most, color="black", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(spreads)), list(spreads))
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.16 * max(*sums, most or 0, 1)), ylim=(len(spreads) - 0.5, -0.5), xlabel="bytes in each process")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: amount(size, "B") if size else "0"))
    axes.xaxis.get_major_locator().set_params(nbins=5)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, borderaxespad=0.1)
    axes.set_title(title, pad=24)
    return axes.figure
