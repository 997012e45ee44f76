"""Read the encoded bytes of a picture from a path, URL, file object or bytes, within limits."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import ssl
import stat
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from convnext.errors import ArgumentTypeError, ImageError

if TYPE_CHECKING:
    import httpx

__all__ = ["DEFAULT_LIMITS", "Limits", "Location", "Readable", "is_url", "read_bytes"]

_CHUNK = 2**20  # file objects may allocate the whole requested size at once
_MAX_REDIRECTS = 5
_NEXT_SCHEMES = {"http": ("http", "https"), "https": ("https",)}  # a redirect never drops TLS
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """Limits on a picture.

    Attributes:
        pixels: Width times height, checked before decoding. Decoding takes up to 16 bytes of memory
            per pixel. Pillow's own limit (`PIL.Image.MAX_IMAGE_PIXELS`, an error at twice its
            value) applies as well.
        bytes: Size of the encoded picture. Hostile files can take about 0.3 seconds per megabyte.
        seconds: For a URL, the time from resolving its name to the last byte.
    """

    pixels: int = 8192 * 6144  # the size of a phone's 50-megapixel photo
    bytes: int = 2**26
    seconds: float = 20.0


DEFAULT_LIMITS = Limits()


@runtime_checkable
class Readable(Protocol):
    """A file object opened for reading bytes."""

    def read(self, size: int = ..., /) -> bytes:
        """Read up to `size` bytes; none at the end."""


Location = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable


def is_url(text: str) -> bool:
    """Whether a string is a URL of any scheme, not a path."""
    return _URL.match(text) is not None


def read_bytes(source: Location, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read an encoded picture from a path, a URL, a binary file object or bytes.

    URLs of any host are downloaded, also of private networks: do not pass untrusted URLs.

    Raises:
        ImageError: It is missing, empty, not a file, over a limit, or cannot be read.
        ArgumentTypeError: The source is none of these, or a text file object.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        name, data = "The given data", bytes(source)
    elif isinstance(source, str) and is_url(source):
        name, data = source, _read_url(source, limits)
    elif isinstance(source, str | os.PathLike):
        name, data = os.fspath(source), _read_path(Path(source), limits)
    elif isinstance(source, Readable):
        name, data = "The given file object", _read_stream(source, limits)
    else:
        raise ArgumentTypeError(
            f"Cannot read a picture from {type(source).__name__}: give a path, a URL, bytes, a "
            "binary file object, a PIL image or a NumPy array."
        )
    if len(data) > limits.bytes:
        raise ImageError(
            f"{name} has more than the allowed {limits.bytes:,} bytes. If you trust it, allow "
            "more with Limits(bytes=...)."
        )
    if not data:
        raise ImageError(f"{name} is empty: it has 0 bytes.")
    return data


def _read_path(path: Path, limits: Limits) -> bytes:
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{path} is a folder, not a picture.")
        if not stat.S_ISREG(found.st_mode):  # reading a pipe or device may never end
            raise ImageError(f"{path} is not a regular file.")
        with path.open("rb") as stream:
            return stream.read(min(found.st_size, limits.bytes) + 1)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ImageError(f"{path} cannot be read: {error}") from error


def _read_stream(stream: Readable, limits: Limits) -> bytes:
    data = bytearray()
    while len(data) <= limits.bytes:
        try:
            chunk = stream.read(min(_CHUNK, limits.bytes + 1 - len(data)))
        except Exception as error:  # a member of a damaged archive raises many kinds of errors
            raise ImageError(
                f"The given file object cannot be read: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(chunk, bytes):
            raise ArgumentTypeError(
                f"The given file object returns {type(chunk).__name__}; open it in mode 'rb'."
            )
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _read_url(url: str, limits: Limits) -> bytes:
    """Download in a separate thread, so that the time limit always holds.

    Socket time-outs apply to single operations: they stop neither a slow name server nor a server
    that sends a byte now and then.
    """
    import httpx

    outcome: Future[bytes] = Future()

    def download() -> None:
        try:
            outcome.set_result(_download(client, url, limits))
        except BaseException as error:
            outcome.set_exception(error)

    with httpx.Client(timeout=limits.seconds, verify=_trusted_certificates()) as client:
        threading.Thread(target=download, daemon=True).start()
        try:
            return outcome.result(timeout=limits.seconds)
        except ImageError:
            raise
        except TimeoutError as error:
            raise ImageError(
                f"{url} took longer than the allowed {limits.seconds:g} seconds."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise ImageError(f"{url} cannot be downloaded: {error}") from error


@functools.cache
def _trusted_certificates() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()


def _download(client: httpx.Client, url: str, limits: Limits) -> bytes:
    # Without compression, under which a small response could grow beyond any limit.
    request = client.build_request("GET", url, headers={"Accept-Encoding": "identity"})
    allowed = _NEXT_SCHEMES["http"]
    for _ in range(_MAX_REDIRECTS + 1):
        if request.url.scheme not in allowed:
            schemes = " and ".join(allowed)
            raise ImageError(f"{url}: only {schemes} URLs are allowed, not {request.url}.")
        with contextlib.closing(client.send(request, stream=True)) as response:
            if response.next_request is None:
                return _body(response, url, limits)
            allowed = _NEXT_SCHEMES[request.url.scheme]
            request = response.next_request
    raise ImageError(f"{url} redirects more than {_MAX_REDIRECTS} times.")


def _body(response: httpx.Response, url: str, limits: Limits) -> bytes:
    if response.status_code != 200:
        raise ImageError(f"{url} answered with status {response.status_code}, not a picture.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ImageError(f"{url} sends compressed data, which is not supported.")
    data = bytearray()
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > limits.bytes:
            break
    return bytes(data)
