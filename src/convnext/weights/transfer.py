"""Download one file from a web address: with resume, retries, a checksum, and atomically.

Published weights have up to 2.6 GB, connections break, and several processes may want a file at
once. Files of the Hub are downloaded by `huggingface_hub` instead.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import time
from pathlib import Path

import httpx
from filelock import FileLock
from tqdm import tqdm

from convnext.errors import WeightsUnavailableError

__all__ = ["fetch_url"]

ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds; doubles from one attempt to the next
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
# A broken connection is retried; one that could not be made is not.
TRANSIENT_ERRORS = (
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.RemoteProtocolError,
    httpx.WriteError,
    httpx.WriteTimeout,
)


def fetch_url(url: str, target: Path, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Download the file at an address to `target`, and return `target`.

    An existing target is not downloaded again: files are atomic, so it is complete and verified. An
    interrupted download is resumed, in this process or the next. Of several processes that want a
    file, one downloads it and the others wait.

    Args:
        url: An http or https address.
        target: Path of the file; folders are created.
        sha256: The file's digest in hexadecimal, or leading digits of it.
        progress: Whether to show a bar when there is a terminal.

    Raises:
        WeightsUnavailableError: The download failed; has the reason in one phrase.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_file():
                _download(url, target, sha256, progress)
    except WeightsUnavailableError:
        raise
    except OSError as error:
        raise WeightsUnavailableError(
            f"cannot write {target}: {error.strerror or error}"
        ) from error
    return target


class _TransientError(Exception):
    """A failure that is worth another attempt."""


class _Partial:
    """The bytes of an unfinished download, and the server's mark (ETag or date) of their file.

    Only bytes with a mark can be resumed: the server compares it (`If-Range`) and sends the whole
    file if that has changed. Unlike the temporary files of `convnext.atomic`, these outlive their
    process, so that another one can resume.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._mark_path = target.with_name(f"{target.name}.part.mark")

    @property
    def mark(self) -> str:
        return self._mark_path.read_text() if self._mark_path.is_file() else ""

    @property
    def size(self) -> int:
        """Number of bytes that can be resumed from."""
        return self.path.stat().st_size if self.mark and self.path.is_file() else 0

    def restart(self, mark: str) -> None:
        self.discard()
        self._mark_path.write_text(mark)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._mark_path.unlink(missing_ok=True)

    def become(self, target: Path) -> None:
        self.path.replace(target)
        self._mark_path.unlink()


def _download(url: str, target: Path, sha256: str | None, progress: bool) -> None:
    partial = _Partial(target)
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
            try:
                _attempt(client, url, partial, sha256, progress)
            except (_TransientError, *TRANSIENT_ERRORS) as error:
                failure: Exception = error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise WeightsUnavailableError(_reason(error)) from error
            else:
                partial.become(target)
                return
    raise WeightsUnavailableError(
        f"gave up after {ATTEMPTS} attempts, the last one: {_reason(failure)}"
    ) from failure


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _TransientError) else f"{type(error).__name__}: {error}"


def _attempt(
    client: httpx.Client, url: str, partial: _Partial, sha256: str | None, progress: bool
) -> None:
    """Download the missing bytes and verify the file."""
    start = partial.size
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": partial.mark}
    with client.stream("GET", url, headers=headers) as response:
        if not _was_whole(response, start):
            start = _agree_on_start(response, partial, start)
            _write(response, partial, start, progress)
    if sha256:
        _verify(partial, sha256, resumed=start > 0)


def _was_whole(response: httpx.Response, size: int) -> bool:
    """Whether the partial file is complete: its process ended before renaming it."""
    return (
        response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE
        and response.headers.get("Content-Range") == f"bytes */{size}"
    )


def _agree_on_start(response: httpx.Response, partial: _Partial, start: int) -> int:
    """Offset of the response's bytes in the file; empties the partial file if it is 0."""
    status = response.status_code
    if status == httpx.codes.OK:
        partial.restart(_mark(response))
        return 0
    if status == httpx.codes.PARTIAL_CONTENT:
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if continues and _mark(response) in ("", partial.mark):
            return start
    if status in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
        partial.discard()
        raise _TransientError("the server could not resume the download")
    answer = f"the server answered {status} {response.reason_phrase}"
    raise _TransientError(answer) if status in TRANSIENT_STATUS else WeightsUnavailableError(answer)


def _mark(response: httpx.Response) -> str:
    """The ETag of a response, or its date if the ETag is weak, which `If-Range` forbids."""
    etag: str = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return str(response.headers.get("Last-Modified", ""))


def _write(response: httpx.Response, partial: _Partial, start: int, progress: bool) -> None:
    length = int(response.headers.get("Content-Length", 0))
    try:
        if length > shutil.disk_usage(partial.path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with partial.path.open("ab") as file, _bar(partial, start, length, progress) as bar:
            for chunk in response.iter_bytes():
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        partial.discard()
        raise WeightsUnavailableError(
            f"no room for it in {partial.path.parent}: {error.strerror}, {length:,} bytes to come"
        ) from error


def _bar(partial: _Partial, start: int, length: int, progress: bool) -> tqdm:
    return tqdm(
        desc=partial.path.stem,
        initial=start,
        total=start + length if length else None,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=None if progress else True,  # None: shown on a terminal only
    )


def _verify(partial: _Partial, sha256: str, *, resumed: bool) -> None:
    with partial.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest.startswith(sha256.lower()):
        return
    partial.discard()
    answer = f"its sha256 is {digest} where {sha256} is published, so it was discarded"
    # The bytes of an earlier attempt may be wrong: try once more from the start.
    raise _TransientError(answer) if resumed else WeightsUnavailableError(answer)
