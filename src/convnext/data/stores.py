"""Stores of pictures with random access: files, archives, arrays.

Stores are cheap to send to worker processes: all names are one string, and each process opens its
own file handles.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.data.archives import picture_locations
from convnext.data.shared_memory import MappedArray, SharedArray
from convnext.errors import ArgumentError, ImageError
from convnext.images.archives import zip_members
from convnext.images.decode import decode
from convnext.images.folders import is_picture, walk
from convnext.images.read import DEFAULT_LIMITS, Location

__all__ = [
    "ArrayStore",
    "CachedStore",
    "EncodedStore",
    "FileStore",
    "Names",
    "Store",
    "TarStore",
    "ZipStore",
    "picture_names",
]

# As the authors read training pictures, and as `convnext.evaluate` reads those of validation.
_READ = functools.partial(decode, orientation=False, background=None)

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL_HEADER = 30  # bytes of a zip member's header before its name
_USUAL_EXTRA = 64  # bytes after the name; longer ones need a second read


class Store(Protocol):
    """Interface of pictures with row numbers."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> Image.Image:
        """Read a picture as RGB; raises `ImageError` if that fails."""

    def name(self, row: int) -> str:
        """Name of a picture, relative to the data's path."""

    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that a process must inherit to read from it."""


class EncodedStore(Store, Protocol):
    """Interface of stores of encoded pictures: files."""

    names: Names

    def content(self, row: int) -> Location:
        """The encoded picture: its path or its bytes; raises `ImageError` if that fails."""


class Names(Sequence[str]):
    """A sequence of strings stored as one, so that a million of them are cheap to pickle."""

    def __init__(self, names: Iterable[str]) -> None:
        parts = [name.encode("utf-8", "surrogateescape") for name in names]
        self._text = b"".join(parts)
        self._ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: Any) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(row)
        text = self._text[self._ends[row] : self._ends[row + 1]]
        return text.decode("utf-8", "surrogateescape")


class _NamedPictures:
    """Pictures with names, from files that each process opens."""

    names: Names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """Path of a picture below the folder, or in the archive."""
        return str(self.names[row])

    def descriptors(self) -> tuple[int, ...]:
        """No descriptors are needed."""
        return ()


class FileStore(_NamedPictures):
    """Pictures in files.

    Args:
        root: The folder of relative names.
        names: Relative or absolute paths of the files.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self._root = str(root.absolute())
        self.names = Names(names)

    @classmethod
    def below(cls, root: Path) -> FileStore:
        """Find every picture below a folder, see `picture_names`."""
        return cls(root, picture_names(root))

    def content(self, row: int) -> Location:
        """Path of a picture."""
        return os.path.join(self._root, self.names[row])  # noqa: PTH118 (thrice as fast)

    def read(self, row: int) -> Image.Image:
        """Read a picture."""
        return _READ(self.content(row))


def picture_names(root: Path) -> Iterator[str]:
    """Find the name of every picture below a folder, in order; links to folders are followed.

    Raises:
        ArgumentError: A folder cannot be read.
    """
    start = len(os.path.join(root, ""))  # noqa: PTH118 (with the separator)
    for found in walk(root, follow_links=True):
        if isinstance(found, OSError):
            raise ArgumentError(f"The folder {found.filename} cannot be read: {found}") from found
        if is_picture(found.name):
            yield found.path[start:].replace(os.sep, "/")


