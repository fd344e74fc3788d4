"""``explore`` makes a widget of any drawing function."""

import contextlib
import html
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from minimllm import figures

Draw = Callable[..., Figure]
Alt = str | Callable[..., str]
Hover = Callable[..., Sequence[tuple[float, float, float, float, str]]]
LIVE_DPI = 120  # a little coarser than a still figure, so that a slider is followed without delay


def _control(name: str, given: Any) -> ipywidgets.Widget:
    """The control for a shorthand, with its name in words: see ``explore``."""
    options: dict = {"description": name.replace("_", " ").capitalize(), "style": {"description_width": "9em"}}
    if isinstance(given, ipywidgets.Widget):
        if not hasattr(given, "value"):
            raise ValueError(f"control {name!r} is a {type(given).__name__}, which has no value; give an ipywidgets control with one")
        given.description = given.description or options["description"]
        given.style.description_width = "9em"
        return given
    if isinstance(given, bool):
        return ipywidgets.Checkbox(given, indent=True, **options)
    if isinstance(given, str):
        return ipywidgets.Text(given, continuous_update=True, layout={"width": "32em"}, **options)
    if isinstance(given, tuple) and len(given) in (2, 3) and all(isinstance(end, int | float) for end in given):
        slider = ipywidgets.FloatSlider if any(isinstance(end, float) for end in given) else ipywidgets.IntSlider
        low, high, *step = given
        steps = {"step": step[0]} if step else {}
        return slider(value=low, min=low, max=high, layout={"width": "32em"}, **steps, **options)
    if isinstance(given, Mapping) and given:
        if None in given.values():
            raise ValueError(f"control {name!r} has the value None, by which a menu means that nothing is chosen; give it another value")
        return ipywidgets.Dropdown(options=list(given.items()), layout={"width": "32em"}, **options)
    if isinstance(given, list | range) and given:
        if all(isinstance(option, int | float) for option in given):
            return ipywidgets.SelectionSlider(options=list(given), layout={"width": "32em"}, **options)
        return ipywidgets.Dropdown(options=list(given), layout={"width": "32em"}, **options)
    raise ValueError(
        f"control {name!r} cannot be made of {given!r}: expected an ipywidgets control, (low, high) or (low, high, step), "
        "a list of options, a mapping from labels to values, True or False, or a text"
    )


def _row(control: ipywidgets.Widget) -> ipywidgets.Widget:
    """The control; a field that answers only when Enter is pressed says so beside it."""
    if not isinstance(control, ipywidgets.Text) or control.continuous_update:
        return control
    if not control.placeholder.strip("\u200b"):  # ipywidgets' word for none
        control.placeholder = "Type, and press Enter"
    hint = ipywidgets.HTML('<span style="color:#595959">Enter answers</span>')
    return ipywidgets.HBox([control, hint], layout={"flex_flow": "row wrap"})


def _stops(control: ipywidgets.Widget) -> list:
    """Every value that a control can take; of a text, the one it has."""
    if hasattr(control, "options"):
        return [option[1] if isinstance(option, tuple) else option for option in control.options]
    if isinstance(control, ipywidgets.Checkbox):
        return [False, True]
    if hasattr(control, "step"):
        count = round((control.max - control.min) / control.step)
        return [type(control.value)(control.min + stop * control.step) for stop in range(count + 1)]
    return [control.value]


