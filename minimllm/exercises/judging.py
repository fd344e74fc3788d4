"""Judging a learner's function: unsolved, right, a known mistake, or something else that can be put into words."""

import copy
import dis
import inspect
import linecache
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from . import symptoms
from .symptoms import same


@dataclass(frozen=True)
class Mistake:
    """A mistake that people make: what they write, by name, and the hint that helps who wrote one of these."""

    functions: Mapping[str, Callable]
    hint: str


class Wrong:
    """A wrong function of an exercise's table, to be given its hint: ``Wrong(lambda right: -right).hint("A minus is missing.")``.

    It asks for what it needs by the names of its parameters: arguments of the exercise, by the names that the reference has for them;
    ``right``, what the reference gives for them; ``again``, the reference itself, to be called with some arguments changed:
    ``lambda again, text: again(text=text + 1)``. Parameters with a default are its own.

    Args:
        function: the wrong function.
        also: others that deserve the same hint: the mistake made in another way, or together with another one. Names that begin with an
            underscore go on from the mistake's own.
    """

    def __init__(self, function: Callable, **also: Callable):
        self.functions = {"": function, **also}

    def hint(self, text: str) -> Mistake:
        return Mistake(self.functions, " ".join(text.split()))


@dataclass(frozen=True)
class Exercise:
    """What a learner is asked to write, as data.

    Args:
        reference: the right function.
        cases: gives the arguments to try, each a tuple. Between them they must tell every mistake from the reference.
        mistakes: the known wrong functions with their hints, by name.
        afterthought: something to think of, for who has solved it.
        batched: which arguments have a batch as their first dimension, to notice a function that is right only for a single sample.
        learning: which arguments a gradient flows back to; a right result with a wrong gradient is then not right.
        told: says of a function what is wrong with its result on a case, in place of what its numbers show.
    """

    reference: Callable
    cases: Callable[[], Sequence[tuple]]
    mistakes: Mapping[str, Mistake]
    afterthought: str
    batched: Sequence[int] = ()
    learning: Sequence[int] = ()
    told: Callable[[Callable, tuple], str] | None = None

    @property
    def names(self) -> list[str]:
        """What the arguments are called."""
        return list(inspect.signature(self.reference).parameters)

    @cached_property
    def tried(self) -> tuple[list[tuple], Callable[[Callable, int], "_Attempt"]]:
        """The cases, and what a function of the table does on the case of a number; each is tried once, whoever is judged."""
        cases = list(self.cases())
        return cases, cache(lambda function, number: _Attempt(function, cases[number], self.learning))

    @cached_property
    def wrong_functions(self) -> dict[str, tuple[Callable, str]]:
        """Every wrong function of the table with its hint, by name; as a learner would have written it, called with a case's arguments."""
        return {
            also if also and not also.startswith("_") else name + also: (self.solution(wrong), mistake.hint)
            for name, mistake in self.mistakes.items()
            for also, wrong in mistake.functions.items()
        }

    def solution(self, wrong: Callable) -> Callable:
        """A wrong function of the table as a learner would have written it: to be called with the arguments of a case."""
        parameters = inspect.signature(wrong).parameters.values()
        wanted = [one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]

        def function(*arguments: Any) -> Any:
            given = dict(zip(self.names, arguments, strict=False))  # the reference may have options of its own

            def again(**changed: Any) -> Any:
                return self.reference(**given | changed)

            return wrong(**{name: again if name == "again" else again() if name == "right" else given[name] for name in wanted})

        return function


@dataclass(frozen=True)
class Verdict:
    """What became of an attempt, and what to tell the learner."""

    status: Literal["unsolved", "solved", "mistake", "wrong"]
    message: str


class _Attempt:
    """A function on one case: what it gave or raised, the gradients of its result, and whether it left its arguments alone."""

    def __init__(self, function: Callable, arguments: tuple, learning: Sequence[int] = ()):
        given = copy.deepcopy(arguments)
        self.result: Any = None
        self.error: Exception | None = None
        self.gradients: tuple[Tensor | None, ...] = ()
        try:
            leaves = {place: given[place].requires_grad_() for place in learning}
            given = tuple(leaves[place].clone() if place in leaves else value for place, value in enumerate(given))
            self.result = function(*given)
            if leaves and isinstance(self.result, Tensor) and self.result.requires_grad:
                weights = torch.randn(self.result.shape, generator=torch.Generator().manual_seed(0))
                self.gradients = torch.autograd.grad(self.result, list(leaves.values()), weights, allow_unused=True)
        except Exception as error:
            self.error = error
        self.changed = [place for place, (before, after) in enumerate(zip(arguments, given, strict=True)) if not same(before, after)]
        self.unsolved = isinstance(self.error, NotImplementedError) or (self.error is None and _is_left_open(function, self.result))


