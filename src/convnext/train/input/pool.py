"""Worker processes that fill batches in shared memory, a few batches ahead.

There is no thread: slices are sent and results are read when the caller takes a batch. A dead
worker is an error instead of an endless wait.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from convnext.data.shared_memory import SharedArray
from convnext.errors import ArgumentError, ImageError, TrainingError
from convnext.train.input.worker import BatchMaker, Slice, SliceDone, Slots, messages, packed

__all__ = ["PREFETCH", "Pool"]

PREFETCH = 4  # batches ahead
PREFETCH_BYTES = 2**30  # of all batches ahead; if they are larger, fewer of them, two at least
LARGEST_SLICE = 64  # pictures; slices of small batches are one share for each worker

# Parallelism comes from the number of workers.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Finished = TypeVar("Finished")


class _Worker:
    def __init__(self, number: int, descriptors: Sequence[int]) -> None:
        self.number = number
        self.slices: set[Slice] = set()
        self.buffer = bytearray()
        code = (
            f"import sys; sys.path[:] = {list(map(str, sys.path))!r}; "
            "from convnext.train.input.worker import main; main()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
            env={**os.environ, **_ONE_THREAD},
            process_group=0,  # Ctrl-C in a terminal reaches the parent alone
        )

    def send(self, message: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # a dead worker is noticed when its results are read
            self.process.stdin.write(message)
            self.process.stdin.flush()

    @property
    def output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def end(self) -> str:
        """Error message for a worker that ended unexpectedly."""
        code = self.process.wait()
        subject = f"Worker {self.number} (process {self.process.pid}), which reads pictures,"
        if code >= 0:
            return f"{subject} ended with code {code}. Its error message is above."
        name = signal.Signals(-code).name
        why = " The system does so when memory runs out: use fewer workers or smaller batches."
        return f"{subject} was killed by {name}.{why if -code == signal.SIGKILL else ''}"


@dataclass
class _Slot:
    """State of a batch that workers fill: slices missing, and unreadable pictures by slice."""

    step: int = -1
    missing: int = 0
    bad: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)


class Pool:
    """Worker processes and the shared memory that they fill."""

    def __init__(self, maker: BatchMaker, workers: int, prefetch: int | None) -> None:
        size = maker.transform.size
        batch_bytes = maker.batch_size * size * size * 3 * 4
        count = prefetch or max(2, min(PREFETCH, PREFETCH_BYTES // batch_bytes))
        if os.name != "posix":
            raise ArgumentError("Worker processes need Linux or macOS: use workers=0.")
        self._batch_size = maker.batch_size
        self._slice_size = min(LARGEST_SLICE, -(-maker.batch_size // workers))
        self._memory = Slots(
            SharedArray((count, maker.batch_size, size, size, 3), np.float32),
            SharedArray(*maker.targets(count)),
        )
        self._slots = [_Slot() for _ in range(count)]
        try:
            setup = packed((maker, self._memory))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ArgumentError(
                f"The augmentation cannot be sent to workers: {error}. Define it at the top of a "
                "module, or use workers=0."
            ) from error
        descriptors = (
            self._memory.pictures.descriptor,
            self._memory.labels.descriptor,
            *maker.examples.descriptors(),
        )
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self.close = weakref.finalize(self, _end, self._workers, self._selector)
        for number in range(workers):
            worker = _Worker(number, descriptors)
            self._workers.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
        for worker in self._workers:
            worker.send(setup)
        self._next = self._stop = 0

    def begin(self, start: int, stop: int) -> None:
        """Start making the batches of a range of steps."""
        self._check_open()
        self._stop = 0
        while any(slot.missing for slot in self._slots):  # of an earlier range
            self._receive()
        self._next, self._stop = start, stop
        for number in range(len(self._slots)):
            self._assign(number)

    def take(self, step: int, finish: Callable[..., Finished]) -> Finished:
        """Wait for a batch, return `finish` of it, and have its slot filled with another batch."""
        self._check_open()
        number = next(n for n, slot in enumerate(self._slots) if slot.step == step)
        slot = self._slots[number]
        while slot.missing:
            self._receive()
        bad = tuple(item for first in sorted(slot.bad) for item in slot.bad[first])
        pictures, labels = self._memory.pictures.array, self._memory.labels.array
        finished = finish(step, pictures[number], labels[number], bad)
        self._assign(number)
        return finished

    def _check_open(self) -> None:
        if not self.close.alive:
            raise ArgumentError("The loader is closed. Create a new one.")

    def _assign(self, number: int) -> None:
        """Send the slices of the next batch to workers."""
        if self._next >= self._stop:
            self._slots[number] = _Slot()
            return
        slot = self._slots[number] = _Slot(self._next)
        for first in range(0, self._batch_size, self._slice_size):
            last = min(first + self._slice_size, self._batch_size)
            part = Slice(self._next, number, first, last)
            worker = min(self._workers, key=lambda worker: len(worker.slices))
            worker.slices.add(part)
            worker.send(packed(part))
            slot.missing += 1
        self._next += 1

    def _receive(self) -> None:
        """Wait for finished slices, and record them."""
        for key, _ in self._selector.select():
            worker: _Worker = key.data
            data = os.read(worker.output, 2**16)
            if not data:
                message = worker.end()
                self.close()
                raise TrainingError(message)
            worker.buffer += data
            for done in messages(worker.buffer):
                self._record(worker, done)

    def _record(self, worker: _Worker, done: SliceDone) -> None:
        worker.slices.remove(done.part)
        slot = self._slots[done.part.slot]
        slot.missing -= 1
        slot.bad[done.part.first] = done.bad
        if done.error is not None:
            self.close()
            if done.expected:
                raise ImageError(done.error)
            raise TrainingError(f"Worker {worker.number} failed.\n{done.error}")


def _end(workers: list[_Worker], selector: selectors.BaseSelector) -> None:
    selector.close()
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            with suppress(BrokenPipeError):
                cast("Any", pipe).close()
