"""Authentication, checks of a request's origin, and security headers.

Listening on loopback is not enough: any web page open on this machine can send requests to it, and
one whose name resolves to 127.0.0.1 (DNS rebinding) can read the answers. So a request's Host must
be this server's, and cross-site requests of browsers are refused.
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
"""Paths that need no authentication: health checks and the static files of the web page."""

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
}
"""Headers of every response; `page_headers` replaces some for the web page."""


def page_headers() -> dict[str, str]:
    """Headers of the web page, which may load only its own files and blob pictures."""
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
    """Authenticates requests and checks where they come from."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = [_digest(token) for token in settings.tokens]
        self._hosts = {host.lower() for host in settings.allowed_hosts}
        self._any_host = "*" in self._hosts or (not settings.loopback and not self._hosts)
        self._hosts |= {"localhost", "127.0.0.1", "[::1]", settings.host.lower()}

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Refuse requests for another host, from another site, or without a valid token.

        Raises:
            Problem: The request is refused.
        """
        if not self._any_host and _without_port(headers.get("host", "")) not in self._hosts:
            raise Problem(
                421,
                "wrong-host",
                "The request's Host is not a name of this server. If it should be, the operator "
                "can allow it with --allow-host.",
                close=True,
            )
        site = headers.get("sec-fetch-site", "none")
        if method not in ("GET", "HEAD") and site not in ("same-origin", "none"):
            detail = "Requests from web pages of other sites are refused. Use this server's page."
            raise Problem(403, "other-site", detail)
        if self._tokens and path not in OPEN_PATHS:
            self._check_token(headers.get("authorization", ""))

    def _check_token(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        # Compare all in constant time, so that timing tells nothing about the tokens.
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        if not (any(matches) and scheme.lower() == "bearer"):
            raise Problem(
                401,
                "no-token",
                "This server needs a valid token. Send the header Authorization: Bearer TOKEN.",
            )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _without_port(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdecimal() and name else host.strip().lower()


def read_tokens(path: Path) -> tuple[str, ...]:
    """Read the tokens from a file, one per line; empty lines and comments (#) are skipped.

    Raises:
        ArgumentError: The file cannot be read, is readable by everybody, or has no token or one
            that is too short.
    """
    try:
        found = path.stat()
        text = path.read_bytes()[: MAX_TOKEN_FILE + 1].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"The token file {path} cannot be read: {error}.") from error
    if len(text) > MAX_TOKEN_FILE:
        raise ArgumentError(
            f"The token file {path} has more than {MAX_TOKEN_FILE:,} bytes. Use fewer tokens."
        )
    if os.name == "posix" and found.st_mode & (stat.S_IRWXO):
        raise ArgumentError(
            f"Everybody on this machine can read the token file {path}. Run: chmod o= {path}"
        )
    lines = [line.strip() for line in text.splitlines()]
    tokens = tuple(line for line in lines if line and not line.startswith("#"))
    if not tokens or min(map(len, tokens)) < LEAST_TOKEN:
        raise ArgumentError(
            f"The token file {path} needs one token per line, of at least {LEAST_TOKEN} "
            "characters. Create one with: openssl rand -hex 32"
        )
    return tokens
