"""Widget of lesson 10: a conversation with a language model, whose answer appears as it is written."""

import asyncio
import html
from typing import Any

import ipywidgets
from torch import nn

from minimllm.inference.chat import chat as reply

NAMES = {"system": "system", "user": "you", "assistant": "model"}
COLOURS = {"system": "#E8E8E8", "user": "#DCEBF5", "assistant": "#F7E7DA"}  # as the roles in the figures, pale
PATIENCE = 0.3  # seconds: a field tells first that Enter was pressed and then, if it changed, its text


class Chat(ipywidgets.VBox):
    """A text field, a system prompt and a temperature under a conversation. Made by ``chat``.

    The kernel writes the answer, so what is typed while it is busy with a cell waits until that cell has ended, and cells wait for the
    answer. Interrupting the kernel ends an answer where it is.

    Attributes:
        messages: the conversation so far, as transformers writes it, without the system prompt.
        error: what the reader is told went wrong with the last message; empty when nothing did.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, system: str, temperature: float, max_new_tokens: int):
        self.model, self.tokenizer, self.max_new_tokens = model, tokenizer, max_new_tokens
        self.messages: list[dict[str, str]] = []
        self.error = ""
        wide = {"style": {"description_width": "9em"}, "layout": {"width": "46em", "max_width": "100%"}}
        self.system = ipywidgets.Text(system, description="System prompt", placeholder="empty: the template's own", **wide)
        self.temperature = ipywidgets.FloatSlider(temperature, min=0, max=1.5, step=0.1, description="Temperature", **wide)
        self.field = ipywidgets.Text(description="Message", placeholder="Enter or the button sends it", continuous_update=False, **wide)
        self.button, self.fresh = ipywidgets.Button(description="Send"), ipywidgets.Button(description="Start over")
        self.shown = ipywidgets.HTML()
        self.shown.add_class("minimllm-chat")
        super().__init__([self.system, self.temperature, self.shown, self.field, ipywidgets.HBox([self.button, self.fresh])])
        self.entered = False
        self.field.on_msg(self._on_message)
        self.field.observe(lambda _: self._send_typed() if self.entered else None, "value")
        self.button.on_click(lambda _: self._send_typed())
        self.fresh.on_click(lambda _: self.start_over())
        self._show()

    def ask(self, text: str) -> str:
        """Send a message, show the answer as it is written, and give it back."""
        self.messages.append({"role": "user", "content": text})
        self.error = written = ""

        def grow(piece: str) -> None:
            nonlocal written
            written += piece
            self._show(written + " ▌")

        self._show("▌")
        system = [{"role": "system", "content": self.system.value}] if self.system.value.strip() else []
        told = {"temperature": self.temperature.value, "max_new_tokens": self.max_new_tokens, "on_text": grow}
        try:
            reply(self.model, self.tokenizer, [*system, *self.messages], **told)
        except KeyboardInterrupt:
            self.error = "stopped"
        except ValueError as error:
            self.error = str(error)
        if written:
            self.messages.append({"role": "assistant", "content": written})
        else:  # two messages of the user's in a row would be a conversation that no model has learned
            self.messages.pop()
        self._show()
        return written

    def start_over(self) -> None:
        """An empty conversation."""
        self.messages, self.error = [], ""
        self._show()

    def _on_message(self, _field: ipywidgets.Text, content: dict[str, Any], _buffers: Any) -> None:
        """Enter: the text is sent as it comes; if none comes, it is the one that is here already."""
        if content.get("event") == "submit":
            self.entered = True
            asyncio.get_running_loop().call_later(PATIENCE, lambda: self._send_typed() if self.entered else None)

    def _send_typed(self) -> None:
        self.entered = False
        if text := self.field.value.strip():
            self.field.value = ""
            for control in (self.field, self.button, self.fresh):
                control.disabled = True
            try:
                self.ask(text)
            finally:
                for control in (self.field, self.button, self.fresh):
                    control.disabled = False
                self.field.focus()

    def _conversation(self, writing: str | None = None) -> str:
        """The messages as HTML, with the beginning of an answer that is being written."""
        said = [*self.messages, *([] if writing is None else [{"role": "assistant", "content": writing}])]
        if self.system.value.strip():
            said = [{"role": "system", "content": self.system.value}, *said]
        rows = "".join(
            f'<p style="background:{COLOURS[each["role"]]};margin:2px 0;padding:4px 8px;white-space:pre-wrap;line-height:1.4">'
            f"<b>{NAMES[each['role']]}:</b> {html.escape(each['content'])}</p>"
            for each in said
        )
        trouble = f'<p role="alert" style="color:#B34700">{html.escape(self.error)}</p>' if self.error else ""
        return f'<div style="max-width:54em">{rows}{trouble}</div>'

    def _show(self, writing: str | None = None) -> None:
        self.shown.value = f'<div aria-live="polite">{self._conversation(writing)}</div>'

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget, and for readers without a kernel the conversation so far."""
        bundle = super()._repr_mimebundle_(**options)
        hint = "Run this cell to go on with the conversation."
        caption = f"Temperature {self.temperature.value:g}, at most {self.max_new_tokens} tokens an answer. {hint}"
        bundle["text/html"] = f"{self._conversation()}<em>{caption}</em>"
        told = "; ".join(f"{NAMES[each['role']]}: {each['content']}" for each in self.messages)
        bundle["text/plain"] = f"Chat: {told or 'nothing said yet'}"
        return bundle


def chat(model: nn.Module, tokenizer: Any, system: str = "", temperature: float = 0.0, max_new_tokens: int = 120) -> Chat:
    """A conversation with a model: type, press Enter or the button, and the answer appears as it is written. A cell ends with it.

    Args:
        model: a language model of the course.
        tokenizer: its own, of transformers, with a chat template.
        system: what the system prompt holds at first; empty: the template's own.
        temperature: where the slider stands at first, 0 to 1.5.
        max_new_tokens: longest answer.

    Raises:
        ValueError: a tokenizer without a chat template.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(f"this {type(tokenizer).__name__} has no chat template; give the tokenizer of a model that was trained to chat")
    return Chat(model, tokenizer, system, temperature, max_new_tokens)
