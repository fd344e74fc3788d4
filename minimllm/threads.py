"""How many of the processor's threads a computation gets."""

import contextlib
from collections.abc import Iterator

import torch

# Waking a second thread takes about a tenth of a millisecond. A product of 32 x 96 and 96 x 96 numbers took 9 microseconds with one thread
# and 106 with two; with two cores, the second one paid from about this many multiply-adds on.
SMALL = 15_000_000


@contextlib.contextmanager
def threads_for(multiply_adds: int, device: torch.device) -> Iterator[None]:
    """Within it torch has one thread if the largest matrix product there, of so many multiply-adds, is small; afterwards what it had.

    Only the processor has threads to give: on an accelerator nothing changes. The number of threads is one for the whole process.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and multiply_adds < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
