"""The lessons as committed, and the tool that executes, times and normalises them.

Executing every lesson and comparing its outputs is nbval's part of the same pytest run; see pyproject.toml.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from lesson_rules import code_cells, execution_faults, layout_faults, lesson_faults, mostly_draws, picture_faults, shows_something
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minimllm import lessons
from minimllm.lessons.execution import LessonError, execute, normalise, write_atomically

LESSONS = lessons.lesson_files()
MARKS = "# Course\n\n<!-- lessons -->\n<!-- /lessons -->\n\nThe end.\n"
PICTURE = 'HTML(\'<img alt="one dot" src="data:image/png;base64,iVBORw0KGgo=">\')'
CELLS = [
    "import time\nprint('first')",
    "print('took', f'{time.perf_counter() % 100:.2f} s')",
    "from IPython.display import HTML\n" + PICTURE,
    "object()",
    "import ipywidgets\nipywidgets.IntSlider(3)",
    "print('one', flush=True)\nprint('two')\n{'answer': 6 * 7}",
]


def write_lesson(root: Path, name: str = "01_tiny", cells: list[str] = CELLS, card: str | None = None) -> Path:
    """A small course under ``root``: one notebook that was never executed, and a README."""
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    if not (root / "README.md").exists():
        (root / "README.md").write_text(MARKS)
    card = card if card is not None else lessons.card("1. Tiny", "Small lessons run fast.", "run it.", "nothing.")
    notebook = new_notebook(cells=[new_markdown_cell(card), *map(new_code_cell, cells)])
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    """A small course whose only lesson has been executed once by the command."""
    root = tmp_path_factory.mktemp("course")
    write_lesson(root)
    assert lessons.main([], root) == 0
    return root


# --- the committed lessons ---


def test_there_are_lessons_and_the_first_is_the_one_that_make_lab_opens():
    assert LESSONS and LESSONS[0].stem == "01_patches"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_committed_lesson_keeps_the_rules(path):
    assert lesson_faults(path) == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_committed_lesson_is_normalised(path):
    notebook = nbformat.read(path, as_version=4)
    normalise(notebook)
    assert nbformat.writes(notebook) + "\n" == path.read_text(encoding="utf-8")


def test_readme_table_is_in_step_with_the_cards():
    readme = (lessons.ROOT / "README.md").read_text(encoding="utf-8")
    assert lessons.readme_table(LESSONS) in readme


# --- the rules find what they are there to find ---


def spoiled(executed: Path, spoil) -> list[str]:
    notebook = nbformat.read(executed / "notebooks" / "01_tiny.ipynb", as_version=4)
    assert execution_faults(notebook) + picture_faults(notebook) == []
    spoil(notebook, code_cells(notebook))
    return execution_faults(notebook) + picture_faults(notebook)


def test_rules_reject_stripped_outputs(executed):
    assert any("stripped" in fault for fault in spoiled(executed, lambda notebook, cells: cells[0].update(outputs=[])))


def test_rules_reject_counts_out_of_order(executed):
    assert any("top to bottom" in fault for fault in spoiled(executed, lambda notebook, cells: cells[1].update(execution_count=7)))
    assert any("top to bottom" in fault for fault in spoiled(executed, lambda notebook, cells: cells[1].update(execution_count=None)))


def test_rules_reject_error_outputs(executed):
    error = new_output("error", ename="ValueError", evalue="no", traceback=[])
    assert any("holds an error" in fault for fault in spoiled(executed, lambda notebook, cells: cells[0].outputs.append(error)))


def test_rules_reject_pictures_without_their_own_words(executed):
    def without_alt(notebook, cells):
        cells[2].outputs[0].data["text/html"] = '<img alt=" " src="data:image/png;base64,AA==">'

    def twice(notebook, cells):
        cells[0].outputs.append(new_output("display_data", {"text/html": '<img alt="one dot" src="x.png">'}))

    def bare(notebook, cells):
        cells[0].outputs.append(new_output("display_data", {"image/png": "AA==", "text/plain": "<Figure>"}))

    assert any("without alternative" in fault for fault in spoiled(executed, without_alt))
    assert any("repeats" in fault for fault in spoiled(executed, twice))
    assert any("bare picture" in fault for fault in spoiled(executed, bare))
    markdown = new_notebook(cells=[new_markdown_cell("![](../assets/a.svg) and ![a grid](b.svg)")])
    assert picture_faults(markdown) == ["cell 1 has a picture without alternative text"]


def test_rules_reject_a_lesson_without_exercises_solutions_widgets_and_card(tmp_path):
    path = write_lesson(tmp_path, cells=['check("one", f)', 'exercises.check("two", f)'], card="# Title only")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(2, new_markdown_cell("<details><summary>Solution</summary>\n\n```python\n1\n```\n\n</details>"))
    nbformat.write(notebook, path)
    faults = "\n".join(lesson_faults(path))
    assert "the first cell must be the lesson's card" in faults
    assert "'two' has no folded solution" in faults and "'one' has" not in faults
    assert "no widget" in faults
    notebook.cells.append(new_code_cell("guess = widgets.predict('a', 'b')\nguess"))  # a prediction is no widget to play with
    nbformat.write(notebook, path)
    assert "no widget" in "\n".join(lesson_faults(path))
    notebook.cells.append(new_code_cell("widgets.patch_explorer(a)"))
    nbformat.write(notebook, path)
    assert "no widget" not in "\n".join(lesson_faults(path))


def test_what_is_shown_within_a_with_block_counts_and_so_do_the_pictures_of_an_answer():
    shown = (
        "with guess.answer(right):\n    total = 2",
        "with torch.no_grad():\n    a = 1\n    print(a)",
        "with a, b:\n    with c:\n        figures.show(f)",
    )
    silent = ("with torch.no_grad():\n    a = f(x)", "with torch.no_grad():\n    if a:\n        print(a)", "with guess.answers:\n    pass")
    assert [shows_something(source) for source in (*shown, *silent)] == [True] * 3 + [False] * 3
    told = "<details><summary>The answer</summary><img src='a'><img src='b' alt='three dots'><img src='c' alt='three dots'></details>"
    answer = new_code_cell(shown[0], execution_count=1, outputs=[new_output("display_data", {"text/html": told})])
    faults = ["cell 1 has a picture without alternative text", "cell 1 repeats another picture's alternative text: 'three dots'"]
    assert picture_faults(new_notebook(cells=[answer])) == faults
    stripped = new_notebook(cells=[new_code_cell(shown[0], execution_count=1)])
    assert execution_faults(stripped) == ["code cell 1 has no output although it shows something: outputs stripped?"]


def test_rules_reject_wide_code_and_open_drawings():
    wide, drawing = "x = " + "1" * 97, "figures.show(\n" + "    a,\n" * 9 + ")"
    taught = "a = 1\n" * 6 + drawing
    assert [mostly_draws(source) for source in (drawing, taught, "figures.show(a)", "print(\n" + "    a,\n" * 9 + ")")] == [True] + [
        False
    ] * 3
    cells = [
        new_code_cell(wide),
        new_code_cell(wide[:-1]),
        new_code_cell(drawing),
        new_code_cell(drawing, metadata={"jupyter": {"source_hidden": True}}),
    ]
    wide_fault, drawing_fault = layout_faults(new_notebook(cells=cells))
    assert "code cell 1 has a line of 101 characters" in wide_fault and "code cell 3 mostly draws" in drawing_fault


# --- nbval, with the options that make test uses, sees a wrong output ---


def test_nbval_passes_a_true_lesson_and_fails_each_corrupted_output(executed, tmp_path):
    source = (executed / "notebooks" / "01_tiny.ipynb").read_text(encoding="utf-8")
    changes = {
        "true": ("", ""),
        "pixels": ("iVBORw0KGgo=", "AAAA"),  # pictures may differ a little from machine to machine ...
        "words": ("one dot", "two dots"),  # ... their alternative texts may not
        "printed": ('"first\\n"', '"fourth\\n"'),
        "value": ("'answer': 42", "'answer': 43"),
    }
    for name, (old, new) in changes.items():
        before, after = source.rsplit(old, 1) if old else (source, "")  # the last one: the one in the outputs, not in the source
        (tmp_path / f"{name}.ipynb").write_text(before + new + after, encoding="utf-8")
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-c", str(lessons.ROOT / "pyproject.toml"), "-p", "no:cacheprovider", f"--junitxml={report}"]
    ran = subprocess.run([*command, str(tmp_path)], cwd=lessons.ROOT, capture_output=True, text=True, timeout=300)
    failed: dict[str, int] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = next(name for name in changes if f"{name}.ipynb" in case.get("classname") + case.get("name"))
        failed[name] = failed.get(name, 0) + (case.find("failure") is not None)
    assert failed == {"true": 0, "pixels": 0, "words": 1, "printed": 1, "value": 1}, ran.stdout[-3000:]
    assert ran.returncode == 1


# --- the tool ---


def test_card_and_table_tell_the_measured_times(executed):
    path = executed / "notebooks" / "01_tiny.ipynb"
    card = lessons.read_card(nbformat.read(path, as_version=4))
    assert (card.title, card.claim, card.minutes) == ("1. Tiny", "Small lessons run fast.", 1)
    assert 1 <= card.seconds < 60
    readme = (executed / "README.md").read_text()
    row = f"| [1. Tiny](notebooks/01_tiny.ipynb) | Small lessons run fast. |  | 1 min | {card.seconds} s |"
    assert row in readme and readme.startswith("# Course") and readme.endswith("The end.\n")


def test_stored_lesson_holds_nothing_that_changes_from_run_to_run(executed):
    text = (executed / "notebooks" / "01_tiny.ipynb").read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert [cell["id"] for cell in notebook["cells"]] == [f"cell-{index:03d}" for index in range(7)]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"} and "version" not in notebook["metadata"]["language_info"]
    assert "widget-view" not in text and "iopub" not in text and "<object at 0x…>" in text
    streams = [output for output in notebook["cells"][6]["outputs"] if output["output_type"] == "stream"]
    assert [output["text"] for output in streams] == [["one\n", "two\n"]]


def test_second_run_changes_no_byte(executed, capsys):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in executed.rglob("*") if path.is_file()}
    assert lessons.main(["01"], executed) == 0
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in executed.rglob("*") if path.is_file()}
    assert after == before
    assert "file as it was" in capsys.readouterr().out


def test_outputs_that_differ_in_more_than_time_are_replaced():
    def ran(text: str):
        return new_notebook(cells=[new_code_cell("f()", execution_count=1, outputs=[new_output("stream", text=text)])])

    stored = ran("loss 0.10 after 31.4 s, 1,200 images/s")
    same, other = ran("loss 0.10 after 29.9 s, 990 images/s"), ran("loss 0.11 after 31.4 s, 1,200 images/s")
    normalise(same, stored)
    normalise(other, stored)
    assert same.cells[0].outputs == stored.cells[0].outputs
    assert other.cells[0].outputs[0].text.startswith("loss 0.11")


@pytest.mark.parametrize(
    ("stored", "measured", "kept"),
    [
        *[(None, 12.4, 12), (None, 0.2, 1), (20, 25.9, 20), (20, 26.1, 26), (20, 14.1, 20), (20, 13.9, 14)],
        *[(3, 4.7, 3), (3, 1.1, 3), (3, 5.1, 5), (6, 8.1, 8)],
    ],
)
def test_stored_time_stays_until_it_is_wrong_by_more_than_30_percent_and_two_seconds(stored, measured, kept):
    assert lessons.kept_seconds(stored, measured) == kept


def test_reading_time_counts_prose_only():
    words = "word " * 540
    notebook = new_notebook(cells=[new_markdown_cell(words + "$$x \\cdot y$$ <b></b>"), new_code_cell("# " + words)])
    assert lessons.reading_minutes(notebook) == 3


def test_card_that_lacks_parts_is_refused_by_name():
    with pytest.raises(LessonError, match=r"lacks the claim .*, the mark <!-- time -->.*You need"):
        lessons.read_card(new_notebook(cells=[new_markdown_cell("# T\n\n- **You will be able to** fly")]))
    with pytest.raises(LessonError, match="lacks a title"):
        lessons.read_card(new_notebook(cells=[new_code_cell("1")]))


def refused(root: Path, capsys, arguments: list[str] = ()) -> str:
    """Runs the command on a course that it must refuse, and gives what it says; nothing may have changed."""
    with contextlib.suppress(LessonError):  # the lesson's row without times, which is not the failing lesson's doing
        lessons.update_readme(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert lessons.main(list(arguments), root) == 1
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    return capsys.readouterr().err


def test_failing_lesson_is_left_untouched_and_names_cell_and_error(tmp_path, capsys):
    write_lesson(tmp_path, cells=["a = 1", "b = a / 0"])
    message = refused(tmp_path, capsys, ["01_tiny"])
    assert "01_tiny: FAILED" in message and "cell 3 of 3: ZeroDivisionError: division by zero\nb = a / 0" in message


def test_other_lessons_run_although_one_fails(tmp_path, capsys):
    write_lesson(tmp_path, cells=["1 / 0"])
    second = write_lesson(tmp_path, name="02_fine", cells=["print('fine')"])
    assert lessons.main([], tmp_path) == 1
    assert '"fine\\n"' in second.read_text() and "02_fine.ipynb" in (tmp_path / "README.md").read_text()


def test_error_that_a_widget_hides_fails_the_lesson(tmp_path, capsys):
    write_lesson(tmp_path, cells=["import ipywidgets\nwith ipywidgets.Output() as out:\n    raise KeyError('hidden')\nout"])
    assert "a widget's callback failed with KeyError: 'hidden'" in refused(tmp_path, capsys)


def test_cell_that_does_not_end_is_stopped(tmp_path, capsys):
    write_lesson(tmp_path, cells=["while True: pass"])
    assert "cell 2 of 2: no end after 2 seconds" in refused(tmp_path, capsys, ["--timeout", "2"])


def test_kernel_that_dies_is_noticed(tmp_path, capsys):
    write_lesson(tmp_path, cells=["import os\nos._exit(9)"])
    assert "cell 2 of 2: the kernel died" in refused(tmp_path, capsys)


def test_control_c_stops_everything_and_leaves_the_files(tmp_path):
    paths = [
        write_lesson(tmp_path, cells=["import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(100)"]),
        write_lesson(tmp_path, name="02_later", cells=["1"]),
    ]
    before = [path.read_bytes() for path in paths]
    command = f"import sys; from pathlib import Path; from minimllm import lessons; sys.exit(lessons.main([], Path({str(tmp_path)!r})))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([sys.executable, "-c", command], start_new_session=True, **pipes) as running:
        end = time.monotonic() + 60
        while not (tmp_path / "notebooks" / "started").exists() and time.monotonic() < end:
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        said, _ = running.communicate(timeout=30)
    assert running.returncode == 1 and said.endswith("stopped; the lesson that was running was left as it was\n"), said
    assert "02_later" not in said and [path.read_bytes() for path in paths] == before


def test_unknown_lesson_and_broken_file_are_refused(tmp_path, capsys):
    path = write_lesson(tmp_path)
    assert "no lesson is called '07'; there are 01_tiny" in refused(tmp_path, capsys, ["07"])
    path.write_text(path.read_text()[:200])
    assert "01_tiny.ipynb is not a notebook" in refused(tmp_path, capsys)


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    path.write_text("old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# --- no network ---

ASKS = """
import socket, urllib.request
for ask in (lambda: socket.create_connection(("192.0.2.1", 80), timeout=5), lambda: urllib.request.urlopen("http://example.com")):
    try:
        ask()
    except OSError as error:
        print(error)
