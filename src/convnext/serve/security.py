"""Who may ask, from where, and what browsers are told to make of the answers.

A server on loopback is not safe by that alone: any web page that is open on the same machine can
send requests to it, and one whose name resolves to 127.0.0.1 can read the answers. So the Host of a
request must be this server's, and what a browser says comes from another site is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from convnext.errors import ArgumentError
from convnext.serve.problems import Problem
from convnext.serve.settings import Settings

__all__ = ["OPEN_PATHS", "SECURITY_HEADERS", "Guard", "page_headers", "read_tokens"]

LEAST_TOKEN = 16  # characters
MAX_TOKEN_FILE = 2**16

OPEN_PATHS = frozenset(
    {
        *("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"),
        *("/", "/app.js", "/icon.svg", "/style.css"),
    }
)
"""What is answered without a token: whether the server lives, and the page, which holds nothing."""

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
}
"""On every answer; what they say fits answers that are no page."""


def page_headers() -> dict[str, str]:
    """For the page: its own files, pictures it makes itself, and nothing else."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Cache-Control": "no-cache",
    }


class Guard:
    """Lets a request in, or says why not.

    Args:
        settings: Tokens, and names of this server.
    """

    def __init__(self, settings: Settings) -> None:
        self._tokens = [_digest(token) for token in settings.tokens]
        self._hosts = {host.lower() for host in settings.allowed_hosts}
        self._any_host = "*" in self._hosts or (not settings.loopback and not self._hosts)
        self._hosts |= {"localhost", "127.0.0.1", "[::1]", settings.host.lower()}

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Refuse what must not be answered.

        Raises:
            Problem: So it is.
        """
        if not self._any_host and _without_port(headers.get("host", "")) not in self._hosts:
            raise Problem(
                421,
                "wrong-host",
                "The request is for another host. If this server is meant, whoever runs it can "
                "allow the name with --allow-host.",
                close=True,
            )
        site = headers.get("sec-fetch-site", "none")
        if method not in ("GET", "HEAD") and site not in ("same-origin", "none"):
            raise Problem(403, "other-site", "Requests from pages of other sites are refused.")
        if self._tokens and path not in OPEN_PATHS:
            self._check_token(headers.get("authorization", ""))

    def _check_token(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        # All of them, always: how long it takes says nothing about which was nearly right.
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        if not (any(matches) and scheme.lower() == "bearer"):
            raise Problem(
                401,
                "no-token",
                "This server answers to those who have a token: send Authorization: Bearer TOKEN.",
            )


def _digest(token: str) -> bytes:
    """Of one length for all."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _without_port(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdecimal() and name else host.strip().lower()


def read_tokens(path: Path) -> tuple[str, ...]:
    """The tokens in a file, one a line; empty lines and those that begin with # are passed over.

    Raises:
        ArgumentError: It cannot be read, others may read it, or it holds no good token.
    """
    try:
        found = path.stat()
        text = path.read_bytes()[: MAX_TOKEN_FILE + 1].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"The token file {path} cannot be read: {error}.") from error
    if len(text) > MAX_TOKEN_FILE:
        raise ArgumentError(f"The token file {path} has more than {MAX_TOKEN_FILE:,} bytes.")
    if os.name == "posix" and found.st_mode & (stat.S_IRWXO):
        raise ArgumentError(
            f"Everybody on this machine may read the token file {path}. Close it: chmod o= {path}"
        )
    lines = [line.strip() for line in text.splitlines()]
    tokens = tuple(line for line in lines if line and not line.startswith("#"))
    if not tokens or min(map(len, tokens)) < LEAST_TOKEN:
        raise ArgumentError(
            f"The token file {path} needs one token a line, of {LEAST_TOKEN} characters or more. "
            "Make one with: openssl rand -hex 32"
        )
    return tokens
