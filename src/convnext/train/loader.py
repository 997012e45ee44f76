"""Batches ahead of the training step, in order, the same ones whoever makes them.

Why it exists: a step that waits for pictures wastes the machine, and a run that is resumed or moved
to another machine must see the same bytes. Workers fill parts of batches in shared memory; here
they are put in order and mixed. It knows nothing of models.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError, ImageError
from convnext.images.batches import batches as decoded_batches
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named
from convnext.images.transform import normalise
from convnext.processors import available_processors
from convnext.train.augment import Transform
from convnext.train.labelled import Examples
from convnext.train.mixing import Mixer
from convnext.train.order import Order
from convnext.train.pool import Pool
from convnext.train.streams import Purpose, check_seed, stream
from convnext.train.team_order import PairedOrder
from convnext.train.worker import Job, Task

__all__ = ["Batch", "Loader", "evaluation_batches"]

_log = logging.getLogger("convnext")


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step trains on.

    Attributes:
        step: Its number.
        pictures: `[n, size, size, 3]`, float32, augmented, normalised and mixed.
        targets: `[n, classes]`, float32, smoothed and mixed; no columns without a mixer.
        bad: Pictures that could not be read and were replaced, each with the reason.
    """

    step: int
    pictures: NDArray[np.float32]
    targets: NDArray[np.float32]
    bad: tuple[tuple[str, str], ...] = ()


class Loader:
    """A run's batches.

    Batch `n` is a function of the data, the settings, the seed, the batch size and `n`: neither the
    number of workers nor where one began plays a part. With shards, the pictures of all hosts
    together are those of one host, and mixed with the same others (see `team_order`).

    Args:
        examples: The pictures.
        augmentation: What is done to each.
        mixer: What is done to a batch and its labels; None for pictures without labels.
        order: Which example comes when.
        batch_size: Of all hosts together.
        seed: Of the run.
        workers: Processes that read and augment; 0 does it in this one, when a batch is asked for.
            By default one for each processor (on Windows 0, as there are no others).
        prefetch: Batches that are made ahead. By default four, or fewer large ones.
        shard: Which host this is, of how many. Each has the same even number of every batch.

    Attributes:
        waited: Seconds that were spent on waiting for pictures and mixing them.
        bad: Each picture that could not be read, with the reason.

    Raises:
        ArgumentError: A number is not allowed, or the mixer has other classes than the data.
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
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        check_seed(seed)
        if workers is None:
            workers = available_processors() if os.name == "posix" else 0
        _check(examples, mixer, order, batch_size, shard[1])
        if workers < 0 or (prefetch is not None and prefetch < 1):
            raise ArgumentError(
                f"workers is 0 or more and prefetch 1 or more; got {workers} and {prefetch}."
            )
        local = batch_size // shard[1]
        part = order if shard == (0, 1) else PairedOrder(order, *shard, batch_size)
        self._job = Job(examples.cached(), augmentation, part, local, seed)
        self._mixer = mixer
        self._pool = Pool(self._job, workers, prefetch) if workers else None
        self._runs = 0
        self.waited = 0.0
        self.bad: dict[str, str] = {}

    def batches(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """The batches from one step up to another, which is left out.

        Args:
            start_step: The first.
            stop_step: The one behind the last. Batches are made ahead up to here, so ask for many
                at once.

        Raises:
            ImageError: Most pictures cannot be read.
            TrainingError: A worker was killed, or failed.
        """
        if not 0 <= start_step <= stop_step:
            raise ArgumentError(
                f"Steps are counted from 0 up: got {start_step} to {stop_step} (left out)."
            )
        self._runs += 1
        return self._iterate(start_step, stop_step, self._runs)

    def _iterate(self, start: int, stop: int, run: int) -> Iterator[Batch]:
        if self._pool:
            self._pool.begin(start, stop)
        for step in range(start, stop):
            if run != self._runs:
                raise ArgumentError("These batches ended when others were asked for.")
            began = time.perf_counter()
            batch = self._pool.take(step, self._mixed) if self._pool else self._make(step)
            self.waited += time.perf_counter() - began
            self._report(batch)
            yield batch

    def _make(self, step: int) -> Batch:
        job = self._job
        size = job.transform.size
        pictures = np.empty((job.batch_size, size, size, 3), np.float32)
        labels = np.empty(job.batch_size, np.int64)
        bad = job.fill(Task(step, 0, 0, job.batch_size), pictures, labels)
        return self._mixed(step, pictures, labels, bad)

    def _mixed(
        self,
        step: int,
        pictures: NDArray[np.float32],
        labels: NDArray[np.int64],
        bad: tuple[tuple[str, str], ...],
    ) -> Batch:
        if self._mixer is None:
            return Batch(step, pictures.copy(), np.zeros((len(labels), 0), np.float32), bad)
        generator = stream(self._job.seed, Purpose.MIXING, step)
        return Batch(step, *self._mixer(pictures, labels, generator), bad)

    def _report(self, batch: Batch) -> None:
        for name, reason in batch.bad:
            if name not in self.bad:
                self.bad[name] = reason
                _log.warning("%s is left out: %s", name, reason)

    def close(self) -> None:
        """End the workers. What was given stays; nothing more can be asked for."""
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
            f"The order is that of {len(order)} examples, and there are {len(examples)}."
        )
    if batch_size < 1 or batch_size % hosts:
        raise ArgumentError(
            f"batch_size is 1 or more, the same on each of {hosts} hosts; got {batch_size}."
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
    """All pictures in order as the model will see them in use, in batches of one size.

    Args:
        examples: The pictures. Those that cannot be read are left out, with a warning. If they are
            small and come more than once, give `examples.cached()`.
        preprocess: The model's recipe.
        batch_size: Pictures in a batch.
        workers: Threads that read ahead; by default one for each processor, or a single one where
            pixels are in memory, as threads that hardly decode only wait for each other.

    Yields:
        `[batch_size, size, size, 3]` float32, `[batch_size]` int64, and how many of these are real:
        behind them, the last batch has zeros.
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
                _log.warning("%s is left out: %s", name, value)
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
