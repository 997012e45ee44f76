"""Lists, reads and atomically writes files, on this machine or by URL.

pyarrow opens `s3://`, `gs://`, `abfs://` and `hdfs://`, fsspec other schemes; `file://` is a path.
"""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from convnext.atomic import disk_errors, remove_temporaries, replaced, temporary_name
from convnext.data.arrow import pyarrow
from convnext.errors import ArgumentError
from convnext.images.folders import is_hidden
from convnext.images.read import is_url

__all__ = [
    "Folder",
    "Stat",
    "file_name",
    "listed",
    "local_path",
    "open_file",
    "open_stream",
    "stat",
]

_BY_ARROW = frozenset(("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"))
_WHOLE_PUTS = frozenset(("s3", "gs", "gcs", "abfs", "abfss"))  # a file appears once it is closed
_AHEAD = 2**22  # bytes, buffer of a remote stream
_IN_MEMORY = 2**26  # bytes of a remote file in memory, before a temporary file is used


class Stat(NamedTuple):
    """Path and size of a file."""

    path: str
    size: int


def local_path(text: str) -> Path | None:
    """Convert to a path of this machine; None for other URLs."""
    if not is_url(text):
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme.lower() != "file":
        return None
    return Path(unquote(parts.path))


def file_name(text: str) -> str:
    """The last part of a path or URL."""
    return text.rstrip("/").rpartition("/")[2]


def open_file(text: str) -> IO[bytes]:
    """Open a file with random access.

    Raises:
        OSError: It cannot be opened.
        ConvNeXtError: The URL's scheme is not supported.
    """
    path = local_path(text)
    if path is not None:
        if not path.is_file():  # reading a pipe or a device may never end
            raise FileNotFoundError(f"There is no regular file {path}")
        return path.open("rb")
    system, inner = _system(text)
    return cast("IO[bytes]", system.open_input_file(inner))


def open_stream(text: str) -> IO[bytes]:
    """Open a file for reading from beginning to end.

    Raises:
        OSError: It cannot be opened.
        ConvNeXtError: The URL's scheme is not supported.
    """
    if local_path(text) is not None:
        return open_file(text)
    system, inner = _system(text)
    # By default it would decompress what is named .gz.
    stream = system.open_input_stream(inner, compression=None, buffer_size=_AHEAD)
    return cast("IO[bytes]", stream)


def stat(text: str) -> Stat | None:
    """Path and size of a file; None for a folder.

    Raises:
        OSError: It does not exist, or cannot be accessed.
        ConvNeXtError: The URL's scheme is not supported.
    """
    path = local_path(text)
    if path is not None:
        return None if path.is_dir() else Stat(text, path.stat().st_size)
    system, inner = _system(text)
    info = system.get_file_info(inner)
    kinds = pyarrow().fs.FileType
    if info.type == kinds.NotFound:
        raise FileNotFoundError(f"There is no {text}")
    return None if info.type == kinds.Directory else Stat(text, info.size or 0)


def listed(text: str) -> list[Stat]:
    """List every file below a URL's folder except hidden ones, sorted by path components.

    Raises:
        OSError: It cannot be listed.
    """
    fs = pyarrow().fs
    system, inner = _system(text)
    root, prefix = inner.rstrip("/"), text.rstrip("/")
    found = []
    for info in system.get_file_info(fs.FileSelector(inner, recursive=True)):
        below = info.path.lstrip("/").removeprefix(root.lstrip("/")).lstrip("/")
        parts = below.split("/")
        if info.type == fs.FileType.File and not any(map(is_hidden, parts)):
            found.append((parts, Stat(f"{prefix}/{below}", info.size or 0)))
    return [item for _, item in sorted(found)]


