"""Decode and preprocess pictures in threads, ahead of the model, in order, as batches.

Damaged pictures become errors in their batch, and the look-ahead is bounded. Threads suffice:
Pillow releases Python's lock while it decodes and resizes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.errors import ArgumentError, ImageError
from convnext.images.decode import Source, decode
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named, Sources, iterate
from convnext.images.transform import pixels
from convnext.processors import available_processors

__all__ = ["DecodedBatch", "batches"]

Result = TypeVar("Result")
_Prepared = NDArray[np.uint8] | ImageError


@dataclass(frozen=True, eq=False)
class DecodedBatch:
    """Consecutive pictures, preprocessed.

    Attributes:
        ids: Names of all pictures, in order.
        pixels: uint8 `[n, size, size, 3]` of the pictures that could be read, in order.
        errors: The errors of the others, by position in `ids`.
    """

    ids: tuple[str, ...]
    pixels: NDArray[np.uint8]
    errors: Mapping[int, ImageError]

    def outcomes(self, results: Sequence[Result]) -> Iterator[tuple[str, Result | ImageError]]:
        """Pair every id with its picture's result, or with its error.

        Args:
            results: One for each of `pixels`, such as the model's logits.
        """
        if len(results) != len(self.pixels):
            raise ArgumentError(
                f"Got {len(results)} results for {len(self.pixels)} pictures; give one for each."
            )
        following = iter(results)
        for position, name in enumerate(self.ids):
            yield name, self.errors[position] if position in self.errors else next(following)


def batches(
    sources: Sources,
    preprocess: Preprocess,
    batch_size: int = 32,
    *,
    read: Callable[[Source], Image.Image] = decode,
    workers: int | None = None,
) -> Iterator[DecodedBatch]:
    """Read, resize and crop pictures in threads while the caller processes the previous batch.

    The threads stop when the caller leaves the loop over the batches, in whatever way.

    Args:
        sources: What `convnext.images.sources.iterate` takes. It is iterated in the caller's
            thread, one batch ahead and at least `2 * workers` pictures.
        preprocess: The checkpoint's recipe.
        batch_size: Pictures in a batch; the last may have fewer.
        read: Decodes a source to an RGB picture, or raises an `ImageError`; for example
            `functools.partial(decode, orientation=False)`.
        workers: Threads; by default one for each processor.

    Yields:
        Batches, with the pictures in the order of `sources`.

    Raises:
        ArgumentError: A number is too small.
        ArgumentTypeError: A source has the wrong type.

    Example:
        >>> [batch] = batches([np.zeros((9, 9), np.uint8), b"oops"], Preprocess(size=4))
        >>> batch.pixels.shape, batch.ids, list(batch.errors)
        ((1, 4, 4, 3), ('#0', '#1'), [1])
    """
    workers = available_processors() if workers is None else workers
    if min(batch_size, workers) < 1:
        raise ArgumentError(
            f"batch_size and workers must be 1 or more; got {batch_size} and {workers}."
        )
    return _run(iterate(sources), preprocess, batch_size, read, workers)


def _run(
    sources: Iterator[Named],
    preprocess: Preprocess,
    batch_size: int,
    read: Callable[[Source], Image.Image],
    workers: int,
) -> Iterator[DecodedBatch]:
    lookahead = max(batch_size, 2 * workers)
    pending: deque[tuple[str, Future[_Prepared]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="convnext-images")
    try:
        for name, source in sources:
            pending.append((name, pool.submit(_prepare, source, preprocess, read)))
            if len(pending) == batch_size + lookahead:
                yield _collect(pending, batch_size, preprocess.size)
        while pending:
            yield _collect(pending, batch_size, preprocess.size)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(
    source: Source | ImageError, preprocess: Preprocess, read: Callable[[Source], Image.Image]
) -> _Prepared:
    if isinstance(source, ImageError):
        return source
    try:
        return pixels(read(source), preprocess)
    except ImageError as error:
        return ImageError(str(error))  # without the traceback, which references the picture


def _collect(
    pending: deque[tuple[str, Future[_Prepared]]], batch_size: int, size: int
) -> DecodedBatch:
    ids: list[str] = []
    good: list[NDArray[np.uint8]] = []
    errors: dict[int, ImageError] = {}
    for position in range(min(batch_size, len(pending))):
        name, future = pending.popleft()
        ids.append(name)
        prepared = future.result()
        if isinstance(prepared, ImageError):
            errors[position] = prepared
        else:
            good.append(prepared)
    return DecodedBatch(tuple(ids), np.array(good, np.uint8).reshape(-1, size, size, 3), errors)