class _Handle:
    """A file with thread-safe reads at offsets; every process opens its own."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._open()

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)

    def __getstate__(self) -> Path:
        return self._path

    def __setstate__(self, path: Path) -> None:
        self._path = path
        self._open()


class ZipStore(_NamedPictures):
    """The pictures in a zip archive, with random access.

    Raises:
        ArgumentError: It is damaged, or no zip archive.
    """

    def __init__(self, path: Path) -> None:
        try:
            members = [item for item, _ in zip_members(path) if is_picture(item.filename)]
            self._handle = _Handle(path)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise ArgumentError(
                f"The archive {path} cannot be read: {error}. Copy it again if it is incomplete."
            ) from error
        self.names = Names(item.filename for item in members)
        self._locations = np.array(
            [
                (item.header_offset, item.compress_size, item.file_size, item.CRC)
                for item in members
            ],
            np.int64,
        ).reshape(-1, 4)
        self._methods = np.array(
            [-1 if item.flag_bits & 1 else item.compress_type for item in members], np.int16
        )

    def read(self, row: int) -> Image.Image:
        """Read a picture."""
        return _READ(self.content(row))

    def content(self, row: int) -> Location:
        """Bytes of a picture."""
        offset, packed, size, checksum = self._locations[row].tolist()
        method = int(self._methods[row])
        if method not in (_STORED, _DEFLATED):
            how = "encrypted" if method < 0 else f"compressed by method {method}"
            raise ImageError(f"It is {how} in the archive. Pack it again, stored or deflated.")
        if max(packed, size) > DEFAULT_LIMITS.bytes:
            raise ImageError(f"It has more than the allowed {DEFAULT_LIMITS.bytes:,} bytes.")
        name_length = len(self.names[row].encode("utf-8", "surrogateescape"))
        data = self._handle.read(offset, _LOCAL_HEADER + name_length + _USUAL_EXTRA + packed)
        begin = _LOCAL_HEADER + sum(np.frombuffer(data[26:30], "<u2").tolist())
        content = data[begin : begin + packed]
        if data[:4] == b"PK\3\4" and len(content) < packed:
            content = self._handle.read(offset + begin, packed)
        if method == _DEFLATED:
            content = _inflated(content, size)
        if len(content) != size or zlib.crc32(content) != checksum:
            raise ImageError("It is damaged in the archive: its checksum differs.")
        return content


def _inflated(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error as error:
        raise ImageError(f"It is damaged in the archive: {error}") from error


class TarStore(_NamedPictures):
    """The pictures in a tar archive that is not compressed.

    Raises:
        ArgumentError: It is damaged, compressed, or no tar archive.
    """

    def __init__(self, path: Path) -> None:
        found = list(picture_locations(str(path)))
        problem = next((item.error for item in found if item.error), None)
        if problem:
            raise ArgumentError(
                f"{problem}. A compressed archive has no random access: unpack it into a folder, "
                "or pack it as a zip archive."
            )
        self._handle = _Handle(path)
        self.names = Names(item.name for item in found)
        locations = [(item.start, item.stop - item.start) for item in found]
        self._locations = np.array(locations, np.int64).reshape(-1, 2)

    def read(self, row: int) -> Image.Image:
        """Read a picture."""
        return _READ(self.content(row))

    def content(self, row: int) -> Location:
        """Bytes of a picture."""
        offset, size = self._locations[row].tolist()
        if size > DEFAULT_LIMITS.bytes:
            raise ImageError(f"It has more than the allowed {DEFAULT_LIMITS.bytes:,} bytes.")
        return self._handle.read(offset, size)


class ArrayStore:
    """Pictures in an array.

    Args:
        pixels: `[n, height, width]` or `[n, height, width, 1 or 3]`, uint8.
        title: Name of the array.
    """

    def __init__(self, pixels: SharedArray | MappedArray, title: str) -> None:
        self._pixels = pixels
        self._title = title

    def __len__(self) -> int:
        return len(self._pixels.array)

    def read(self, row: int) -> Image.Image:
        """Read a picture."""
        pixels: NDArray[np.uint8] = self._pixels.array[row]
        if pixels.shape[-1] == 1 and pixels.ndim == 3:
            pixels = pixels[..., 0]
        return Image.fromarray(pixels).convert("RGB")

    def name(self, row: int) -> str:
        """The array's name and the row."""
        return f"{self._title}[{row}]"

    def descriptors(self) -> tuple[int, ...]:
        """The array's descriptor, if it is in shared memory."""
        return (self._pixels.descriptor,) if isinstance(self._pixels, SharedArray) else ()


class CachedStore:
    """Caches another store's decoded pictures in shared memory.

    A checksum of each picture's pixels tells whether they are complete, so no lock is needed.

    Args:
        inner: The store.
        size: Width and height of cached pictures; others are read each time.
    """

    def __init__(self, inner: Store, size: tuple[int, int]) -> None:
        self._inner = inner
        self._size = size
        self._pixels = SharedArray((len(inner), size[1], size[0], 3), np.uint8)
        self._checksums = SharedArray((len(inner),), np.uint32)

    def __len__(self) -> int:
        return len(self._inner)

    def read(self, row: int) -> Image.Image:
        """Read a picture."""
        kept: NDArray[np.uint8] = self._pixels.array[row]
        checksum = int(self._checksums.array[row])
        if checksum:
            pixels = kept.tobytes()
            if _checksum(pixels) == checksum:
                return Image.frombytes("RGB", self._size, pixels)
        picture = self._inner.read(row)
        if picture.size == self._size:
            kept[:] = np.asarray(picture)
            self._checksums.array[row] = _checksum(kept.tobytes())
        return picture

    def name(self, row: int) -> str:
        """Name of a picture in the inner store."""
        return self._inner.name(row)

    def descriptors(self) -> tuple[int, ...]:
        """Descriptors of pixels, checksums and the inner store."""
        own = (self._pixels.descriptor, self._checksums.descriptor)
        return (*own, *self._inner.descriptors())


def _checksum(pixels: bytes) -> int:
    return zlib.crc32(pixels) or 1  # 0 marks an empty row
