"""A process that reads and augments pictures, and the work itself, which any process can do.

Why it exists: a training framework has threads, so its process must not be forked, and a process
begun in the usual way would import whatever the main program does. This one imports what pictures
need and nothing else, and is up in a fraction of a second.

It hears of parts of batches on standard input and puts them where it is told, in shared memory. It
ends as soon as standard input does, however its parent came to its end.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ConvNeXtError, ImageError
from convnext.train.augment import Transform
from convnext.train.labelled import Examples
from convnext.train.order import Order
from convnext.train.shared import SharedArray
from convnext.train.streams import Purpose, stream

__all__ = ["Answer", "Job", "Slots", "Task", "main", "messages", "packed"]

TRIES = 50  # pictures drawn in place of one that cannot be read

_LENGTH = struct.Struct("<I")


class Task(NamedTuple):
    """A part of a batch.

    Attributes:
        step: Which batch.
        slot: Where it goes.
        first: The first row.
        last: The row behind the last.
    """

    step: int
    slot: int
    first: int
    last: int


class Answer(NamedTuple):
    """What became of a task.

    Attributes:
        task: Which.
        bad: Pictures that could not be read, each with the reason.
        error: Why the task failed, if it did.
        expected: Whether that is an error raised on purpose.
    """

    task: Task
    bad: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    expected: bool = False


@dataclass(frozen=True)
class Slots:
    """Room for some batches.

    Attributes:
        pictures: `[slots, batch, size, size, 3]`, float32.
        labels: `[slots, batch]`, int64.
    """

    pictures: SharedArray
    labels: SharedArray


@dataclass(frozen=True)
class Job:
    """All that batches are made of.

    Attributes:
        examples: The pictures.
        transform: What is done to each.
        order: Which comes when, on this host.
        batch_size: On this host.
        seed: Of the run.
    """

    examples: Examples
    transform: Transform
    order: Order
    batch_size: int
    seed: int

    def fill(
        self, task: Task, pictures: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[tuple[str, str], ...]:
        """Make a part of a batch.

        Args:
            task: Which.
            pictures: `[batch, size, size, 3]`, to be filled.
            labels: `[batch]`, to be filled.

        Returns:
            Pictures that could not be read and were replaced, each with the reason.

        Raises:
            ImageError: So many cannot be read that no other is found.
        """
        start, count = task.step * self.batch_size + task.first, task.last - task.first
        positions = self.order.positions(start, count).tolist()
        indices = self.order.indices(start, count).tolist()
        bad: list[tuple[str, str]] = []
        for row, position, index in zip(
            range(task.first, task.last), positions, indices, strict=True
        ):
            pictures[row], labels[row] = self._example(position, index, bad)
        return tuple(bad)

    def _example(
        self, position: int, index: int, bad: list[tuple[str, str]]
    ) -> tuple[NDArray[np.float32], int]:
        """The example at a position, or another in its place."""
        draws: np.random.Generator | None = None
        for _ in range(TRIES + 1):
            try:
                picture = self.examples.read(index)
                generator = stream(self.seed, Purpose.EXAMPLE, position)
                return self.transform(picture, generator), int(self.examples.labels[index])
            except ImageError as error:
                bad.append((self.examples.name(index), str(error)))
            draws = draws or stream(self.seed, Purpose.REPLACEMENT, position)
            index = int(draws.integers(len(self.examples)))
        name, reason = bad[-1]
        raise ImageError(
            f"None of {TRIES + 1} pictures drawn at random can be read, so more than half of the "
            f"data must be damaged. The last one was {name}: {reason}"
        )


def packed(message: Any) -> bytes:
    """A message with its length before it."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


def messages(buffer: bytearray) -> list[Any]:
    """Take all whole messages out of a buffer."""
    found = []
    while len(buffer) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
        if len(buffer) < end:
            break
        found.append(pickle.loads(buffer[_LENGTH.size : end]))
        del buffer[:end]
    return found


def _listen(stream: IO[bytes], heard: queue.SimpleQueue[Any]) -> None:
    code = 1
    try:
        while header := stream.read(_LENGTH.size):
            heard.put(pickle.loads(stream.read(_LENGTH.unpack(header)[0])))
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # in the middle of a picture: nobody waits for it any more


def main() -> None:
    """Work until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever interrupts means the parent
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not come between answers
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, heard), daemon=True).start()
    job, slots = heard.get()
    while True:
        answers.write(packed(_answer(job, slots, heard.get())))


def _answer(job: Job, slots: Slots, task: Task) -> Answer:
    try:
        bad = job.fill(task, slots.pictures.array[task.slot], slots.labels.array[task.slot])
    except ConvNeXtError as error:
        return Answer(task, error=str(error), expected=True)
    except Exception:
        return Answer(task, error=traceback.format_exc())
    return Answer(task, bad)
