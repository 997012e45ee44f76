"""The bytes of one picture, from wherever they are, within limits.

Why it exists: paths, URLs and file objects can each deliver too much, too slowly or nothing, and
every one of these ways has to end in the same kind of error.
It knows nothing of image formats.
"""

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

_CHUNK = 2**20  # file objects may allocate at once whatever they are asked for
_MAX_REDIRECTS = 5
_NEXT_SCHEMES = {"http": ("http", "https"), "https": ("https",)}  # a redirect never drops TLS
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What one picture may cost at most.

    Attributes:
        pixels: Width times height, checked before anything is decoded. Decoding takes up to 16
            bytes of memory a pixel. Pillow's own limit (`PIL.Image.MAX_IMAGE_PIXELS`, an error at
            twice its value) holds as well.
        bytes: Size of the encoded picture. Hostile files can take about 0.3 seconds a megabyte.
        seconds: For a URL, the whole time from the first look-up to the last byte.
    """

    pixels: int = 8192 * 6144  # what phones with 50 megapixels deliver
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
    """Whether a string names a URL of any scheme, and not a path."""
    return _URL.match(text) is not None


def read_bytes(source: Location, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The encoded picture behind a path, a URL, a file object or bytes themselves.

    A URL is asked for whatever host it names: whether strangers may make this machine call an
    address inside your own network is for the caller to decide.

    Raises:
        ImageError: It is missing, empty, no file, over a limit, or cannot be read.
        ArgumentTypeError: It is none of the above, or a file object that delivers text.
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
            f"{name} holds more than the allowed {limits.bytes:,} bytes. If you trust it, allow "
            "more with Limits(bytes=...)."
        )
    if not data:
        raise ImageError(f"{name} is empty: it holds 0 bytes.")
    return data


def _read_path(path: Path, limits: Limits) -> bytes:
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{path} is a folder, not a picture.")
        if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device may never end
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
        except Exception as error:  # a member of a damaged archive raises nearly anything
            raise ImageError(
                f"The given file object cannot be read: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(chunk, bytes):
            raise ArgumentTypeError(
                f"The given file object delivers {type(chunk).__name__}; open it in mode 'rb'."
            )
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _read_url(url: str, limits: Limits) -> bytes:
    """Download in a thread of its own, so that nothing can outlast the limit.

    The time-outs of a socket hold for one wait each: neither a name server that does not answer
    nor a server that sends a byte now and then would be stopped by them.
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
    # Compressed transfer would let a small answer grow beyond any limit, and pictures gain nothing.
    request = client.build_request("GET", url, headers={"Accept-Encoding": "identity"})
    allowed = _NEXT_SCHEMES["http"]
    for _ in range(_MAX_REDIRECTS + 1):
        if request.url.scheme not in allowed:
            raise ImageError(f"{url}: only {' and '.join(allowed)} may be used, not {request.url}.")
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
        raise ImageError(f"{url} sends compressed data although it was asked not to.")
    data = bytearray()
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > limits.bytes:
            break
    return bytes(data)
