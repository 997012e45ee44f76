"""Single pictures in, batches to the engine: bounded, in order, and only for those who still wait.

A picture is *admitted* before anything is done for it, and keeps its place until it is answered:
what is decoded, waiting and computed together never exceeds `max_queue`. A batch is whatever waits
when the engine is free. Who gives up, or is past the deadline, is taken out of the queue and never
computed. The engine runs in a thread of its own, so the event loop is free meanwhile.

Rows are of kinds, such as those to be classified and those to be embedded: a batch is of one kind,
that of the oldest row, and all kinds share the queue and the thread.

All methods belong to one event loop, which is what makes them need no locks. It knows arrays and a
function on batches, and nothing of pictures, HTTP or models.
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

SMOOTHING = 0.2  # how much the latest batch counts in what a picture is expected to take


class QueueFullError(ConvNeXtError):
    """There is no place, or those before would take longer than this one may wait.

    Args:
        seconds: After which it may be worth trying again.
        late: Whether there would be a place, but no answer in time.
    """

    def __init__(self, message: str, seconds: float, late: bool) -> None:
        super().__init__(message)
        self.seconds = seconds
        self.late = late


class DeadlinePassedError(ConvNeXtError):
    """No answer in the time allowed."""


class StoppedError(ConvNeXtError):
    """The model is being taken away."""


@asynccontextmanager
async def until(deadline: float) -> AsyncIterator[None]:
    """Ends what is inside at a time on `time.monotonic`'s clock.

    Raises:
        DeadlinePassedError: It did.
    """
    try:
        async with asyncio.timeout(max(0, deadline - time.monotonic())):
            yield
    except TimeoutError as error:
        raise DeadlinePassedError(
            "The answer did not come in the time that the request may take. Try again later, "
            "or allow a later deadline."
        ) from error


@dataclass(frozen=True, eq=False)
class _Waiting:
    """One picture in the queue."""

    kind: str
    row: Array
    answer: asyncio.Future[Mapping[str, Array]]
    since: float


class Batcher:
    """Runs a function on batches of what single callers bring.

    Args:
        run: From a kind and `[n, ...]` to each output for n rows; called in one thread.
        max_batch: Rows at once.
        max_wait: Seconds that a batch waits to be full.
        max_queue: Rows between being admitted and being answered.
        watch: Told of each event with a number: a batch and its size, the engine's seconds, rows
            dropped from the queue, rows in the queue.

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
        self._waiting: dict[int, _Waiting] = {}
        self._numbers = itertools.count()
        self._came = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._seconds_each = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._worker = asyncio.get_running_loop().create_task(self._work())
        self._worker.add_done_callback(_log_failure)

    @property
    def working(self) -> bool:
        """Whether anything will be answered: false after an error that nobody foresaw."""
        return not self._worker.done()

    @property
    def admitted(self) -> int:
        """Rows that have a place."""
        return self._admitted

    @property
    def expected_wait(self) -> float:
        """Seconds until all that is admitted will be answered, by what the latest batches took."""
        return self._admitted * self._seconds_each

    def check(self, rows: int, deadline: float) -> None:
        """Refuse what there is no place for, or would not be answered in time.

        Raises:
            QueueFullError: So it is.
            StoppedError: Nothing is taken any more.
        """
        if self._stopping:
            raise StoppedError("The model is being taken away.")
        if self._admitted + rows > self._max_queue:
            raise QueueFullError(
                f"{self._admitted} of {self._max_queue} places are taken, and {rows} more were "
                "asked for. Try again later, or with fewer pictures.",
                self.expected_wait,
                late=False,
            )
        late = time.monotonic() + self.expected_wait - deadline
        if self._admitted and late > 0:  # with nothing before it, whatever was expected is tried
            raise QueueFullError(
                f"The {self._admitted} pictures before would take {self.expected_wait:.1f} s, "
                "longer than this request may wait. Try again later, or allow a later deadline.",
                late,
                late=True,
            )

    @contextmanager
    def admit(self, rows: int, deadline: float) -> Iterator[None]:
        """Places for so many rows, all or none, as long as the context lasts.

        Raises:
            QueueFullError: There are none.
            StoppedError: Nothing is taken any more.
        """
        self.check(rows, deadline)
        self._hold(rows)
        try:
            yield
        finally:
            self._hold(-rows)

    def _hold(self, rows: int) -> None:
        self._admitted += rows
        self._watch("queue", self._admitted)
        if self._admitted:
            self._idle.clear()
        else:
            self._idle.set()

    async def answers(
        self, kind: str, rows: Sequence[Array], deadline: float
    ) -> list[Mapping[str, Array]]:
        """Every output for each row, in order. The rows must have been admitted.

        Args:
            kind: Which answers.
            rows: All of one shape and dtype, as those of others are.
            deadline: On `time.monotonic`'s clock.

        Raises:
            DeadlinePassedError: They did not come in time.
        """
        loop, now = asyncio.get_running_loop(), time.monotonic()
        numbers = list(itertools.islice(self._numbers, len(rows)))
        items = [_Waiting(kind, row, loop.create_future(), now) for row in rows]
        self._waiting.update(zip(numbers, items, strict=True))
        self._came.set()
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
        """Take nothing more, answer all that is admitted, and end."""
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
                    self._executor, self._timed, batch[0].kind, [item.row for item in batch]
                )
            except Exception as error:  # whatever a runtime raises is for those who asked
                for item in batch:
                    if not item.answer.done():
                        item.answer.set_exception(error)
                        item.answer.exception()  # retrieved: some wait for another row's first
                continue
            ended = time.monotonic()
            self._watch("seconds", seconds)
            each = (ended - begun) / len(batch)
            known = self._seconds_each or each
            self._seconds_each = known + SMOOTHING * (each - known)
            for number, item in enumerate(batch):
                if not item.answer.done():
                    item.answer.set_result({name: all_[number] for name, all_ in outputs.items()})

    def _timed(self, kind: str, rows: list[Array]) -> tuple[float, Mapping[str, Array]]:
        begun = time.perf_counter()
        outputs = self._run(kind, np.stack(rows))
        return time.perf_counter() - begun, outputs

    async def _next_batch(self) -> list[_Waiting]:
        """What is computed next: the oldest rows, one at least."""
        while True:
            while not self._waiting:
                self._came.clear()
                await self._came.wait()
            if self._max_wait and len(self._waiting) < self._max_batch:
                await self._more()
            if self._waiting:  # else all of them gave up meanwhile
                return self._oldest()

    def _oldest(self) -> list[_Waiting]:
        """The oldest rows of one kind, no longer in the queue."""
        kind = next(iter(self._waiting.values())).kind
        same = (number for number, item in self._waiting.items() if item.kind == kind)
        numbers = list(itertools.islice(same, self._max_batch))
        return [self._waiting.pop(number) for number in numbers]

    async def _more(self) -> None:
        """Wait for a full batch, as long as the oldest row may."""
        oldest = next(iter(self._waiting.values())).since
        try:
            async with asyncio.timeout(oldest + self._max_wait - time.monotonic()):
                while 0 < len(self._waiting) < self._max_batch:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            pass


def _log_failure(worker: asyncio.Task[None]) -> None:
    if not worker.cancelled() and worker.exception() is not None:
        logger.error("a model answers no more", exc_info=worker.exception())
