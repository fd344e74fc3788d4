"""The package as a whole: its names, and what importing it costs."""

import os
import subprocess
import sys

import minimllm

HEAVY = ("torch", "transformers", "matplotlib", "sklearn", "torchvision", "IPython", "ipywidgets", "tokenizers")


def test_every_public_name_is_there():
    assert minimllm.__all__ and all(getattr(minimllm, name) is not None for name in minimllm.__all__)
    assert set(minimllm.__all__) <= set(dir(minimllm))
    assert not hasattr(minimllm, "a_name_that_is_not_there")


def imported_by(statement: str) -> set[str]:
    """The heavy libraries that a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    return set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert imported_by("import minimllm") == set()


def test_a_model_needs_torch_and_nothing_for_lessons():
    assert imported_by("from minimllm import ViT") == {"torch"}


def test_importing_the_package_lets_idle_threads_rest_unless_told_otherwise():
    program = "import minimllm, os; print(os.environ['OMP_WAIT_POLICY'])"
    bare = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    said = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout.strip()
        for environment in (bare, {**bare, "OMP_WAIT_POLICY": "active"})
    ]
    assert said == ["passive", "active"]
