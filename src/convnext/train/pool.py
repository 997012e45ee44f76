"""Worker processes, and the memory they fill: batches ahead, in order.

Why it exists: whoever takes batches must neither wait without need, nor for ever because a process
is gone. Nothing here runs beside the caller: work is handed out and answers are read when a batch
is taken, a few batches ahead. It knows nothing of what the work is.
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

from convnext.errors import ArgumentError, ImageError, TrainingError
from convnext.train.shared import SharedArray
from convnext.train.worker import Answer, Job, Slots, Task, messages, packed

__all__ = ["PREFETCH", "Pool"]

PREFETCH = 4  # batches ahead
PREFETCH_BYTES = 2**30  # where as many are larger than this, fewer, but two
LARGEST_PART = 64  # pictures that a worker is given at once; of smaller batches, its share

# A worker is one of many, and each computes alone.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Finished = TypeVar("Finished")


class _Worker:
    """One process."""

    def __init__(self, number: int, descriptors: Sequence[int]) -> None:
        self.number = number
        self.tasks: set[Task] = set()
        self.buffer = bytearray()
        code = (
            f"import sys; sys.path[:] = {list(map(str, sys.path))!r}; "
            "from convnext.train.worker import main; main()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
            env={**os.environ, **_ONE_THREAD},
            process_group=0,  # Ctrl-C in a terminal is for the parent
        )

    def send(self, message: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # its end is noticed where answers are read
            self.process.stdin.write(message)
            self.process.stdin.flush()

    @property
    def output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def end(self) -> str:
        """How it ended without being told to."""
        code = self.process.wait()
        what = f"Worker {self.number} (process {self.process.pid}), which reads pictures,"
        if code >= 0:
            return f"{what} ended with code {code}. What it said stands above."
        name = signal.Signals(-code).name
        why = " The system does so where memory runs out: use fewer workers or smaller batches."
        return f"{what} was killed by {name}.{why if -code == signal.SIGKILL else ''}"


@dataclass
class _Slot:
    """What is known of a batch in the making."""

    step: int = -1
    missing: int = 0
    bad: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)


class Pool:
    """Workers, and the memory they fill."""

    def __init__(self, job: Job, workers: int, prefetch: int | None) -> None:
        size = job.transform.size
        batch_bytes = job.batch_size * size * size * 3 * 4
        count = prefetch or max(2, min(PREFETCH, PREFETCH_BYTES // batch_bytes))
        if os.name != "posix":
            raise ArgumentError("Worker processes need Linux or macOS: use workers=0.")
        self._batch_size = job.batch_size
        self._part = min(LARGEST_PART, -(-job.batch_size // workers))
        self._memory = Slots(
            SharedArray((count, job.batch_size, size, size, 3), np.float32),
            SharedArray((count, job.batch_size), np.int64),
        )
        self._slots = [_Slot() for _ in range(count)]
        try:
            beginning = packed((job, self._memory))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ArgumentError(
                f"The augmentation cannot be sent to workers: {error}. Define it at the top of a "
                "module, or use workers=0."
            ) from error
        descriptors = (
            self._memory.pictures.descriptor,
            self._memory.labels.descriptor,
            *job.examples.descriptors(),
        )
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self.close = weakref.finalize(self, _end, self._workers, self._selector)
        for number in range(workers):
            worker = _Worker(number, descriptors)
            self._workers.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
        for worker in self._workers:
            worker.send(beginning)
        self._next = self._stop = 0

    def begin(self, start: int, stop: int) -> None:
        """Make batches from one step up to another."""
        self._check_open()
        self._stop = 0
        while any(slot.missing for slot in self._slots):  # of an earlier call, left in the middle
            self._listen()
        self._next, self._stop = start, stop
        for number in range(len(self._slots)):
            self._assign(number)

    def take(self, step: int, finish: Callable[..., Finished]) -> Finished:
        """Wait for a batch, finish it, and have its place filled with another."""
        self._check_open()
        number = next(place for place, slot in enumerate(self._slots) if slot.step == step)
        slot = self._slots[number]
        while slot.missing:
            self._listen()
        bad = tuple(item for first in sorted(slot.bad) for item in slot.bad[first])
        pictures, labels = self._memory.pictures.array, self._memory.labels.array
        finished = finish(step, pictures[number], labels[number], bad)
        self._assign(number)
        return finished

    def _check_open(self) -> None:
        if not self.close.alive:
            raise ArgumentError("The loader is closed: make another.")

    def _assign(self, number: int) -> None:
        """Have a slot filled with the next batch."""
        if self._next >= self._stop:
            self._slots[number] = _Slot()
            return
        slot = self._slots[number] = _Slot(self._next)
        for first in range(0, self._batch_size, self._part):
            task = Task(self._next, number, first, min(first + self._part, self._batch_size))
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            worker.tasks.add(task)
            worker.send(packed(task))
            slot.missing += 1
        self._next += 1

    def _listen(self) -> None:
        """Wait for answers, and note them."""
        for key, _ in self._selector.select():
            worker: _Worker = key.data
            data = os.read(worker.output, 2**16)
            if not data:
                message = worker.end()
                self.close()
                raise TrainingError(message)
            worker.buffer += data
            for answer in messages(worker.buffer):
                self._note(worker, answer)

    def _note(self, worker: _Worker, answer: Answer) -> None:
        worker.tasks.remove(answer.task)
        slot = self._slots[answer.task.slot]
        slot.missing -= 1
        slot.bad[answer.task.first] = answer.bad
        if answer.error is not None:
            self.close()
            if answer.expected:
                raise ImageError(answer.error)
            raise TrainingError(f"Worker {worker.number} failed.\n{answer.error}")


def _end(workers: list[_Worker], selector: selectors.BaseSelector) -> None:
    selector.close()
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            with suppress(BrokenPipeError):
                cast("Any", pipe).close()
