"""Judging a learner's function: unsolved, right, a known mistake, or something else that can be put into words."""

import copy
import inspect
import linecache
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from . import symptoms
from .symptoms import same


@dataclass(frozen=True)
class Mistake:
    """A mistake that people make: a function that makes it, and the hint that helps who made it.

    Args:
        function: the wrong function.
        hint: what helps.
        also: other functions that deserve the same hint: the mistake made in another way, or together with another one.
    """

    function: Callable
    hint: str
    also: Sequence[Callable] = ()


@dataclass(frozen=True)
class Exercise:
    """What a learner is asked to write, as data.

    Args:
        reference: the right function.
        cases: gives the arguments to try, each a tuple. Between them they must tell every mistake from the reference.
        mistakes: the known wrong functions with their hints.
        afterthought: something to think of, for who has solved it.
        batched: which arguments have a batch as their first dimension, to notice a function that is right only for a single sample.
    """

    reference: Callable
    cases: Callable[[], Sequence[tuple]]
    mistakes: Sequence[Mistake]
    afterthought: str
    batched: Sequence[int] = ()


@dataclass(frozen=True)
class Verdict:
    """What became of an attempt, and what to tell the learner."""

    status: Literal["unsolved", "solved", "mistake", "wrong"]
    message: str


class _Attempt:
    """The learner's function on one case: what it gave or raised, and whether it left its arguments alone."""

    def __init__(self, function: Callable, arguments: tuple):
        given = copy.deepcopy(arguments)
        self.result: Any = None
        self.error: Exception | None = None
        try:
            self.result = function(*given)
        except Exception as error:
            self.error = error
        self.changed = [place for place, (before, after) in enumerate(zip(arguments, given, strict=True)) if not same(before, after)]
        self.unsolved = isinstance(self.error, NotImplementedError) or (self.error is None and (self.result is None or self.result is ...))


def judge(exercise: Exercise, function: Callable) -> Verdict:
    """Try a learner's function on every case of the exercise."""
    if not callable(function):
        return Verdict("wrong", f"expected a function, got {type(function).__name__}: pass the function itself, without calling it.")
    cases = list(exercise.cases())
    attempts = [_Attempt(function, case) for case in cases]
    if all(attempt.unsolved for attempt in attempts):
        return Verdict("unsolved", "not solved yet. The lesson goes on without it; come back when you like.")
    names = inspect.signature(exercise.reference).parameters
    expected = [_Attempt(exercise.reference, case) for case in cases]
    if _alike(attempts, expected):
        return _judge_manners(exercise, function, cases, attempts)
    for mistake in exercise.mistakes:
        for wrong in (mistake.function, *mistake.also):
            if _alike(attempts, (_Attempt(wrong, case) for case in cases)):
                return Verdict("mistake", f"not yet. {mistake.hint}")
    for case, attempt in zip(cases, attempts, strict=True):
        if attempt.error is not None:
            return Verdict("wrong", f"not yet. {symptoms.call(names, case)}, your function {_told(attempt.error, function)}")
    pairs = zip(cases, attempts, expected, strict=True)
    case, result, right = next((case, mine.result, model.result) for case, mine, model in pairs if not same(mine.result, model.result))
    symptom = symptoms.describe(result, right)
    if _right_row_by_row(exercise, function, case, right):
        symptom += " For each sample alone it is right: somewhere the samples of a batch get mixed, or a batch of one is assumed."
    return Verdict("wrong", f"not yet. {symptoms.call(names, case)}: {symptom}")


def _alike(attempts: Sequence[_Attempt], others: Iterable[_Attempt]) -> bool:
    """Whether two functions did the same on every case: equal results, or an error of the same type; and gave a result at least once.

    Of ``others`` no more are asked for than it takes to find a difference.
    """
    if all(attempt.error for attempt in attempts):
        return False
    pairs = zip(attempts, others, strict=True)
    return all(type(one.error) is type(other.error) and (one.error is not None or same(one.result, other.result)) for one, other in pairs)


def _judge_manners(exercise: Exercise, function: Callable, cases: Sequence[tuple], attempts: Sequence[_Attempt]) -> Verdict:
    """A right answer is still refused if it damages its arguments or comes out differently the next time."""
    for attempt in attempts:
        if attempt.changed:
            which = " and ".join(str(place + 1) for place in attempt.changed)
            return Verdict(
                "wrong",
                f"the result is right, but your function changes its argument {which} in place. Work on a new tensor instead: "
                "whoever calls it still needs the old one.",
            )
    if not all(same(_Attempt(function, case).result, attempt.result) for case, attempt in zip(cases, attempts, strict=True)):
        return Verdict("wrong", "the result is right, but a second call with the same arguments gives another one.")
    return Verdict("solved", f"right, on all {len(cases)} cases. {exercise.afterthought}")


def _right_row_by_row(exercise: Exercise, function: Callable, case: tuple, right: Any) -> bool:
    if not exercise.batched or not isinstance(right, Tensor) or len(right) < 2:
        return False
    for row in range(len(right)):
        alone = tuple(value[row : row + 1] if place in exercise.batched else value for place, value in enumerate(case))
        if not same(_Attempt(function, alone).result, right[row : row + 1]):
            return False
    return True


def _told(error: Exception, function: Callable) -> str:
    """The error in words, with the line of the learner's own code where it happened."""
    words = f"stopped with {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    code = getattr(function, "__code__", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename]
    if frames:
        number = frames[-1].lineno
        line = linecache.getline(code.co_filename, number).strip()
        words += f"\n  in line {number - code.co_firstlineno + 1} of it: {line}" if line else ""
    return words + symptoms.advice(error)
