"""Read the class numbers of the ImageNet challenge (ILSVRC ids).

The challenge's labels are numbers from 1 in an order that only its development kit has, in a MATLAB
file. A small reader for it here avoids a dependency on SciPy.

Reference: MAT-File Format, The MathWorks, "Level 5 MAT-File Format".
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from convnext.errors import ArgumentError

__all__ = ["SYNSET_FILES", "read_synsets"]

SYNSET_FILES = ("meta.mat", "map_clsloc.txt")
CLASSES = 1000
MAX_BYTES = 2**26  # uncompressed; the kit's file has less than a megabyte

_HEADER = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}
_STRUCT = 2
_LINE = re.compile(r"(?:(n\d{8})\s+(\d+)|(\d+)\s+(n\d{8}))(?:\s|$)")

Element = tuple[int, bytes]


def read_synsets(path: str | Path) -> Mapping[int, str]:
    """Read the WordNet id of each ILSVRC id from 1 to 1000.

    Args:
        path: The kit's `meta.mat`, or a text file with a WordNet id and a number in each line, in
            either order, such as `map_clsloc.txt`.

    Raises:
        ArgumentError: The file cannot be read, or does not have exactly these ids.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES)
        pairs = list(_matlab(data) if path.suffix.lower() == ".mat" else _text(data))
    except (OSError, ValueError, KeyError, struct.error, zlib.error) as error:
        raise ArgumentError(f"The ILSVRC ids in {path} cannot be read: {error}") from error
    synsets = {number: wnid for number, wnid in pairs if 1 <= number <= CLASSES}
    if len(synsets) != CLASSES or len(set(synsets.values())) != CLASSES:
        raise ArgumentError(
            f"{path} must have a different WordNet id for each ILSVRC id from 1 to {CLASSES}; it "
            f"has {len(set(synsets.values())):,}."
        )
    return synsets


def _text(data: bytes) -> Iterator[tuple[int, str]]:
    for line in data.decode("utf-8-sig").splitlines():
        found = _LINE.match(line.strip())
        if found:
            yield int(found[2] or found[3]), found[1] or found[4]


def _matlab(data: bytes) -> Iterator[tuple[int, str]]:
    if data[126:128] != b"IM":
        raise ValueError("it is not a little-endian MATLAB file of level 5")
    for kind, content in _elements(data[_HEADER:]):
        if kind == _COMPRESSED:
            content = zlib.decompressobj().decompress(content, MAX_BYTES)
            kind, content = next(_elements(content))
        if kind == _MATRIX and _is_struct(content):
            yield from _records(content)


def _is_struct(matrix: bytes) -> bool:
    return next(_elements(matrix))[1][0] == _STRUCT


def _records(matrix: bytes) -> Iterator[tuple[int, str]]:
    _flags, _shape, _name, (_, length), (_, names), *values = _elements(matrix)
    width = int.from_bytes(length[:4], "little")
    fields = [
        names[start : start + width].rstrip(b"\0").decode() for start in range(0, len(names), width)
    ]
    for start in range(0, len(values), len(fields)):
        record = dict(zip(fields, values[start : start + len(fields)], strict=True))
        number, wnid = (_value(record[field][1]) for field in ("ILSVRC2012_ID", "WNID"))
        kind, content = number
        yield int(np.frombuffer(content, f"<{_NUMBERS[kind]}")[0]), wnid[1].decode(_TEXTS[wnid[0]])


def _value(matrix: bytes) -> Element:
    """The content of a matrix, after its flags, shape and name."""
    _flags, _shape, _name, value = _elements(matrix)
    return value


def _elements(data: bytes) -> Iterator[Element]:
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, position)
        if kind >> 16:  # a small element: its size and content share the tag's 8 bytes
            yield kind & 0xFFFF, data[position + 4 : position + 4 + (kind >> 16)]
            position += 8
            continue
        content = data[position + 8 : position + 8 + size]
        if len(content) < size:
            raise ValueError("it is truncated")
        yield kind, content
        position += 8 + size
        if kind != _COMPRESSED:
            position += -size % 8
