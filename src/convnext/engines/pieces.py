"""Divide a large batch into pieces of four pictures.

A layer's output for four pictures is still in the cache when the next layer reads it, so pieces are
at least as fast as the whole batch, and take less memory.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["PIECE", "pieces"]

PIECE = 4  # measured, see docs/engines.md


def pieces(pictures: int, *, ones: bool = False, streams: int = 1) -> Iterator[slice]:
    """Yield the pieces of a batch.

    Args:
        pictures: Size of the batch.
        ones: Whether to yield the remainder one by one, for graphs of `PIECE` pictures or one.
        streams: Pieces computed at once. With `ones`, pieces that do not keep all streams busy are
            part of the remainder.

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
