"""Dynamic batching: pictures of concurrent requests, computed in batches through a bounded queue.

A picture is *admitted* before it is decoded and counts until it is answered, so that at most
`max_queue` are being decoded, waiting or computed. A batch takes the pictures that wait when the
engine is free, all of one kind (such as "classify") and in order; kinds share the queue. Pictures
of requests that were cancelled or are past their deadline leave the queue uncomputed. The engine
runs in a thread of its own. All methods must be called from one event loop, so there are no locks.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ConvNeXtError

__all__ = ["Batcher", "DeadlinePassedError", "Event", "QueueFullError", "StoppedError", "until"]

logger = logging.getLogger("convnext.serve")

Array = NDArray[Any]
Event = Literal["batch", "seconds", "dropped", "queue"]

SMOOTHING = 0.2  # weight of the latest batch in the moving average of the time per picture


class QueueFullError(ConvNeXtError):
    """The queue is full, or too long to answer before the deadline.

    Args:
        message: The error message.
        seconds: When to try again.
        late: Whether the deadline is the reason, not the size of the queue.
    """

    def __init__(self, message: str, seconds: float, late: bool) -> None:
        super().__init__(message)
        self.seconds = seconds
        self.late = late


class DeadlinePassedError(ConvNeXtError):
    """The deadline passed before the answer was there."""


class StoppedError(ConvNeXtError):
    """The model is being unloaded."""


@asynccontextmanager
async def until(deadline: float) -> AsyncIterator[None]:
    """Cancel the block inside at a deadline on `time.monotonic`'s clock.

    Raises:
        DeadlinePassedError: The deadline passed.
    """
    try:
        async with asyncio.timeout(max(0, deadline - time.monotonic())):
            yield
    except TimeoutError as error:
        raise DeadlinePassedError(
            "The answer was not ready before the deadline. Try again later, or with a later "
            "deadline."
        ) from error


@dataclass(frozen=True, eq=False)
class _QueuedPicture:
    kind: str
    pixels: Array
    answer: asyncio.Future[Mapping[str, Array]]
    since: float


class Batcher:
    """Runs a function on batches of pictures from concurrent callers.

    Args:
        run: Computes each output for a kind and a batch `[n, ...]`; called in one thread.
        max_batch: Most pictures in a batch.
        max_wait: Seconds that a batch waits to fill.
        max_queue: Most pictures admitted and not yet answered.
        watch: Called with an event and its number: the size of a batch, the engine's seconds, the
            pictures dropped from the queue, the pictures admitted.

    Example:
        batcher = Batcher(model.run, max_batch=8, max_wait=0, max_queue=64)
        with batcher.admit(1, time.monotonic() + 10):
            [answer] = await batcher.answers("classify", [pixels], time.monotonic() + 10)
    """

    def __init__(
        self,
        run: Callable[[str, Array], Mapping[str, Array]],
        *,
        max_batch: int,
        max_wait: float,
        max_queue: int,
        watch: Callable[[Event, float], None] = lambda _event, _number: None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._max_queue = max_queue
        self._watch = watch
        self._admitted = 0
        self._waiting: dict[int, _QueuedPicture] = {}
        self._numbers = itertools.count()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._seconds_each = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._worker = asyncio.get_running_loop().create_task(self._work())
        self._worker.add_done_callback(_log_failure)

    @property
    def working(self) -> bool:
        """Whether the batching task runs: false after an unexpected error in it."""
        return not self._worker.done()

    @property
    def admitted(self) -> int:
        """Pictures admitted and not yet answered."""
        return self._admitted

    @property
    def expected_wait(self) -> float:
        """Seconds until all admitted pictures will be answered, estimated from recent batches."""
        return self._admitted * self._seconds_each

    def check(self, count: int, deadline: float) -> None:
        """Refuse pictures that exceed the queue, or are not expected to be answered in time.

        Raises:
            QueueFullError: There is no room for them, or not enough time.
            StoppedError: The batcher is closed.
        """
        if self._stopping:
            raise StoppedError("The model is being unloaded. Try again later.")
        if self._admitted + count > self._max_queue:
            raise QueueFullError(
                f"The queue holds {self._admitted} of {self._max_queue} pictures, so {count} more "
                "are too many. Try again later, or with fewer pictures.",
                self.expected_wait,
                late=False,
            )
        late = time.monotonic() + self.expected_wait - deadline
        if self._admitted and late > 0:  # an empty queue accepts anything
            raise QueueFullError(
                f"The {self._admitted} pictures in the queue will take {self.expected_wait:.1f} s, "
                "longer than this request may wait. Try again later, or with a later deadline.",
                late,
                late=True,
            )

    @contextmanager
    def admit(self, count: int, deadline: float) -> Iterator[None]:
        """Reserve room in the queue for this many pictures, for the duration of the context.

        Raises:
            QueueFullError: There is no room for them, or not enough time.
            StoppedError: The batcher is closed.
        """
        self.check(count, deadline)
        self._reserve(count)
        try:
            yield
        finally:
            self._reserve(-count)

    def _reserve(self, count: int) -> None:
        self._admitted += count
        self._watch("queue", self._admitted)
        if self._admitted:
            self._idle.clear()
        else:
            self._idle.set()

    async def answers(
        self, kind: str, pictures: Sequence[Array], deadline: float
    ) -> list[Mapping[str, Array]]:
        """Every output for each picture, in order. The pictures must have been admitted.

        All pictures of all callers must have the same shape and dtype.

        Raises:
            DeadlinePassedError: The answers were not there in time.
        """
        loop, now = asyncio.get_running_loop(), time.monotonic()
        numbers = list(itertools.islice(self._numbers, len(pictures)))
        items = [_QueuedPicture(kind, each, loop.create_future(), now) for each in pictures]
        self._waiting.update(zip(numbers, items, strict=True))
        self._arrived.set()
        try:
            async with until(deadline):
                return [await item.answer for item in items]
        finally:
            dropped = sum(self._waiting.pop(number, None) is not None for number in numbers)
            for item in items:
                item.answer.cancel()
            if dropped:
                self._watch("dropped", dropped)

    async def close(self) -> None:
        """Admit nothing more, wait until all admitted pictures are answered, and stop."""
        self._stopping = True
        await self._idle.wait()
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        self._executor.shutdown(wait=False)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        ended = 0.0
        while True:
            batch = await self._next_batch()
            begun = max(ended, batch[0].since)
            self._watch("batch", len(batch))
            try:
                seconds, outputs = await loop.run_in_executor(
                    self._executor, self._timed, batch[0].kind, [item.pixels for item in batch]
                )
            except Exception as error:  # a runtime may raise anything; the callers get it
                for item in batch:
                    if not item.answer.done():
                        item.answer.set_exception(error)
                        item.answer.exception()  # so that asyncio does not log it as unretrieved
                continue
            ended = time.monotonic()
            self._watch("seconds", seconds)
            each = (ended - begun) / len(batch)
            known = self._seconds_each or each
            self._seconds_each = known + SMOOTHING * (each - known)
            for number, item in enumerate(batch):
                if not item.answer.done():
                    item.answer.set_result({name: all_[number] for name, all_ in outputs.items()})

    def _timed(self, kind: str, pictures: list[Array]) -> tuple[float, Mapping[str, Array]]:
        begun = time.perf_counter()
        outputs = self._run(kind, np.stack(pictures))
        return time.perf_counter() - begun, outputs

    async def _next_batch(self) -> list[_QueuedPicture]:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            if self._max_wait and len(self._waiting) < self._max_batch:
                await self._more()
            if self._waiting:  # else all were cancelled in the meantime
                return self._oldest()

    def _oldest(self) -> list[_QueuedPicture]:
        """Take the oldest pictures of one kind out of the queue."""
        kind = next(iter(self._waiting.values())).kind
        same = (number for number, item in self._waiting.items() if item.kind == kind)
        numbers = list(itertools.islice(same, self._max_batch))
        return [self._waiting.pop(number) for number in numbers]

    async def _more(self) -> None:
        """Wait until the batch is full or its oldest picture has waited `max_wait`."""
        oldest = next(iter(self._waiting.values())).since
        try:
            async with asyncio.timeout(oldest + self._max_wait - time.monotonic()):
                while 0 < len(self._waiting) < self._max_batch:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            pass


def _log_failure(worker: asyncio.Task[None]) -> None:
    if not worker.cancelled() and worker.exception() is not None:
        logger.error("a model stopped answering", exc_info=worker.exception())
