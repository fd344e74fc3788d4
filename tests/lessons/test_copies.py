"""The learner's copies: never overwritten once changed, in step with the course until then, made anew on request."""

import json
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from minimllm.lessons.copies import main


@pytest.fixture
def course(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("01_first", "02_next"):
        write_lesson(tmp_path, name, "x = 1")
    return tmp_path


def write_lesson(root: Path, name: str, source: str) -> None:
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = new_notebook(cells=[new_code_cell(source, id="a")], metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def work_in(root: Path, name: str, source: str) -> None:
    path = root / "my_lessons" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = source
    nbformat.write(notebook, path)


def source_of(root: Path, name: str) -> str:
    return nbformat.read(root / "my_lessons" / f"{name}.ipynb", as_version=4).cells[0].source


def test_every_lesson_gets_a_copy_with_what_a_kernel_would_write_into_it(course, capsys):
    stored = {path: path.read_bytes() for path in (course / "notebooks").iterdir()}
    assert main([], course) == 0 and capsys.readouterr().out == ""
    assert sorted(path.name for path in (course / "my_lessons").glob("*.ipynb")) == ["01_first.ipynb", "02_next.ipynb"]
    metadata = json.loads((course / "my_lessons" / "01_first.ipynb").read_text())["metadata"]
    assert {"name", "version", "mimetype", "codemirror_mode", "file_extension"} <= set(metadata["language_info"])
    assert metadata["kernelspec"]["name"] == "python3"
    assert {path: path.read_bytes() for path in (course / "notebooks").iterdir()} == stored


def test_an_update_of_the_course_renews_what_is_unchanged_and_leaves_and_names_what_is_not(course, capsys):
    main([], course)
    work_in(course, "01_first", "mine = 2")
    assert main([], course) == 0 and capsys.readouterr().out == "", "as long as the course is the same there is nothing to say"
    for name in ("01_first", "02_next"):
        write_lesson(course, name, "x = 3")
    assert main([], course) == 0
    assert (source_of(course, "01_first"), source_of(course, "02_next")) == ("mine = 2", "x = 3")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and said[0].startswith("01_first: ") and "make fresh LESSON=01_first" in said[0]


@pytest.mark.parametrize("lost", [None, "{", "{}", "[]"])
def test_without_a_record_every_copy_counts_as_changed(course, lost):
    main([], course)
    work_in(course, "01_first", "mine = 2")
    record = course / "my_lessons" / ".copied.json"
    record.unlink()
    if lost:
        record.write_text(lost)
    write_lesson(course, "01_first", "x = 3")
    assert main([], course) == 0 and source_of(course, "01_first") == "mine = 2"


def test_a_copy_that_was_deleted_is_made_again(course):
    main([], course)
    (course / "my_lessons" / "02_next.ipynb").unlink()
    main([], course)
    assert source_of(course, "02_next") == "x = 1"


def test_fresh_restores_one_lesson_and_keeps_what_was_there(course, capsys):
    main([], course)
    for turn in (1, 2):
        for name in ("01_first", "02_next"):
            work_in(course, name, f"mine = {turn}")
        assert main(["--fresh", "02"], course) == 0
        assert f"my_lessons/02_next.earlier-{turn}.ipynb" in capsys.readouterr().out
    kept = [source_of(course, f"02_next.earlier-{turn}") for turn in (1, 2)]
    assert (source_of(course, "01_first"), source_of(course, "02_next"), kept) == ("mine = 2", "x = 1", ["mine = 1", "mine = 2"])
    assert main(["--fresh", "02_next"], course) == 0
    assert len(list((course / "my_lessons").glob("02*"))) == 3, "an unchanged copy is not kept"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--fresh"], "which lesson"), (["--fresh", "07"], "no lesson is called '07'"), (["--fresh", "0"], "no lesson is called '0'")],
)
def test_fresh_without_a_lesson_changes_nothing(course, capsys, arguments, said):
    main([], course)
    work_in(course, "01_first", "mine = 2")
    assert main(arguments, course) == 1 and said in capsys.readouterr().err and source_of(course, "01_first") == "mine = 2"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_work_in_the_courses_own_file_is_copied_as_work(course):
    git = ["git", "-c", "user.name=a learner", "-c", "user.email=learner@example.org"]
    for arguments in (["init", "-q"], ["add", "notebooks"], ["commit", "-qm", "the course"]):
        subprocess.run([*git, *arguments], cwd=course, check=True)
    write_lesson(course, "01_first", "mine = 2")
    main([], course)
    subprocess.run(["git", "checkout", "-q", "notebooks"], cwd=course, check=True)
    write_lesson(course, "02_next", "x = 5")
    subprocess.run([*git, "commit", "-qam", "an update"], cwd=course, check=True)
    assert main([], course) == 0
    assert (source_of(course, "01_first"), source_of(course, "02_next")) == ("mine = 2", "x = 5")
