"""uvicorn's HTTP protocol with further limits, and a shutdown that answers every begun request.

The limits are on the time and size of a request's headers, on the number of connections, on
pipelined requests, and on clients that do not read their answers.

Reference: uvicorn/protocols/http/httptools_impl.py of uvicorn 0.54, whose attributes are used here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from convnext.serve import limits
from convnext.serve.metrics import Metrics
from convnext.serve.problems import PROBLEM_JSON, Problem, busy
from convnext.serve.security import SECURITY_HEADERS
from convnext.serve.settings import Settings

__all__ = ["protocol_of"]

# Bytes of chunked encoding per byte of a body: 5 for a chunk of one byte, and room for extensions.
MOST_FRAMING = 8


class _TooManyAheadError(Exception):
    """A client pipelines too many requests."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection; `protocol_of` makes a subclass with settings and metrics."""

    settings: Settings
    metrics: Metrics

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._heading = True  # whether the next bytes are headers
        self._begun = False  # whether some of them have arrived
        self._stopping = False
        self._received = self._body = 0  # bytes of the current message

    def connection_made(self, transport: Any) -> None:
        """Accept a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that any unread byte pauses writing
        self.metrics.set("convnext_connections", len(self.connections))
        if len(self.connections) > self.settings.max_connections:
            self.metrics.count("convnext_rejected_total", reason="connections")
            self._refuse(busy("busy", "There are too many connections. Try again later.", 1))
        else:
            self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        super().connection_lost(exc)
        self.metrics.set("convnext_connections", len(self.connections))
        for timer in (self._timer, self._stuck, self._rest):
            _cancel(timer)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, within the limit on headers."""
        if self.transport.is_closing():  # bytes sent after a refusal
            return
        if self._heading and self._timer is None:
            self._wait_for_headers()
        self._received += len(data)
        self._begun = True
        super().data_received(data)
        framing = self._received - self._body
        most = limits.MAX_HEADER_BYTES + MOST_FRAMING * self._body
        if framing > most and not self.transport.is_closing():
            detail = f"Headers may have at most {limits.MAX_HEADER_BYTES:,} bytes."
            self._refuse(Problem(431, "headers-too-large", detail, close=True))

    def on_message_begin(self) -> None:
        """Called at the start of a request."""
        super().on_message_begin()
        self._heading = self._begun = True

    def on_headers_complete(self) -> None:
        """Called at the end of the headers."""
        self._heading = False
        _cancel(self._timer)
        self._timer = None
        self._unset_keepalive_if_required()
        if len(self.pipeline) >= limits.MAX_PIPELINED:
            self.metrics.count("convnext_rejected_total", reason="pipelined")
            raise _TooManyAheadError  # makes the parser stop
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called with a part of the body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called at the end of the request."""
        super().on_message_complete()
        self._heading, self._begun = True, False
        self._received = self._body = 0
        _cancel(self._rest)
        if self.cycle.response_complete:  # uvicorn's timer ended with the body's first byte
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Called after the answer is sent."""
        super().on_response_complete()
        if self.cycle.response_complete and not self._heading:  # the body is still arriving
            self._rest = self.loop.call_later(self.settings.body_seconds, self.transport.close)
        if self._stopping and not self._begun and not self.transport.is_closing():
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection after a request that has begun is answered."""
        self._stopping = True
        if not (self._heading and self._begun):
            super().shutdown()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if self._stopping:
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """Called when the client does not read its answer; starts the time-out."""
        super().pause_writing()
        self._look_again()

    def _look_again(self) -> None:
        _cancel(self._stuck)
        unread = self.transport.get_write_buffer_size()
        self._stuck = self.loop.call_later(limits.SEND_STALL_SECONDS, self._end_if_stuck, unread)

    def _end_if_stuck(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._look_again()

    def resume_writing(self) -> None:
        """Called when the client has read everything; stops the time-out."""
        super().resume_writing()
        _cancel(self._stuck)
        self._stuck = None

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP."""
        self._refuse(Problem(400, "bad-http", msg, close=True))

    def _wait_for_headers(self) -> None:
        self._timer = self.loop.call_later(self.settings.header_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._begun:
            detail = f"The headers did not arrive within {self.settings.header_seconds:g} s."
            self._refuse(Problem(408, "slow-headers", detail, close=True))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Send a problem without a request's cycle, and close the connection."""
        body = problem.body()
        headers = {
            **SECURITY_HEADERS,
            **problem.headers,
            "Content-Type": PROBLEM_JSON,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {problem.status} Refused"]
        lines += [f"{name.lower()}: {value}" for name, value in headers.items()]
        if self.cycle is None or self.cycle.response_complete:  # else another answer is being sent
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def protocol_of(settings: Settings, metrics: Metrics) -> type[LimitedProtocol]:
    """The protocol class for a server with these settings."""
    return type("Protocol", (LimitedProtocol,), {"settings": settings, "metrics": metrics})
