"""Reads the members of zip and tar archives, in order and within limits.

Nothing is unpacked to disk, and memory does not grow with the number of members.
"""

from __future__ import annotations

import functools
import gzip
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from convnext.errors import ImageError

__all__ = ["ARCHIVE_SUFFIXES", "damaged", "tar_members", "zip_members"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")

_END = bytes(tarfile.BLOCKSIZE)
_LONGEST_HEADER = 2**20  # bytes, of a member of a tar archive


def damaged(what: object, error: Exception) -> ImageError:
    """Create the error of an archive or member that cannot be read."""
    return ImageError(f"{what} cannot be read: {type(error).__name__}: {error}")


def zip_members(
    archive: str | Path | IO[bytes],
) -> Iterator[tuple[zipfile.ZipInfo, Callable[[int], bytes]]]:
    """Yield each member of a zip archive, and a function that reads up to a number of its bytes.

    Args:
        archive: Its path, or a stream that can seek. It is open until the last member.

    Raises:
        Exception: Of nearly any kind, if the archive is damaged.
    """
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            yield member, functools.partial(_unzip, opened, member)


def _unzip(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(member) as stream:
        return stream.read(most)


def tar_members(
    stream: IO[bytes], longest: int = 0, *, compressed: bool = False
) -> Iterator[tuple[tarfile.TarInfo, Callable[[int], bytes]]]:
    """Yield each member of a tar archive, and a function that reads up to a number of its bytes.

    Args:
        stream: The archive. If it cannot seek or is compressed, it is read once from its beginning
            to its end, so that a member can only be read before the next one.
        longest: Largest number of bytes to read of a member at once.
        compressed: Whether it is compressed by gzip.

    Raises:
        Exception: Of nearly any kind, if the archive is damaged or truncated.
    """
    if compressed:
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    forward = compressed or not stream.seekable()
    short = _ShortReads(_Forward(stream) if forward else stream, max(longest, _LONGEST_HEADER))
    with tarfile.open(fileobj=cast("IO[bytes]", short), mode="r:") as archive:
        while (member := archive.next()) is not None:
            # Undocumented list in which tarfile keeps every member: it would fill memory.
            archive.members.clear()  # type: ignore[attr-defined]
            member.name = member.name.removeprefix("./")  # as `tar -C folder .` writes them
            yield member, functools.partial(_read, archive, member)
    if short.block != _END:  # tarfile takes a truncated or damaged header for the end
        raise tarfile.ReadError("it is truncated or damaged. Copy it again")


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    content = archive.extractfile(member)
    return b"" if content is None else content.read(min(member.size, most))


class _ShortReads:
    """A stream for tarfile with a limit on headers, which it reads into memory at any size."""

    def __init__(self, stream: IO[bytes] | _Forward, longest: int) -> None:
        self._stream = stream
        self._longest = longest
        self.seek = stream.seek
        self.tell = stream.tell
        self.block = b""  # the bytes of the last read; of a complete archive, its end marker

    def read(self, size: int) -> bytes:
        if size > self._longest:
            raise tarfile.ReadError(f"one of its headers claims {size:,} bytes")
        self.block = self._stream.read(size)
        return self.block


class _Forward:
    """A stream that is only read forwards; tarfile steps back by one byte at most."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._position = 0
        self._last = b""  # the last byte, and whether the next read returns it again
        self._again = False

    def tell(self) -> int:
        return self._position - self._again

    def seek(self, position: int) -> int:
        if position == self._position - 1 and self._last:
            self._again = True
            return position
        self._again = False
        if position < self._position:
            raise tarfile.ReadError("one of its headers points backwards")
        while self._position < position:
            if not self._take(min(position - self._position, 2**20)):
                break
        return self._position

    def read(self, size: int) -> bytes:
        again = self._last if size and self._again else b""
        self._again = False
        return again + self._take(size - len(again))

    def _take(self, size: int) -> bytes:
        parts = []
        while size and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self._position += len(data)
        self._last = data[-1:] or self._last
        return data
