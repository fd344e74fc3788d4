"""What every committed lesson must keep to, as a list of the ways in which a notebook does not.

nbval re-executes the lessons and compares what they print, but a lesson whose outputs were stripped has nothing to compare and passes
(its execution counts are null), and pictures are never compared. These rules close those gaps without running anything.
"""

import ast
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from minimllm.lessons import played, read_card
from minimllm.lessons.execution import LessonError

LARGEST = 1_500_000  # bytes
WIDEST = 100  # characters of a line of code: at 1,400 pixels a lesson's cell holds 105
# Lessons whose code still has longer lines, or unfolded drawings: take a lesson out when it is mended.
UNMENDED = {
    "03_clip",
    "10_real_weights",
}
MACHINE = re.compile(r"/site-packages/|/home/|/Users/|ipykernel_\d+")


class _Images(HTMLParser):
    """Collects the alternative text of each ``<img>``: ``None`` where there is none."""

    def __init__(self, text: str):
        super().__init__()
        self.alts: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.alts.append(dict(attrs).get("alt"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def parsed(source: str) -> ast.Module:
    """The cell as a syntax tree; IPython's own lines (%magic, !shell) are left out."""
    return ast.parse("\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))))


def shows_something(source: str) -> bool:
    """Whether the cell, when run, surely leaves an output: it prints or shows outside any branch, or ends in a value."""
    return _shows(parsed(source).body)


def _shows(body: list[ast.stmt]) -> bool:
    """The same of statements. What stands in a ``with`` block runs as surely as what stands outside, and an answer shows itself."""
    for statement in body:
        if isinstance(statement, ast.With):
            opened = [item.context_expr for item in statement.items]
            if any(_called(each) == "answer" for each in opened) or _shows(statement.body):
                return True
        elif isinstance(statement, ast.Expr) and _called(statement.value) in ("print", "show", "show_source", "display", "check"):
            return True
    values = (ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.BinOp, ast.Compare, ast.JoinedStr)
    return bool(body) and isinstance(body[-1], ast.Expr) and isinstance(body[-1].value, values)


def _called(node: ast.expr) -> str:
    """The last part of the name that is called, or nothing."""
    return getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""


def mostly_draws(source: str) -> bool:
    """Whether ten lines or more, and two thirds of the cell, stand in top-level statements that use ``figures``."""
    body = parsed(source).body
    drawing = [each for each in body if any(isinstance(node, ast.Name) and node.id == "figures" for node in ast.walk(each))]
    drawn, written = (sum(each.end_lineno - each.lineno + 1 for each in statements) for statements in (drawing, body))
    return drawn >= 10 and 3 * drawn >= 2 * written


def checks(notebook: NotebookNode) -> list[tuple[int, str]]:
    """The exercises' checks: number of the cell, and name of the exercise, of every ``check("name", ...)``."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.source.strip():
            for node in ast.walk(parsed(cell.source)):
                if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "check" and node.args:
                    if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                        found.append((index, node.args[0].value))
    return found


def execution_faults(notebook: NotebookNode) -> list[str]:
    """Executed top to bottom from a fresh kernel, without an error, outputs kept."""
    cells, faults = code_cells(notebook), []
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        faults.append(f"not executed top to bottom from a fresh kernel: the cells' counts are {counts}")
    for number, cell in enumerate(cells, 1):
        if any(output.output_type == "error" for output in cell.outputs):
            faults.append(f"code cell {number} holds an error")
        if not cell.outputs and shows_something(cell.source):
            faults.append(f"code cell {number} has no output although it shows something: outputs stripped?")
        for output in cell.outputs:
            texts = [output.get("text", ""), *(text for kind, text in output.get("data", {}).items() if kind.startswith("text/"))]
            if found := MACHINE.search("".join(texts)):
                faults.append(f"code cell {number} shows a place of the machine that ran it: {found[0]}")
    return faults


def picture_faults(notebook: NotebookNode) -> list[str]:
    """Every picture is an ``<img>`` with an alternative text that no other picture of the lesson has."""
    alts, faults = [], []
    for index, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            texts = [re.sub(r"!\[([^\]]*)\]\([^)]*\)", r'<img alt="\1">', cell.source)]
        else:
            texts = [output.get("data", {}).get("text/html", "") for output in cell.get("outputs", [])]
            for output in cell.get("outputs", []):
                kinds = output.get("data", {}).keys()
                if any(kind.startswith("image/") for kind in kinds) and "text/html" not in kinds:
                    faults.append(f"cell {index} shows a bare picture; show it with minimllm.figures.show(figure, alt=...)")
        for alt in (alt for text in texts for alt in _Images(text).alts):
            if not (alt or "").strip():
                faults.append(f"cell {index} has a picture without alternative text")
            elif alt.startswith("A figure: "):  # what minimllm.figures says for a learner who gives none
                faults.append(f"cell {index} shows a figure without saying in words what is seen in it: {alt!r}")
            elif alt in alts:
                faults.append(f"cell {index} repeats another picture's alternative text: {alt!r}")
            alts.append(alt)
    return faults


def layout_faults(notebook: NotebookNode) -> list[str]:
    """Lines of code that a page cannot hold, and drawings that stand open between the reader and the picture."""
    faults = []
    for number, cell in enumerate(code_cells(notebook), 1):
        if long := [line for line in cell.source.splitlines() if len(line) > WIDEST]:
            faults.append(f"code cell {number} has a line of {max(map(len, long))} characters, more than {WIDEST}: {max(long, key=len)!r}")
        if mostly_draws(cell.source) and not cell.metadata.get("jupyter", {}).get("source_hidden"):
            faults.append(f"code cell {number} mostly draws: fold it (metadata jupyter.source_hidden), what teaches in a cell of its own")
    return faults


def lesson_faults(path: Path) -> list[str]:
    """All that is wrong with a lesson's file as it is stored; an empty list when nothing is."""
    notebook = nbformat.read(path, as_version=4)
    faults = execution_faults(notebook) + picture_faults(notebook)
    if path.stem not in UNMENDED:
        faults += layout_faults(notebook)
    if path.stat().st_size > LARGEST:
        faults.append(f"{path.stat().st_size} bytes are more than {LARGEST}")
    try:
        card = read_card(notebook)
        if card.minutes is None or card.seconds is None:
            faults.append("the card has no times: run make lessons")
    except LessonError as error:
        faults.append(str(error))
    exercises = {}
    for index, name in checks(notebook):
        exercises.setdefault(name, index)
    short = [name for name in exercises if not name.startswith("build_")]  # what one builds oneself stands beside them
    if not 2 <= len(short) <= 4:
        faults.append(f"a lesson has two to four exercises with a check, this one {len(short)}")
    starts = [*exercises.values(), len(notebook.cells)]
    for (name, start), end in zip(exercises.items(), starts[1:], strict=True):
        following = "\n".join(cell.source for cell in notebook.cells[start:end] if cell.cell_type == "markdown")
        if not re.search(r"<details>.*?<summary>[^<]*[Ss]olution[^<]*</summary>.*?```.*?```.*?</details>", following, re.DOTALL):
            faults.append(f"exercise {name!r} has no folded solution (<details><summary>Solution...</summary>) after its check")
    if not played(notebook) and not any("minimllm.widgets" in cell.source for cell in code_cells(notebook)):
        faults.append("no widget from minimllm.widgets to play with")
    return faults
