"""Random numbers that depend on what they are for and on nothing else.

Why it exists: what is done to a picture must be the same whichever process does it, whatever was
done before, and after every restart. So there is no generator that is handed on: each purpose,
and each number of a step, a position or an epoch, has a generator of its own.

Reference: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011 (Philox).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from convnext.errors import ArgumentError

__all__ = ["Purpose", "check_seed", "stream"]

_SEEDS = 2**63


class Purpose(IntEnum):
    """What random numbers are for."""

    EXAMPLE = 0
    MIXING = 1
    ORDER = 2
    CLASSES = 3
    MEMBERS = 4
    REPLACEMENT = 5
    HOLDING_OUT = 6
    MASKING = 7
    MASKING_TO_VALIDATE = 8


def stream(seed: int, purpose: Purpose, number: int, part: int = 0) -> np.random.Generator:
    """The generator for one purpose and number.

    Args:
        seed: The run's.
        purpose: Streams of different purposes never overlap.
        number: Of the step, the position or the epoch.
        part: Tells streams of one number apart.

    Example:
        >>> a, b = (stream(0, Purpose.EXAMPLE, 7).random() for _ in range(2))
        >>> a == b
        True
    """
    # The two lowest words of the counter are left to the generator: 2**130 numbers in a stream.
    return np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, part, purpose]))


def check_seed(seed: int) -> None:
    """Refuse what no generator takes.

    Raises:
        ArgumentError: The seed is negative or too large.
    """
    if not 0 <= seed < _SEEDS:
        raise ArgumentError(f"A seed is a whole number from 0 to {_SEEDS - 1}; got {seed!r}.")
