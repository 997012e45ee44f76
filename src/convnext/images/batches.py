"""Pictures read and resized ahead of the model, in order, as batches.

Why it exists: a model that waits for JPEG decoding wastes most of its time, and a run over many
pictures must neither stop at a damaged one, nor lose its place, nor fill the memory.
Threads do the work: Pillow lets go of the interpreter while it decodes and resizes, and nothing has
to be copied between processes. It knows nothing of models.
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

__all__ = ["Batch", "batches"]

Row = TypeVar("Row")
_Prepared = NDArray[np.uint8] | ImageError


@dataclass(frozen=True, eq=False)
class Batch:
    """Some consecutive pictures.

    Attributes:
        ids: Names of all of them, in order, whether they could be read or not.
        pixels: `[n, size, size, 3]`, uint8: those that could be read, in order.
        errors: Why the others could not, by position in `ids`.
    """

    ids: tuple[str, ...]
    pixels: NDArray[np.uint8]
    errors: Mapping[int, ImageError]

    def outcomes(self, rows: Sequence[Row]) -> Iterator[tuple[str, Row | ImageError]]:
        """Pair every id with its picture's row of `rows`, or with its error.

        Args:
            rows: One for each of `pixels`, such as the model's logits.
        """
        if len(rows) != len(self.pixels):
            raise ArgumentError(f"Got {len(rows)} rows for {len(self.pixels)} pictures.")
        following = iter(rows)
        for position, name in enumerate(self.ids):
            yield name, self.errors[position] if position in self.errors else next(following)


def batches(
    sources: Sources,
    preprocess: Preprocess,
    batch_size: int = 32,
    *,
    read: Callable[[Source], Image.Image] = decode,
    workers: int | None = None,
) -> Iterator[Batch]:
    """Read, resize and crop pictures in threads while the caller works on the batch before.

    Ending early needs nothing special: when the loop over the batches is left, however it is left,
    no further picture is begun and the threads end.

    Args:
        sources: What `convnext.images.sources.iterate` takes. It is advanced in the caller's
            thread, up to the end of the next batch and `2 * workers` pictures at least.
        preprocess: The checkpoint's recipe.
        batch_size: Pictures in a batch; the last may have fewer.
        read: Makes an RGB picture of a source, or raises an `ImageError`. To read otherwise, give
            `functools.partial(decode, orientation=False)`, say.
        workers: Threads; one for each processor by default.

    Yields:
        Batches, with the pictures in the order of `sources`.

    Raises:
        ArgumentError: A number is too small.
        ArgumentTypeError: One of the sources is nothing that could hold a picture.

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
) -> Iterator[Batch]:
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
        return ImageError(str(error))  # without a traceback, which holds on to the picture


def _collect(pending: deque[tuple[str, Future[_Prepared]]], batch_size: int, size: int) -> Batch:
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
    return Batch(tuple(ids), np.array(good, np.uint8).reshape(-1, size, size, 3), errors)
