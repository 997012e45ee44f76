"""Zip and tar archives: which pictures are in there and where, and the labels that lie beside them.

Why it exists: workers share an archive, so each has to find its part without reading the rest. In
a tar archive, files whose names agree up to the first dot belong together (WebDataset): `0042.jpg`
is labelled by `0042.cls`, `0042.json` or `0042.txt`. Nothing is ever unpacked; names that lead out
of a folder, links and devices are names like any other, or are passed over.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Generic, NamedTuple, TypeVar, cast

from convnext.errors import ImageError
from convnext.images.read import DEFAULT_LIMITS, Limits
from convnext.scale.finding import is_picture
from convnext.scale.places import open_file, open_stream

__all__ = ["Place", "Streamed", "stream_tar", "tar_places", "zip_places"]

_END = bytes(tarfile.BLOCKSIZE)
_LONGEST_HEADER = 2**20  # of a member of a tar archive, in bytes
_LONGEST_LABEL = 2**16
_MOST_TOGETHER = 16  # pictures of one name that wait for their label
_LABELS = ("cls", "json", "txt")  # the first one counts
_JSON_LABELS = ("label", "cls", "class")


class Place(NamedTuple):
    """Where a picture lies in a tar archive, or what is wrong with the rest of it.

    Attributes:
        name: Its name in the archive; empty for an error.
        start: Of its bytes.
        stop: Behind them.
        label: What lies beside it.
        error: Why nothing from here on can be read.
    """

    name: str
    start: int = 0
    stop: int = 0
    label: str | None = None
    error: str | None = None


class Streamed(NamedTuple):
    """A picture of an archive that is read from its beginning.

    Attributes:
        name: Its name in the archive; empty for an error about the archive itself.
        source: The encoded picture, or what is wrong.
        label: What lies beside it.
    """

    name: str
    source: bytes | ImageError
    label: str | None = None


def zip_places(path: str) -> Iterator[tuple[int, str]]:
    """The pictures in a zip archive, in its own order: the number and name of each member.

    Two members may have one name.

    Raises:
        ImageError: It is no zip archive, or damaged.
    """
    try:
        with open_file(path) as stream, zipfile.ZipFile(stream) as archive:
            names = [item.filename for item in archive.infolist()]
    except Exception as error:  # damaged archives raise nearly anything
        raise damaged(path, error) from error
    yield from ((place, name) for place, name in enumerate(names) if is_picture(name))


def tar_places(path: str) -> Iterator[Place]:
    """Where each picture of a tar archive lies; only headers and labels are read."""
    group = _Group[tuple[str, int, int]]()
    try:
        with open_file(path) as stream:
            short = _Short(stream)
            archive = _tar(cast("Any", short))
            for member, name in _members(archive, short):
                content = (name, member.offset_data, member.offset_data + member.size)
                whole = not member.issparse()
                for place, label in group.add(
                    name, content if whole else None, _reader(archive, member)
                ):
                    yield Place(*place, label)
    except Exception as error:  # damaged archives raise nearly anything
        yield from (Place(*place, label) for place, label in group.end())
        yield Place("", error=str(damaged(path, error)))
        return
    yield from (Place(*place, label) for place, label in group.end())


def stream_tar(path: str, limits: Limits = DEFAULT_LIMITS) -> Iterator[Streamed]:
    """Every picture of a tar archive, compressed or not, read once from its beginning to its end.

    Args:
        path: The path or URL.
        limits: Of a picture, no more than `limits.bytes` (and one) are read.
    """
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
    """The error about an archive."""
    return ImageError(f"{what} cannot be read: {type(error).__name__}: {error}")


Content = TypeVar("Content")


class _Group(Generic[Content]):
    """Pictures of one name until their label is known: what follows has another name."""

    def __init__(self) -> None:
        self._key = ""
        self._pictures: list[Content] = []
        self._labels: dict[str, str] = {}

    def add(
        self, name: str, content: Content | None, read: Callable[[int], bytes]
    ) -> list[tuple[Content, str | None]]:
        """Take a member; the pictures before it, if they were of another name."""
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
        """The pictures that wait, with their label."""
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
        # tarfile remembers every member it has passed, in a list it does not document.
        archive.members.clear()  # type: ignore[attr-defined]
        if member.isreg():
            yield member, member.name.removeprefix("./")  # as `tar -C folder .` writes them
    if stream.block != _END:  # tarfile takes a header that is cut off or damaged for the end
        raise tarfile.ReadError("it is cut off or damaged. Was it copied as a whole?")


def _reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        content = archive.extractfile(member)
        return b"" if content is None else content.read(min(member.size, most))

    return read


class _Short:
    """A stream for tarfile, which reads a header of whatever size a file claims into memory."""

    def __init__(self, stream: IO[bytes], longest: int = _LONGEST_HEADER) -> None:
        self._stream = stream
        self._longest = longest
        self.seek = stream.seek
        self.tell = stream.tell
        self.block = b""  # what was read last: where an archive ends, its mark

    def read(self, size: int) -> bytes:
        if size > self._longest:
            raise tarfile.ReadError(f"one of its headers claims {size:,} bytes")
        self.block = self._stream.read(size)
        return self.block


class _Forward:
    """The same for a stream that only goes on; tarfile steps back by one byte at most."""

    def __init__(self, stream: IO[bytes], longest: int) -> None:
        self._stream = stream
        self._longest = max(longest, _LONGEST_HEADER)
        self._position = 0
        self._last = b""  # the byte before, and whether it is to be read once more
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
            raise tarfile.ReadError("one of its headers leads back")
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
