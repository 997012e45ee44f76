"""The nearest vectors, exactly: products of pieces, of which only the best are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError
from convnext.processors import available_processors
from convnext.search.files import Piece, Vectors, checksum

__all__ = ["MOST_COMPARED", "Hit", "Pair", "near_duplicates", "nearest", "unit"]

BLOCK = 512  # vectors, which stay in a processor's cache
MOST_COMPARED = 200_000  # vectors compared each with each
SIDE = 2_048  # of a block of such comparisons

Array = NDArray[Any]


@dataclass(frozen=True)
class Hit:
    """A vector that was found.

    Attributes:
        name: Of its picture.
        score: The cosine of the angle to the query.
        index: Its number in the file.
    """

    name: str
    score: float
    index: int


class Pair(NamedTuple):
    """Two pictures with similar vectors, the first of which is earlier in the file."""

    first: str
    second: str
    score: float


def unit(vectors: Array, source: object = "a vector") -> NDArray[np.float32]:
    """Divide vectors by their length.

    Raises:
        ArgumentError: One is not finite, or has the length 0.
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    _check(lengths, source)
    return np.asarray(vectors / lengths, np.float32)


def nearest(vectors: Vectors, queries: Array, top: int = 10) -> list[list[Hit]]:
    """Find the stored vectors with the smallest angles to each query.

    Args:
        vectors: From `open_vectors`.
        queries: `[queries, width]`, of any length.
        top: Number of vectors for each query.

    Returns:
        For each query the best first; equal ones in the order of the file.

    Raises:
        ArgumentError: The widths differ, or a vector is damaged.

    Example:
        [hits] = nearest(open_vectors("photos.npz"), encoder(["red bicycle"]), top=3)
    """
    queries = np.atleast_2d(queries)
    if queries.shape[1] != vectors.width:
        raise ArgumentError(
            f"{vectors.path} holds vectors of {vectors.width} numbers, and the query has "
            f"{queries.shape[1]}: they are of another model."
        )
    if not isinstance(top, int) or top < 1:
        raise ArgumentError(f"top must be 1 or more, not {top!r}.")
    wanted = unit(queries, "the query").T
    best: list[list[Hit]] = [[] for _ in range(wanted.shape[1])]
    begin = 0
    for piece, scores in _scored(vectors, wanted):
        for hits, column in zip(best, scores.T, strict=True):
            worst = hits[-1].score if len(hits) == top else -np.inf
            chosen = np.flatnonzero(column > worst)
            if len(chosen) > top:
                ordered = np.argsort(-column[chosen], kind="stable")[:top]
                chosen = chosen[ordered]
            hits += [Hit(str(piece.names[i]), float(column[i]), begin + int(i)) for i in chosen]
            hits.sort(key=lambda hit: (-hit.score, hit.index))
            del hits[top:]
        begin += len(piece.vectors)
    return best


def _scored(vectors: Vectors, wanted: Array) -> Iterator[tuple[Piece, Array]]:
    """Pieces and their cosines `[n, queries]`; as many pieces at once as there are processors."""
    processors, total = available_processors(), 0
    pieces = vectors.unchecked()
    with ThreadPoolExecutor(processors) as pool:
        while several := list(islice(pieces, processors)):
            jobs = [pool.submit(_cosines, each.vectors, wanted, vectors.path) for each in several]
            for piece, job in zip(several, jobs, strict=True):
                scores, part = job.result()
                total = (total + part) % 2**64
                yield piece, scores
    vectors.check_sum(total)


def _cosines(vectors: Array, wanted: Array, source: object) -> tuple[Array, int]:
    """The cosines, and the checksum of the vectors."""
    scores, total = np.empty((len(vectors), wanted.shape[1]), np.float32), 0
    copy = np.empty((min(BLOCK, len(vectors)), vectors.shape[1]), np.float32)
    for begin in range(0, len(vectors), BLOCK):
        part = vectors[begin : begin + BLOCK]
        block = copy[: len(part)]
        block[...] = part  # in the cache, and aligned as numbers in a zip archive are not
        total = checksum(block, total)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))[:, None]
        _check(lengths, source)
        scores[begin : begin + BLOCK] = block @ wanted / lengths
    return scores, total


def _check(lengths: Array, source: object) -> None:
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ArgumentError(
            f"A vector of {source} is not finite, or zero, so its angles to others are unknown. "
            "The file is damaged, or the model: compute it again with `convnext embed`."
        )


def near_duplicates(vectors: Vectors, threshold: float = 0.95) -> Iterator[Pair]:
    """Find all pairs of stored vectors with a cosine of at least a threshold.

    Args:
        vectors: From `open_vectors`; all are held in memory.
        threshold: Between 0 and 1.

    Yields:
        The pairs, in the order of the file.

    Raises:
        ArgumentError: There are too many vectors, or the threshold is not allowed.
    """
    if not 0 < threshold <= 1:
        raise ArgumentError(f"The threshold is a number above 0 and up to 1, not {threshold!r}.")
    if vectors.count > MOST_COMPARED:
        raise ArgumentError(
            f"{vectors.path} holds {vectors.count:,} vectors; at most {MOST_COMPARED:,} are "
            "compared each with each. Use an approximate index, see docs/search.md."
        )
    names: list[str] = []
    parts: list[Array] = []
    for piece in vectors.pieces():
        names += map(str, piece.names)
        parts.append(unit(piece.vectors, vectors.path))
    every = np.concatenate(parts) if parts else np.empty((0, vectors.width), np.float32)
    return _pairs(names, every, threshold)


def _pairs(names: Sequence[str], every: Array, threshold: float) -> Iterator[Pair]:
    for top in range(0, len(every), SIDE):
        rows = every[top : top + SIDE]
        found: list[tuple[int, int, float]] = []
        for left in range(top, len(every), SIDE):
            scores = rows @ every[left : left + SIDE].T
            for i, j in np.argwhere(scores >= threshold - 1e-6):
                if top + i < left + j:
                    found.append((top + int(i), left + int(j), float(scores[i, j])))
        for first, second, score in sorted(found):
            yield Pair(names[first], names[second], min(score, 1.0))
