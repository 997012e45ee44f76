"""What all routes share: the way of a request's pictures through threads, queue and engine.

Decoding has threads of its own, as many as there are processors, and so has each engine. What takes
bodies apart and puts answers together has others, for it should not wait for pictures. The event
loop only passes things on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from convnext.errors import ImageError
from convnext.images.read import Limits
from convnext.processors import available_processors
from convnext.serve.batching import (
    Array,
    DeadlinePassedError,
    QueueFullError,
    StoppedError,
    until,
)
from convnext.serve.bodies import Bodies, while_connected
from convnext.serve.fetching import Fetcher
from convnext.serve.inputs import Asked, Given, is_one_picture, parse
from convnext.serve.loading import Seen, see
from convnext.serve.metrics import Metrics, Shared
from convnext.serve.models import Models, Served
from convnext.serve.options import Chosen, choose
from convnext.serve.problems import Problem, busy, picture_problem
from convnext.serve.settings import Answers, Settings

__all__ = ["INLINE_BYTES", "Outcome", "Service", "together"]

Result = TypeVar("Result")
INLINE_BYTES = 2**16  # of a body that is taken apart faster than a thread is woken
INLINE_NUMBERS = 2**12  # of an answer that is written faster than a thread is woken
THREADS_APART = 2  # one for what is long, and one for what comes meanwhile


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one picture.

    Attributes:
        id: What the client calls it.
        seen: The picture, if it could be read.
        outputs: What the model gives.
        problem: Why there is none.
    """

    id: str
    seen: Seen | None = None
    outputs: Mapping[str, Array] | None = None
    problem: Problem | None = None