class Folder:
    """A folder, by path or URL, whose files are written atomically."""

    def __init__(self, text: str) -> None:
        path = local_path(text)
        self.text = text if path is None else path.as_posix()
        self._path = path

    def make(self) -> None:
        """Create the folder if it does not exist.

        Raises:
            ConvNeXtError: It cannot be created.
        """
        with disk_errors(self.text):
            if self._path is not None:
                self._path.mkdir(parents=True, exist_ok=True)
            else:
                system, inner = _system(self.text)
                system.create_dir(inner, recursive=True)

    def names(self) -> set[str]:
        """Names of the files directly in it; empty if it does not exist.

        Raises:
            ConvNeXtError: It cannot be listed.
        """
        with disk_errors(self.text, done="listed"):
            if self._path is not None:
                if not self._path.exists():
                    return set()
                with os.scandir(self._path) as found:
                    return {entry.name for entry in found if entry.is_file()}
            fs = pyarrow().fs
            system, inner = _system(self.text)
            infos = system.get_file_info(fs.FileSelector(inner, allow_not_found=True))
            return {info.base_name for info in infos if info.type == fs.FileType.File}

    def open(self, name: str) -> IO[bytes]:
        """Open one of its files.

        Raises:
            ConvNeXtError: It cannot be read.
        """
        with disk_errors(f"{self.text}/{name}", done="read"):
            return open_file(self._below(name))

    def put(self, name: str, write: Callable[[IO[bytes]], None]) -> None:
        """Write a file atomically.

        Args:
            name: Of the file.
            write: Called with a stream.

        Raises:
            ConvNeXtError: It cannot be written, for example as the disk is full.
        """
        with disk_errors(f"{self.text}/{name}"):
            if self._path is not None:
                _put_here(self._path / name, write)
            else:
                _put_there(*_system(self._below(name)), _scheme(self.text), write)

    def sweep(self) -> None:
        """Remove temporary files of killed workers and runs."""
        if self._path is not None:
            remove_temporaries(self._path, folders=False)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with disk_errors(f"{self.text}/{name}", done="removed"):
            if self._path is not None:
                (self._path / name).unlink(missing_ok=True)
            else:
                system, inner = _system(self._below(name))
                if system.get_file_info(inner).type != pyarrow().fs.FileType.NotFound:
                    system.delete_file(inner)

    @property
    def path(self) -> Path | None:
        """Path on this machine; None for a remote folder."""
        return self._path

    def _below(self, name: str) -> str:
        return f"{self.text.rstrip('/')}/{name}"


def _put_here(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    with replaced(path) as temporary, temporary.open("wb") as stream:
        write(stream)


def _put_there(system: Any, inner: str, scheme: str, write: Callable[[IO[bytes]], None]) -> None:
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        write(cast("IO[bytes]", spool))
        spool.seek(0)
        whole = scheme in _WHOLE_PUTS
        folder, _, name = inner.rpartition("/")
        temporary = inner if whole else f"{folder}/{temporary_name(name)}"
        try:
            with system.open_output_stream(temporary) as stream:
                while chunk := spool.read(io.DEFAULT_BUFFER_SIZE * 128):
                    stream.write(chunk)
            if not whole:
                system.move(temporary, inner)
        except BaseException:  # closing the stream has made a partial file
            with suppress(Exception):
                system.delete_file(temporary)
            raise


def _scheme(text: str) -> str:
    return text.partition("://")[0].lower()


def _system(text: str) -> tuple[Any, str]:
    """File system of a URL, and the path in it."""
    scheme, _, rest = text.partition("://")
    if scheme.lower() in _BY_ARROW:
        host, _, inner = rest.partition("/")
        opened, root = _by_arrow(f"{scheme}://{host}")
        return opened, f"{root.rstrip('/')}/{inner}" if inner else root
    return _by_fsspec(text)


@functools.cache
def _by_arrow(host: str) -> tuple[Any, str]:
    arrow = pyarrow()
    try:
        opened, root = arrow.fs.FileSystem.from_uri(f"{host}/")
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, ValueError) as error:
        raise ArgumentError(f"{host} cannot be opened: {error}.") from error
    return opened, root


def _by_fsspec(text: str) -> tuple[Any, str]:
    import fsspec  # type: ignore[import-untyped]

    try:
        system, inner = fsspec.core.url_to_fs(text)
    except (ImportError, ValueError) as error:
        raise ArgumentError(
            f"{text} cannot be opened: {error}. Use a path or a URL with "
            f"{', '.join(sorted(_BY_ARROW))}, or install fsspec's package for this scheme."
        ) from error
    fs = pyarrow().fs
    return fs.PyFileSystem(fs.FSSpecHandler(system)), inner
