"""What stands around every route: who may ask, what goes wrong, what is counted and what is logged.

An ASGI application around another. Whatever is raised below becomes problem+json; of what nobody
foresaw, the client learns a number that the log has as well. No line of the log holds a path, query
or body as a client sent it.
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
GONE = 499  # what nginx calls a request whose client went away
SECURITY = [(k.lower().encode(), v.encode()) for k, v in SECURITY_HEADERS.items()]


class Frame:
    """Stands around an application.

    Args:
        app: The routes.
        guard: Who may ask.
        metrics: Where it is counted.
        refuse: Raises what can be said of a request before anything of it is looked at: at several
            times the capacity, most of the work would be in saying no.
        route_names: From an endpoint to its path with placeholders: paths themselves are anything.
        access_log: Whether each request leaves a line.
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
        """One request."""
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
                raise  # too late for an answer: the connection is closed
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
    """Sends an answer with what belongs on every one, and remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = GONE
        self.started = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Pass on one message."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            given = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in SECURITY if name not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)

    async def problem(self, problem: Problem) -> None:
        """Answer with a problem."""
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
    """What a client is told of an error; what it is not told is logged."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        about = {
            404: "There is nothing here. /openapi.json lists what there is.",
            405: "Not with this method. /openapi.json lists what there is.",
        }
        code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "refused")
        detail = about.get(error.status_code, error.detail)
        allow = (error.headers or {}).get("Allow")
        return Problem(error.status_code, code, detail, allow=allow)
    number = secrets.token_hex(4)
    # Where, but not what: messages quote what was given.
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-6:]))
    logger.error("error %s: %s at %s", number, type(error).__name__, where)
    return Problem(
        500,
        "internal",
        f"The server made a mistake. Its log has more under {number}.",
        facts={"number": number},
    )
