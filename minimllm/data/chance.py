"""Random numbers that are a pure function of a key, computed for a whole batch at once.

A generator such as numpy's is a sequence: number 1000 cannot be had without the 999 before it, and row 7 of a batch depends on how many
numbers the rows before it took. The generated world instead gives every scene a 64-bit key of its own and reads off its random numbers by
counting, so that a scene is the same alone, in any batch, in any order, with any number of threads, on any machine.

The mixing function is that of SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014): a sequence
of additions, multiplications and shifts of whole numbers, exact everywhere.
"""

import operator

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_STEPS = np.arange(1, 4097, dtype=np.uint64) * np.uint64(_GOLDEN)


def mix(numbers: np.ndarray) -> np.ndarray:
    """Scrambles whole numbers (uint64), one to one: near ones come out as unlike as far ones."""
    numbers = numbers ^ (numbers >> _SHIFTS[0])
    numbers *= _FACTORS[0]
    numbers ^= numbers >> _SHIFTS[1]
    numbers *= _FACTORS[1]
    numbers ^= numbers >> _SHIFTS[2]
    return numbers


def draws(keys: np.ndarray, count: int, purpose: int = 0) -> np.ndarray:
    """``count`` 64-bit random numbers for each key, ``keys.shape + (count,)``; each ``purpose`` is a stream of its own of the same key."""
    if purpose:
        keys = mix(keys + np.uint64(_GOLDEN * (2 * purpose + 1) % 2**64))
    return mix(keys[..., None] + _STEPS[:count])


def uniform(keys: np.ndarray, count: int, purpose: int = 0) -> np.ndarray:
    """As :func:`draws`, as float64 in [0, 1): the upper 53 bits, exactly representable."""
    return (draws(keys, count, purpose) >> np.uint64(11)) * 2.0**-53


def scene_keys(seed: int, stream: int, start: int, count: int) -> np.ndarray:
    """Keys number ``start`` to ``start + count - 1`` of a stream. Streams of one seed, and of different seeds, have nothing in common."""
    root = mix(np.array([(seed + _GOLDEN * (stream + 1)) % 2**64], dtype=np.uint64))
    root = mix(root ^ np.uint64(stream + 1 << 56))
    return mix(root + np.arange(start + 1, start + 1 + count, dtype=np.uint64) * np.uint64(_GOLDEN))


def pick(allowed: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """One allowed choice per row, each equally likely: ``allowed`` bool ``(rows, choices)``, ``chance`` in [0, 1) -> index ``(rows,)``.

    A row without any allowed choice gives 0.
    """
    ranks = allowed.cumsum(1)
    return ((ranks > (chance * ranks[:, -1]).astype(np.int64)[:, None]) & allowed).argmax(1)


def check_seed(seed: int, name: str = "seed") -> int:
    """The seed as a plain integer; refuses what is not one."""
    try:
        value = operator.index(seed)
    except TypeError:
        value = None
    if value is None or isinstance(seed, bool):
        raise TypeError(f"{name} must be an integer, got {seed!r} of type {type(seed).__name__}")
    if not 0 <= value < 2**63:
        raise ValueError(f"{name} must be between 0 and 2**63 - 1, got {value}")
    return value
