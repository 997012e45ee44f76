"""A large batch, a few pictures at a time.

Why it exists: what a layer writes for four pictures still lies in the cache when the next one reads
it, so four at a time are as fast as any number, or faster, and take less memory.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["PIECE", "pieces"]

PIECE = 4  # measured, see docs/engines.md


def pieces(pictures: int, *, ones: bool = False) -> Iterator[slice]:
    """The parts of a batch.

    Args:
        pictures: Size of the batch.
        ones: Whether what does not fill a piece comes one by one, for graphs that take either
            `PIECE` pictures or one.

    Example:
        >>> [part.stop - part.start for part in pieces(10, ones=True)]
        [4, 4, 1, 1]
    """
    start = 0
    while start < pictures:
        left = pictures - start
        size = PIECE if left >= PIECE else 1 if ones else left
        yield slice(start, start + size)
        start += size
