"""Lists and reads the pictures of zip and tar archives, with their labels.

Workers share an archive, so each needs the locations of its pictures. In a tar archive, files whose
names agree up to the first dot belong together (WebDataset): `0042.jpg` is labelled by `0042.cls`,
`0042.json` or `0042.txt`. Archives are never unpacked to disk; links and devices are skipped.
"""

from __future__ import annotations

import functools
import json
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Generic, NamedTuple, TypeVar

from convnext.data.files import open_file, open_stream
from convnext.errors import ImageError
from convnext.images.archives import damaged, tar_members, zip_members
from convnext.images.decode import Source
from convnext.images.folders import is_picture
from convnext.images.read import DEFAULT_LIMITS, Limits

__all__ = ["LabelledSource", "Location", "picture_locations", "stream_tar"]

_LONGEST_LABEL = 2**16  # bytes
_MOST_TOGETHER = 16  # pictures of one name in memory until their label is read
_LABELS = ("cls", "json", "txt")  # in the order of preference
_JSON_LABELS = ("label", "cls", "class")

Read = Callable[[int], bytes]  # up to a number of bytes of a member


class Location(NamedTuple):
    """Location of a picture in an archive, or an error about the rest of the archive.

    Attributes:
        name: Its name in the archive; empty for an error.
        start: Offset of its first byte in a tar archive, or number of the member of a zip archive.
        stop: Offset after its last byte in a tar archive.
        label: Its label, if the archive has one.
        error: Why the rest of the archive cannot be read.
    """

    name: str
    start: int = 0
    stop: int = 0
    label: str | None = None
    error: str | None = None


class LabelledSource(NamedTuple):
    """A picture of an archive or table, not decoded yet.

    Attributes:
        name: Its name in the archive, empty for an error about the archive itself; or its path.
        source: A source for `decode`, or an error.
        label: Its label, if there is one.
    """

    name: str
    source: Source | ImageError
    label: str | None = None


Found = TypeVar("Found", Location, LabelledSource)


def picture_locations(path: str) -> Iterator[Location]:
    """Find the location of each picture of an archive with random access.

    Of a tar archive, only headers and labels are read. Names may occur twice.
    """
    if path.lower().endswith(".zip"):
        return _zip_locations(path)

    def location(member: tarfile.TarInfo, _: Read) -> Location | None:
        start = member.offset_data
        return None if member.issparse() else Location(member.name, start, start + member.size)

    return _labelled(path, open_file, location, lambda error: Location("", error=str(error)))


def _zip_locations(path: str) -> Iterator[Location]:
    try:
        with open_file(path) as stream:
            names = [member.filename for member, _ in zip_members(stream)]
    except Exception as error:  # damaged archives raise nearly anything
        names = []
        yield Location("", error=str(damaged(path, error)))
    yield from (Location(name, index) for index, name in enumerate(names) if is_picture(name))


def stream_tar(path: str, limits: Limits = DEFAULT_LIMITS) -> Iterator[LabelledSource]:
    """Read every picture of a tar archive, compressed or not, up to the limit of bytes and one."""
    most = limits.bytes + 1

    def content(member: tarfile.TarInfo, read: Read) -> LabelledSource | None:
        return LabelledSource(member.name, read(most)) if is_picture(member.name) else None

    compressed = path.lower().endswith("gz")
    failed = functools.partial(LabelledSource, "")
    return _labelled(path, open_stream, content, failed, most, compressed)


def _labelled(
    path: str,
    opened: Callable[[str], IO[bytes]],
    found: Callable[[tarfile.TarInfo, Read], Found | None],
    failed: Callable[[ImageError], Found],
    longest: int = 0,
    compressed: bool = False,
) -> Iterator[Found]:
    """Yield what `found` makes of each picture, with its label; at last, `failed` of an error.

    Only regular files are read. `found` is called with each of them, and is None to leave it out.
    """
    group: _Group[Found] = _Group()
    problems: list[Found] = []
    try:
        with opened(path) as stream:
            for member, read in tar_members(stream, longest, compressed=compressed):
                if member.isreg():
                    yield from group.add(member.name, found(member, read), read)
    except Exception as error:  # damaged archives raise nearly anything
        problems = [failed(damaged(path, error))]
    yield from group.end()
    yield from problems


class _Group(Generic[Found]):
    """Collects pictures of one name until their label is known: when another name follows."""

    def __init__(self) -> None:
        self._key = ""
        self._pictures: list[Found] = []
        self._labels: dict[str, str] = {}

    def add(self, name: str, found: Found | None, read: Read) -> list[Found]:
        """Add a member; returns earlier pictures with their label, if they have another name."""
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        key = f"{folder}{slash}{stem}"
        done = self.end() if key != self._key or len(self._pictures) == _MOST_TOGETHER else []
        self._key = key
        if is_picture(name):
            if found is not None:
                self._pictures.append(found)
        elif ending.lower() in _LABELS:
            label = _label(ending.lower(), read(_LONGEST_LABEL + 1))
            if label is not None:
                self._labels[ending.lower()] = label
        return done

    def end(self) -> list[Found]:
        """Return and forget the collected pictures, with their label."""
        label = next((self._labels[kind] for kind in _LABELS if kind in self._labels), None)
        done = [picture._replace(label=label) for picture in self._pictures]
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
