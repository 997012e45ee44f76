"""Iterates over the pictures of a shard as sources for decoding.

Archive members and remote files are opened lazily, in the decoding threads, so that waiting for
them overlaps.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from convnext.data.archives import LabelledSource, stream_tar
from convnext.data.files import local_path, open_file, open_stream
from convnext.data.parquet import TableColumns, table_rows
from convnext.errors import ImageError
from convnext.images.archives import damaged
from convnext.images.decode import Source
from convnext.images.read import DEFAULT_LIMITS, is_url
from convnext.scale.inputs import Item

__all__ = ["Archives", "elsewhere", "pictures"]

_PLAIN_WEB = ("http://", "https://")


class _LazyFile:
    """A file object that is opened by the thread that reads it first."""

    def __init__(self, opened: Callable[[], IO[bytes]]) -> None:
        self._opened: Callable[[], IO[bytes]] | None = opened
        self._stream: IO[bytes] | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Read, and close at the end."""
        if self._opened is None:
            return b""
        try:
            self._stream = self._stream or self._opened()
            data = self._stream.read(size)
        except Exception as error:  # damaged archives and busy stores raise nearly anything
            raise OSError(f"{type(error).__name__}: {error}") from error
        if not data:
            self._stream.close()
            self._stream = self._opened = None
        return bytes(data)


class _FileSlice:
    """A range of bytes of a file that several threads read."""

    def __init__(self, stream: IO[bytes], lock: threading.Lock, start: int, stop: int) -> None:
        self._stream = stream
        self._lock = lock
        self._position = start
        self._stop = min(stop, start + DEFAULT_LIMITS.bytes + 1)

    def read(self, size: int = -1, /) -> bytes:
        """Read the next bytes."""
        most = self._stop - self._position
        with self._lock:
            self._stream.seek(self._position, os.SEEK_SET)
            data = self._stream.read(min(size, most) if size >= 0 else most)
        self._position += len(data)
        return data


class Archives:
    """A context manager that opens each archive once."""

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self._zips: dict[str, zipfile.ZipFile | ImageError] = {}
        self._files: dict[str, tuple[IO[bytes], threading.Lock] | ImageError] = {}

    def __enter__(self) -> Archives:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def zip_member(self, path: str, name: str, index: int) -> Source | ImageError:
        """Source of a member of a zip archive, by index, as names may occur twice."""
        if path not in self._zips:
            try:
                stream = self._opened.enter_context(open_file(path))
                self._zips[path] = self._opened.enter_context(zipfile.ZipFile(stream))
            except Exception as error:  # damaged archives raise nearly anything
                self._zips[path] = damaged(path, error)
        archive = self._zips[path]
        if isinstance(archive, ImageError):
            return archive
        return _LazyFile(lambda: _member(archive, name, index))

    def part(self, path: str, start: int, stop: int) -> Source | ImageError:
        """Source of a range of bytes of a file."""
        if path not in self._files:
            try:
                stream = self._opened.enter_context(open_file(path))
                self._files[path] = stream, threading.Lock()
            except OSError as error:
                self._files[path] = damaged(path, error)
        opened = self._files[path]
        return opened if isinstance(opened, ImageError) else _FileSlice(*opened, start, stop)


def pictures(
    items: Iterable[Item], columns: TableColumns, root: str, archives: Archives
) -> Iterator[LabelledSource]:
    """Iterate over the pictures of a shard, in order.

    Args:
        items: The shard's inputs.
        columns: Columns of Parquet inputs.
        root: The folder of relative paths.
        archives: Must stay open until the last picture is decoded.
    """
    for item in items:
        yield from _of(item, columns, root, archives)


def elsewhere(items: Iterable[Item]) -> bool:
    """Whether any input is on another machine."""
    return any(local_path(item.path) is None for item in items)


def _of(
    item: Item, columns: TableColumns, root: str, archives: Archives
) -> Iterator[LabelledSource]:
    path = item.path if is_url(item.path) else str(Path(root) / item.path)
    if item.kind == "error":
        name = f"{item.path}/{item.name}" if item.name else item.path
        yield LabelledSource(name, ImageError(item.error or ""), item.label)
    elif item.kind == "file":
        yield LabelledSource(item.path, _file(path), item.label)
    elif item.kind == "zip":
        read = archives.zip_member(path, item.name or "", item.start or 0)
        yield LabelledSource(f"{item.path}/{item.name}", read, item.label)
    elif item.kind == "tar":
        read = archives.part(path, item.start or 0, item.stop or 0)
        yield LabelledSource(f"{item.path}/{item.name}", read, item.label)
    elif item.kind == "stream":
        empty = True
        for streamed in stream_tar(path):
            empty = False
            name = f"{item.path}/{streamed.name}" if streamed.name else item.path
            yield streamed._replace(name=name)
        if empty:
            problem = ImageError(f"{item.path} holds no file that is named like a picture.")
            yield LabelledSource(item.path, problem, None)
    else:
        for row in table_rows(path, columns, item.start or 0, item.stop or 0):
            named = row.name.replace(path, item.path, 1) if row.name.startswith(path) else row.name
            yield row._replace(name=named)


def _member(archive: zipfile.ZipFile, name: str, index: int) -> IO[bytes]:
    members = archive.infolist()
    if index >= len(members) or members[index].filename != name:
        raise KeyError(f"{name} is no longer member {index}: the archive has changed")
    return archive.open(members[index])


def _file(path: str) -> Source:
    here = local_path(path)
    if here is not None:
        return here
    return path if path.lower().startswith(_PLAIN_WEB) else _LazyFile(lambda: open_stream(path))
