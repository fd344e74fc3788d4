"""Predictions: buttons for a guess, and an answer that opens when the guess is there."""

import contextlib
import html
from collections.abc import Iterator, Mapping
from typing import Any

import ipywidgets
from IPython import get_ipython
from IPython.display import display
from IPython.utils.capture import RichOutput, capture_output

Choice = str | int | float
Row = list[str] | tuple[int, int]


class Prediction(ipywidgets.VBox):
    """A row of buttons, or a field for a number, for each thing that is to be guessed. Made by ``predict``.

    Attributes:
        guesses: what has been guessed so far, by row.
    """

    def __init__(self, rows: Mapping[str, Row]):
        self.rows, self.guesses = dict(rows), {}
        self._answer: Answer | None = None
        self.buttons: dict[str, dict[str, ipywidgets.Button]] = {}
        self.fields: dict[str, ipywidgets.BoundedIntText] = {}
        self._told = ipywidgets.HTML()
        super().__init__([*(self._row(name, row) for name, row in self.rows.items()), self._told])
        self._tell()

    def _row(self, name: str, row: Row) -> ipywidgets.Widget:
        label = ipywidgets.HTML(f"<b>{html.escape(_label(name))}</b>")
        label.layout.min_width = "8em"
        if isinstance(row, tuple):
            field = ipywidgets.BoundedIntText(row[0], min=row[0], max=row[1], layout={"width": "8em"})
            button = ipywidgets.Button(description="That is my guess", layout={"width": "auto"})
            button.on_click(lambda _: self.guess(name, field.value))
            self.fields[name], self.buttons[name] = field, {"": button}
            controls = [field, button]
        else:
            self.buttons[name] = {choice: ipywidgets.Button(description=choice, layout={"width": "auto"}) for choice in row}
            for choice, button in self.buttons[name].items():
                button.on_click(lambda _, choice=choice: self.guess(name, choice))
            controls = list(self.buttons[name].values())
        return ipywidgets.HBox([label, *controls], layout={"flex_flow": "row wrap", "align_items": "center"})

    @property
    def complete(self) -> bool:
        """Whether every row has its guess."""
        return set(self.guesses) == set(self.rows)

    def guess(self, name: str, choice: Choice) -> None:
        """What a click does: note the guess of a row; with the last one, the answer opens. A later guess replaces an earlier one."""
        self.guesses[name] = choice
        for each, button in self.buttons[name].items():
            button.button_style = "info" if each in (str(choice), "") else ""
        self._tell()
        if self._answer is not None:
            self._answer.tell()

    @contextlib.contextmanager
    def answer(self, right: Choice | None = None, remarks: Mapping[str, str] | None = None, **rows: Choice) -> Iterator[None]:
        """A ``with`` block whose figures and prints are the answer: shown when the guess is there, or when the lesson goes on without one.

        Where the cell that holds it is run by Run All, the next cell opens it. For readers without a kernel it is folded.

        Args:
            right: the right choice; computed, so that the cell does not give it away.
            remarks: what else is to be said, by choice, to whom has made it.
            rows: in place of ``right``, where there are several rows: the right choice of each, by name.

        Raises:
            ValueError: for names that are not those of the rows, and for a choice that was not offered.
        """
        rights = rows if right is None else {**rows, "": right}
        if set(rights) != set(self.rows):
            raise ValueError(f"the rows to be guessed are {list(self.rows)}, got an answer for {list(rights)}")
        for name, choice in rights.items():
            if isinstance(self.rows[name], list) and choice not in self.rows[name]:
                raise ValueError(f"the answer {choice!r} is not among the choices {self.rows[name]}")
        with capture_output(stderr=False) as captured:
            yield
        if self._answer is not None:
            self._answer.close()
        self._answer = Answer(self, rights, remarks or {}, _as_html(captured.outputs, captured.stdout), captured.stdout)
        self._tell()
        display(self._answer)

    def _tell(self) -> None:
        if not self.complete:
            self._told.value = ""
        else:
            guessed = ", ".join(f"{_label(name)}: {choice}" for name, choice in self.guesses.items())
            where = "The answer comes when you run on." if self._answer is None else "The answer is below."
            self._told.value = f'<span role="status">{html.escape(guessed)}. {where}</span>'

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget, and for readers without a kernel what there is to choose from."""
        rows = [f"{_label(name)}: {_offered(row)}" for name, row in self.rows.items()]
        bundle = super()._repr_mimebundle_(**options)
        lines = "<br>".join(map(html.escape, rows))
        bundle["text/html"] = f"{lines}<br><em>Choose in your mind, or run this cell and choose by its buttons.</em>"
        bundle["text/plain"] = "Predict. " + "; ".join(rows)
        return bundle


class Answer(ipywidgets.VBox):
    """The answer to a prediction: hidden until the guess is there, or until the next cell runs; it speaks to the guess."""

    def __init__(self, prediction: Prediction, rights: Mapping[str, Choice], remarks: Mapping[str, str], shown: str, text: str):
        self.prediction, self.rights, self.remarks, self._content, self.text = prediction, rights, remarks, shown, text
        self.opened = prediction.complete
        self._shown = ipywidgets.HTML()
        self._button = ipywidgets.Button(description="Show the answer", layout={"width": "auto", "align_self": "flex-start"})
        self._button.on_click(lambda _: self.reveal())
        super().__init__([self._shown, self._button])
        self.tell()
        if shell := get_ipython():
            shell.events.register("pre_run_cell", self._go_on)

    @property
    def verdict(self) -> str:
        """What is said to the guesses, in words."""
        return " ".join(self._spoken(name, right) for name, right in self.rights.items())

    def _spoken(self, name: str, right: Choice) -> str:
        guess = self.prediction.guesses.get(name)
        about = f"{_label(name)}: " if name else ""
        if guess is None:
            words = f"{about}{right}."
        elif isinstance(self.prediction.rows[name], tuple):
            off = abs(guess - right)
            words = f"{about}you guessed {guess}. It is {right:g}" + (": right." if off < 0.5 else f", off by {off:g}.")
        else:
            words = f"{about}you guessed {guess}. " + ("Right." if guess == right else f"It is: {right}.")
        words = words[:1].upper() + words[1:]
        remark = self.remarks.get(str(guess), "")
        return f"{words} {remark}" if remark else words

    def reveal(self) -> None:
        """Show the answer, guess or no guess."""
        self.opened = True
        self.tell()

    def tell(self) -> None:
        """Bring what is shown up to date with the guesses."""
        self.opened = self.opened or self.prediction.complete
        if self.opened:
            self._shown.value = f'<div class="minimllm-answer"><p role="status"><b>{html.escape(self.verdict)}</b></p>{self._content}</div>'
        else:
            self._shown.value = "<em>The answer is here when you have guessed above.</em>"
        self._button.layout.display = "none" if self.opened else ""

    def close(self) -> None:
        self._forget()
        super().close()

    def _go_on(self, *_: Any) -> None:
        """The next cell runs: whoever goes on without a guess wants to see."""
        self._forget()
        if not self.opened:
            self.reveal()

    def _forget(self) -> None:
        if shell := get_ipython():
            with contextlib.suppress(ValueError):
                shell.events.unregister("pre_run_cell", self._go_on)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget, and for readers without a kernel the answer, folded."""
        bundle = super()._repr_mimebundle_(**options)
        verdict = " ".join(self._spoken_to_nobody(name, right) for name, right in self.rights.items())
        bundle["text/html"] = f"<details><summary>The answer</summary><p><b>{html.escape(verdict)}</b></p>{self._content}</details>"
        bundle["text/plain"] = f"The answer. {verdict}\n{self.text}".rstrip()
        return bundle

    def _spoken_to_nobody(self, name: str, right: Choice) -> str:
        words = f"{_label(name)}: {right}." if name else f"{right}."
        return words[:1].upper() + words[1:]


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize() or "Your guess"


