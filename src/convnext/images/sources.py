"""Lists, folders, patterns, archives and generators as one lazy stream of named pictures.

Only the names of one folder, pattern or zip archive are in memory at once, not their pictures.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from convnext.errors import ArgumentTypeError, ImageError
from convnext.images.archives import ARCHIVE_SUFFIXES, damaged, tar_members, zip_members
from convnext.images.decode import Source
from convnext.images.folders import SUFFIXES, is_picture, walk
from convnext.images.read import DEFAULT_LIMITS, Limits, Readable, is_url

__all__ = ["NO_PICTURE", "Named", "Sources", "iterate", "one_named"]

_LINK = (
    "is a link inside the archive, and links are not followed. Pack with tar --dereference "
    "--hard-dereference."
)
NO_PICTURE = f"has no picture: no file name ends in {', '.join(sorted(SUFFIXES))}."


class Named(NamedTuple):
    """One picture of many.

    Attributes:
        id: Its name in results: its path or URL; in an archive, the archive's path, a slash and the
            member's name; or `"#3"` for the fourth of a list or generator without names.
        source: What `decode` takes, or the error of reading it.
    """

    id: str
    source: Source | ImageError


Sources = Source | Named | Iterable["Source | Named"]


def iterate(sources: Sources, limits: Limits = DEFAULT_LIMITS) -> Iterator[Named]:
    """Yield every picture, in order, without decoding any.

    Args:
        sources: One picture, or an iterable of pictures. Among them may be folders, patterns such
            as `"photos/**/*.png"`, and archives (`ARCHIVE_SUFFIXES`). A folder stands for the
            pictures below it (`is_picture`), sorted by the parts of their paths; links to folders
            are not followed. A pattern yields each file once; one
            that ends with `**` stands for the folders before it. An archive is read in its own
            order, without unpacking to disk; links inside it are errors. To name a picture, give
            `Named(id, source)`.
        limits: At most `limits.bytes + 1` bytes of an archive's member are read.

    Yields:
        Pictures; the error instead for a file, folder or archive that fails.

    Raises:
        ArgumentTypeError: An element is neither a picture nor an iterable.
    """
    return _expand(sources, "#0", limits)


def one_named(picture: Source | Named, several: str) -> Named:
    """Name a single picture, without expanding folders or archives.

    Args:
        picture: The picture.
        several: The methods for several pictures, for the error.

    Raises:
        ArgumentTypeError: It is a list, tuple or generator.
    """
    if isinstance(picture, Named):
        return picture
    if isinstance(picture, list | tuple | Generator):
        raise ArgumentTypeError(f"Expected one picture, got several. For several, use {several}.")
    if isinstance(picture, str) and is_url(picture):
        return Named(picture, picture)
    if isinstance(picture, str | os.PathLike):
        return Named(Path(picture).as_posix(), picture)
    return Named("#0", picture)


def _expand(sources: Sources, name: str, limits: Limits) -> Iterator[Named]:
    if isinstance(sources, Named):
        yield sources
    elif isinstance(sources, str) and is_url(sources):
        yield Named(sources, sources)
    elif isinstance(sources, str | os.PathLike):
        yield from _expand_path(Path(sources), limits)
    elif isinstance(sources, bytes | bytearray | memoryview | Image.Image | Readable | np.ndarray):
        yield Named(name, cast("Source", sources))
    elif isinstance(sources, Iterable) and getattr(sources, "shape", None) != ():
        for position, source in enumerate(sources):
            yield from _expand(source, f"#{position}", limits)
    else:
        raise ArgumentTypeError(
            f"Cannot read pictures from {type(sources).__name__}: give paths, URLs, bytes, binary "
            "file objects, PIL images or NumPy arrays, which tensors give by .numpy(), or an "
            "iterable of them."
        )


def _expand_path(path: Path, limits: Limits, may_match: bool = True) -> Iterator[Named]:
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # such as a name that is too long, or no permission
        yield Named(path.as_posix(), ImageError(f"{path} cannot be read: {error}"))
        return
    if is_folder:
        yield from _or_error(path, _walk(path), NO_PICTURE)
    elif may_match and not exists and glob.has_magic(str(path)):
        yield from _or_error(path, _match(path, limits), "matches no file.")
    elif exists and path.name.lower().endswith(ARCHIVE_SUFFIXES):
        members = _zip(path, limits) if path.suffix.lower() == ".zip" else _tar(path, limits)
        yield from _or_error(path, members, NO_PICTURE)
    else:
        yield Named(path.as_posix(), path)


def _or_error(path: Path, found: Iterator[Named], problem: str) -> Iterator[Named]:
    empty = True
    for named in found:
        empty = False
        yield named
    if empty:
        yield Named(path.as_posix(), ImageError(f"{path} {problem}"))


def _walk(folder: Path) -> Iterator[Named]:
    for found in walk(folder):
        if isinstance(found, OSError):
            name = Path(found.filename)
            yield Named(name.as_posix(), ImageError(f"{name} cannot be read: {found}"))
        elif is_picture(found.name):
            yield Named(Path(found).as_posix(), Path(found))


def _match(pattern: Path, limits: Limits) -> Iterator[Named]:
    folders = pattern
    while folders.name == "**":
        folders = folders.parent
    text = str(pattern) if folders == pattern else f"{folders}/"
    seen: set[Path] = set()
    for name in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 (absolute ones too)
        for named in _expand_path(Path(name), limits, may_match=False):
            # `**` matches both a folder and the files in it.
            if not isinstance(named.source, Path):
                yield named
            elif named.source not in seen:
                seen.add(named.source)
                yield named


def _zip(path: Path, limits: Limits) -> Iterator[Named]:
    try:
        for member, read in zip_members(path):
            if is_picture(member.filename):
                name = f"{path.as_posix()}/{member.filename}"
                yield Named(name, _unzipped(member.filename, read, limits))
    except Exception as error:  # damaged archives raise many kinds of errors
        yield Named(path.as_posix(), damaged(path, error))


def _unzipped(name: str, read: Callable[[int], bytes], limits: Limits) -> bytes | ImageError:
    try:
        return read(limits.bytes + 1)  # one too many makes decode() refuse it
    except Exception as error:  # a password or a wrong checksum affects this member only
        return damaged(name, error)


def _tar(path: Path, limits: Limits) -> Iterator[Named]:
    most = limits.bytes + 1
    compressed = path.suffix.lower() != ".tar"
    try:
        with path.open("rb") as stream:
            for member, read in tar_members(stream, most, compressed=compressed):
                name = f"{path.as_posix()}/{member.name}"
                if not is_picture(member.name):
                    continue
                if member.isreg():
                    yield Named(name, read(most))
                elif member.issym() or member.islnk():
                    yield Named(name, ImageError(f"{member.name} {_LINK}"))
    except Exception as error:  # damaged archives raise many kinds of errors
        yield Named(path.as_posix(), damaged(path, error))