def _is_left_open(function: Callable, result: Any) -> bool:
    """Whether a function without an error is still a stub: ``...`` came back, or nothing did and its body does nothing either."""
    if result is not None:
        return result is ...
    idle = {"RESUME", "NOP", "CACHE", "COPY_FREE_VARS", "LOAD_CONST", "POP_TOP", "RETURN_CONST", "RETURN_VALUE"}
    code = getattr(function, "__code__", None)
    return code is not None and all(instruction.opname in idle for instruction in dis.get_instructions(code))


def judge(exercise: Exercise, function: Callable) -> Verdict:
    """Try a learner's function on every case of the exercise."""
    if not callable(function):
        return Verdict("wrong", f"expected a function, got {type(function).__name__}: pass the function itself, without calling it.")
    cases, tried = exercise.tried
    attempts = [_Attempt(function, case, exercise.learning) for case in cases]
    if all(attempt.unsolved for attempt in attempts):
        return Verdict("unsolved", "not solved yet. The lesson goes on without it; come back when you like.")
    expected = [tried(exercise.reference, number) for number in range(len(cases))]
    right = _alike(attempts, expected)
    if right and _alike(attempts, expected, gradients=True):
        return _judge_manners(exercise, function, cases, attempts)
    for wrong, hint in exercise.wrong_functions.values():
        if _alike(attempts, (tried(wrong, number) for number in range(len(cases))), gradients=right):
            return Verdict("mistake", f"not yet. {hint}")
    return Verdict(
        "wrong", _told_gradients(exercise, attempts, expected) if right else _told(exercise, function, cases, attempts, expected)
    )


def _alike(attempts: Sequence[_Attempt], others: Iterable[_Attempt], gradients: bool = False) -> bool:
    """Whether two functions did the same on every case: equal results, or an error of the same type; and gave a result at least once.

    Of ``others`` no more are asked for than it takes to find a difference.
    """
    if all(attempt.error for attempt in attempts):
        return False
    pairs = zip(attempts, others, strict=True)
    return all(
        type(one.error) is type(other.error)
        and (one.error is not None or same(one.result, other.result))
        and (not gradients or same(one.gradients, other.gradients))
        for one, other in pairs
    )


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


def _told(
    exercise: Exercise, function: Callable, cases: Sequence[tuple], attempts: Sequence[_Attempt], expected: Sequence[_Attempt]
) -> str:
    """The first error, or what is wrong with the first wrong result."""
    for case, attempt in zip(cases, attempts, strict=True):
        if attempt.error is not None:
            return f"not yet. {symptoms.call(exercise.names, case)}, your function {_told_error(attempt.error, function)}"
    results = [(mine.result, model.result) for mine, model in zip(attempts, expected, strict=True)]
    case, (result, right) = next((case, pair) for case, pair in zip(cases, results, strict=True) if not same(*pair))
    if exercise.told is not None and (told := exercise.told(function, copy.deepcopy(case))) is not None:
        return f"not yet. {told}"
    symptom = symptoms.describe(result, right)
    if symptoms.is_number(right):  # one number alone shows no pattern, those of all cases may
        symptom += symptoms.pattern(results)
    if _right_row_by_row(exercise, function, case, right):
        symptom += " For each sample alone it is right: somewhere the samples of a batch get mixed, or a batch of one is assumed."
    return f"not yet. {symptoms.call(exercise.names, case)}: {symptom}"


def _told_gradients(exercise: Exercise, attempts: Sequence[_Attempt], expected: Sequence[_Attempt]) -> str:
    mine, model = next(pair for pair in zip(attempts, expected, strict=True) if not same(pair[0].gradients, pair[1].gradients))
    if not mine.gradients:
        return "the result is right, but no gradient flows back through it: something is detached, or computed under no_grad."
    pairs = zip(exercise.learning, mine.gradients, model.gradients, strict=True)
    place, gradient, right = next((place, one, other) for place, one, other in pairs if not same(one, other))
    words = "nothing flows back to it." if gradient is None else symptoms.describe(gradient, right)
    return f"the result is right, but the backward pass is not. The gradient of {exercise.names[place]}: {words}"


def _right_row_by_row(exercise: Exercise, function: Callable, case: tuple, right: Any) -> bool:
    if not exercise.batched or not isinstance(right, Tensor) or len(right) < 2:
        return False
    for row in range(len(right)):
        alone = tuple(value[row : row + 1] if place in exercise.batched else value for place, value in enumerate(case))
        if not same(_Attempt(function, alone).result, right[row : row + 1]):
            return False
    return True


def _told_error(error: Exception, function: Callable) -> str:
    """The error in words, with the line of the learner's own code where it happened."""
    words = f"stopped with {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    code = getattr(function, "__code__", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename]
    if frames:
        number = frames[-1].lineno
        line = linecache.getline(code.co_filename, number).strip()
        words += f"\n  in line {number - code.co_firstlineno + 1} of it: {line}" if line else ""
    return words + symptoms.advice(error)
