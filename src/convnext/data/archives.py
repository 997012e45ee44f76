"""Lists and reads the pictures of zip and tar archives, with their labels.

Workers share an archive, so each needs the locations of its pictures. In a tar archive, files whose
names agree up to the first dot belong together (WebDataset): `0042.jpg` is labelled by `0042.cls`,
`0042.json` or `0042.txt`. Archives are never unpacked to disk; links and devices are skipped.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Generic, NamedTuple, TypeVar, cast

from convnext.data.finding import is_picture
from convnext.data.places import open_file, open_stream
from convnext.errors import ImageError
from convnext.images.read import DEFAULT_LIMITS, Limits

__all__ = ["Location", "Streamed", "stream_tar", "tar_locations", "zip_members"]

_END = bytes(tarfile.BLOCKSIZE)
_LONGEST_HEADER = 2**20  # bytes, of a member of a tar archive
_LONGEST_LABEL = 2**16  # bytes
_MOST_TOGETHER = 16  # pictures of one name in memory until their label is read
_LABELS = ("cls", "json", "txt")  # in the order of preference
_JSON_LABELS = ("label", "cls", "class")


class Location(NamedTuple):
    """Location of a picture in a tar archive, or an error about the rest of the archive.

    Attributes:
        name: Its name in the archive; empty for an error.
        start: Offset of its first byte.
        stop: Offset after its last byte.
        label: Its label, if the archive has one.
        error: Why the rest of the archive cannot be read.
    """

    name: str
    start: int = 0
    stop: int = 0
    label: str | None = None
    error: str | None = None


class Streamed(NamedTuple):
    """A picture of an archive that is read as a stream.

    Attributes:
        name: Its name in the archive; empty for an error about the archive itself.
        source: The encoded picture, or an error.
        label: Its label, if the archive has one.
    """

    name: str
    source: bytes | ImageError
    label: str | None = None


def zip_members(path: str) -> Iterator[tuple[int, str]]:
    """List the index and name of each picture in a zip archive; names may occur twice.

    Raises:
        ImageError: It is no zip archive, or damaged.
    """
    try:
        with open_file(path) as stream, zipfile.ZipFile(stream) as archive:
            names = [item.filename for item in archive.infolist()]
    except Exception as error:  # damaged archives raise nearly anything
        raise damaged(path, error) from error
    yield from ((index, name) for index, name in enumerate(names) if is_picture(name))


def tar_locations(path: str) -> Iterator[Location]:
    """Find the location of each picture of a tar archive; reads only headers and labels."""
    group = _Group[tuple[str, int, int]]()
    try:
        with open_file(path) as stream:
            short = _Short(stream)
            archive = _tar(cast("Any", short))
            for member, name in _members(archive, short):
                content = (name, member.offset_data, member.offset_data + member.size)
                whole = not member.issparse()
                for item, label in group.add(
                    name, content if whole else None, _reader(archive, member)
                ):
                    yield Location(*item, label)
    except Exception as error:  # damaged archives raise nearly anything
        yield from (Location(*item, label) for item, label in group.end())
        yield Location("", error=str(damaged(path, error)))
        return
    yield from (Location(*item, label) for item, label in group.end())


def stream_tar(path: str, limits: Limits = DEFAULT_LIMITS) -> Iterator[Streamed]:
    """Read every picture of a tar archive, compressed or not, up to the limit of bytes and one."""
    group = _Group[tuple[str, bytes]]()
    try:
        with open_stream(path) as stream:
            compressed = path.lower().endswith("gz")
            plain = cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if compressed else stream
            forward = _Forward(plain, limits.bytes + 1)
            archive = _tar(cast("Any", forward))
            for member, name in _members(archive, forward):
                read = _reader(archive, member)
                content = (name, read(limits.bytes + 1)) if is_picture(name) else None
                for item, label in group.add(name, content, read):
                    yield Streamed(*item, label)
    except Exception as error:  # damaged archives raise nearly anything
        yield from (Streamed(*item, label) for item, label in group.end())
        yield Streamed("", damaged(path, error))
        return
    yield from (Streamed(*item, label) for item, label in group.end())


def damaged(what: str, error: Exception) -> ImageError:
    """Create the error of an unreadable archive."""
    return ImageError(f"{what} cannot be read: {type(error).__name__}: {error}")


Content = TypeVar("Content")


class _Group(Generic[Content]):
    """Collects pictures of one name until their label is known: when another name follows."""

    def __init__(self) -> None:
        self._key = ""
        self._pictures: list[Content] = []
        self._labels: dict[str, str] = {}

    def add(
        self, name: str, content: Content | None, read: Callable[[int], bytes]
    ) -> list[tuple[Content, str | None]]:
        """Add a member; returns earlier pictures with their label, if they have another name."""
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        key = f"{folder}{slash}{stem}"
        done = self.end() if key != self._key or len(self._pictures) == _MOST_TOGETHER else []
        self._key = key
        if is_picture(name):
            if content is not None:
                self._pictures.append(content)
        elif ending.lower() in _LABELS:
            label = _label(ending.lower(), read(_LONGEST_LABEL + 1))
            if label is not None:
                self._labels[ending.lower()] = label
        return done

    def end(self) -> list[tuple[Content, str | None]]:
        """Return and forget the collected pictures, with their label."""
        label = next((self._labels[kind] for kind in _LABELS if kind in self._labels), None)
        done = [(picture, label) for picture in self._pictures]
        self._pictures, self._labels = [], {}
        return done


def _label(kind: str, data: bytes) -> str | None:
    if len(data) > _LONGEST_LABEL:
        return None
    text = data.decode("utf-8", "replace").strip()
    if kind != "json":
        return text or None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return str(content) if isinstance(content, str | int) else None
    values = (content.get(name) for name in _JSON_LABELS)
    return next((str(value) for value in values if isinstance(value, str | int)), None)


def _tar(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r:")


def _members(
    archive: tarfile.TarFile, stream: _Short | _Forward
) -> Iterator[tuple[tarfile.TarInfo, str]]:
    while (member := archive.next()) is not None:
        # Undocumented list in which tarfile keeps every member: it would fill memory.
        archive.members.clear()  # type: ignore[attr-defined]
        if member.isreg():
            yield member, member.name.removeprefix("./")  # as `tar -C folder .` writes them
    if stream.block != _END:  # tarfile takes a truncated or damaged header for the end
        raise tarfile.ReadError("it is truncated or damaged. Copy it again")


def _reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        content = archive.extractfile(member)
        return b"" if content is None else content.read(min(member.size, most))

    return read


class _Short:
    """A stream for tarfile with a limit on header sizes, which tarfile reads into memory."""

    def __init__(self, stream: IO[bytes], longest: int = _LONGEST_HEADER) -> None:
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
    """The same for a stream without seeking; tarfile steps back by one byte at most."""

    def __init__(self, stream: IO[bytes], longest: int) -> None:
        self._stream = stream
        self._longest = max(longest, _LONGEST_HEADER)
        self._position = 0
        self._last = b""  # the last byte, and whether the next read returns it again
        self._again = False
        self.block = b""

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
        if size > self._longest:
            raise tarfile.ReadError(f"one of its headers claims {size:,} bytes")
        again = self._last if size and self._again else b""
        self._again = False
        self.block = again + self._take(size - len(again))
        return self.block

    def _take(self, size: int) -> bytes:
        parts = []
        while size and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self._position += len(data)
        self._last = data[-1:] or self._last
        return data
