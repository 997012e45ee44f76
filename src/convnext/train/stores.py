"""Where pictures lie, and how any one of them is read: files, archives, arrays.

Why it exists: training reads pictures in any order and from several processes, so each store finds
a picture by its row in one step, and costs little to send: names are one string, handles are
opened where they are used. It knows nothing of classes.
"""

from __future__ import annotations

import functools
import os
import tarfile
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

from convnext.errors import ArgumentError, ImageError
from convnext.images.decode import decode
from convnext.images.read import DEFAULT_LIMITS
from convnext.images.sources import SUFFIXES
from convnext.train.shared import MappedArray, SharedArray

__all__ = [
    "ArrayStore",
    "CachedStore",
    "FileStore",
    "Names",
    "Store",
    "TarStore",
    "ZipStore",
    "is_picture",
]

# As the authors read training pictures, and as `convnext.evaluate` reads those of validation.
_READ = functools.partial(decode, orientation=False, background=None)

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL_HEADER = 30  # bytes, before the name
_USUAL_EXTRA = 64  # bytes, behind the name; where there are more, they are read in a second step


class Store(Protocol):
    """Pictures by row."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> Image.Image:
        """One picture in RGB, or an `ImageError`."""

    def name(self, row: int) -> str:
        """What it is called, below the data's path."""

    def descriptors(self) -> tuple[int, ...]:
        """What a process that is to read from it must be started with."""


class Names(Sequence[str]):
    """Many strings as one, so that a million cost a processor nothing to send.

    Args:
        names: The strings.
    """

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


def is_picture(name: str) -> bool:
    """Whether a path looks like a picture's that is not hidden, as in `convnext.images.sources`."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or f".{suffix.lower()}" not in SUFFIXES or not stem:
        return False
    return not (name.startswith((".", "__MACOSX/")) or "/." in name or "/__MACOSX/" in name)


class FileStore:
    """Files.

    Args:
        root: What their names are relative to; an absolute name stands for itself.
        names: Of the files.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self._root = str(root.absolute())
        self.names = Names(names)

    @classmethod
    def below(cls, root: Path) -> FileStore:
        """Every picture below a folder, in order; links to folders are followed.

        Raises:
            ArgumentError: A folder cannot be read.
        """
        return cls(root, _walk(root, "", ()))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> Image.Image:
        """One picture."""
        return _READ(os.path.join(self._root, self.names[row]))  # noqa: PTH118 (thrice as fast)

    def name(self, row: int) -> str:
        """Its path below the root."""
        return str(self.names[row])

    def descriptors(self) -> tuple[int, ...]:
        """None."""
        return ()


def _walk(folder: Path | str, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that holds it
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ArgumentError(f"The folder {folder} cannot be read: {error}") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, real))
        elif is_picture(entry.name):
            yield prefix + entry.name


class _Handle:
    """A file read at given places, by any number of threads; opened by each process for itself."""

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


class ZipStore:
    """The pictures in a zip archive, each found by its place.

    Args:
        path: The archive.

    Raises:
        ArgumentError: It is damaged, or no zip archive.
    """

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [item for item in archive.infolist() if is_picture(item.filename)]
            self._handle = _Handle(path)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise ArgumentError(
                f"The archive {path} cannot be read: {error}. Was it copied as a whole?"
            ) from error
        self.names = Names(item.filename for item in members)
        self._places = np.array(
            [
                (item.header_offset, item.compress_size, item.file_size, item.CRC)
                for item in members
            ],
            np.int64,
        ).reshape(-1, 4)
        self._methods = np.array(
            [-1 if item.flag_bits & 1 else item.compress_type for item in members], np.int16
        )

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> Image.Image:
        """One picture."""
        offset, packed, size, checksum = self._places[row].tolist()
        method = int(self._methods[row])
        if method not in (_STORED, _DEFLATED):
            how = "encrypted" if method < 0 else f"compressed by method {method}"
            raise ImageError(f"It is {how} in the archive: pack it anew, stored or deflated.")
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
            raise ImageError("It is damaged in the archive: its checksum is another.")
        return _READ(content)

    def name(self, row: int) -> str:
        """Its path in the archive."""
        return str(self.names[row])

    def descriptors(self) -> tuple[int, ...]:
        """None."""
        return ()


