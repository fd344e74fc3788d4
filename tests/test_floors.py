"""The house: which floor may import from which, and that everything above it comes through the one door."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

import minimllm

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "minimllm"
# Lowest first; those in one tuple stand side by side and do not know each other.
FLOORS = (
    ("layers",),
    ("data",),
    ("weights",),
    ("inference",),
    ("training",),
    ("models",),
    ("inspection",),
    ("figures",),
    ("exercises", "widgets"),
    ("lessons",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
DOTTED = re.compile(r"\bminimllm(?:\.\w+)+")


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; ``__main__`` files are doors like the notebooks, and left out."""
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "__main__.py"]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files, strict=True))


MODULES = modules()


def imports(source: str, module: str, is_package: bool) -> set[str]:
    """The package's modules that a source imports, lazy imports and dotted names in strings (which load a module by name) included."""
    found = set()
    here = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*here[: len(here) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module or ""
            candidates = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(DOTTED, node.value):
            candidates = [node.value] if home_of(node.value) != "minimllm" else []  # a file's name may begin like the package's
        else:
            continue
        for name in candidates:
            if name.split(".")[0] == "minimllm":
                found.add(home_of(name))
    return found


def home_of(name: str) -> str:
    """The longest beginning of a dotted name that is a module; a name at the door counts as the module that it comes from."""
    parts = name.split(".")
    if len(parts) == 2 and parts[1] in minimllm._HOME:
        return f"minimllm.{minimllm._HOME[parts[1]]}"
    while ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts)


def graph() -> dict[str, set[str]]:
    below = {name: file for name, file in MODULES.items() if name != "minimllm"}
    return {name: imports(file.read_text(encoding="utf-8"), name, file.name == "__init__.py") for name, file in below.items()}


def upward(edges: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that leave a room for one that does not lie below it."""
    rooms = {name: name.split(".")[1] for name in edges}
    return [
        (name, other)
        for name, others in edges.items()
        for other in others
        if other == "minimllm" or (rooms[name] != other.split(".")[1] and LEVEL[other.split(".")[1]] >= LEVEL[rooms[name]])
    ]


def circles(edges: dict[str, set[str]]) -> list[str]:
    """The modules that import themselves by some way; a package's ``__init__`` gathers its modules and may be passed through by none."""
    found = []
    for start in edges:
        seen, waiting = set(), [other for other in edges[start] if other != start]
        while waiting:
            name = waiting.pop()
            if name == start:
                found.append(start)
                break
            if name not in seen:
                seen.add(name)
                waiting.extend(edges.get(name, ()))
    return found


def test_every_folder_is_a_floor():
    folders = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    assert folders == set(LEVEL)
    assert [file.name for file in PACKAGE.glob("*.py")] == ["__init__.py"]


def test_imports_run_down():
    assert upward(graph()) == []


def test_no_module_imports_itself_by_any_way():
    assert circles(graph()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from minimllm.models.vit import ViT",
        "import minimllm.models.vit",
        "from minimllm import ViT",
        "def later():\n    from ..models import vit",
        "from ..models.vit import ViT",
        "HOMES = {'ViT': 'minimllm.models.vit'}",
    ],
)
def test_each_way_to_import_is_seen(source):
    edges = {"minimllm.training.loop": imports(source, "minimllm.training.loop", False), "minimllm.models.vit": {"minimllm.training.loop"}}
    assert upward(edges) == [("minimllm.training.loop", "minimllm.models.vit")]
    assert circles(edges) == ["minimllm.training.loop", "minimllm.models.vit"]


USERS = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "assets" / "recipes").glob("*.py"), *PACKAGE.rglob("__main__.py")]


@pytest.mark.parametrize("file", sorted(USERS), ids=lambda file: file.name)
def test_lessons_recipes_and_programs_come_through_the_door_once(file):
    if file.suffix == ".ipynb":
        cells = [cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
        sources = [re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE) for source in cells]
    else:
        sources = [file.read_text(encoding="utf-8")]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    ours = [node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "minimllm"]
    assert [node.module for node in ours] == ["minimllm"] * len(ours) and len(ours) <= 1
    if file.suffix == ".ipynb":
        assert "from minimllm import" in next(source for source in sources if source.strip()), "the first cell brings what the lesson needs"
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in names if name.split(".")[0] == "minimllm"]
