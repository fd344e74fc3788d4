"""Every lesson in a real JupyterLab in a real Chromium: it runs to its end, and each control of each widget, moved to its ends by the
keyboard, changes what is shown; no cell, no widget and no page tells of an error.

The trainings are cut to a few steps by ``MINIMLLM_STEPS``, and what the lessons assert of trained models is left out of the copies:
nbval, which runs them whole, has that part. ``make browser`` opens all of them, ``make test`` two.
"""

import ast
import time

import nbformat
import pytest
from browsing import BROKEN, CELLS, FINISHED, RUN_ALL, in_browser, open_notebook, running_lab, screenshot
from nbformat import NotebookNode

from minimllm.lessons import lesson_files

STEPS = "8"
SOME = ("01_patches", "09_llama_vision")  # the two that train nothing, or little
LESSONS = [pytest.param(file, id=file.stem, marks=[] if file.stem in SOME else [pytest.mark.long]) for file in lesson_files()]
HARMLESS = ("favicon", "net::ERR_", "Failed to load resource")  # the network is denied, and nothing that a lesson shows needs it

# What a widget shows, without its controls: its pictures, and the words that it writes.
OUTPUTS = ".jp-OutputArea-output:has(.jupyter-widgets)"
SHOWN = """output => [...output.querySelectorAll('img')].map(image => image.src).concat(
  [...output.querySelectorAll('.widget-html-content, .jp-RenderedText')].map(words => words.innerHTML)).join('|')"""
DIFFERS = f"([output, before]) => ({SHOWN})(output) !== before"
CONTROLS = ".noUi-handle, select, input[type=checkbox], input[type=radio], .widget-toggle-button"
AT = """control => control.getAttribute('aria-valuetext') ?? (control.tagName === 'SELECT' ? control.selectedIndex : control.checked)"""

pytestmark = in_browser


def to_be_opened(lesson: NotebookNode) -> NotebookNode:
    """The lesson as if never run, without what it asserts."""
    for cell in lesson.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count, cell.source = [], None, without_asserts(cell.source)
    return lesson


def without_asserts(source: str) -> str:
    """The source with each assertion replaced by ``pass``, which keeps the lines and the indentation of the others."""
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n"))
    lines = source.split("\n")
    asserted = [node for node in ast.walk(ast.parse(plain)) if isinstance(node, ast.Assert)]
    for node in sorted(asserted, key=lambda node: -node.lineno):
        before = lines[node.lineno - 1].encode()[: node.col_offset].decode()
        after = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
        lines[node.lineno - 1 : node.end_lineno] = [f"{before}pass{after}"]
    return "\n".join(lines)


def ends(control) -> list:
    """What moves a control to its first and its last position, and back: a function for each step."""
    kind = control.evaluate("control => control.tagName + (control.type ?? '') + control.className")
    if "noUi-handle" in kind:
        return [lambda: control.press("End"), lambda: control.press("Home")]
    if kind.startswith("SELECT"):
        last = control.evaluate("control => control.options.length - 1")
        return [lambda: control.select_option(index=last), lambda: control.select_option(index=0)]
    return [lambda: control.press("Space")] * 2


def move(page, output, control, seconds: float = 20) -> bool:
    """To both ends; whether what the widget shows changed on the way, once the control itself did."""
    changed = False
    for step in ends(control):
        shown, at = output.evaluate(SHOWN), control.evaluate(AT)
        control.scroll_into_view_if_needed()
        control.focus()
        step()
        if control.evaluate(AT) != at:
            until = time.monotonic() + seconds
            while not (now := page.evaluate(DIFFERS, [output, shown])) and time.monotonic() < until and not changed:
                time.sleep(0.1)
            changed = changed or now
    return changed


def settled(page) -> None:
    page.wait_for_function("() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'", timeout=120_000)


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_runs_and_each_control_changes_what_is_shown(lesson, tmp_path, page):
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda told: said.append(told.text) if told.type == "error" else None)
    with running_lab(tmp_path, MINIMLLM_STEPS=STEPS) as (address, root):
        copy = to_be_opened(nbformat.read(lesson, as_version=4))
        nbformat.write(copy, root / "notebooks" / lesson.name)
        open_notebook(page, address, lesson.name)
        assert page.evaluate(RUN_ALL)
        page.wait_for_function(FINISHED, timeout=900_000)
        cells = page.evaluate(CELLS)
        assert [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"] == []
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        settled(page)
        widgets = page.locator(OUTPUTS).element_handles()
        assert len(widgets) >= 1, "a lesson has a widget"
        still = []
        for number, output in enumerate(widgets):
            controls = [control for control in output.query_selector_all(CONTROLS) if control.is_visible() and control.is_enabled()]
            for place, control in enumerate(controls):
                if not move(page, output, control):
                    still.append(f"control {place} of widget {number}")
                settled(page)
            assert "Error" not in output.inner_text()
        screenshot(page, lesson.stem)
        assert still == [], "controls that change nothing"
        assert page.evaluate(BROKEN) == [], "pictures that could not be loaded"
    assert [words for words in said if not any(part in words for part in HARMLESS)] == []


def test_control_that_changes_nothing_is_found(lab, page):
    """Two controls, of which the picture follows the second only."""
    source = """import ipywidgets
shown, controls = ipywidgets.HTML("0"), [ipywidgets.IntSlider(3), ipywidgets.Dropdown(options=["a", "b", "c"], value="b")]
controls[1].observe(lambda change: setattr(shown, "value", change["new"]), "value")
ipywidgets.VBox([*controls, shown])"""
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata={"kernelspec": kernel})
    address, root = lab
    nbformat.write(notebook, root / "notebooks" / "still.ipynb")
    open_notebook(page, address, "still.ipynb")
    assert page.evaluate(RUN_ALL)
    page.wait_for_selector(f"{OUTPUTS} select")
    (output,) = page.locator(OUTPUTS).element_handles()
    assert [move(page, output, control, seconds=3) for control in output.query_selector_all(CONTROLS)] == [False, True]


def test_what_a_lesson_asserts_is_left_out_and_nothing_else():
    source = "%time 1\nfor x in (0, 1):\n    assert (\n        x > 5\n    ), 'ü'; y = x\nassert y == 7\nprint('assert', y)"
    plain = without_asserts(source)
    assert plain == "%time 1\nfor x in (0, 1):\n    pass; y = x\npass\nprint('assert', y)"
