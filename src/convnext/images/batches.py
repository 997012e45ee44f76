"""Decode and preprocess pictures in threads, ahead of the model, in order, as batches.

Damaged pictures become errors in their batch, and the look-ahead is bounded. Threads suffice:
Pillow releases Python's lock while it decodes and resizes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
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

__all__ = ["DecodedBatch", "batches", "prepared"]

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
    outcomes = prepared(
        iterate(sources),
        lambda source: pixels(read(source), preprocess),
        max(batch_size, 2 * workers),
        workers,
    )
    return _grouped(outcomes, batch_size, preprocess.size)


def prepared(
    sources: Iterator[Named],
    prepare: Callable[[Source], Result],
    ahead: int,
    workers: int | None = None,
) -> Generator[tuple[str, Result | ImageError], None, None]:
    """Yield the name of each picture, in order, with what is prepared from it in threads.

    Args:
        sources: Pictures, iterated in the caller's thread.
        prepare: Called in a thread for each; its `ImageError` is yielded instead of a result.
        ahead: Pictures that are prepared in advance.
        workers: Threads; by default one for each processor.
    """
    pending: deque[tuple[str, Future[Result | ImageError]]] = deque()
    threads = available_processors() if workers is None else workers
    pool = ThreadPoolExecutor(threads, thread_name_prefix="convnext-images")
    try:
        for name, source in sources:
            pending.append((name, pool.submit(_attempt, prepare, source)))
            if len(pending) > ahead:
                name, future = pending.popleft()
                yield name, future.result()
        while pending:
            name, future = pending.popleft()
            yield name, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(
    prepare: Callable[[Source], Result], source: Source | ImageError
) -> Result | ImageError:
    if isinstance(source, ImageError):
        return source
    try:
        return prepare(source)
    except ImageError as error:
        return ImageError(str(error))  # without the traceback, which references the picture


def _grouped(
    outcomes: Generator[tuple[str, _Prepared], None, None], batch_size: int, size: int
) -> Iterator[DecodedBatch]:
    with closing(outcomes):
        while chunk := tuple(itertools.islice(outcomes, batch_size)):
            yield _batch(chunk, size)


def _batch(outcomes: Sequence[tuple[str, _Prepared]], size: int) -> DecodedBatch:
    good = [each for _, each in outcomes if not isinstance(each, ImageError)]
    errors = {at: each for at, (_, each) in enumerate(outcomes) if isinstance(each, ImageError)}
    ids = tuple(name for name, _ in outcomes)
    return DecodedBatch(ids, np.array(good, np.uint8).reshape(-1, size, size, 3), errors)
