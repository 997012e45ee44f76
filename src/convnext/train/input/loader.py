"""Loads training batches ahead of the step, identical for any number of workers.

Workers fill slices of batches in shared memory; this process mixes them and yields them in order.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from convnext.data.labelled import Examples
from convnext.data.random_streams import Purpose, check_seed, stream
from convnext.errors import ArgumentError, ImageError
from convnext.images.batches import batches as decoded_batches
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named
from convnext.images.transform import normalise
from convnext.processors import available_processors
from convnext.train.augment.mixing import Mixer
from convnext.train.augment.transforms import Transform
from convnext.train.input.order import Order
from convnext.train.input.pool import Pool
from convnext.train.input.team_order import PairedOrder
from convnext.train.input.worker import BatchMaker, Slice

__all__ = ["Loader", "TrainingBatch", "evaluation_batches"]

_log = logging.getLogger("convnext")


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """The input of a training step.

    Attributes:
        step: Number of the step.
        pictures: `[n, size, size, 3]`, float32, augmented, normalised and mixed.
        targets: `[n, classes]`, float32, smoothed and mixed; without a mixer, class numbers `[n]`
            or masks `[n, size, size]`.
        bad: Pictures that could not be read and were replaced, each with the reason.
        answers: A teacher's for these pictures, if there is one.
    """

    step: int
    pictures: NDArray[np.float32]
    targets: NDArray[Any]
    bad: tuple[tuple[str, str], ...] = ()
    answers: NDArray[np.float32] | None = None


class Loader:
    """Iterates over the batches of a run.

    Batch `n` depends on the data, the settings, the seed, the batch size and `n` alone, not on the
    number of workers or the first step. Several hosts together have the pictures of a single host,
    mixed in the same pairs (see `team_order`).

    Args:
        examples: The pictures.
        augmentation: Transforms each picture.
        mixer: Mixes batches and labels; None for pictures without labels or with masks.
        order: Order of the examples.
        batch_size: Of all hosts together.
        seed: Of the run.
        workers: Processes that read and augment; with 0, this process does so when a batch is
            requested. By default one for each processor (on Windows 0, the only choice).
        prefetch: Batches made ahead. By default four, or fewer if they are large.
        host: Rank of this host and number of hosts. Each has an equal, even number of rows.

    Attributes:
        waited: Seconds spent waiting for pictures and mixing them.
        bad: Pictures that could not be read, each with the reason.

    Raises:
        ArgumentError: A number is not allowed, or the mixer has fewer classes than the data.
    """

    def __init__(  # noqa: PLR0913
        self,
        examples: Examples,
        augmentation: Transform,
        mixer: Mixer | None,
        order: Order,
        *,
        batch_size: int,
        seed: int,
        workers: int | None = None,
        prefetch: int | None = None,
        host: tuple[int, int] = (0, 1),
    ) -> None:
        check_seed(seed)
        if workers is None:
            workers = available_processors() if os.name == "posix" else 0
        _check(examples, mixer, order, batch_size, host[1])
        if workers < 0 or (prefetch is not None and prefetch < 1):
            raise ArgumentError(
                f"workers is 0 or more and prefetch 1 or more; got {workers} and {prefetch}."
            )
        local = batch_size // host[1]
        part = order if host == (0, 1) else PairedOrder(order, *host, batch_size)
        self._maker = BatchMaker(examples.cached(), augmentation, part, local, seed)
        self._mixer = mixer
        self._pool = Pool(self._maker, workers, prefetch) if workers else None
        self._runs = 0
        self.waited = 0.0
        self.bad: dict[str, str] = {}

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds spent beside the steps, for the metrics."""
        return {"waiting": self.waited}

    def batches(self, start_step: int, stop_step: int) -> Iterator[TrainingBatch]:
        """Iterate over the batches of a range of steps.

        Args:
            start_step: The first step.
            stop_step: The step after the last. Batches are made ahead up to here, so pass a long
                range.

        Raises:
            ImageError: Most pictures cannot be read.
            TrainingError: A worker was killed, or failed.
        """
        if not 0 <= start_step <= stop_step:
            raise ArgumentError(
                f"Steps are 0 or more, and stop_step is not below start_step; got {start_step} and "
                f"{stop_step}."
            )
        self._runs += 1
        return self._iterate(start_step, stop_step, self._runs)

    def _iterate(self, start: int, stop: int, run: int) -> Iterator[TrainingBatch]:
        if self._pool:
            self._pool.begin(start, stop)
        for step in range(start, stop):
            if run != self._runs:
                raise ArgumentError(
                    "This iterator ended when batches() was called again. Use the latest one."
                )
            began = time.perf_counter()
            batch = self._pool.take(step, self._mixed) if self._pool else self._make(step)
            self.waited += time.perf_counter() - began
            self._report(batch)
            yield batch

    def _make(self, step: int) -> TrainingBatch:
        maker = self._maker
        size = maker.transform.size
        pictures = np.empty((maker.batch_size, size, size, 3), np.float32)
        shape, dtype = maker.targets()
        labels = np.empty(shape, dtype)
        bad = maker.fill(Slice(step, 0, 0, maker.batch_size), pictures, labels)
        return self._mixed(step, pictures, labels, bad)

    def _mixed(
        self,
        step: int,
        pictures: NDArray[np.float32],
        labels: NDArray[Any],
        bad: tuple[tuple[str, str], ...],
    ) -> TrainingBatch:
        if self._mixer is None:
            return TrainingBatch(step, pictures.copy(), labels.copy(), bad)
        generator = stream(self._maker.seed, Purpose.MIXING, step)
        return TrainingBatch(step, *self._mixer(pictures, labels, generator), bad)

    def _report(self, batch: TrainingBatch) -> None:
        for name, reason in batch.bad:
            if name not in self.bad:
                self.bad[name] = reason
                _log.warning("%s is skipped: %s", name, reason)

    def close(self) -> None:
        """End the workers; batches already yielded stay valid."""
        self._runs += 1
        if self._pool:
            self._pool.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check(
    examples: Examples, mixer: Mixer | None, order: Order, batch_size: int, hosts: int
) -> None:
    if len(order) != len(examples):
        raise ArgumentError(
            f"The order is of {len(order)} examples, and the data has {len(examples)}. Make it "
            "from the same examples."
        )
    if batch_size < 1 or batch_size % hosts:
        raise ArgumentError(
            f"batch_size is a positive multiple of the number of hosts, {hosts}; got {batch_size}."
        )
    highest = int(examples.labels.max())
    if mixer is not None and highest >= mixer.num_classes:
        raise ArgumentError(
            f"The data has a class {highest}, and the mixer makes targets for "
            f"{mixer.num_classes} classes, counted from 0."
        )


