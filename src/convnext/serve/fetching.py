"""Download pictures by URL, from allowed hosts only, without server-side request forgery.

A URL's host must be allowed. Its name is resolved once, all its addresses must be public, and the
connection goes to one of these addresses. Redirects are not followed, and no proxy, cookie or token
of this machine is used.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import SplitResult, urlsplit

import httpx

from convnext.serve.limits import FETCH_SECONDS
from convnext.serve.problems import Problem, shown
from convnext.serve.settings import Settings

__all__ = ["Fetcher", "is_public"]

PORTS = {"http": 80, "https": 443}
MOST_AT_ONCE = 8
MAX_URL_LENGTH = 2048
UNICAST = ipaddress.ip_network("2000::/3")  # all assigned public IPv6 addresses

Resolver = Callable[[str, int], Awaitable[list[str]]]


def is_public(address: str) -> bool:
    """Whether an IP address is public: neither private, local nor reserved.

    Example:
        >>> is_public("10.0.0.1"), is_public("::ffff:127.0.0.1"), is_public("1.1.1.1")
        (False, False, True)
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # IPv6 forms of an IPv4 address, which gateways translate back.
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        # Other addresses are private, or tunnels to IPv4.
        if found.teredo is not None or found not in UNICAST:
            return False
    return found.is_global and not found.is_multicast


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


class Fetcher:
    """Downloads pictures from allowed hosts.

    Args:
        settings: The allowed hosts and the largest size of a picture.
        resolve: Resolves a host and port to addresses.
        allowed: Whether connecting to an address is allowed.
        seconds: Time-out of a download, from the name's resolution to the last byte.
    """

    def __init__(
        self,
        settings: Settings,
        resolve: Resolver = _resolve,
        allowed: Callable[[str], bool] = is_public,
        seconds: float = FETCH_SECONDS,
    ) -> None:
        self._hosts = {host.lower() for host in settings.allowed_urls}
        self._most = settings.max_picture_bytes
        self._resolve = resolve
        self._allowed = allowed
        self._seconds = seconds
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    @asynccontextmanager
    async def fetched(self, url: str) -> AsyncIterator[bytes]:
        """Download a URL; at most `MOST_AT_ONCE` contexts are open, others wait.

        Raises:
            Problem: The URL is not allowed, or the download fails.
        """
        parts, port = self._checked(url)
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._seconds):
                    await held.enter_async_context(self._turns)
                    address = await self._address(parts, port)
                    data = await self._download(parts, port, address)
            except TimeoutError as error:
                raise _failed(f"took longer than {self._seconds:g} s") from error
            except (httpx.HTTPError, OSError, ValueError) as error:
                # The cause is hidden: it would tell clients about hosts and ports.
                raise _failed("could not be downloaded") from error
            yield data

    def _checked(self, url: str) -> tuple[SplitResult, int]:
        if not self._hosts:
            raise Problem(
                403, "url-not-allowed", "This server downloads no URLs. Send the picture itself."
            )
        try:
            if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable():
                raise ValueError("not a plain URL")
            parts = urlsplit(url)
            port = parts.port or PORTS[parts.scheme]
            host = (parts.hostname or "").rstrip(".")
        except (ValueError, KeyError) as error:
            raise Problem(
                400, "bad-url", f"A URL must be http or https, and ASCII; got {shown(url)}."
            ) from error
        name = f"[{host}]" if ":" in host else host
        plain = port == PORTS[parts.scheme] and name in self._hosts
        # A user name, or a backslash, can disguise which host is meant.
        if "@" in parts.netloc or "\\" in url or not (plain or f"{name}:{port}" in self._hosts):
            raise Problem(
                403,
                "url-not-allowed",
                "This server does not download from this host. Send the picture itself, or ask the "
                "operator to allow the host.",
            )
        return parts, port

    async def _address(self, parts: SplitResult, port: int) -> str:
        assert parts.hostname is not None
        addresses = await self._resolve(parts.hostname, port)
        # A private address among public ones indicates an attack.
        if not addresses or not all(map(self._allowed, addresses)):
            raise Problem(
                403,
                "url-not-allowed",
                "This host has an address that is not public. Send the picture itself.",
            )
        return addresses[0]

    async def _download(self, parts: SplitResult, port: int, address: str) -> bytes:
        host = f"[{address}]" if ":" in address else address
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            "Host": parts.netloc,
            "Accept": "image/*",
            "Accept-Encoding": "identity",
            "User-Agent": "convnext",
        }
        async with (
            httpx.AsyncClient(
                verify=_certificates(), trust_env=False, follow_redirects=False, timeout=None
            ) as client,
            client.stream(
                "GET",
                f"{parts.scheme}://{host}:{port}{path}",
                headers=headers,
                extensions={"sni_hostname": parts.hostname},
            ) as response,
        ):
            if response.is_redirect:
                raise _failed("redirects, and redirects are not followed")
            encoding = response.headers.get("Content-Encoding", "identity")
            if response.status_code != 200 or encoding != "identity":
                raise _failed("could not be downloaded")
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > self._most:
                    raise _failed(f"has more than the allowed {self._most:,} bytes")
            return bytes(data)


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _failed(what: str) -> Problem:
    return Problem(422, "url-failed", f"The picture at the URL {what}.")
