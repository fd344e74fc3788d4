"""Widget of lesson 13: what several processes hold and send while they train a model."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from minimllm import figures
from minimllm.figures.designs import amount
from minimllm.inspection.training_costs import Spread

from .explorer import Explorer, explore, slider_at

WAYS = {"whole in each (DDP)": False, "spread over all (FSDP)": True}
FORMATS = {"float32, 4 bytes": 4, "bfloat16, 2 bytes": 2}


def process_explorer(
    models: Mapping[str, int | tuple[int, int]], processes: Sequence[int] = (1, 2, 4, 8, 16, 64, 256), device_bytes: float = 80e9
) -> Explorer:
    """Lesson 13: choose a model and how many processes train it, and see what each of them holds and sends, in both ways.

    Args:
        models: how many parameters each has, or that and how many of them learn.
        processes: the numbers that can be chosen.
        device_bytes: the memory of a device, for a mark.
    """

    def both(model: str, processes: int, numbers: int) -> dict[str, Spread]:
        size = models[model]
        parameters, learning = size if isinstance(size, tuple) else (size, size)
        return {name: Spread(parameters, processes, way, learning, bytes_per_number=numbers) for name, way in WAYS.items()}

    def draw(model: str, processes: int, numbers: int) -> Figure:
        spreads = both(model, processes, numbers)
        figure, (axes,) = figures.placed(7.2, 2.5, (1.9, 0.55, 4.7, 0.9))
        sent = " and ".join(amount(spread.sent(), "B") for spread in spreads.values())
        lines = f"{model}, {processes} {'process' if processes == 1 else 'processes'}\nsent by each in a step: {sent}"
        figures.held(spreads, title=lines, most=device_bytes, axes=axes)
        axes.set_title(lines, loc="left", x=-0.38, pad=24)
        return figure

    def alt(model: str, processes: int, numbers: int) -> str:
        parts = {
            name: [f"{part} {amount(size, 'B')}" for part, size in spread.held().items()] + [f"{amount(spread.sent(), 'B')} sent in a step"]
            for name, spread in both(model, processes, numbers).items()
        }
        told = "; ".join(f"{name}: {', '.join(each)}" for name, each in parts.items())
        return f"Two bars: what each of {processes} processes holds that train {model} in numbers of {numbers} bytes. {told}."

    return explore(draw, alt, model=list(models), processes=slider_at(processes, 8), numbers=FORMATS)
