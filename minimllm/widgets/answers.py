"""What the widgets of lessons 11 and 12 share: a picture and a request, and under them what each model answers, as it writes it."""

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
from PIL import Image
from torch import nn

from minimllm import figures
from minimllm.figures.page import CSS_DPI
from minimllm.inference.chat import chat

REQUESTS = ("What is this?", "Where would you find this?", "What is this used for?", "Why do people like this?", "Write a poem about this.")
WIDE = {"style": {"description_width": "9em"}, "layout": {"width": "32em", "max_width": "100%"}}


class Answers(ipywidgets.VBox):
    """A request, a button, and the answers of several models beside each other. A subclass has the picture.

    The kernel writes the answers, one model after the other; interrupting it ends the one that is being written.

    Attributes:
        answers: what each model said last, by its name.
        outdated: whether the picture or the request has changed since.
        error: what the reader is told went wrong; empty when nothing did.
        replied: the models that came to the end of their answers, which may be empty.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        tokenizer: Any,
        requests: Sequence[str],
        max_new_tokens: int,
        above: Sequence[ipywidgets.Widget],
    ):
        self.models, self.tokenizer, self.max_new_tokens = checked_models(models, tokenizer), tokenizer, max_new_tokens
        self.answers, self.outdated, self.error = dict.fromkeys(models, ""), False, ""
        self.replied: set[str] = set()
        self.menu = ipywidgets.Dropdown(options=list(requests), description="Request", **WIDE)
        self.field = ipywidgets.Text(description="Or your own", placeholder="empty: the one above", continuous_update=False, **WIDE)
        self.button = ipywidgets.Button(description="Ask", button_style="primary")
        self.trouble = ipywidgets.HTML()
        self.panels = {name: ipywidgets.HTML(layout={"flex": "1 1 18em", "min_width": "14em"}) for name in models}
        for panel in self.panels.values():
            panel.add_class("minimllm-answer")
        below = ipywidgets.HBox(list(self.panels.values()), layout={"flex_flow": "row wrap", "max_width": "54em"})
        super().__init__([*above, self.menu, self.field, self.button, self.trouble, below])
        for control in (self.menu, self.field):
            control.observe(lambda _: self.outdate(), "value")
        self.button.on_click(lambda _: self.ask())
        self._show()

    @property
    def request(self) -> str:
        """What the models are asked: what stands in the field, or else in the menu."""
        return self.field.value.strip() or self.menu.value

    def picture(self) -> Image.Image:
        """What the models see."""
        raise NotImplementedError

    def shown_to(self, name: str) -> list[Image.Image]:
        """The pictures that come before the request to this model."""
        return [self.picture()]

    def told(self) -> str:
        """What the picture shows, in words."""
        raise NotImplementedError

    def image(self) -> str:
        """The picture on the page, for readers without a kernel."""
        return image_of(self.picture(), self.told())

    def ask(self) -> dict[str, str]:
        """Ask each model in turn, show its answer as it is written, and give all of them back."""
        self.answers, self.outdated, self.error, self.replied = dict.fromkeys(self.models, ""), False, "", set()
        self._lock(True)
        try:
            for name, model in self.models.items():
                self._show(writing=name)

                def grow(piece: str, name: str = name) -> None:
                    self.answers[name] += piece
                    self._show(writing=name)

                pictures = self.shown_to(name)
                content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": self.request}]
                messages = [{"role": "user", "content": content}]
                chat(model, self.tokenizer, messages, pictures or None, self.max_new_tokens, grow)
                self.replied.add(name)
        except KeyboardInterrupt:
            self.error = "stopped"
        except ValueError as error:
            self.error = str(error)
        finally:
            self._lock(False)
            self._show()
        return dict(self.answers)

    def outdate(self) -> None:
        """Mark the answers as those to another picture or request."""
        self.outdated = self.outdated or bool(self.replied) or any(self.answers.values())
        self._show()

    def _lock(self, locked: bool) -> None:
        for control in (self.menu, self.field, self.button):
            control.disabled = locked

    def _answer(self, name: str, writing: bool = False) -> str:
        silent = "<em>no word</em>" if name in self.replied and not self.answers[name] else ""
        text = html.escape(self.answers[name]) + (" ▌" if writing else silent)
        faded = "opacity:0.4;" if self.outdated else ""
        return (
            f'<div style="{faded}background:#F7E7DA;margin:2px 4px 2px 0;padding:4px 8px;white-space:pre-wrap;line-height:1.4">'
            f"<b>{html.escape(name)}:</b> {text}</div>"
        )

    def _show(self, writing: str | None = None) -> None:
        for name, panel in self.panels.items():
            panel.value = f'<div aria-live="polite">{self._answer(name, name == writing)}</div>'
        self.trouble.value = self._trouble()

    def _trouble(self) -> str:
        asked, hint = self.replied or any(self.answers.values()), ""
        if self.outdated or not asked:
            before = " The answers are those to the picture or the request of before: ask again." if self.outdated else ""
            hint = f"“{html.escape(self.request)}” has not been asked yet.{before}"
        error = f'<p role="alert" style="color:#B34700">{html.escape(self.error)}</p>' if self.error else ""
        return error + (f'<p style="color:#595959">{hint}</p>' if hint else "")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget, and for readers without a kernel the picture, the request and the answers as they stand."""
        bundle = super()._repr_mimebundle_(**options)
        said = "".join(self._answer(name) for name in self.models)
        shown = f"{self.image()}<p>“{html.escape(self.request)}”</p>{self._trouble()}"
        bundle["text/html"] = f'{shown}<div style="max-width:54em">{said}</div><em>Run this cell to choose, to draw and to ask.</em>'
        told = "; ".join(f"{name}: {text}" for name, text in self.answers.items() if text)
        bundle["text/plain"] = f"{self.told()} “{self.request}” {told or 'not asked yet'}"
        return bundle


def checked_models(models: Mapping[str, nn.Module], tokenizer: Any) -> dict[str, nn.Module]:
    """The models by name; a ``ValueError`` unless all see pictures, and the tokenizer has a chat template."""
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"expected models by name, such as {{'unified': model}}, got {models!r:.80}")
    for name, model in models.items():
        if getattr(model, "image_token_id", None) is None:
            raise ValueError(f"{name!r} is a {type(model).__name__}, which sees no pictures; give a multimodal model of the course")
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(f"this {type(tokenizer).__name__} has no chat template; give the tokenizer of a model that was trained to chat")
    return dict(models)


def image_of(picture: Image.Image, alt: str, side: int = 256) -> str:
    """The picture as an ``<img>`` whose longer side takes so many pixels on the page; its own pixels stay visible."""
    scale = max(1, side // max(picture.size))
    buffer = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(buffer, "PNG")
    tag = figures.image_tag(buffer.getvalue(), alt, CSS_DPI)
    return f'<div style="display:inline-block;line-height:0;border:1px solid {figures.PALE}">{tag}</div>'
