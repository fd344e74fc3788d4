"""Runs a notebook in a fresh kernel and makes what is stored the same on every run.

Followed: `nbclient <https://nbclient.readthedocs.io>`_ executes; what differs from run to run (cell ids, timestamps, widget state,
addresses) is removed here, so that a re-executed lesson shows a difference only where a result differs.
"""

import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from minimllm.lessons.offline import kernel_environment

MEASURED = re.compile(r"\d[\d,]*(?:\.\d+)?(?= ?(?:[mµun]?s|seconds?|minutes?|\w+/s)\b)")
ADDRESS = re.compile(r"(data:[^\"'\s]*)|\b0x[0-9a-f]{6,}")  # an embedded picture's letters may look like an address: skip them
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"


class LessonError(Exception):
    """A lesson that did not run to its end, or whose card or table cannot be read; the message names the place and the cause."""


def _tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Without memory addresses, and of a widget only what a reader without a kernel can see."""
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if data.pop(WIDGET_VIEW, None) and not data:
            continue
        texts = output if output.output_type == "stream" else data
        for kind in ("text", "text/plain", "text/html"):
            if kind in texts:
                texts[kind] = ADDRESS.sub(lambda found: found[1] or "0x…", texts[kind])
        kept.append(output)
    return kept


def normalise(notebook: NotebookNode, stored: NotebookNode | None = None) -> None:
    """Removes from an executed notebook what differs from run to run or machine to machine, so that equal sources give equal files.

    Cell ids become ``cell-000`` and on; of the metadata only tags and folding stay; timestamps, widget state and Python's version go.
    Where ``stored``, an earlier run, has the same cell with outputs that differ in measured times only, its outputs are kept.
    """
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python", "pygments_lexer": "ipython3"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:03d}"
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in ("jupyter", "tags") if cell.metadata.get(key)})
        if cell.cell_type != "code":
            continue
        cell.outputs = _tidy(cell.outputs)
        before = stored.cells[index] if stored is not None and index < len(stored.cells) else None
        if before is not None and before.cell_type == "code" and before.source == cell.source:
            old, new = (MEASURED.sub("", json.dumps(outputs, sort_keys=True)) for outputs in (before.outputs, cell.outputs))
            if before.execution_count == cell.execution_count and old == new:
                cell.outputs = before.outputs


def execute(notebook: NotebookNode, folder: Path, timeout: float, on_cell: Callable[[], object] = lambda: None) -> float:
    """Runs the notebook in place, top to bottom in a fresh kernel, in ``folder`` and without a network; gives the seconds it took.

    ``timeout`` is in seconds, for each cell; ``on_cell`` is called after each code cell. Raises ``LessonError`` naming the cell and
    the error, also for one that a widget hides, and ``KeyboardInterrupt`` when the user stops it.
    """
    running = 0

    def started(cell: NotebookNode, cell_index: int) -> None:
        nonlocal running
        running = cell_index

    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[])),  # this Python, whatever kernels the user has
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # not a word on every kernel about TCP, which stays on loopback
        timeout=timeout,
        record_timing=False,
        coalesce_streams=True,
        shutdown_kernel="immediate",
        on_cell_start=started,
        on_cell_executed=lambda **_: on_cell(),
    )
    with tempfile.TemporaryDirectory() as ipython:
        problem, start = None, time.perf_counter()
        try:
            client.execute(env=kernel_environment(ipython), cleanup_kc=True)
        except CellExecutionError as error:
            problem = f"{error.ename}: {error.evalue}"
        except CellTimeoutError:
            problem = f"no end after {timeout:g} seconds; --timeout allows more"
        except AssertionError:
            if not interrupted(client):
                raise
        except DeadKernelError:
            problem = "the kernel died; most often because the machine ran out of memory"
        seconds = time.perf_counter() - start
    if interrupted(client):
        raise KeyboardInterrupt
    if problem:
        raise LessonError(f"cell {running + 1} of {len(notebook.cells)}: {problem}\n{notebook.cells[running].source.strip()}")
    if hidden := _hidden_error(notebook):
        raise LessonError(hidden)
    return seconds


def interrupted(client: NotebookClient) -> bool:
    """Whether the user stopped the run: nbclient then takes the kernel away, and fails over its absence in one way or another."""
    return hasattr(client, "_async_cleanup_kernel_future")


def _hidden_error(notebook: NotebookNode) -> str | None:
    """An error that an Output widget swallowed: nbclient puts it into the widget's state and reports success."""
    states = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for model in states.values():
        for output in model.get("state", {}).get("outputs", []):
            if output["output_type"] == "error":
                return f"a widget's callback failed with {output['ename']}: {output['evalue']}"
    return None


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader, or an interruption, finds either the old file or the new one."""
    beside = path.with_name(f".{path.name}.writing")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_notebook(path: Path) -> NotebookNode:
    """Reads a notebook file of format 4. Raises ``LessonError`` for a file that is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise LessonError(f"{path.name} is not a notebook: {str(error).splitlines()[0]}") from error
