"""Widget of lesson 11: draw something yourself, and see what the encoder takes it for and what models answer about it."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import torch
import traitlets
from PIL import Image, ImageDraw
from torch import nn

from minimllm.data.pictures import as_picture, to_rgb
from minimllm.data.preprocessing import prepare_pictures
from minimllm.data.things import THINGS
from minimllm.models.vit import ViT

from .answers import REQUESTS, Answers
from .things import checked_requests

SIDE = 320  # of the canvas, in pixels
NAMED = 5  # guesses of the encoder that are shown


class Canvas(anywidget.AnyWidget):
    """A square to draw in with the pointer, or to lay a picture of one's own on.

    Attributes:
        picture: what is drawn, as a ``data:`` address of a PNG; empty: nothing. Set from either side.
        side: of the square, in pixels.
    """

    _esm = Path(__file__).with_name("canvas.js")
    picture = traitlets.Unicode().tag(sync=True)
    side = traitlets.Int(SIDE).tag(sync=True)

    def __repr__(self) -> str:
        return f"Canvas(side={self.side})"

    def image(self) -> Image.Image:
        """What is drawn, on white."""
        if not self.picture:
            return Image.new("RGB", (self.side, self.side), "white")
        data = self.picture.partition("base64,")[2]
        return to_rgb(Image.open(io.BytesIO(base64.b64decode(data))))

    def lay(self, picture: Image.Image) -> None:
        """Put a picture on the square, the whole of it, as large as it fits."""
        square = Image.new("RGB", (self.side, self.side), "white")
        scale = self.side / max(picture.size)
        small = to_rgb(picture).resize([max(1, round(scale * each)) for each in picture.size], Image.Resampling.BICUBIC)
        square.paste(small, ((self.side - small.width) // 2, (self.side - small.height) // 2))
        buffer = io.BytesIO()
        square.save(buffer, "PNG")
        self.picture = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class Drawing(Answers):
    """A canvas, what the encoder takes its picture for, and the answers. Made by ``draw_yourself``.

    Attributes:
        canvas: the :class:`Canvas`.
        names: the encoder's guesses with their probabilities, the likeliest first; empty while nothing is drawn.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        tokenizer: Any,
        encoder: ViT,
        things: Sequence[str],
        requests: Sequence[str],
        max_new_tokens: int,
        drawing: Image.Image,
    ):
        self.encoder, self.things, self.names = encoder, list(things), []
        self.canvas, self.seen, self.guesses = Canvas(), ipywidgets.HTML(), ipywidgets.HTML()
        self.guesses.add_class("minimllm-guesses")
        beside = ipywidgets.VBox([self.guesses, self.seen], layout={"margin": "0 0 0 1em"})
        above = ipywidgets.HBox([self.canvas, beside], layout={"flex_flow": "row wrap"})
        super().__init__(models, tokenizer, requests, max_new_tokens, [above])
        self.canvas.observe(lambda _: self._look(), "picture")
        self.canvas.lay(drawing)

    def picture(self) -> Image.Image:
        return self.canvas.image()

    def told(self) -> str:
        if not self.names:
            return "An empty canvas."
        guesses = ", ".join(f"{name} {share:.0%}" for name, share in self.names)
        return f"A drawing on a white square. The encoder takes it for: {guesses}."

    @torch.no_grad()
    def _look(self) -> None:
        """Name what is drawn now."""
        self.outdate()
        picture = self.picture()
        prepared = prepare_pictures(self.encoder, picture)
        blank = picture.convert("L").getextrema() == (255, 255)
        best = self.encoder(prepared)[0].softmax(dim=0).topk(min(NAMED, len(self.things)))
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        self.names = [] if blank else [(self.things[number], share) for number, share in found]
        bars = "".join(
            f'<tr><td>{html.escape(name)}</td><td style="width:9em;padding:0 0.6em"><div style="background:#0072B2;height:0.8em;'
            f'width:{100 * share:.1f}%"></div></td><td>{share:.0%}</td></tr>'
            for name, share in self.names
        )
        nothing = "<p>Draw something: it is named with each stroke.</p>"
        self.guesses.value = f"<b>The encoder takes it for</b>{f'<table>{bars}</table>' if bars else nothing}"
        size = " × ".join(map(str, prepared.shape[:1:-1]))
        tag = image_seen(prepared[0])
        self.seen.value = f"<b>What it sees</b>, {size} pixels<br>{tag}"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**options)
        bundle["text/html"] = bundle["text/html"].replace("<p>“", f"{self.guesses.value}<p>“", 1)
        return bundle


def image_seen(prepared: torch.Tensor) -> str:
    """A picture as it was prepared, its numbers stretched to [0, 1], as an ``<img>`` with visible pixels."""
    low, high = prepared.aminmax()
    buffer = io.BytesIO()
    as_picture((prepared - low) / (high - low).clamp(min=1e-6) if high > low else torch.ones_like(prepared)).save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    style = "width:128px;image-rendering:pixelated;border:1px solid #888888"
    return f'<img alt="The drawing in the few pixels that the encoder sees." style="{style}" src="data:image/png;base64,{source}">'


def stored_drawing(side: int = SIDE) -> Image.Image:
    """A house, as somebody might draw it with few strokes: what the canvas shows at first."""
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)

    def stroke(*places: tuple[float, float], colour: str = "#111111", width: float = 0.034) -> None:
        points = [(side * x, side * y) for x, y in places]
        pen.line(points, fill=colour, width=round(side * width), joint="curve")

    pen.polygon([(side * x, side * y) for x, y in ((0.14, 0.47), (0.5, 0.15), (0.87, 0.46))], fill="#d62728")
    stroke((0.24, 0.45), (0.23, 0.86), (0.78, 0.87), (0.77, 0.44))
    stroke((0.12, 0.48), (0.5, 0.14), (0.88, 0.47), (0.12, 0.48))
    stroke((0.42, 0.86), (0.42, 0.62), (0.57, 0.62), (0.57, 0.86), colour="#8b5a2b")
    stroke((0.64, 0.56), (0.72, 0.56), (0.72, 0.66), (0.64, 0.66), (0.64, 0.56), colour="#1f6fd6", width=0.02)
    return picture


def draw_yourself(
    models: Mapping[str, nn.Module],
    tokenizer: Any,
    encoder: ViT,
    things: Sequence[str] = THINGS,
    requests: Sequence[str] = REQUESTS,
    drawing: Image.Image | None = None,
    max_new_tokens: int = 60,
) -> Drawing:
    """Draw with the pointer, or lay a picture of your own on the canvas: the encoder names it with each stroke, the models answer if asked.

    A cell ends with it. Strokes are drawn by the page itself, while the kernel computes as well.

    Args:
        models, tokenizer, requests, max_new_tokens: as of ``thing_explorer``.
        encoder: whose logits are named, most of them shown by the ``NAMED`` likeliest.
        things: the names of its logits.
        drawing: what the canvas shows at first; ``None``: a house of a few strokes.

    Raises:
        ValueError: an encoder with another number of logits than names; and as ``thing_explorer``.
    """
    if encoder.config.classes != len(things):
        raise ValueError(f"the encoder has {encoder.config.classes} logits, and {len(things)} names were given for them")
    drawing = stored_drawing() if drawing is None else drawing
    return Drawing(models, tokenizer, encoder, things, checked_requests(requests), max_new_tokens, drawing)
