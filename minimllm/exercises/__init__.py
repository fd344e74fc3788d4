"""The checks behind the lessons' exercises: ``check("name", function)`` says whether a function is right and, if not, what seems wrong.

An exercise is data: a reference, cases to try it on, and the mistakes that people make, each as the wrong function itself with the hint
that helps. A learner's function that gives what a wrong function gives gets that hint; any other symptom is put into words by ``symptoms``.
A new exercise goes into its lesson's module here, in the mapping ``EXERCISES``; the tests then prove it, mistake by mistake.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable

from .judging import Exercise, Mistake, Verdict, Wrong, judge

__all__ = ["Exercise", "Mistake", "Verdict", "Wrong", "all_exercises", "check", "judge"]


@functools.cache
def all_exercises() -> dict[str, Exercise]:
    """Every exercise of the course by name, from the ``EXERCISES`` of each lesson's module. ``ValueError`` where two share a name."""
    found: dict[str, Exercise] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith("lesson_")):
        for name, exercise in importlib.import_module(f"{__name__}.{module}").EXERCISES.items():
            if name in found:
                raise ValueError(f"two exercises are called {name!r}; the second is in {module}")
            found[name] = exercise
    return found


def check(name: str, function: Callable) -> None:
    """Try ``function`` on the cases of the exercise ``name`` and print what was found. An unsolved or broken function raises nothing.

    Raises:
        ValueError: if there is no exercise of this name.
    """
    exercises = all_exercises()
    if name not in exercises:
        raise ValueError(f"there is no exercise {name!r}; there are {', '.join(exercises)}")
    print(f"{name}: {judge(exercises[name], function).message}")
