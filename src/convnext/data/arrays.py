"""Data sets stored as arrays: `.npz` files and MNIST's IDX files.

Names, shapes and types of the arrays are checked here. Uncompressed arrays are memory-mapped
instead of loaded.
"""

from __future__ import annotations

import gzip
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from convnext.data.shared_memory import MappedArray, SharedArray
from convnext.data.stores import ArrayStore
from convnext.errors import ArgumentError

__all__ = ["ArrayPart", "idx_parts", "is_idx_folder", "npz_parts"]

NPZ_NAMES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "validation": (("x_val", "y_val"), ("x_valid", "y_valid"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
    "": (("images", "labels"), ("x", "y")),
}
CLASS_NAMES = ("classes", "class_names", "label_names")

_IDX_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx([13])-ubyte(\.gz)?$")
_IDX_PARTS = {"train": "train", "t10k": "test", "test": "test"}
_IDX_BYTES = 8  # type code of unsigned bytes
_LARGEST_GAIN = 1032  # highest compression ratio of deflate
_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


class ArrayPart(NamedTuple):
    """A split of a data set.

    Attributes:
        store: The pictures.
        labels: `[n]`: class numbers or names; None if the file has no labels.
        classes: Class names, if the file has them.
    """

    store: ArrayStore
    labels: NDArray[Any] | None
    classes: tuple[str, ...] | None = None


def npz_parts(path: Path) -> dict[str, ArrayPart]:
    """Read the splits of a `.npz` file, by name; `""` if it has no splits.

    Raises:
        ArgumentError: The file is damaged, or has no array under a known name of pictures.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
            parts = {
                part: _npz_part(path, archive, members, pair)
                for part, pairs in NPZ_NAMES.items()
                for pair in pairs
                if pair[0] in members
            }
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"The arrays in {path} cannot be read: {error}") from error
    if not parts:
        known = ", ".join("/".join(pair) for pairs in NPZ_NAMES.values() for pair in pairs)
        raise ArgumentError(
            f"{path} holds {', '.join(members) or 'nothing'}. Name the arrays of pictures and "
            f"labels {known}."
        )
    return parts


def _npz_part(
    path: Path,
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    pair: tuple[str, str],
) -> ArrayPart:
    pictures, labels = pair
    store = _store(_npz_pixels(path, archive, members[pictures]), pictures, path)
    named = next((name for name in CLASS_NAMES if name in members), None)
    return ArrayPart(
        store,
        _labels(_loaded(archive, members[labels]), len(store), path) if labels in members else None,
        tuple(map(str, _loaded(archive, members[named]).tolist())) if named else None,
    )


def _loaded(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        return array


def _npz_pixels(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> SharedArray | MappedArray:
    """The array memory-mapped from the file if it is stored uncompressed, else in memory."""
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = read(stream)
        header = stream.tell()
    if dtype != np.uint8 or by_column or member.compress_type != zipfile.ZIP_STORED:
        return _shared(_loaded(archive, member), path)
    with path.open("rb") as file:
        file.seek(member.header_offset)
        lengths = struct.unpack("<2H", file.read(_LOCAL_HEADER)[26:30])
    return MappedArray(path, member.header_offset + _LOCAL_HEADER + sum(lengths) + header, shape)


def _shared(array: NDArray[Any], path: Path) -> SharedArray:
    if array.dtype != np.uint8:
        raise ArgumentError(
            f"The pictures in {path} are {array.dtype}, whose range is not defined. Store them as "
            "uint8, from 0 to 255."
        )
    shared = SharedArray(array.shape, np.uint8)
    shared.array[:] = array
    return shared


def _store(pixels: SharedArray | MappedArray, title: str, path: Path) -> ArrayStore:
    shape = pixels.array.shape
    if not (len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3))) or 0 in shape:
        raise ArgumentError(
            f"{title} in {path} has the shape {shape}; pictures are [n, height, width] or "
            "[n, height, width, 1 or 3]. Turn channels-first arrays with np.moveaxis(x, 1, -1)."
        )
    return ArrayStore(pixels, title)


def _labels(labels: NDArray[Any], count: int, path: Path) -> NDArray[Any]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iuU":
        raise ArgumentError(
            f"The labels in {path} are {labels.dtype} of shape {labels.shape}; one whole number or "
            f"name is needed for each of {count:,} pictures. For one-hot labels, take the argmax."
        )
    if labels.dtype.kind in "iu" and labels.min() < 0:
        raise ArgumentError(
            f"The smallest label in {path} is {labels.min()}; count classes from 0."
        )
    return labels


def is_idx_folder(path: Path) -> bool:
    """Whether a folder holds MNIST's files."""
    return path.is_dir() and any(_IDX_NAME.match(item.name) for item in path.iterdir())


def idx_parts(path: Path) -> dict[str, ArrayPart]:
    """Read the splits of a folder with MNIST's files, gzipped or not.

    Raises:
        ArgumentError: A file is missing or damaged.
    """
    files: dict[tuple[str, str], Path] = {}
    for item in sorted(
        path.iterdir(), reverse=True
    ):  # gzipped files first: plain ones replace them
        match = _IDX_NAME.match(item.name)
        if match:
            files[_IDX_PARTS[match[1]], match[2]] = item
    parts = {}
    for part in sorted({part for part, _ in files}):
        for kind in ("images", "labels"):
            if (part, kind) not in files:
                raise ArgumentError(
                    f"{path} has no {kind} of the split {part!r}. Add the missing file."
                )
        pixels, labels = _idx(files[part, "images"], 3), _idx(files[part, "labels"], 1)
        store = _store(pixels, files[part, "images"].name, path)
        parts[part] = ArrayPart(store, _labels(labels.array, len(store), path))
    return parts


def _idx(path: Path, rank: int) -> SharedArray | MappedArray:
    header = 4 + 4 * rank
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            begin = stream.read(header)
            zero, kind, dimensions = struct.unpack_from(">HBB", begin)
            shape = struct.unpack_from(f">{rank}I", begin, 4)
            size = int(np.prod(shape, dtype=object))
            if zero or kind != _IDX_BYTES or dimensions != rank:
                raise ValueError(f"it is no IDX file of bytes with {rank} dimensions")
            gain = _LARGEST_GAIN if path.suffix == ".gz" else 1
            if size > path.stat().st_size * gain:
                raise ValueError(f"its header says {size:,} bytes, and the file is too small")
            if path.suffix != ".gz":
                if path.stat().st_size < header + size:
                    raise ValueError("it is cut short")
                return MappedArray(path, header, shape)
            content = stream.read(size)
            if len(content) < size:
                raise ValueError("it is cut short")
            if stream.read(1):  # gzip compares the checksum at the end of the file
                raise ValueError("it holds more than its header says")
    except (OSError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise ArgumentError(f"{path} cannot be read: {error}") from error
    return _shared(np.frombuffer(content, np.uint8).reshape(shape), path)
