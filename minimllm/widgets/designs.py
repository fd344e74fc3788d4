"""Widget of lesson 08: what both designs cost."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from minimllm import figures
from minimllm.figures.designs import amount, design_cost
from minimllm.inspection.costs import Design
from minimllm.models.language_model_config import LanguageModelConfig

from .explorer import Explorer, explore, slider_at

QUANTITIES = {"reading": "To read", "word": "For one more word", "kept": "Kept, bfloat16"}


def design_explorer(
    decoders: Mapping[str, LanguageModelConfig],
    image_tokens: Sequence[int] = (4, 16, 64, 256, 576, 1024, 1600, 3200, 6404),
    text_tokens: Sequence[int] = (16, 64, 256, 1024, 4096),
    every: Sequence[int] = (1, 2, 4, 8),
) -> Explorer:
    """Lesson 08: choose a decoder, the tokens of picture and text, and how often a gated block comes, and see what both designs cost.

    ``decoders`` are the sizes that can be chosen; ``every``: a gated block with an MLP before every so many of a decoder's blocks.
    Multiply-adds are by the formulas of :class:`~minimllm.inspection.costs.Design`, bytes those in bfloat16.
    """

    def both(decoder: str, gated_block_every: int) -> dict[str, Design]:
        language = decoders[decoder]
        return {"unified": Design(language), "cross-attention": Design(language, max(1, language.layers // gated_block_every))}

    def draw(decoder: str, image_tokens: int, text_tokens: int, gated_block_every: int) -> Figure:
        designs = both(decoder, gated_block_every)
        figure, places = figures.placed(7.2, 2.9, *((0.6 + 2.4 * place, 0.5, 1.6, 2.05) for place in range(3)))
        for axes, (quantity, title) in zip(places, QUANTITIES.items(), strict=True):
            figures.design_costs(designs, quantity, text_tokens, at=image_tokens, bytes_per_number=2, title=title, axes=axes)
            axes.get_legend().remove()
            for height, (name, design) in zip((0.97, 0.87), designs.items(), strict=True):
                value = amount(design_cost(design, quantity, image_tokens, text_tokens, 2), "B" if quantity == "kept" else "")
                colour = figures.BLUE if name == "unified" else figures.VERMILION
                plate = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
                where = {"transform": axes.transAxes, "va": "top", "fontsize": 7.5, "fontweight": "bold"}
                axes.text(0.03, height, f"{name}: {value}", color=colour, bbox=plate, **where)
        return figure

    def alt(decoder: str, image_tokens: int, text_tokens: int, gated_block_every: int) -> str:
        designs = both(decoder, gated_block_every)
        costs = {name: [design_cost(design, each, image_tokens, text_tokens, 2) for each in QUANTITIES] for name, design in designs.items()}
        told = "; ".join(
            f"{name}: {amount(read)} multiply-adds to read, {amount(word)} for one more word, {amount(kept, 'B')} kept"
            for name, (read, word, kept) in costs.items()
        )
        gated = designs["cross-attention"].cross_layers
        return (
            f"Three curves each for the two designs over the number of image tokens, {decoder} with {gated} gated blocks, "
            f"a gated block every {gated_block_every}. At {image_tokens:,} image tokens and {text_tokens:,} text tokens: {told}."
        )

    controls = {
        "image_tokens": slider_at(image_tokens, 576 if 576 in image_tokens else image_tokens[0]),
        "text_tokens": slider_at(text_tokens, 64 if 64 in text_tokens else text_tokens[0]),
        "gated_block_every": slider_at(every, 4 if 4 in every else every[0]),
    }
    return explore(draw, alt, decoder=list(decoders), **controls)
