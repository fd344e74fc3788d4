"""How many of the processor's threads a computation gets."""

import contextlib
from collections.abc import Iterator

import torch

# Waking a second thread takes about a tenth of a millisecond. A product of 32 x 96 and 96 x 96 numbers took 9 microseconds with one thread
# and 106 with two; with two cores, the second one paid from about this many multiply-adds on.
SMALL = 15_000_000


@contextlib.contextmanager
def threads_for(multiply_adds: float, device: torch.device) -> Iterator[None]:
    """Within it torch has one thread if the largest matrix product there, of so many multiply-adds, is small; afterwards what it had.

    Only the processor has threads to give: on an accelerator nothing changes. Another thread of Python that uses torch for the first time
    meanwhile is left with one.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or multiply_adds >= SMALL or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
