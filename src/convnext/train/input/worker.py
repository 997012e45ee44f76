"""Makes batches: `BatchMaker`, and the worker process around it.

A process with a training framework must not be forked, and a spawned one would import the main
program. This one imports only what pictures need and starts in a fraction of a second. It receives
slices of batches on standard input, fills them in shared memory, and ends with standard input.
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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.data.labelled import Examples
from convnext.data.random_streams import Purpose, stream
from convnext.data.shared_memory import SharedArray
from convnext.errors import ConvNeXtError, ImageError
from convnext.train.augment.transforms import Transform
from convnext.train.input.order import Order

__all__ = ["BatchMaker", "Slice", "SliceDone", "Slots", "candidates", "main", "messages", "packed"]

TRIES = 50  # replacements drawn for a picture that cannot be read

_LENGTH = struct.Struct("<I")


class Slice(NamedTuple):
    """Consecutive rows of a batch, to be filled by one worker.

    Attributes:
        step: Step of the batch.
        slot: Index of the batch in `Slots`.
        first: The first row.
        last: The row after the last.
    """

    step: int
    slot: int
    first: int
    last: int


class SliceDone(NamedTuple):
    """The result of filling a slice.

    Attributes:
        part: The slice.
        bad: Pictures that could not be read, each with the reason.
        error: Message of an error, if there was one.
        expected: Whether it is one of this package's errors.
    """

    part: Slice
    bad: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    expected: bool = False


@dataclass(frozen=True)
class Slots:
    """Shared memory of several batches.

    Attributes:
        pictures: `[slots, batch, size, size, 3]`, float32.
        labels: `[slots, batch]`, int64; of pictures with masks, these.
    """

    pictures: SharedArray
    labels: SharedArray


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batches of a host.

    Attributes:
        examples: The pictures.
        transform: Augments each picture.
        order: Order of the examples on this host.
        batch_size: Of this host.
        seed: Of the run.
    """

    examples: Examples
    transform: Transform
    order: Order
    batch_size: int
    seed: int

    def targets(self, *shape: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """Shape and type of the targets of batches, after the axes in `shape`."""
        own, dtype = self.examples.target_form(self.transform.size)
        return (*shape, self.batch_size, *own), dtype

    def fill(
        self, part: Slice, pictures: NDArray[np.float32], labels: NDArray[Any]
    ) -> tuple[tuple[str, str], ...]:
        """Fill a slice of a batch.

        Args:
            part: The slice.
            pictures: The batch, `[batch, size, size, 3]`.
            labels: The batch's targets, as in `Slots`.

        Returns:
            Pictures that could not be read and were replaced, each with the reason.

        Raises:
            ImageError: Nor could any of the replacements be read.
        """
        start, count = part.step * self.batch_size + part.first, part.last - part.first
        positions = self.order.positions(start, count).tolist()
        indices = self.order.indices(start, count).tolist()
        bad: list[tuple[str, str]] = []
        for row, position, index in zip(
            range(part.first, part.last), positions, indices, strict=True
        ):
            pictures[row], labels[row] = self._example(position, index, bad)
        return tuple(bad)

    def _example(
        self, position: int, index: int, bad: list[tuple[str, str]]
    ) -> tuple[NDArray[np.float32], Any]:
        """The augmented example at a position of the order, or a replacement, and its target."""
        for number in candidates(self.seed, position, index, len(self.examples)):
            try:
                generator = stream(self.seed, Purpose.EXAMPLE, position)
                return self.examples.example(number, self.transform, generator)
            except ImageError as error:
                bad.append((self.examples.name(number), str(error)))
        name, reason = bad[-1]
        raise ImageError(
            f"None of {TRIES + 1} pictures drawn at random can be read. Repair the data: more than "
            f"half of it must be damaged. The last one was {name}: {reason}"
        )


def candidates(seed: int, position: int, index: int, count: int) -> Iterator[int]:
    """The example at a position of the order, and those that replace it if it cannot be read.

    Args:
        seed: Of the run.
        position: In the sequence of all hosts.
        index: The example.
        count: Number of examples.
    """
    yield index
    draws = stream(seed, Purpose.REPLACEMENT, position)
    for _ in range(TRIES):
        yield int(draws.integers(count))


def packed(message: Any) -> bytes:
    """Pickle a message, with its length in front."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(content)) + content


def messages(buffer: bytearray) -> list[Any]:
    """Remove all complete messages from a buffer, and return them."""
    found = []
    while len(buffer) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
        if len(buffer) < end:
            break
        found.append(pickle.loads(buffer[_LENGTH.size : end]))
        del buffer[:end]
    return found


def _receive(stream: IO[bytes], received: queue.SimpleQueue[Any]) -> None:
    code = 1
    try:
        while header := stream.read(_LENGTH.size):
            received.put(pickle.loads(stream.read(_LENGTH.unpack(header)[0])))
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # at once: the parent no longer waits for results


def main() -> None:
    """Fill slices until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interruptions
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # prints of libraries go to standard error
    received: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, received), daemon=True).start()
    maker, slots = received.get()
    while True:
        output.write(packed(_fill(maker, slots, received.get())))


def _fill(maker: BatchMaker, slots: Slots, part: Slice) -> SliceDone:
    try:
        bad = maker.fill(part, slots.pictures.array[part.slot], slots.labels.array[part.slot])
    except ConvNeXtError as error:
        return SliceDone(part, error=str(error), expected=True)
    except Exception:
        return SliceDone(part, error=traceback.format_exc())
    return SliceDone(part, bad)
