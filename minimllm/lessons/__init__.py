"""Executes the lessons, times them, and writes what it measured where readers look: ``python -m minimllm.lessons [NAME ...]``.

Each notebook of ``notebooks/`` runs top to bottom in a fresh kernel, in its own folder, without a browser and without a network. The
outputs are kept in the file, normalised (:func:`normalise`), so that running a second time changes nothing; the measured times go
into the lesson's card and into the README's table of lessons. A lesson that fails is left exactly as it was, and the cell and the
error are named. Names are file names with or without folder and suffix, or their beginning: ``01``, ``01_patches``.

The card is a lesson's first cell, Markdown of this form; :func:`card` writes it and :func:`read_card` reads it::

    # 1. An image is a sequence

    > The claim of the lesson, in one sentence.

    - **You will be able to** cut, project and order ...
    - **You need** PyTorch tensors ...
    - **Time** <!-- time -->12 minutes to read, 21 seconds to run<!-- /time -->

Title, claim and time of all cards, with the names of the lessons' widgets, make the table between ``<!-- lessons -->`` and
``<!-- /lessons -->`` in ``README.md``.

A stored time is replaced only when the new one differs by more than 30% and two seconds, since times differ a little on every run. For
the same reason a cell's stored outputs are kept when the new ones differ in nothing but times ("31.4 s", "120 images/s"). A picture drawn
from measured times would differ on every run: let lessons draw those from a results file.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode, writes
from tqdm import tqdm

from minimllm.lessons.execution import LessonError, execute, normalise, read_notebook, write_atomically

ROOT = Path(__file__).resolve().parents[2]
WORDS_PER_MINUTE = 180  # prose with formulas and figures reads slower than a novel
TIME = re.compile(r"<!-- time -->(.*?)<!-- /time -->", re.DOTALL)
TABLE = re.compile(r"<!-- lessons -->.*?<!-- /lessons -->", re.DOTALL)


@dataclass(frozen=True)
class Card:
    """What the first cell of a lesson says: minutes to read and seconds to run are ``None`` until they have been measured."""

    title: str
    claim: str
    minutes: int | None
    seconds: int | None


def card(title: str, claim: str, able: str, need: str) -> str:
    """The Markdown of a lesson's first cell; ``able`` and ``need`` go on after "You will be able to" and "You need"."""
    marks = "<!-- time --><!-- /time -->"
    return f"# {title}\n\n> {claim}\n\n- **You will be able to** {able}\n- **You need** {need}\n- **Time** {marks}"


def read_card(notebook: NotebookNode) -> Card:
    """Reads a lesson's first cell. Raises ``LessonError`` naming the part that is missing."""
    first = notebook.cells[0] if notebook.cells else None
    source = first.source if first is not None and first.cell_type == "markdown" else ""
    title = re.search(r"^# +(.+)$", source, re.MULTILINE)
    claim = re.search(r"^>.*(?:\n>.*)*", source, re.MULTILINE)
    mark = TIME.search(source)
    parts = {"a title (# ...)": title, "the claim (> ...)": claim, "the mark <!-- time --><!-- /time -->": mark}
    parts |= {f"a line **{words}**": f"**{words}**" in source for words in ("You will be able to", "You need")}
    missing = [part for part, found in parts.items() if not found]
    if missing:
        raise LessonError(f"the first cell must be the lesson's card, in Markdown; it lacks {', '.join(missing)} (see minimllm.lessons)")
    numbers = re.search(r"(\d+) minutes? to read, (\d+) seconds? to run", mark[1])
    minutes, seconds = map(int, numbers.groups()) if numbers else (None, None)
    words = " ".join(line.lstrip("> ") for line in claim[0].splitlines()).strip()
    return Card(title[1].strip(), words, minutes, seconds)


def reading_minutes(notebook: NotebookNode) -> int:
    """Minutes to read the lesson's prose once, at least 1: words of the Markdown cells, without markup, formulas and links' targets."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(r"<!-- time -->.*?<!-- /time -->|<[^>]+>|\$\$.*?\$\$|\]\([^)]*\)", " ", prose, flags=re.DOTALL)
    return max(1, round(len(re.findall(r"\w[\w'-]*", prose)) / WORDS_PER_MINUTE))


def kept_seconds(stored: int | None, measured: float) -> int:
    """The stored seconds, unless there are none or the measured ones differ from them by more than 30% and by more than two seconds."""
    if stored and abs(measured - stored) <= max(0.3 * stored, 2):
        return stored
    return max(1, round(measured))


def plural(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def write_times(notebook: NotebookNode, measured: float) -> None:
    """Writes the minutes to read and the seconds to run into the lesson's card."""
    minutes, seconds = reading_minutes(notebook), kept_seconds(read_card(notebook).seconds, measured)
    text = f"<!-- time -->{plural(minutes, 'minute')} to read, {plural(seconds, 'second')} to run<!-- /time -->"
    notebook.cells[0].source = TIME.sub(text, notebook.cells[0].source, count=1)