def evaluation_batches(
    examples: Examples, preprocess: Preprocess, batch_size: int, workers: int | None = None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64], int]]:
    """Iterate over all pictures in order, preprocessed as in inference, in batches of one size.

    Args:
        examples: The pictures. Unreadable ones are skipped with a warning. If they are small and
            read more than once, pass `examples.cached()`.
        preprocess: The model's preprocessing.
        batch_size: Pictures in a batch.
        workers: Threads that read ahead; by default one for each processor, or a single one if
            pixels are in memory, as there is nothing to decode in parallel.

    Yields:
        `[batch_size, size, size, 3]` float32, `[batch_size]` int64, and the number of pictures: the
        last batch is padded with zeros.
    """
    named = (Named(examples.name(number), cast("Any", number)) for number in range(len(examples)))
    read = cast("Any", examples.read)
    if workers is None and examples.in_memory:
        workers = 1
    shape = (batch_size, preprocess.size, preprocess.size, 3)
    pictures, labels, count, number = _empty(shape), np.zeros(batch_size, np.int64), 0, 0
    for batch in decoded_batches(named, preprocess, batch_size, read=read, workers=workers):
        values = normalise(batch.pixels, preprocess)
        for name, value in batch.outcomes(list(values)):
            if isinstance(value, ImageError):
                _log.warning("%s is skipped: %s", name, value)
            else:
                pictures[count], labels[count] = value, examples.labels[number]
                count += 1
            number += 1
            if count == batch_size:
                yield pictures, labels, count
                pictures, labels, count = _empty(shape), np.zeros(batch_size, np.int64), 0
    if count:
        yield pictures, labels, count


def _empty(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)
