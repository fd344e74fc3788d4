"""The learner's own copies of the lessons, in ``my_lessons/``: ``python -m minimllm.lessons.copies``, which ``make lab`` calls.

What is run, typed and saved changes the copies; the course's files in ``notebooks/`` stay as they are, and an update of the course meets
no changed file. A lesson that has no copy gets one. A copy that nobody has changed follows the course; one that has been changed is never
overwritten, and a newer lesson is only announced.

``python -m minimllm.lessons.copies --fresh NAME``, or ``make fresh LESSON=NAME``, makes a copy anew; the changed one is kept beside it, as
``NAME.earlier-1.ipynb``. Names are file names or their beginning.
"""

import argparse
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from ipykernel.ipkernel import IPythonKernel
from nbformat import NotebookNode

from minimllm.lessons import ROOT, lesson_files
from minimllm.lessons.execution import LessonError, read_notebook, write_atomically

FOLDER = "my_lessons"  # beside notebooks/, so that ../assets/ leads to the same place
RECORD = ".copied.json"  # by lesson: the hash of the course's file and of the copy as it was made


def ready_to_open(notebook: NotebookNode) -> NotebookNode:
    """The notebook with all that JupyterLab writes into its metadata on opening it, so that opening alone is no change."""
    notebook.metadata["language_info"] = dict(IPythonKernel.language_info)
    return notebook


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Copies:
    """The copies of the lessons under ``root``, and what is known of each."""

    def __init__(self, root: Path = ROOT):
        self.root, self.folder = root, root / FOLDER
        self.folder.mkdir(exist_ok=True)
        record = self.folder / RECORD
        try:
            self.record = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        except ValueError:
            self.record = {}
        if not isinstance(self.record, dict):  # of all copies it is then unknown whether they were changed: they count as changed
            self.record = {}

    def changed(self, name: str) -> bool:
        """Whether the copy of a lesson is there, and not as it was made."""
        copy = self.folder / name
        return copy.exists() and _hash(copy) != self.record.get(name, {}).get("copy")

    def make(self, lesson: Path) -> None:
        """Write the copy of a lesson."""
        copy = self.folder / lesson.name
        write_atomically(copy, nbformat.writes(ready_to_open(read_notebook(lesson))) + "\n")
        self.record[lesson.name] = {"course": _hash(lesson), "copy": None if self.worked_in(lesson) else _hash(copy)}
        write_atomically(self.folder / RECORD, json.dumps(self.record, indent=1) + "\n")

    def worked_in(self, lesson: Path) -> bool:
        """Whether somebody has changed the course's own file, as git tells: its copy then holds work, and counts as changed."""
        if shutil.which("git") is None:
            return False
        ask = ["git", "status", "--porcelain", "--untracked-files=no", "--", lesson]
        return bool(subprocess.run(ask, cwd=self.root, capture_output=True).stdout)  # outside a repository nothing is said

    def update(self) -> list[str]:
        """Copy what has no copy or an unchanged one of an earlier version; gives what is to be said to the learner."""
        said = []
        for lesson in lesson_files(self.root):
            newer = self.record.get(lesson.name, {}).get("course") != _hash(lesson)
            if not self.changed(lesson.name):
                if newer or not (self.folder / lesson.name).exists():
                    self.make(lesson)
            elif newer:
                say = f"the course has a newer version, and your copy is left as it is; make fresh LESSON={lesson.stem} takes the new one"
                said.append(f"{lesson.stem}: {say}")
        return said

    def fresh(self, names: list[str]) -> list[str]:
        """Make copies anew, keeping the changed ones beside them; gives what has been done. ``LessonError`` for a name that fits none."""
        said = []
        for lesson in lesson_files(self.root, names):
            kept = ""
            if self.changed(lesson.name):
                numbered = (self.folder / f"{lesson.stem}.earlier-{number}.ipynb" for number in itertools.count(1))
                earlier = next(path for path in numbered if not path.exists())
                (self.folder / lesson.name).rename(earlier)
                kept = f"; what you had there is {FOLDER}/{earlier.name}"
            self.make(lesson)
            said.append(f"{FOLDER}/{lesson.name} is as the course has it{kept}")
        return said


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m minimllm.lessons.copies", description="The learner's own copies of the lessons.")
    parser.add_argument("--fresh", metavar="NAME", nargs="*", help="make the copies of these lessons anew, as 04 or 04_zero_shot")
    options = parser.parse_args(arguments)
    if options.fresh is not None and not options.fresh:
        print("which lesson? For example: make fresh LESSON=04_zero_shot", file=sys.stderr)
        return 1
    try:
        said = Copies(root).update() if options.fresh is None else Copies(root).fresh(options.fresh)
    except LessonError as error:
        print(error, file=sys.stderr)
        return 1
    print(*said, sep="\n", end="\n" if said else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
