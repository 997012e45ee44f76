"""The pictures of a shard, one after the other, wherever they lie.

Why it exists: whatever reads pictures ahead of the model wants one stream of named sources. What
lies in an archive or elsewhere is opened where it is decoded, in the threads that do so, because
there many of them wait at once. It knows nothing of models.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from convnext.errors import ImageError
from convnext.images.decode import Source
from convnext.images.read import DEFAULT_LIMITS, is_url
from convnext.scale.archives import damaged, stream_tar
from convnext.scale.inputs import Item
from convnext.scale.places import local_path, open_file, open_stream
from convnext.scale.tables import TableColumns, table_rows

__all__ = ["Archives", "Picture", "elsewhere", "pictures"]

_PLAIN_WEB = ("http://", "https://")


class Picture(NamedTuple):
    """One picture of a shard.

    Attributes:
        path: What names it in the answers.
        source: What `decode` takes, or what came up on the way to it.
        label: What it shows, if something said so.
    """

    path: str
    source: Source | ImageError
    label: str | None


class _Late:
    """A file object that is opened when it is first read, in whatever thread that is."""

    def __init__(self, opened: Callable[[], IO[bytes]]) -> None:
        self._opened: Callable[[], IO[bytes]] | None = opened
        self._stream: IO[bytes] | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Read; close at the end."""
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


class _Part:
    """Some bytes of a file that several threads read from."""

    def __init__(self, stream: IO[bytes], lock: threading.Lock, start: int, stop: int) -> None:
        self._stream = stream
        self._lock = lock
        self._position = start
        self._stop = min(stop, start + DEFAULT_LIMITS.bytes + 1)

    def read(self, size: int = -1, /) -> bytes:
        """Read on."""
        most = self._stop - self._position
        with self._lock:
            self._stream.seek(self._position, os.SEEK_SET)
            data = self._stream.read(min(size, most) if size >= 0 else most)
        self._position += len(data)
        return data


class Archives:
    """Archives that are open, each once, until the block ends."""

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self._zips: dict[str, zipfile.ZipFile | ImageError] = {}
        self._files: dict[str, tuple[IO[bytes], threading.Lock] | ImageError] = {}

    def __enter__(self) -> Archives:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def zip_member(self, path: str, name: str, place: int) -> Source | ImageError:
        """A picture in a zip archive, which may have another of the same name."""
        if path not in self._zips:
            try:
                stream = self._opened.enter_context(open_file(path))
                self._zips[path] = self._opened.enter_context(zipfile.ZipFile(stream))
            except Exception as error:  # damaged archives raise nearly anything
                self._zips[path] = damaged(path, error)
        archive = self._zips[path]
        if isinstance(archive, ImageError):
            return archive
        return _Late(lambda: _member(archive, name, place))

    def part(self, path: str, start: int, stop: int) -> Source | ImageError:
        """Some bytes of a file."""
        if path not in self._files:
            try:
                stream = self._opened.enter_context(open_file(path))
                self._files[path] = stream, threading.Lock()
            except OSError as error:
                self._files[path] = damaged(path, error)
        opened = self._files[path]
        return opened if isinstance(opened, ImageError) else _Part(*opened, start, stop)


def pictures(
    items: Iterable[Item], columns: TableColumns, root: str, archives: Archives
) -> Iterator[Picture]:
    """Every picture, in order.

    Args:
        items: Of the shard.
        columns: Which columns of Parquet files are meant.
        root: The folder that paths are relative to.
        archives: To be open until the last picture has been decoded.
    """
    for item in items:
        yield from _of(item, columns, root, archives)


def elsewhere(items: Iterable[Item]) -> bool:
    """Whether reading means waiting for another machine."""
    return any(local_path(item.path) is None for item in items)


def _of(item: Item, columns: TableColumns, root: str, archives: Archives) -> Iterator[Picture]:
    path = item.path if is_url(item.path) else str(Path(root) / item.path)
    if item.kind == "error":
        name = f"{item.path}/{item.name}" if item.name else item.path
        yield Picture(name, ImageError(item.error or ""), item.label)
    elif item.kind == "file":
        yield Picture(item.path, _file(path), item.label)
    elif item.kind == "zip":
        read = archives.zip_member(path, item.name or "", item.start or 0)
        yield Picture(f"{item.path}/{item.name}", read, item.label)
    elif item.kind == "tar":
        read = archives.part(path, item.start or 0, item.stop or 0)
        yield Picture(f"{item.path}/{item.name}", read, item.label)
    elif item.kind == "stream":
        empty = True
        for streamed in stream_tar(path):
            empty = False
            name = f"{item.path}/{streamed.name}" if streamed.name else item.path
            yield Picture(name, streamed.source, streamed.label)
        if empty:
            problem = ImageError(f"{item.path} holds no file that is named like a picture.")
            yield Picture(item.path, problem, None)
    else:
        for row in table_rows(path, columns, item.start or 0, item.stop or 0):
            named = row.name.replace(path, item.path, 1) if row.name.startswith(path) else row.name
            yield Picture(named, row.source, row.label)


def _member(archive: zipfile.ZipFile, name: str, place: int) -> IO[bytes]:
    members = archive.infolist()
    if place >= len(members) or members[place].filename != name:
        raise KeyError(f"{name} is no longer at its place")
    return archive.open(members[place])


def _file(path: str) -> Source:
    here = local_path(path)
    if here is not None:
        return here
    return path if path.lower().startswith(_PLAIN_WEB) else _Late(lambda: open_stream(path))