def _inflated(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error as error:
        raise ImageError(f"It is damaged in the archive: {error}") from error


class TarStore:
    """The pictures in a tar archive that is not compressed.

    Args:
        path: The archive.

    Raises:
        ArgumentError: It is damaged, compressed, or no tar archive.
    """

    def __init__(self, path: Path) -> None:
        names, places = [], []
        try:
            with tarfile.open(path, "r:") as archive:
                while (member := archive.next()) is not None:
                    # tarfile remembers every member it has passed, in a list without a document.
                    archive.members.clear()  # type: ignore[attr-defined]
                    name = member.name.removeprefix("./")
                    if member.isreg() and not member.issparse() and is_picture(name):
                        names.append(name)
                        places.append((member.offset_data, member.size))
            self._handle = _Handle(path)
        except (OSError, ValueError, tarfile.TarError) as error:
            raise ArgumentError(
                f"The archive {path} cannot be read: {error}. A compressed one has no random "
                "access: unpack it into a folder, or pack it as a zip archive."
            ) from error
        self.names = Names(names)
        self._places = np.array(places, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> Image.Image:
        """One picture."""
        offset, size = self._places[row].tolist()
        if size > DEFAULT_LIMITS.bytes:
            raise ImageError(f"It has more than the allowed {DEFAULT_LIMITS.bytes:,} bytes.")
        return _READ(self._handle.read(offset, size))

    def name(self, row: int) -> str:
        """Its path in the archive."""
        return str(self.names[row])

    def descriptors(self) -> tuple[int, ...]:
        """None."""
        return ()


class ArrayStore:
    """Pictures of one size that are there as numbers.

    Args:
        pixels: `[n, height, width]` or `[n, height, width, 1 or 3]`, uint8.
        title: What the rows are called by.
    """

    def __init__(self, pixels: SharedArray | MappedArray, title: str) -> None:
        self._pixels = pixels
        self._title = title

    def __len__(self) -> int:
        return len(self._pixels.array)

    def read(self, row: int) -> Image.Image:
        """One picture."""
        pixels: NDArray[np.uint8] = self._pixels.array[row]
        if pixels.shape[-1] == 1 and pixels.ndim == 3:
            pixels = pixels[..., 0]
        return Image.fromarray(pixels).convert("RGB")

    def name(self, row: int) -> str:
        """The array's name and the row."""
        return f"{self._title}[{row}]"

    def descriptors(self) -> tuple[int, ...]:
        """That of the array, if it lies in memory."""
        return (self._pixels.descriptor,) if isinstance(self._pixels, SharedArray) else ()


class CachedStore:
    """Another store's pictures, each decoded by whichever process needs it first.

    Beside the pixels of each picture lies their checksum, which says whether they are there, and
    there whole: processes need not wait for each other.

    Args:
        inner: The store.
        size: Width and height of what is kept; pictures of another size are read each time.
    """

    def __init__(self, inner: Store, size: tuple[int, int]) -> None:
        self._inner = inner
        self._size = size
        self._pixels = SharedArray((len(inner), size[1], size[0], 3), np.uint8)
        self._checksums = SharedArray((len(inner),), np.uint32)

    def __len__(self) -> int:
        return len(self._inner)

    def read(self, row: int) -> Image.Image:
        """One picture."""
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
        """As the store calls it."""
        return self._inner.name(row)

    def descriptors(self) -> tuple[int, ...]:
        """Those of the pixels and checksums, and the store's own."""
        own = (self._pixels.descriptor, self._checksums.descriptor)
        return (*own, *self._inner.descriptors())


def _checksum(pixels: bytes) -> int:
    return zlib.crc32(pixels) or 1  # 0 stands for nothing