def _offered(row: Row) -> str:
    return f"a number from {row[0]} to {row[1]}" if isinstance(row, tuple) else " · ".join(row)


def _as_html(outputs: list[RichOutput], printed: str) -> str:
    """What a cell has displayed and printed: first the pictures, then the text."""
    parts = []
    for output in outputs:
        data = output.data or {}
        parts.append(data.get("text/html") or f"<pre>{html.escape(data.get('text/plain', ''))}</pre>")
    if printed.strip():
        style = "white-space:pre;overflow-x:auto;font-family:monospace;line-height:1.35"
        parts.append(f'<pre style="{style}">{html.escape(printed.rstrip())}</pre>')
    return "".join(parts)


def predict(*choices: str, **rows: list[str] | tuple[int, int]) -> Prediction:
    """Buttons for a guess, to be made before the answer is known: ``guess = predict("more", "less"); guess``.

    The cell that knows the answer says ``with guess.answer("less"): ...``.

    Args:
        choices: what can be guessed, where there is one thing to guess.
        rows: where there are several: by name, a list of choices, or ``(lowest, highest)`` for a whole number that is typed.

    Raises:
        ValueError: without anything to choose from.
    """
    if bool(choices) == bool(rows):
        raise ValueError('say what can be guessed: either predict("more", "less") or predict(count=(0, 100), kind=["more", "less"])')
    found: dict[str, Row] = {"": list(choices)} if choices else {}
    for name, row in rows.items():
        found[name] = (row[0], row[1]) if isinstance(row, tuple) else [str(choice) for choice in row]
        if len(row) < 2:
            raise ValueError(f"{name} offers {row!r}: a guess needs two choices or more, or (lowest, highest)")
    if choices and len(choices) < 2:
        raise ValueError(f"a guess needs two choices or more, got {choices!r}")
    return Prediction(found)
