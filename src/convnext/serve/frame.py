"""ASGI middleware around all routes: authentication, errors, metrics and the access log.

Errors become problem+json; unexpected ones have a number under which the log has the cause. The log
never contains a path, query or body that a client sent.
"""

from __future__ import annotations

import logging
import secrets
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from convnext.serve.bodies import ClientGoneError
from convnext.serve.metrics import Metrics
from convnext.serve.problems import Problem
from convnext.serve.security import SECURITY_HEADERS, Guard

__all__ = ["Frame", "as_problem"]

logger = logging.getLogger("convnext.serve")
access = logging.getLogger("convnext.serve.access")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
GONE = 499  # nginx's status for a client that disconnected
SECURITY = [(k.lower().encode(), v.encode()) for k, v in SECURITY_HEADERS.items()]


class Frame:
    """Middleware around an ASGI application.

    Args:
        app: The routes.
        guard: Checks each request first.
        metrics: Where requests are counted.
        refuse: Raises a problem for a request that an overloaded server refuses before routing it.
        route_names: The path template of each endpoint, for metrics and the log.
        access_log: Whether to log each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        guard: Guard,
        metrics: Metrics,
        refuse: Callable[[Scope], None],
        route_names: Mapping[Any, str],
        access_log: bool,
    ) -> None:
        self._app = app
        self._guard = guard
        self._metrics = metrics
        self._refuse = refuse
        self._route_names = route_names
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        answer = _Answer(send)
        self._metrics.count("convnext_requests_in_flight", 1)
        try:
            await self._answer(scope, receive, answer)
        finally:
            self._metrics.count("convnext_requests_in_flight", -1)
            self._note(scope, answer.status, time.perf_counter() - begun)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            scope["state"]["headers"] = headers
            self._guard.check(scope["method"], scope["path"], headers)
            self._refuse(scope)
            await self._app(scope, receive, answer.send)
        except ClientGoneError:
            answer.status = GONE
        except Exception as error:
            problem = as_problem(error)
            if answer.started:
                raise  # too late for a response: the connection is closed
            await answer.problem(problem)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = self._route_names.get(scope.get("endpoint"), "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.count(
            "convnext_requests_total", route=route, method=method, status=str(status)
        )
        self._metrics.observe("convnext_request_seconds", seconds, route=route)
        if self._access_log:
            access.info("%s %s %d %.1f ms", method, route, status, 1000 * seconds)


class _Answer:
    """Sends a response with the security headers, and remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = GONE
        self.started = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            given = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in SECURITY if name not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)

    async def problem(self, problem: Problem) -> None:
        body = problem.body()
        headers = {**problem.headers, "Content-Length": str(len(body))}
        await self.send(
            {
                "type": "http.response.start",
                "status": problem.status,
                "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": body})


def as_problem(error: Exception) -> Problem:
    """The problem to send for an error; unexpected errors are logged and their cause hidden."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        about = {
            404: "There is no such route. /openapi.json lists the routes.",
            405: "The route does not have this method. /openapi.json lists the routes.",
        }
        code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "refused")
        detail = about.get(error.status_code, error.detail)
        allow = (error.headers or {}).get("Allow")
        return Problem(error.status_code, code, detail, allow=allow)
    number = secrets.token_hex(4)
    # The location without the message, which may quote the client's input.
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-6:]))
    logger.error("error %s: %s at %s", number, type(error).__name__, where)
    return Problem(
        500,
        "internal",
        f"Internal error. The server's log has the cause under the number {number}.",
        facts={"number": number},
    )
