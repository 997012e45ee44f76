"""A large batch, a few pictures at a time.

Why it exists: what a layer writes for four pictures still lies in the cache when the next one reads
it, so four at a time are as fast as any number, or faster, and take less memory.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["PIECE", "pieces"]

PIECE = 4  # measured, see docs/engines.md


def pieces(pictures: int, *, ones: bool = False, streams: int = 1) -> Iterator[slice]:
    """The parts of a batch.

    Args:
        pictures: Size of the batch.
        ones: Whether what is left comes one by one, for graphs that take either `PIECE` pictures or
            one.
        streams: How many pieces are worked on at once. With `ones`, what would not give each of
            them a piece is left.

    Example:
        >>> [part.stop - part.start for part in pieces(10, ones=True)]
        [4, 4, 1, 1]
        >>> [part.stop - part.start for part in pieces(13, ones=True, streams=2)]
        [4, 4, 1, 1, 1, 1, 1]
    """
    whole = pictures - pictures % (PIECE * streams) if ones else pictures
    for start in range(0, whole, PIECE):
        yield slice(start, min(start + PIECE, whole))
    for start in range(whole, pictures):
        yield slice(start, start + 1)
