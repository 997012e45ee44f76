"""The body of a request, read within limits of bytes and time.

Why it exists: a length can be wrong or missing, and bytes can come slowly or never end. What is
counted is what has arrived: an announced length takes no memory and so takes no place from others.
It knows nothing of what is in a body.
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

__all__ = ["Bodies", "ClientGoneError", "Receive", "while_connected"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGoneError(Exception):
    """Nobody is there to be answered."""


class Bodies:
    """Reads bodies, and knows what all of them that are held take.

    Args:
        settings: The limits.
        metrics: Where the bytes are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._held = 0

    @asynccontextmanager
    async def read(self, receive: Receive, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The whole body, which counts as held until the context ends.

        Raises:
            Problem: It is too large or too slow, encoded, or others hold too much.
            ClientGoneError: The client left before the end.
        """
        settings = self._settings
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":  # a small body could become one of any size
            raise Problem(
                415, "encoded-body", "Send the body as it is, without Content-Encoding.", close=True
            )
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json")
        # The protocol's binary form has JSON in front, and its type is application/octet-stream.
        most = settings.max_json_bytes if is_json else settings.max_body_bytes
        length = headers.get("content-length", "")
        if length.isascii() and length.isdecimal() and int(length[:20]) > most:
            await _linger(receive)
            raise _too_large(most, is_json)
        body, whole = bytearray(), b""
        try:
            try:
                # One clock for both limits: a body comes in many pieces, and each sets it anew.
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
            body.clear()  # else it would be there twice
            yield whole
        finally:
            self._hold(-len(body) - len(whole))

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
            if self._held + len(chunk) > self._settings.max_bytes_in_flight:
                self._metrics.count("convnext_rejected_total", reason="bytes-in-flight")
                problem = busy("busy", "Other requests hold all memory there is for them.", 1)
                problem.close = True
                raise problem
            body += chunk
            self._hold(len(chunk))
            if not message.get("more_body"):
                return

    def _hold(self, number: int) -> None:
        self._held += number
        self._metrics.set("convnext_body_bytes_in_flight", self._held)


def _too_large(most: int, is_json: bool) -> Problem:
    more = " Larger pictures can be sent as they are or as multipart/form-data." if is_json else ""
    return Problem(
        413, "body-too-large", f"A body may have {most:,} bytes at most.{more}", close=True
    )


async def _linger(receive: Receive) -> None:
    """Take the rest of a body and forget it, for a while: a client reads after it has written."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limits.LINGER_SECONDS):
            while (message := await receive())["type"] != "http.disconnect":
                if not message.get("more_body"):
                    return


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Ends what is inside as soon as the client goes away. The body must have been read.

    Raises:
        ClientGoneError: It did.
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
        if not gone or task.uncancel() > 0:  # somebody else wants it to end as well
            raise
        raise ClientGoneError from None
    finally:
        watcher.cancel()
