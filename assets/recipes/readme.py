"""Draws ``assets/world.png``, the README's look at the generated world: ``python assets/recipes/readme.py``."""

import textwrap

from minimllm import (
    captions,
    figures,
    questions,
    render,
    scenes,
)

KINDS = ("where", "comparison", "exists", "count_colour")


def world():
    """Four scenes, each with its caption and one question about it."""
    drawn = scenes(4, seed=3, split="train", objects=(2, 4))
    pictures, sentences, asked = render(drawn, size=224), captions(drawn), questions(drawn)

    def panel(i):
        question, answer, _ = next(q for q in asked[i] if q[2] == KINDS[i])

        def draw(axes):
            figures.picture(pictures[i], axes=axes)
            text = f"{textwrap.fill(sentences[i], 36)}\n\n{textwrap.fill(question, 36)}\n→ {answer}"
            text = text.replace(" ,", ",").replace(" ?", "?")  # the world's sentences have spaces there, for the tokenizer
            axes.text(0, -0.04, text, transform=axes.transAxes, va="top", fontsize=8, linespacing=1.35)

        return draw

    return figures.beside(*(panel(i) for i in range(4)), width=9.6, height=4.0)


if __name__ == "__main__":
    path = figures.ASSETS / "world.png"
    path.write_bytes(figures.png(world()))
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