here = socket.create_server(("127.0.0.1", 0))
socket.create_connection(here.getsockname()).close()
print("loopback works")
"""


def test_kernels_of_lessons_have_no_network(tmp_path):
    notebook = new_notebook(cells=[new_code_cell(ASKS), new_code_cell("[name for name in globals() if 'network' in name]")])
    execute(notebook, tmp_path, timeout=60)
    text = notebook.cells[0].outputs[0].text
    assert re.search(r"denied.*asked for '192.0.2.1'", text) and re.search(r"denied.*asked for b?'example.com'", text)
    assert "loopback works" in text and notebook.cells[1].outputs[0].data["text/plain"] == "[]"


def test_kernels_of_nbval_have_no_network(tmp_path):
    """nbval starts its kernels with the environment of the pytest process; so does jupyter_client here."""
    notebook = new_notebook(cells=[new_code_cell(ASKS)])
    from nbclient import NotebookClient

    NotebookClient(notebook, timeout=60).execute()
    assert "denied" in notebook.cells[0].outputs[0].text and "loopback works" in notebook.cells[0].outputs[0].text


def test_tests_have_no_network():
    import socket

    with pytest.raises(OSError, match="network is denied"):
        socket.create_connection(("192.0.2.1", 80), timeout=5)
    with pytest.raises(OSError, match="network is denied"):
        socket.getaddrinfo("example.com", 443)
    with socket.create_server(("127.0.0.1", 0)) as here, socket.create_connection(here.getsockname()):
        pass


def test_the_table_names_each_widget_of_a_lesson_once():
    cells = [new_markdown_cell("widgets.chat()")]
    sources = (
        "w = widgets.tile_explorer(photos)",
        "widgets.SIDES",
        "g = widgets.predict('a', 'b')",
        "widgets.chat(m)\nwidgets.tile_explorer(x)",
    )
    cells += [new_code_cell(source) for source in sources]
    assert lessons.played(new_notebook(cells=cells)) == ["tile explorer", "chat"]
