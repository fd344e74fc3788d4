"""Every path and dotted name of the project that its prose, docstrings and lessons mention exists."""

import importlib
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
PATH = re.compile(r"(?<![\w/.])(?:minimllm|tests|assets|notebooks)/[\w./-]*\w")
DOTTED = re.compile(r"\bminimllm(?:\.\w+)+")
PLACEHOLDER = re.compile(r"NAME|NN")  # a form, such as assets/recipes/NAME.py
FILES = [
    *(ROOT / "minimllm").rglob("*.py"),
    *(ROOT / "notebooks").glob("*.ipynb"),
    *(file for file in (ROOT / "assets" / "recipes").iterdir() if file.is_file()),
    *(ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", "environment.yml")),
]


def text_of(file: Path) -> str:
    if file.suffix != ".ipynb":
        return file.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells)


def is_there(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def missing(text: str) -> list[str]:
    paths = [path for path in PATH.findall(text) if not PLACEHOLDER.search(path) and not (ROOT / path).exists()]
    names = [name for name in DOTTED.findall(text) if not name.endswith((".json", ".mplstyle"))]  # files that are called like the package
    return paths + [name for name in names if not is_there(name)]


@pytest.mark.parametrize("file", sorted(FILES), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_what_is_mentioned_exists(file):
    assert missing(text_of(file)) == []


def test_what_does_not_exist_is_found():
    text = "see minimllm/layers/masks.py, minimllm/training.py, `minimllm.layers.masks.causal_mask`, minimllm.masks.causal_mask, "
    text += "minimllm.ViT, assets/recipes/NAME.py"
    assert missing(text) == ["minimllm/training.py", "minimllm.masks.causal_mask"]
