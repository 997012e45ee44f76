"""Counter-based random generators: one for each purpose and each step, example or epoch.

Random numbers are thus the same in any process, after any restart and in any order.

Reference: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011 (Philox).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from convnext.errors import ArgumentError

__all__ = ["Purpose", "check_seed", "stream"]

_SEEDS = 2**63


class Purpose(IntEnum):
    """Purposes of random numbers."""

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
    """Create the generator of a purpose and number.

    Args:
        seed: Of the run.
        purpose: Streams of different purposes never overlap.
        number: Of the step, the example or the epoch.
        part: Distinguishes streams of one number.

    Example:
        >>> a, b = (stream(0, Purpose.EXAMPLE, 7).random() for _ in range(2))
        >>> a == b
        True
    """
    # The two lowest words of the counter belong to the stream, which has 2**130 numbers.
    return np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, part, purpose]))


def check_seed(seed: int) -> None:
    """Check that a seed is in the generators' range.

    Raises:
        ArgumentError: The seed is negative or too large.
    """
    if not 0 <= seed < _SEEDS:
        raise ArgumentError(f"A seed is a whole number from 0 to {_SEEDS - 1}; got {seed!r}.")
