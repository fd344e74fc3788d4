"""Recipes (how a measured number is made) and their results files (what was measured).

A recipe is a module ``assets/recipes/NAME.py`` with a function for every experiment; ``python assets/recipes/NAME.py`` runs what is missing
from ``assets/results/NAME.json``, and a lesson reads that file. Each entry there is one run, so the work can be done in pieces.
"""

import importlib.util
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from minimllm.lessons.intervals import wilson_interval

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def load_recipe(name: str) -> ModuleType:
    """The recipe module ``assets/recipes/NAME.py``, whose functions a lesson may call.

    Raises:
        ValueError: if there is none, naming those there are.
    """
    path = ASSETS / "recipes" / f"{name}.py"
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.py"))
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(known) or 'none'}")
    specification = importlib.util.spec_from_file_location(f"recipe_{name}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def load_results(name: str) -> dict[str, dict[str, Any]]:
    """All runs in ``assets/results/NAME.json`` by their names; empty if nothing has been measured yet."""
    path = ASSETS / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def run_missing(
    name: str, runs: Mapping[str, Callable[[], Mapping[str, Any]]], wanted: Iterable[str] = (), seconds: float = math.inf
) -> None:
    """Do the runs that the results file lacks, and store each at once, with the seconds that it took.

    Args:
        name: of the recipe.
        runs: a function for each run, by name; its result is plain JSON.
        wanted: beginnings of names; ``()``: all.
        seconds: begin no run after so many, for work in pieces.
    """
    if os.environ.get("MINIMLLM_STEPS"):
        raise ValueError("MINIMLLM_STEPS cuts every training short, and what comes of it is no result; unset it")
    wanted, started = tuple(wanted) or ("",), time.perf_counter()
    if unmatched := [beginning for beginning in wanted if not any(run.startswith(beginning) for run in runs)]:
        raise ValueError(f"no run begins with {unmatched[0]!r}; there are: {', '.join(runs)}")
    for run, function in runs.items():
        if not run.startswith(wanted) or run in load_results(name):
            continue
        if time.perf_counter() - started > seconds:
            print("stopped for now; run the recipe again to go on")
            return
        begun = time.perf_counter()
        result = {**function(), "total_seconds": round(time.perf_counter() - begun, 1)}
        _store(name, {**load_results(name), run: result})
        print(run, result, flush=True)


def _store(name: str, results: Mapping[str, Any]) -> None:
    path = ASSETS / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")  # another process may be measuring other runs
    lines = ",\n".join(f"{json.dumps(run)}: {json.dumps(results[run], ensure_ascii=False)}" for run in sorted(results))
    unfinished.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    os.replace(unfinished, path)


def summary(results: Mapping[str, Mapping[str, Any]], beginning: str, metric: str = "accuracy", count: str = "n") -> dict[str, Any]:
    """Mean over the seeds of all runs called ``"BEGINNING, seed S"``: ``mean``, ``interval``, ``seeds``, ``values``, ``n`` and ``seconds``.

    ``interval`` is the 95% interval of the mean for the luck in which ``n`` examples were drawn for the test (all seeds saw the same ones);
    how much the seeds differ is seen in ``values``.

    Raises:
        ValueError: if there is no such run.
    """
    runs = {name: run for name, run in results.items() if name.rpartition(", seed ")[0] == beginning}
    if not runs:
        raise ValueError(f"no run {beginning!r} has been measured; there are: {', '.join(sorted(results)) or 'none'}")
    values, n = [run[metric] for run in runs.values()], next(iter(runs.values()))[count]
    mean = sum(values) / len(values)
    return {
        "mean": mean,
        "interval": wilson_interval(round(mean * n), n),
        "seeds": [int(name.rpartition(", seed ")[2]) for name in runs],
        "values": values,
        "n": n,
        "seconds": sum(run["seconds"] for run in runs.values()) / len(runs),
    }
