"""Errors as clients see them: problem+json (RFC 9457), and never a trace.

A `Problem` is raised anywhere below a route and becomes the answer. What went wrong inside the
server is told to its log, and to the client only that something did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from convnext.errors import ConvNeXtError, ImageError

__all__ = ["PROBLEM_JSON", "Problem", "busy", "picture_problem", "problem_body", "shown"]

PROBLEM_JSON = "application/problem+json"

# What an error of the library tells whoever calls it from Python, and no client of a server.
_FOR_PYTHON = " If you trust it, "


class Problem(ConvNeXtError):  # noqa: N818 - the name that RFC 9457 gives it
    """A request that gets an error for an answer.

    Args:
        status: Of HTTP.
        code: Names the kind of problem, for programs: `picture-unreadable`, say.
        detail: What was given, what is allowed, what to do.
        retry_after: Seconds after which it may work.
        close: Whether the connection cannot be used any more.
        allow: The methods that would do.
        facts: More for programs.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after: int | None = None,
        close: bool = False,
        allow: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.close = close
        self.allow = allow
        self.facts = dict(facts or {})

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it."""
        headers = {"Content-Type": PROBLEM_JSON, "Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.allow is not None:
            headers["Allow"] = self.allow
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="convnext"'
        if self.close:
            headers["Connection"] = "close"
        return headers

    def body(self, **more: Any) -> bytes:
        """As JSON; `error` says the same to clients of the Open Inference Protocol."""
        return problem_body(self.status, self.code, self.detail, {**self.facts, **more})

    def as_item(self) -> dict[str, Any]:
        """As the answer for one picture of several."""
        return {"code": self.code, "detail": self.detail}


def shown(value: object) -> str:
    r"""What a client sent, short and harmless, to be said in a problem.

    Example:
        >>> shown("a\n" * 100)[:7], shown([[[]]])
        ("'a\\\\na\\\\n", 'a list')
    """
    if value is None or isinstance(value, str | bool | int | float):
        return ascii(str(value)[:80])
    kinds = {"dict": "an object", "list": "a list"}
    return kinds.get(type(value).__name__, type(value).__name__)


def problem_body(status: int, code: str, detail: str, facts: Mapping[str, Any]) -> bytes:
    """One problem as JSON."""
    content = {
        "type": f"urn:convnext:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "error": detail,
        **facts,
    }
    return json.dumps(content, ensure_ascii=True).encode()


def busy(reason: str, detail: str, retry_after: float) -> Problem:
    """The server does not take this now."""
    seconds = max(1, min(60, round(retry_after + 0.5)))
    return Problem(503, reason, detail, retry_after=seconds)


def picture_problem(error: ImageError) -> Problem:
    """A picture that cannot be read.

    Example:
        >>> picture_problem(ImageError("It is empty. If you trust it, allow more.")).detail
        'It is empty.'
    """
    return Problem(422, "picture-unreadable", str(error).partition(_FOR_PYTHON)[0])
