"""One file from one web address: resumed, retried, verified, and named only once it is whole.

Published weights weigh up to 2.6 GB and come over connections that break, to machines where several
processes start at once. Hub files do not come this way; `huggingface_hub` has all of it built in.
It knows nothing of checkpoints or of where files are kept.
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
# A connection that broke off is worth another attempt; one that was never made is not.
TRANSIENT_ERRORS = (
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.RemoteProtocolError,
    httpx.WriteError,
    httpx.WriteTimeout,
)


def fetch_url(url: str, target: Path, *, sha256: str | None = None, progress: bool = True) -> Path:
    """Bring the file at an address to `target`, and return `target`.

    A target that is there already is taken as it is: it got its name only after it had come whole
    and had passed its check. A download that broke off goes on where it stopped, in this process or
    in the next. Of several processes that want a file, one fetches it and the others wait.

    Args:
        url: An http or https address.
        target: Path of the file to be; folders are made.
        sha256: The file's digest in hexadecimal, or leading digits of it.
        progress: Whether to show a bar when there is a terminal.

    Raises:
        WeightsUnavailableError: The file cannot be had; says why in one phrase.
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
    """An attempt failed in a way that may not happen again."""


class _Partial:
    """The bytes of a download so far, and beside them the server's mark of which file they are of.

    Only bytes with a mark can be continued: the server compares it (`If-Range`) and sends the whole
    file if that has changed. It is no temporary file of `convnext.atomic`, none of which outlives
    its process: this one has the same name for the process that goes on with it.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._mark_path = target.with_name(f"{target.name}.part.mark")

    @property
    def mark(self) -> str:
        return self._mark_path.read_text() if self._mark_path.is_file() else ""

    @property
    def size(self) -> int:
        """How many bytes there are to go on from."""
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
    """Fetch what is missing of the file; on return it is whole and verified."""
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
    """Whether an earlier process was killed after the last byte and before the renaming."""
    return (
        response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE
        and response.headers.get("Content-Range") == f"bytes */{size}"
    )


def _agree_on_start(response: httpx.Response, partial: _Partial, start: int) -> int:
    """Where in the file the response's bytes belong; makes the partial file ready for them."""
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
        raise _TransientError("the server could not go on where the file had stopped")
    answer = f"the server answered {status} {response.reason_phrase}"
    raise _TransientError(answer) if status in TRANSIENT_STATUS else WeightsUnavailableError(answer)


def _mark(response: httpx.Response) -> str:
    """What the server offers to recognise this very file by; `If-Range` admits no weak ETag."""
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
    # The bytes from an earlier attempt may be the ones that are wrong.
    raise _TransientError(answer) if resumed else WeightsUnavailableError(answer)