def played(notebook: NotebookNode) -> list[str]:
    """The widgets that a lesson's cells make, each once, in order, in words; without the buttons of its predictions."""
    sources = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = (name for name in re.findall(r"\bwidgets\.(\w+)\(", sources) if name != "predict")
    return list(dict.fromkeys(name.replace("_", " ") for name in found))


def readme_table(lessons: list[Path]) -> str:
    """The README's table of lessons, marks included, from the lessons' cards. Raises ``LessonError`` for a card that cannot be read."""
    rows = ["<!-- lessons -->", "| Lesson | What it shows | Play | Read | Run |", "|---|---|---|---|---|"]
    for path in lessons:
        try:
            notebook = read_notebook(path)
            shown = read_card(notebook)
        except LessonError as error:
            raise LessonError(f"{path.name}: {error}") from error
        read = "" if shown.minutes is None else f"{shown.minutes} min"
        run = "" if shown.seconds is None else f"{shown.seconds} s"
        claim = shown.claim.replace("|", chr(92) + "|")
        rows.append(f"| [{shown.title}](notebooks/{path.name}) | {claim} | {', '.join(played(notebook))} | {read} | {run} |")
    return "\n".join([*rows, "<!-- /lessons -->"])


def update_readme(root: Path) -> bool:
    """Brings the README's table in step with all lessons' cards; says whether it changed. Raises ``LessonError`` without the marks."""
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not TABLE.search(text):
        raise LessonError("README.md has no <!-- lessons --> ... <!-- /lessons --> to hold the table of lessons")
    table = readme_table(lesson_files(root))
    updated = TABLE.sub(lambda _: table, text, count=1)
    if updated != text:
        write_atomically(readme, updated)
    return updated != text


def lesson_files(root: Path = ROOT, names: list[str] | None = None) -> list[Path]:
    """The notebooks under ``root``, all or those named, by their number or the beginning of their name, in order.

    Raises ``LessonError`` for a name that fits none.
    """
    every = sorted((root / "notebooks").glob("*.ipynb"))
    if not names:
        return every
    beginnings = {name: f"{name:0>2}_" if name.isdecimal() else Path(name).name.removesuffix(".ipynb") for name in names}
    wanted = {name: [path for path in every if path.stem.startswith(beginning)] for name, beginning in beginnings.items()}
    for name, found in wanted.items():
        if not found:
            raise LessonError(f"no lesson is called {name!r}; there are {', '.join(path.stem for path in every) or 'none yet'}")
    return [path for path in every if any(path in found for found in wanted.values())]


def run_lesson(path: Path, timeout: float = 600.0) -> str:
    """Executes one lesson and stores it, normalised and with its times; says what came of it in a line.

    Raises ``LessonError``, and leaves the file untouched, when it does not run to its end or has no card.
    """
    stored, notebook = read_notebook(path), read_notebook(path)
    card_before = read_card(notebook)
    cells = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
    with tqdm(total=cells, desc=path.stem, unit="cell", leave=False, disable=None) as bar:
        seconds = execute(notebook, path.parent, timeout, bar.update)
    write_times(notebook, seconds)
    normalise(notebook, stored)
    text = writes(notebook) + "\n"
    changed = text != path.read_text(encoding="utf-8")
    if changed:
        write_atomically(path, text)
    before = card_before.seconds
    now = read_card(notebook).seconds
    time = f"card says {now} s" if before == now else f"card said {before or 'nothing'}, says {now} s now"
    return f"{plural(cells, 'cell')} in {seconds:.1f} s; {time}; file {'changed' if changed else 'as it was'}"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command. Gives 0, or 1 when a lesson failed: the others are executed all the same."""
    parser = argparse.ArgumentParser(prog="python -m minimllm.lessons", description="Execute, time and normalise the lessons.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="lessons to run, as 01 or 01_patches; all when none is named")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="the longest a single cell may take")
    options = parser.parse_args(arguments)
    failed = False
    try:
        for path in lesson_files(root, options.names):
            if not sys.stderr.isatty():
                print(f"{path.stem}: running", flush=True)
            try:
                print(f"{path.stem}: {run_lesson(path, options.timeout)}", flush=True)
            except LessonError as error:
                failed = True
                print(f"{path.stem}: FAILED, file left as it was. {error}", file=sys.stderr, flush=True)
        if update_readme(root):
            print("README.md: table of lessons brought up to date")
    except LessonError as error:
        failed = True
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        failed = True
        print("stopped; the lesson that was running was left as it was", file=sys.stderr)
    return int(failed)