class Service:
    """One process's models, threads and counts. Made inside the event loop.

    Args:
        settings: What was asked for.
        metrics: Where it is counted.
        models: What answers.
        shared: The counts of all processes.
        fetcher: Gets pictures by their URL.

    Attributes:
        draining: Whether the server has been told to stop.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        models: Models,
        shared: Shared,
        fetcher: Fetcher | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.models = models
        self.shared = shared
        self.bodies = Bodies(settings, metrics)
        self.fetcher = fetcher or Fetcher(settings)
        self.draining = False
        self.limits = Limits(pixels=settings.max_pixels, bytes=settings.max_picture_bytes)
        self._threads = ThreadPoolExecutor(
            max(1, available_processors() // settings.workers), thread_name_prefix="pictures"
        )
        self._apart = ThreadPoolExecutor(THREADS_APART, thread_name_prefix="apart")

    @property
    def ready(self) -> bool:
        """Whether requests should come here."""
        return self.models.ready and not self.draining

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Do something about a picture, when it is its turn."""
        return await _run(self._threads, work)

    async def apart(self, work: Callable[[], Result]) -> Result:
        """Do what the event loop should not, and no picture should be waited for."""
        return await _run(self._apart, work)

    async def written(
        self, numbers: int, deadline: float, write: Callable[[], Response]
    ) -> Response:
        """An answer that holds so many numbers, written where that keeps nobody waiting.

        Raises:
            DeadlinePassedError: It took too long.
        """
        if numbers <= INLINE_NUMBERS:
            return write()
        async with until(deadline):
            return await self.apart(write)

    def close(self) -> None:
        """Let the threads end."""
        for threads in (self._threads, self._apart):
            threads.shutdown(wait=False, cancel_futures=True)

    def refuse_if_full(self) -> None:
        """Refuse one picture that no model has a place for.

        Raises:
            Problem: So it is.
        """
        deadline = time.monotonic() + self.settings.deadline
        with self.translated():
            full = None
            for slot in self.models.slots.values():
                if slot.served is not None:
                    try:
                        slot.served.batcher.check(1, deadline)
                    except QueueFullError as error:
                        full = error
                    else:
                        return
            if full is not None:
                raise full

    @asynccontextmanager
    async def asked(
        self, request: Request, known: Iterable[str]
    ) -> AsyncIterator[tuple[Served, Asked, Chosen, float]]:
        """A request's pictures, options and deadline, with places in the queue for all of them.

        What is inside ends when the client goes away.

        Raises:
            Problem: The request is not in order, or there is no place for it.
        """
        with self.translated():
            # Before the body is read, so that refusing costs little.
            early = choose(known, request.query_params.multi_items(), {}, self.settings.deadline)
            now = time.monotonic()
            self.models.get(early["model"]).batcher.check(1, now + early.seconds)
            headers = request.scope["state"]["headers"]
            async with self.bodies.read(request.receive, headers) as body:
                now = time.monotonic()
                async with until(now + early.seconds):
                    asked = await self._parsed(headers.get("content-type", ""), body)
                chosen = choose(
                    known,
                    request.query_params.multi_items(),
                    asked.options,
                    self.settings.deadline,
                )
                deadline = now + chosen.seconds
                served = self.models.get(chosen["model"])
                rows = len(asked.pictures)
                # Nothing is waited for since the model was looked up: it is still the current one.
                with served.batcher.admit(rows, deadline):
                    async with while_connected(request.receive):
                        yield served, asked, chosen, deadline

    @contextmanager
    def translated(self) -> Any:
        """What the queue says, as clients see it."""
        try:
            yield
        except QueueFullError as error:
            reason = "too-late" if error.late else "queue-full"
            self.metrics.count("convnext_rejected_total", reason=reason)
            raise busy("busy", str(error), error.seconds) from error
        except DeadlinePassedError as error:
            self.metrics.count("convnext_rejected_total", reason="deadline")
            raise busy("deadline", str(error), 1) from error
        except StoppedError as error:
            raise busy("busy", str(error), 1) from error

    async def _parsed(self, content_type: str, body: bytes) -> Asked:
        if len(body) < INLINE_BYTES or is_one_picture(content_type):
            return parse(content_type, body, self.settings)
        return await self.apart(lambda: parse(content_type, body, self.settings))

    async def outcomes(
        self,
        served: Served,
        kind: Answers,
        asked: Asked,
        deadline: float,
        side: int | None = None,
    ) -> list[Outcome]:
        """What becomes of each picture, in order.

        Raises:
            Problem: The model has no such answers, or the only picture cannot be read.
            DeadlinePassedError: It took too long.
        """
        self.need(served, kind)
        alone = len(asked.pictures) == 1
        jobs = [self._outcome(served, kind, given, deadline, side) for given in asked.pictures]
        if alone:
            outcomes = [await jobs[0]]
        else:
            outcomes = await together(jobs)
        if alone and outcomes[0].problem is not None:
            raise outcomes[0].problem
        return outcomes

    def need(self, served: Served, kind: Answers) -> None:
        """Refuse what a model has not.

        Raises:
            Problem: So it is.
        """
        if kind not in served.answers:
            able = ", ".join(served.answers)
            why = "this server was not asked to"
            if kind in self.settings.answers:
                why = "its weights have not what that takes"
            raise Problem(
                400,
                "not-served",
                f"The model {served.name} does not {kind}: {why}. It does: {able}.",
            )

    async def _outcome(
        self, served: Served, kind: Answers, given: Given, deadline: float, side: int | None
    ) -> Outcome:
        name = served.name
        try:
            seen = await self.see(served, given, deadline, side)
        except Problem as problem:
            self.metrics.count("convnext_pictures_total", model=name, outcome=problem.code)
            return Outcome(given.id, problem=problem)
        [outputs] = await served.batcher.answers(kind, [seen.pixels], deadline)
        self.metrics.count("convnext_pictures_total", model=name, outcome="answered")
        return Outcome(given.id, seen, outputs)

    async def see(
        self, served: Served, given: Given, deadline: float, side: int | None = None
    ) -> Seen:
        """One picture as the model sees it.

        Raises:
            Problem: It cannot be read.
            DeadlinePassedError: There was no time left for it.
        """
        async with until(deadline), self._data(given) as data:
            return await self.in_thread(lambda: self._see(served, data, side))

    @asynccontextmanager
    async def _data(self, given: Given) -> AsyncIterator[bytes]:
        """The encoded picture, wherever it lies."""
        if given.data is not None:
            yield given.data
        else:
            async with self.fetcher.fetched(given.url or "") as data:
                yield data

    def _see(self, served: Served, data: bytes, side: int | None) -> Seen:
        begun = time.perf_counter()
        try:
            return see(data, served.model.preprocess, self.limits, side)
        except ImageError as error:
            raise picture_problem(error) from error
        finally:
            self.metrics.observe("convnext_decode_seconds", time.perf_counter() - begun)


async def _run(threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    """Work in a thread; given up before its turn, it leaves nothing behind in the queue."""
    holder = [work]
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, lambda: holder.pop()())
    finally:
        holder.clear()


async def together(jobs: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All of them at once; the first error ends the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
