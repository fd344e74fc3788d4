"""What the course sets in an environment's Jupyter: ``python -m minimllm.lessons.server``, which ``make lab`` has called.

*A server extension*: a saved notebook keeps the still picture of each widget, and not the widget itself. A live widget is nothing without
its kernel. A notebook that stores one shows "model not found" when it is opened on the next day, where it could show the picture.

*A line in the configuration of kernels*: torch's idle threads give the processor back instead of spinning. OpenMP reads
``OMP_WAIT_POLICY`` once, when torch is loaded, and lessons import torch before ``minimllm``; a kernel reads its configuration before
either, whatever started it. ``import minimllm`` sets the variable as well, for programs that import it first.
"""

import json
import sys
from pathlib import Path
from typing import Any

from minimllm.lessons.execution import WIDGET_STATE, WIDGET_VIEW, write_atomically

WAIT_LINE = "__import__('os').environ.setdefault('OMP_WAIT_POLICY', 'passive')  # minimllm: idle threads of torch rest\n"

def without_widgets(notebook: dict[str, Any]) -> None:
    """Take the live widgets out of a notebook's outputs, in place; what stands beside them for readers without a kernel stays."""
    notebook.get("metadata", {}).pop("widgets", None)
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in (WIDGET_VIEW, WIDGET_STATE):
                if len(data) > 1:
                    data.pop(kind, None)


def before_saving(model: dict[str, Any], **_: Any) -> None:
    """The ``pre_save_hook`` of Jupyter's contents manager. What is on the page is left alone; this is about the file."""
    if model.get("type") == "notebook" and isinstance(model.get("content"), dict):
        without_widgets(model["content"])


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    server.contents_manager.register_pre_save_hook(before_saving)


def switch_on(prefix: str | Path = sys.prefix) -> Path:
    """Tell the Jupyter servers of the environment ``prefix`` to load this extension; gives the file that says so."""
    file = Path(prefix) / "etc" / "jupyter" / "jupyter_server_config.d" / "minimllm.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"ServerApp": {"jpserver_extensions": {"minimllm.lessons.server": True}}}) + "\n", encoding="utf-8")
    return file


def rest_idle_threads(prefix: str | Path = sys.prefix) -> Path:
    """Let the kernels of an environment start with OMP_WAIT_POLICY=passive where it is not set; gives their configuration file."""
    file = Path(prefix) / "etc" / "ipython" / "ipython_kernel_config.py"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if WAIT_LINE not in text:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text + ("\n" if text and not text.endswith("\n") else "") + WAIT_LINE)
    return file


if __name__ == "__main__":
    switch_on()
    rest_idle_threads()
