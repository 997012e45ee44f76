"""Error responses: problem+json (RFC 9457), never a traceback.

Routes raise a `Problem` anywhere, and `Frame` sends it. The causes of internal errors are only
logged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from convnext.errors import ConvNeXtError, ImageError

__all__ = ["PROBLEM_JSON", "Problem", "busy", "picture_problem", "problem_body", "shown"]

PROBLEM_JSON = "application/problem+json"

# The beginning of advice in error messages that only a Python caller can follow.
_FOR_PYTHON = " If you trust it, "


class Problem(ConvNeXtError):  # noqa: N818 - the name that RFC 9457 gives it
    """An error response.

    Args:
        status: The HTTP status.
        code: The kind of problem, for programs, such as `picture-unreadable`.
        detail: The message: what is wrong, what is allowed, what to do.
        retry_after: Value of Retry-After, in seconds.
        close: Whether to close the connection.
        allow: Value of Allow: the methods of the route.
        facts: Further members of the JSON object.
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
        """The response's headers."""
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
        """The response's body: JSON, with `error` for clients of the Open Inference Protocol."""
        return problem_body(self.status, self.code, self.detail, {**self.facts, **more})

    def as_item(self) -> dict[str, Any]:
        """The `error` object of one picture in a response for several."""
        return {"code": self.code, "detail": self.detail}


def shown(value: object) -> str:
    r"""Quote a value from a client in an error message: shortened, in ASCII, without newlines.

    Example:
        >>> shown("a\n" * 100)[:7], shown([[[]]])
        ("'a\\\\na\\\\n", 'a list')
    """
    if value is None or isinstance(value, str | bool | int | float):
        return ascii(str(value)[:80])
    kinds = {"dict": "an object", "list": "a list"}
    return kinds.get(type(value).__name__, type(value).__name__)


def problem_body(status: int, code: str, detail: str, facts: Mapping[str, Any]) -> bytes:
    """Encode a problem as JSON."""
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
    """A 503: the server cannot accept the request now."""
    seconds = max(1, min(60, round(retry_after + 0.5)))
    return Problem(503, reason, detail, retry_after=seconds)


def picture_problem(error: ImageError) -> Problem:
    """A 422: a picture cannot be read.

    Example:
        >>> picture_problem(ImageError("It is empty. If you trust it, allow more.")).detail
        'It is empty.'
    """
    return Problem(422, "picture-unreadable", str(error).partition(_FOR_PYTHON)[0])
