"""Process a request's pictures: admit, decode in threads, compute in batches. Used by all routes.

Decoding has one thread for each processor. Large bodies are parsed and large answers written in
background threads, so that they do not wait for decoding and do not block the event loop.
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
from convnext.serve.bodies import BodyReader, while_connected
from convnext.serve.fetching import Fetcher
from convnext.serve.inputs import InputPicture, PictureRequest, is_one_picture, parse
from convnext.serve.loading import DecodedPicture, decode_picture
from convnext.serve.metrics import Metrics, SharedMetrics
from convnext.serve.models import Models, ServedModel
from convnext.serve.options import RequestOptions, checked_options
from convnext.serve.problems import Problem, busy, picture_problem
from convnext.serve.settings import Answers, Settings

__all__ = ["INLINE_BYTES", "PictureResult", "Service", "together"]

Result = TypeVar("Result")
INLINE_BYTES = 2**16  # smaller bodies are parsed faster than a thread wakes up
INLINE_NUMBERS = 2**12  # shorter answers are written faster than a thread wakes up
BACKGROUND_THREADS = 2  # so that one long task does not delay the others


@dataclass(frozen=True, eq=False)
class PictureResult:
    """The model's outputs for one picture, or the error.

    Attributes:
        id: The client's name for the picture.
        decoded: The picture, if it could be read.
        outputs: The model's outputs, if it could be read.
        problem: Why it could not be read.
    """

    id: str
    decoded: DecodedPicture | None = None
    outputs: Mapping[str, Array] | None = None
    problem: Problem | None = None


class Service:
    """The models, threads and metrics of one process. Create it inside the event loop.

    Attributes:
        draining: Whether the server is stopping.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        models: Models,
        shared: SharedMetrics,
        fetcher: Fetcher | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.models = models
        self.shared = shared
        self.bodies = BodyReader(settings, metrics)
        self.fetcher = fetcher or Fetcher(settings)
        self.draining = False
        self.limits = Limits(pixels=settings.max_pixels, bytes=settings.max_picture_bytes)
        self._threads = ThreadPoolExecutor(
            max(1, available_processors() // settings.workers), thread_name_prefix="pictures"
        )
        self._background = ThreadPoolExecutor(BACKGROUND_THREADS, thread_name_prefix="background")
        self._texts = ThreadPoolExecutor(1, thread_name_prefix="texts")

    @property
    def ready(self) -> bool:
        """Whether a model is loaded and the server is not stopping."""
        return self.models.ready and not self.draining

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Run a function in a decoding thread."""
        return await _run(self._threads, work)

    async def in_background(self, work: Callable[[], Result]) -> Result:
        """Run a function in a background thread, apart from decoding."""
        return await _run(self._background, work)

    async def in_turn(self, work: Callable[[], Result]) -> Result:
        """Run a function in the thread of text towers, one after the other."""
        return await _run(self._texts, work)

    async def written(
        self, numbers: int, deadline: float, write: Callable[[], Response]
    ) -> Response:
        """Call `write`, in a background thread if the answer has many numbers.

        Raises:
            DeadlinePassedError: The deadline passed.
        """
        if numbers <= INLINE_NUMBERS:
            return write()
        async with until(deadline):
            return await self.in_background(write)

    def close(self) -> None:
        """Stop the threads."""
        for threads in (self._threads, self._background, self._texts):
            threads.shutdown(wait=False, cancel_futures=True)

    def refuse_if_full(self) -> None:
        """Refuse a request if the queues of all models are full.

        Raises:
            Problem: They are full.
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
    async def accepted(
        self, request: Request, known: Iterable[str]
    ) -> AsyncIterator[tuple[ServedModel, PictureRequest, RequestOptions, float]]:
        """Read a request and admit its pictures to the queue for the duration of the context.

        The block inside is cancelled if the client disconnects.

        Yields:
            The model, the pictures, the options and the deadline.

        Raises:
            Problem: The request is invalid, or the queue is full.
        """
        with self.translated():
            query, longest = request.query_params.multi_items(), self.settings.deadline
            # Checked before the body is read, so that refusing costs little.
            early = checked_options(known, query, {}, longest)
            now = time.monotonic()
            self.models.get(early["model"]).batcher.check(1, now + early.seconds)
            headers = request.scope["state"]["headers"]
            async with self.bodies.read(request.receive, headers) as body:
                now = time.monotonic()
                async with until(now + early.seconds):
                    submitted = await self._parsed(headers.get("content-type", ""), body)
                options = checked_options(known, query, submitted.options, longest)
                deadline = now + options.seconds
                # No await between get and admit: the model cannot be replaced in between.
                served = self.models.get(options["model"])
                with served.batcher.admit(len(submitted.pictures), deadline):
                    async with while_connected(request.receive):
                        yield served, submitted, options, deadline

    @contextmanager
    def translated(self) -> Any:
        """Convert the errors of `Batcher` raised inside to problems."""
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

    async def _parsed(self, content_type: str, body: bytes) -> PictureRequest:
        if len(body) < INLINE_BYTES or is_one_picture(content_type):
            return parse(content_type, body, self.settings)
        return await self.in_background(lambda: parse(content_type, body, self.settings))

    async def results(
        self,
        served: ServedModel,
        kind: Answers,
        submitted: PictureRequest,
        deadline: float,
        side: int | None = None,
    ) -> list[PictureResult]:
        """Decode and compute all pictures; their results, in order.

        Raises:
            Problem: The model does not give this kind of answer, or the only picture cannot be
                read.
            DeadlinePassedError: The deadline passed.
        """
        self.check_kind(served, kind)
        alone = len(submitted.pictures) == 1
        jobs = [self._result(served, kind, each, deadline, side) for each in submitted.pictures]
        if alone:
            results = [await jobs[0]]
        else:
            results = await together(jobs)
        if alone and results[0].problem is not None:
            raise results[0].problem
        return results

    def check_kind(self, served: ServedModel, kind: Answers) -> None:
        """Refuse a kind of answer that a model does not give.

        Raises:
            Problem: The model does not give it.
        """
        if kind not in served.answers:
            able = ", ".join(served.answers)
            why = "the server's --answers exclude it"
            if kind in self.settings.answers:
                why = "its weights lack the layers for that"
            raise Problem(
                400, "not-served", f"The model {served.name} cannot {kind}: {why}. It can: {able}."
            )

    async def _result(
        self,
        served: ServedModel,
        kind: Answers,
        picture: InputPicture,
        deadline: float,
        side: int | None,
    ) -> PictureResult:
        name = served.name
        try:
            decoded = await self.decode(served, picture, deadline, side)
        except Problem as problem:
            self.metrics.count("convnext_pictures_total", model=name, outcome=problem.code)
            return PictureResult(picture.id, problem=problem)
        [outputs] = await served.batcher.answers(kind, [decoded.pixels], deadline)
        self.metrics.count("convnext_pictures_total", model=name, outcome="answered")
        return PictureResult(picture.id, decoded, outputs)

    async def decode(
        self, served: ServedModel, picture: InputPicture, deadline: float, side: int | None = None
    ) -> DecodedPicture:
        """Get and decode one picture.

        Raises:
            Problem: The picture cannot be downloaded or read.
            DeadlinePassedError: The deadline passed.
        """
        async with until(deadline), self._data(picture) as data:
            return await self.in_thread(lambda: self._decode(served, data, side))

    @asynccontextmanager
    async def _data(self, picture: InputPicture) -> AsyncIterator[bytes]:
        if picture.data is not None:
            yield picture.data
        else:
            async with self.fetcher.fetched(picture.url or "") as data:
                yield data

    def _decode(self, served: ServedModel, data: bytes, side: int | None) -> DecodedPicture:
        begun = time.perf_counter()
        try:
            return decode_picture(data, served.model.preprocess, self.limits, side)
        except ImageError as error:
            raise picture_problem(error) from error
        finally:
            self.metrics.observe("convnext_decode_seconds", time.perf_counter() - begun)


async def _run(threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    # A cancelled call may stay in the executor's queue: the holder frees what it refers to.
    holder = [work]
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, lambda: holder.pop()())
    finally:
        holder.clear()


async def together(jobs: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines concurrently; the first error cancels the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
