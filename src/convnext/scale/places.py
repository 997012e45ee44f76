"""Files and folders, on this machine or behind a URL.

Why it exists: pictures and answers lie on disks and in object stores, and whatever reads and writes
them should see no difference. What is written appears as a whole or not at all, wherever it is.
It knows nothing of pictures or Parquet.

`s3://`, `gs://`, `abfs://` and `hdfs://` are opened by pyarrow; any other scheme by fsspec, if it
knows it. `file://` is a path.
"""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from convnext.atomic import remove_temporaries, replaced, temporary_name
from convnext.errors import ArgumentError, ConvNeXtError
from convnext.images.read import is_url
from convnext.scale.arrow import pyarrow

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
_WHOLE_PUTS = frozenset(("s3", "gs", "gcs", "abfs", "abfss"))  # nothing is seen before it is closed
_AHEAD = 2**22  # bytes of a stream from elsewhere that are read at once
_IN_MEMORY = 2**26  # of a file that is being written, before it goes to a temporary one


class Stat(NamedTuple):
    """A file, and how large it is."""

    path: str
    size: int


def local_path(text: str) -> Path | None:
    """The path that a text names; None for a URL."""
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
    """Open a file to be read at any place.

    Raises:
        OSError: It cannot be opened.
        ConvNeXtError: Nothing here opens such URLs.
    """
    path = local_path(text)
    if path is not None:
        if not path.is_file():  # reading a pipe or a device may never end
            raise FileNotFoundError(f"{path} is no regular file that is there")
        return path.open("rb")
    system, inner = _system(text)
    return cast("IO[bytes]", system.open_input_file(inner))


def open_stream(text: str) -> IO[bytes]:
    """Open a file to be read from its beginning to its end.

    Raises:
        OSError: It cannot be opened.
        ConvNeXtError: Nothing here opens such URLs.
    """
    if local_path(text) is not None:
        return open_file(text)
    system, inner = _system(text)
    return cast("IO[bytes]", system.open_input_stream(inner, buffer_size=_AHEAD))


def stat(text: str) -> Stat | None:
    """A file's size; None for a folder.

    Raises:
        OSError: There is nothing, or it cannot be looked at.
        ConvNeXtError: Nothing here opens such URLs.
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
    """Every file below a URL's folder, sorted by the parts of their paths; hidden ones left out.

    Raises:
        OSError: It cannot be listed.
    """
    fs = pyarrow().fs
    system, inner = _system(text)
    root, prefix = inner.rstrip("/"), text.rstrip("/")
    found = []
    for info in system.get_file_info(fs.FileSelector(inner, recursive=True)):
        below = info.path.lstrip("/").removeprefix(root.lstrip("/")).lstrip("/")
        hidden = any(part.startswith(".") for part in below.split("/"))
        if info.type == fs.FileType.File and not hidden:
            found.append((below.split("/"), Stat(f"{prefix}/{below}", info.size or 0)))
    return [item for _, item in sorted(found)]


class Folder:
    """A folder that files are put into, each of them complete.

    Args:
        text: A path or URL; it is made if it is not there.
    """

    def __init__(self, text: str) -> None:
        path = local_path(text)
        self.text = text if path is None else path.as_posix()
        self._path = path

    def make(self) -> None:
        """Make it.

        Raises:
            ConvNeXtError: It cannot be made.
        """
        with self._named(self.text):
            if self._path is not None:
                self._path.mkdir(parents=True, exist_ok=True)
            else:
                system, inner = _system(self.text)
                system.create_dir(inner, recursive=True)

    def names(self) -> set[str]:
        """Of all files directly in it; none if it is not there.

        Raises:
            ConvNeXtError: It cannot be listed.
        """
        with self._named(self.text, "listed"):
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
        with self._named(f"{self.text}/{name}", "read"):
            return open_file(self._below(name))

    def put(self, name: str, write: Callable[[IO[bytes]], None]) -> None:
        """Write a file, which is there as a whole afterwards, or as it was before.

        Args:
            name: Of the file.
            write: Called with a stream.

        Raises:
            ConvNeXtError: It cannot be written, for want of room say.
        """
        with self._named(f"{self.text}/{name}"):
            if self._path is not None:
                _put_here(self._path / name, write)
            else:
                _put_there(*_system(self._below(name)), _scheme(self.text), write)

    def sweep(self) -> None:
        """Remove what was being written when a worker or an earlier run was killed."""
        if self._path is not None:
            remove_temporaries(self._path, folders=False)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._named(f"{self.text}/{name}", "removed"):
            if self._path is not None:
                (self._path / name).unlink(missing_ok=True)
            else:
                system, inner = _system(self._below(name))
                if system.get_file_info(inner).type != pyarrow().fs.FileType.NotFound:
                    system.delete_file(inner)

    @property
    def path(self) -> Path | None:
        """Where it is on this machine; None if it is elsewhere."""
        return self._path

    def _below(self, name: str) -> str:
        return f"{self.text.rstrip('/')}/{name}"

    @contextmanager
    def _named(self, what: str, done: str = "written") -> Iterator[None]:
        try:
            yield
        except ConvNeXtError:
            raise
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise ConvNeXtError(f"{what} cannot be {done}: {reason}.") from error


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
            if not whole:  # `atomic` knows this machine's disks alone
                system.move(temporary, inner)
        except BaseException:  # leaving the block closed it, and a store takes that for the end
            with suppress(Exception):
                system.delete_file(temporary)
            raise


def _scheme(text: str) -> str:
    return text.partition("://")[0].lower()


def _system(text: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path in there."""
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
            f"{text} cannot be opened: {error}. Paths, {', '.join(sorted(_BY_ARROW))} and whatever "
            f"fsspec has a package for can be."
        ) from error
    fs = pyarrow().fs
    return fs.PyFileSystem(fs.FSSpecHandler(system)), inner
