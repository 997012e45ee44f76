"""Read request bodies within limits on size, time and memory.

Content-Length may be wrong or missing, so the bytes that have arrived are what counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from convnext.serve import limits
from convnext.serve.metrics import Metrics
from convnext.serve.problems import Problem, busy
from convnext.serve.settings import Settings

__all__ = ["BodyReader", "ClientGoneError", "Receive", "while_connected"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGoneError(Exception):
    """The client closed the connection."""


class BodyReader:
    """Reads bodies, and limits the size of all that are in memory."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._in_flight = 0

    @asynccontextmanager
    async def read(self, receive: Receive, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The whole body; it counts as in memory until the context ends.

        Raises:
            Problem: It is too large, too slow or compressed, or there is no memory for it.
            ClientGoneError: The client closed the connection.
        """
        settings = self._settings
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":  # a small body could become one of any size
            raise Problem(
                415, "encoded-body", "Send the body without Content-Encoding.", close=True
            )
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json")
        # JSON followed by binary tensors is sent as application/octet-stream.
        most = settings.max_json_bytes if is_json else settings.max_body_bytes
        length = headers.get("content-length", "")
        if length.isascii() and length.isdecimal() and int(length[:20]) > most:
            await _linger(receive)
            raise _too_large(most, is_json)
        body, whole = bytearray(), b""
        try:
            try:
                # One timer for both limits: each chunk of the body resets it.
                async with asyncio.timeout(settings.body_seconds) as clock:
                    await self._fill(body, receive, most, is_json, clock)
            except TimeoutError as error:
                raise Problem(
                    408,
                    "slow-body",
                    f"The body did not arrive in time: {settings.body_seconds:g} s are allowed, "
                    f"and {settings.stall_seconds:g} s without a byte.",
                    close=True,
                ) from error
            whole = bytes(body)
            body.clear()  # else it would be in memory twice
            yield whole
        finally:
            self._count(-len(body) - len(whole))

    async def _fill(
        self, body: bytearray, receive: Receive, most: int, is_json: bool, clock: asyncio.Timeout
    ) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._settings.body_seconds
        while True:
            if not clock.expired():
                clock.reschedule(min(ends, loop.time() + self._settings.stall_seconds))
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > most:
                if message.get("more_body"):
                    await _linger(receive)
                raise _too_large(most, is_json)
            if self._in_flight + len(chunk) > self._settings.max_bytes_in_flight:
                self._metrics.count("convnext_rejected_total", reason="bytes-in-flight")
                problem = busy("busy", "The memory for request bodies is full. Try again later.", 1)
                problem.close = True
                raise problem
            body += chunk
            self._count(len(chunk))
            if not message.get("more_body"):
                return

    def _count(self, number: int) -> None:
        self._in_flight += number
        self._metrics.set("convnext_body_bytes_in_flight", self._in_flight)


def _too_large(most: int, is_json: bool) -> Problem:
    more = " Send larger pictures as image/* or multipart/form-data." if is_json else ""
    kind = "JSON body" if is_json else "body"
    return Problem(
        413, "body-too-large", f"A {kind} may have at most {most:,} bytes.{more}", close=True
    )


async def _linger(receive: Receive) -> None:
    """Discard the rest of a body for a while: clients read the error only after sending all."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limits.LINGER_SECONDS):
            while (message := await receive())["type"] != "http.disconnect":
                if not message.get("more_body"):
                    return


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block inside when the client disconnects. The body must have been read.

    Raises:
        ClientGoneError: The client disconnected.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone or task.uncancel() > 0:  # cancelled for another reason as well
            raise
        raise ClientGoneError from None
    finally:
        watcher.cancel()
