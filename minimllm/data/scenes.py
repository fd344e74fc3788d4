"""The generated world: scenes of coloured shapes with known ground truth, drawn, described and asked about. Start here.

    world = scenes(64, seed=0, split="train")         # what is where: minimllm.data.world
    images = render(world, size=32)                    # (64, 3, 32, 32) in [0, 1]: minimllm.data.rendering
    captions(world)                                    # 64 sentences: minimllm.data.captioning
    questions(world)                                   # per scene (question, answer, kind): minimllm.data.asking

A scene holds one or more objects, each with a shape, a colour, a size and a place. Everything is a pure function of a seed, and nothing
of a scene depends on the batch it stands in.
"""

from minimllm.data.asking import KINDS, Questions, in_pictures, questions, sample_questions
from minimllm.data.captioning import DETAILS, captions, describe
from minimllm.data.composing import changed, compose, in_reading_order, join, spread
from minimllm.data.other_rendering import render_differently
from minimllm.data.rendering import PALETTE, render, render_canvas
from minimllm.data.stream import draw_ahead
from minimllm.data.words import COLOURS, SHAPES, SIZES, WORDS, places
from minimllm.data.world import SPLITS, Scenes, held_out_pairs, pair_names, pairs_of, scenes

__all__ = [
    "COLOURS",
    "DETAILS",
    "KINDS",
    "PALETTE",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "WORDS",
    "Questions",
    "Scenes",
    "captions",
    "changed",
    "compose",
    "describe",
    "draw_ahead",
    "held_out_pairs",
    "in_pictures",
    "in_reading_order",
    "join",
    "pair_names",
    "pairs_of",
    "places",
    "questions",
    "render",
    "render_canvas",
    "render_differently",
    "sample_questions",
    "scenes",
    "spread",
]
