"""The checks behind the lessons' exercises: ``check("name", function)`` says whether a function is right and, if not, what seems wrong.

An exercise is data: a reference, cases to try it on, and the mistakes that people make, each as the wrong function itself with the hint
that helps. A learner's function that gives what a wrong function gives gets that hint; any other symptom is put into words by ``symptoms``.
A new exercise goes into its lesson's module here, in the mapping ``EXERCISES``; the tests then prove it, mistake by mistake.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable

import torch
from torch import Tensor

from minimllm.models.cross_attention import CrossAttentionMLLM
from minimllm.models.unified import UnifiedMLLM
from minimllm.models.vit import ViT

from .building import compare_model
from .counting import remember, remembered
from .judging import Exercise, Mistake, Verdict, Wrong, judge
from .places import GatedParts, compare_forward, parts_of

__all__ = ["Exercise", "Mistake", "Verdict", "Wrong", "all_exercises", "check", "check_forward", "check_vit", "judge", "solved"]


def lesson_modules() -> list[str]:
    """The modules that hold exercises, in the order of the lessons."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith("lesson_"))


@functools.cache
def all_exercises() -> dict[str, Exercise]:
    """Every exercise of the course by name, from the ``EXERCISES`` of each lesson's module. ``ValueError`` where two share a name."""
    found: dict[str, Exercise] = {}
    for module in lesson_modules():
        for name, exercise in importlib.import_module(f"{__name__}.{module}").EXERCISES.items():
            if name in found:
                raise ValueError(f"two exercises are called {name!r}; the second is in {module}")
            found[name] = exercise
    return found


def check(name: str, function: Callable) -> None:
    """Try ``function`` on the cases of the exercise ``name`` and print what was found. An unsolved or broken function raises nothing.

    A solved one is remembered, in this and every later session, and the count over all lessons is printed.

    Raises:
        ValueError: if there is no exercise of this name.
    """
    exercises = all_exercises()
    if name not in exercises:
        raise ValueError(f"there is no exercise {name!r}; there are {', '.join(exercises)}")
    verdict = judge(exercises[name], function)
    print(f"{name}: {verdict.message}")
    if verdict.status == "solved":
        remember(name)
        print(f"You have solved {len(remembered() & exercises.keys())} of {len(exercises)} exercises of the course.")


def solved() -> None:
    """Print how many exercises have been solved, in all and lesson by lesson."""
    exercises, found = all_exercises(), remembered()
    print(f"You have solved {len(found & exercises.keys())} of {len(exercises)} exercises of the course.")
    for module in lesson_modules():
        names = importlib.import_module(f"{__name__}.{module}").EXERCISES
        marks = ", ".join(f"{name} ✓" if name in found else name for name in names)
        print(f"  lesson {module.removeprefix('lesson_')}: {len(found & names.keys())} of {len(names)}  ({marks})")


def check_forward(forward: Callable, model: UnifiedMLLM | CrossAttentionMLLM, ids: Tensor, images: Tensor) -> None:
    """Run a learner's forward pass on the parts of a model, and print whether it gives the model's logits, or the first place that differs.

    Args:
        forward: called as ``forward(ids, images, vision, linear, language_model, image_token_id, merge)``, in lesson 06 with the
            ``projector`` in place of ``linear``, in lesson 07 as ``forward(ids, features, projector, language_model, cross_blocks,
            cross_before, image_token_id)``; not yet solved where it raises ``NotImplementedError``.
        model: of SmolVLM's form: an encoder without class token up to its last norm, squares of patches merged, one linear layer; or of
            the form of lesson 06's or lesson 07's.
        ids: ``(batch, length)``, with the model's image tokens in it; for lesson 07's, one in each row.
        images: ``(images, channels, height, width)``, normalised.

    Raises:
        ValueError: a model of another form; and what the model itself refuses.
    """
    parts = parts_of(model)
    name = getattr(forward, "__name__", "your function")
    try:
        if isinstance(parts, GatedParts):
            with torch.no_grad():
                features = model.features(images)
            found = compare_forward(forward, parts, ids, features, lambda: model(ids, features=features))
        else:
            found = compare_forward(forward, parts, ids, images, lambda: model(ids, images))
    except NotImplementedError:
        print(f"{name}: not solved yet. The lesson goes on without it; come back when you like.")
        return
    batch, length = ids.shape
    right = f"right: the model's logits, {batch} x {length} x {model.config.language.vocab_size:,} of them, to rounding."
    print(f"{name}: {right if found is None else f'not yet. {found}'}")


def check_vit(build: Callable, model: ViT, images: Tensor) -> None:
    """Give the weights of a ViT to a learner's own, and print whether its logits are the model's, or the first thing that differs.

    Args:
        build: the learner's class, called with ``model.config``; its parameters have the names of the model's. Not yet solved where it
            raises ``NotImplementedError``.
        model: with a class token.
        images: ``(batch, channels, height, width)``, normalised.
    """
    name = getattr(build, "__name__", "your model")
    try:
        found = compare_model(build, model, lambda each: each.head(each.encode(images)[:, 0]), images)
    except NotImplementedError:
        print(f"{name}: not solved yet. The lesson goes on without it; come back when you like.")
        return
    count = sum(weight.numel() for weight in model.state_dict().values())
    right = f"right. The shipped model's {count:,} weights fit into it, and the logits are equal, to rounding."
    print(f"{name}: {right if found is None else f'not yet: {found}'}")
