"""Everyday things, drawn: pictures in which one thing stands, whose name a language model knows. Start here.

    shown = things(64, seed=0, split="train")          # what is in each picture: minimllm.data.things.truth
    render_things(shown)                               # (64, 3, 64, 64) in [0, 1]: minimllm.data.things.drawing
    shown.names                                        # ["owl", "ice cream", ...]

Each thing is drawn by a function of a few lines, of polygons, with proportions that differ from picture to picture. Everything is a pure
function of a seed. Three hands draw: ``first`` for training, ``pen`` and ``paper`` only to test what was learned from it.
"""

from minimllm.data.things.catalogue import THINGS
from minimllm.data.things.drawing import render_things
from minimllm.data.things.paints import COLOURS
from minimllm.data.things.truth import GROUNDS, HANDS, SPLITS, STYLES, Things, pairs_of, things

__all__ = ["COLOURS", "GROUNDS", "HANDS", "SPLITS", "STYLES", "THINGS", "Things", "pairs_of", "render_things", "things"]