class Explorer(ipywidgets.VBox):
    """Controls above a picture that ``draw`` makes of their values. Made by ``explore``."""

    def __init__(self, draw: Draw, alt: Alt, controls: Mapping[str, ipywidgets.Widget], hover: Hover | None = None):
        self._draw, self._alt, self._hover, self._paused = draw, alt, hover, False
        self.controls = dict(controls)
        self.picture = ""  # the last picture that was drawn, an HTML <img>, under it the places that answer the pointer
        self._tallest = (1, 0)  # width and height of the tallest picture so far, in CSS pixels
        self._error, self._shown = ipywidgets.HTML(), ipywidgets.HTML()
        self._shown.add_class("minimllm-picture")
        super().__init__([*map(_row, self.controls.values()), self._error, self._shown])
        for control in self.controls.values():
            control.observe(self._redraw, "value")
        self._redraw()

    @property
    def values(self) -> dict[str, Any]:
        """What each control stands at."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def error(self) -> str:
        """What the reader is told went wrong; empty when the picture is up to date."""
        return self._error.value

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A ``with`` block in which controls are changed and nothing is redrawn."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def set(self, **values: Any) -> None:
        """Move several controls and redraw once."""
        with self.paused():
            for name, value in values.items():
                self.controls[name].value = value
        self._redraw()

    def sweep(self, most: int = 5000) -> Iterator[dict[str, Any]]:
        """Move the controls through every combination of their values, redrawing each, and give the values; then restore them.

        ``ValueError`` if there are more than ``most`` combinations: coarser steps are kinder to the reader, too.
        """
        start, stops = self.values, {name: _stops(control) for name, control in self.controls.items()}
        count = int(np.prod([len(values) for values in stops.values()]))
        if count > most:
            raise ValueError(f"{count} combinations of controls are more than {most}: give the controls fewer stops")
        for combination in itertools.product(*stops.values()):
            self.set(**dict(zip(stops, combination, strict=True)))
            yield self.values
        self.set(**start)

    def _redraw(self, _change: Any = None) -> None:
        if self._paused:
            return
        values = self.values
        try:
            alt = self._alt(**values) if callable(self._alt) else self._alt
            with figures.style():
                self.picture = figures.image_tag(figures.png(self._draw(**values), LIVE_DPI), alt, LIVE_DPI)
            if self._hover:
                self.picture = _with_hints(self.picture, self._hover(**values))
        except Exception as error:
            told = html.escape(f"{type(error).__name__}: {error}")
            self._error.value = f'<p role="alert" style="color:#B34700"><b>The picture is out of date.</b> Drawing failed: {told}</p>'
            self._shown.value = f'<div style="opacity:0.3">{self._in_place()}</div>'
            raise
        self._error.value, self._shown.value = "", self._in_place()

    def _in_place(self) -> str:
        """The picture, with at least the room that the tallest one took: a smaller one must not let the page below jump."""
        if size := re.search(r'<img [^>]*width="(\d+)" height="(\d+)"', self.picture):
            self._tallest = max(self._tallest, (int(size[1]), int(size[2])), key=lambda size: size[1])
        width, height = self._tallest
        return f'<div style="max-width:{width}px;aspect-ratio:{width}/{height}">{self.picture}</div>' if height else self.picture

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget, and for readers without a kernel the same picture as a still."""
        standing = ", ".join(f"{name.replace('_', ' ')} {_words(control)}" for name, control in self.controls.items())
        bundle = super()._repr_mimebundle_(**options)
        caption = f"Still picture: {html.escape(standing)}. Run this cell to move the controls."
        bundle["text/html"] = f"{self._error.value}{self.picture}<br><em>{caption}</em>"
        bundle["text/plain"] = f"Explorer at {standing}"
        return bundle


def _with_hints(picture: str, hints: Sequence[tuple[float, float, float, float, str]]) -> str:
    """The picture under boxes that show a text where the pointer rests; they are placed in shares of the picture, and scale with it."""
    boxes = "".join(
        f'<span title="{html.escape(text)}" style="position:absolute;left:{100 * left:.2f}%;top:{100 * top:.2f}%;'
        f'width:{100 * width:.2f}%;height:{100 * height:.2f}%"></span>'
        for left, top, width, height, text in hints
    )
    return f'<div style="position:relative;display:inline-block;line-height:0;max-width:100%">{picture}{boxes}</div>'


def _words(control: ipywidgets.Widget) -> str:
    return str(getattr(control, "label", None) or control.value)


def explore(draw: Draw, alt: Alt, *, hover: Hover | None = None, **controls: Any) -> Explorer:
    """A picture that follows its controls: ``explore(draw, alt="...", patch_size=[8, 16, 32], picture=["china", "flower"])``.

    Args:
        draw: called with the value of every control by name; returns a matplotlib ``Figure``. It should depend on nothing else.
        alt: what the picture shows, in words; or a function of the controls' values that says it.
        hover: a function of the controls' values to the texts that appear under the pointer, each with its place in the picture:
            ``(left, top, width, height, text)``, in shares of the whole. ``draw`` must then place its axes itself (``figures.placed``).
        controls: each an ipywidgets control, or a shorthand: ``(low, high)`` or ``(low, high, step)`` for a slider, a list of numbers
            for a slider over just these, a list of texts or a mapping from labels to values for a menu, ``True``/``False`` for a
            tick box, a text for a field to type in.

    Raises:
        ValueError: without controls or alternative text, or for a control that is none of these; and whatever the first drawing raises.
    """
    if not controls:
        raise ValueError("a widget needs at least one control: give each argument of draw by name")
    if not callable(alt) and (not isinstance(alt, str) or not alt.strip()):
        raise ValueError(f"a widget needs an alternative text that says in words what it shows, got alt={alt!r}")
    return Explorer(draw, alt, {name: _control(name, given) for name, given in controls.items()}, hover)


def slider_at(stops: Sequence[float], start: float) -> ipywidgets.SelectionSlider:
    stops = list(stops)
    value = start if start in stops else stops[len(stops) // 2]
    return ipywidgets.SelectionSlider(options=stops, value=value, layout={"width": "32em"})
