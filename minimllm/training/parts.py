"""A batch in parts: one for each process, and of each as many as the memory asks for.

Whatever the cut, the loss is the whole batch's. Of a mean over rows a part contributes its loss times its share of the rows. What is
counted otherwise says so: a batch has an attribute ``rows`` and a method ``cut(first, last)``, and its parts know by what to divide
(:class:`~minimllm.training.packing.Packed`); a loss that compares the rows with each other has two halves, ``embed`` and ``compare``
(:func:`~minimllm.training.contrastive.clip_loss`).
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor


class Part(NamedTuple):
    """The rows ``first`` to ``last`` (not included) of a batch of ``of`` rows."""

    batch: Any
    first: int
    last: int
    of: int

    @property
    def share(self) -> float:
        """Of the rows of the whole batch."""
        return (self.last - self.first) / self.of

    def split(self, count: int) -> "list[Part]":
        """In ``count`` parts, whose sizes differ by one row at most.

        Raises:
            ValueError: fewer rows than parts, and what :func:`cut` refuses.
        """
        if count == 1:
            return [self]
        rows = self.last - self.first
        if rows < count:
            raise ValueError(f"a batch of {rows} rows cannot be cut for {count} processes: each needs a row; use a larger batch")
        pieces = spans(rows, count)
        return [Part(cut(self.batch, start, stop), self.first + start, self.first + stop, self.of) for start, stop in pieces]


def spans(rows: int, count: int) -> list[tuple[int, int]]:
    """Where each of ``count`` parts of so many rows begins and ends; their sizes differ by one at most."""
    return [(rows * number // count, rows * (number + 1) // count) for number in range(count)]


def whole(batch: Any) -> Part:
    """A batch that has not been cut; what is a part already stays one."""
    if isinstance(batch, Part):
        return batch
    count = count_rows(batch) or 1
    return Part(batch, 0, count, count)


def count_rows(batch: Any) -> int | None:
    """How many rows a batch says that it has, or the first of its tensors; ``None`` where there is no tensor."""
    if not isinstance(batch, Tensor) and isinstance(getattr(batch, "rows", None), int):
        return batch.rows
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else None
    return next((rows for _, value in fields(batch) if (rows := count_rows(value)) is not None), None)


def cut(batch: Any, first: int, last: int) -> Any:
    """The rows from ``first`` to ``last`` of every tensor in a batch, and of every list of as many texts or other things.

    Raises:
        ValueError: naming what has another number of rows, or no rows at all.
    """
    rows = count_rows(batch)
    if rows is None:
        raise ValueError(f"a {type(batch).__name__} without tensors cannot be cut by rows; give it an attribute rows and a method cut")
    return _cut(batch, slice(first, last), rows, "batch")


def _cut(value: Any, part: slice, rows: int, name: str) -> Any:
    if hasattr(value, "cut"):
        return value.cut(part.start, part.stop)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if (isinstance(value, Tensor) and value.ndim and len(value) == rows) or (_is_listing(value) and len(value) == rows):
        return value[part]
    if isinstance(value, Tensor) or _is_listing(value) or not fields(value):
        held = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        held += f" of {len(value)}" if _is_listing(value) else ""
        raise ValueError(
            f"{name} is {held}, and the batch has {rows} rows: it cannot be cut by rows. Give each row its own, "
            "or the batch an attribute rows and a method cut(first, last)"
        )
    inside = {key: _cut(each, part, rows, f"{name}[{key!r}]" if isinstance(key, int) else f"{name}.{key}") for key, each in fields(value)}
    if isinstance(value, dict):
        return inside
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **inside)
    return type(value)(*inside.values()) if hasattr(value, "_fields") else type(value)(inside.values())


def fields(value: Any) -> list[tuple[Any, Any]]:
    """What a dict, a tuple, a list or a dataclass holds, by its names or numbers; nothing of anything else."""
    if isinstance(value, dict):
        return list(value.items())
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple | list):
        return list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    return []


def _is_listing(value: Any) -> bool:
    """Whether a list holds something of each row, and not the tensors of a batch."""
    return isinstance(value, list) and not any(isinstance(each, Tensor) for each in value)


# ---- inside a part ---------------------------------------------------------------------------------------------------

_inside: list[Part] = []


@contextlib.contextmanager
def inside(part: Part) -> Iterator[None]:
    """Within it :func:`require_whole` knows that the loss of a part alone is computed."""
    _inside.append(part)
    try:
        yield
    finally:
        _inside.pop()


def require_whole(name: str) -> None:
    """Raise a ``ValueError`` where a loss that compares the rows of a batch with each other is given a part of them."""
    if _inside and _inside[-1].share < 1:
        part = _inside[-1]
        raise ValueError(
            f"{name} compares the rows of a batch with each other, and here it sees {part.last - part.first} of {part.of}: "
            "give train a loss that has the two halves embed and compare, as clip_loss itself has, not a function around it"
        )
