"""How sure a measured share is."""

import math


def wilson_interval(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The interval that covers the true share of hits with 95% certainty (for ``z = 1.96``), from ``hits`` of ``count`` (Wilson 1927).

    Unlike ``share ± z * standard error`` it stays within [0, 1] and does not shrink to nothing when every answer was right.

    Raises:
        ValueError: unless ``0 <= hits <= count`` and ``count`` is at least 1.
    """
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"hits must be between 0 and a count of at least 1, got {hits} of {count}")
    share, spread = hits / count, z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
