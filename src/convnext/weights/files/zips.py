"""The members of a zip archive as runs of bytes: mapped where stored, inflated where deflated.

Why it exists: .pth, .npz and .keras are zip archives whose members are stored uncompressed, so a
member can be memory-mapped. `zipfile` parses the archive's directory, and never more of it than a
fixed size; the members' bytes are taken from the map, so nothing is ever extracted.
Refused is what no writer of weights produces: two members of one name, members that overlap,
names that climb out of a folder, encryption, and members that inflate beyond reason.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from convnext.errors import WeightsFileError
from convnext.weights.files.tensors import Array, map_file

__all__ = ["Member", "add_member", "read_members"]

MAX_DIRECTORY = 1 << 20  # bytes; the directory entry of one tensor takes about 100
MAX_EXPANSION = 8  # trained weights deflate by a tenth, and by half if they were float16 before
SMALL = 8 << 20  # bytes; a member may always inflate to this size
LARGE = 2_000_000_000  # bytes; beyond this a member gets sizes of 64 bits
MAX_TEXT = 4 << 20  # bytes; the configuration of a Keras model takes 150,000
ALIGNMENT = 64  # of a member's first byte, as torch aligns it
MAX_END = 22 + (1 << 16)  # bytes of the record that ends an archive, with its comment
NO_COUNT = 0xFFFF  # instead of a count that zip64 stores elsewhere
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field


class Member:
    """One member of an archive.

    Attributes:
        name: Its name.
        start: Offset of its bytes in the archive.
        size: Number of its bytes, inflated.
        stored: Whether it is stored uncompressed.
    """

    def __init__(self, archive: Array, info: zipfile.ZipInfo) -> None:
        self.name = info.filename
        self.size = info.file_size
        self.stored = info.compress_type == zipfile.ZIP_STORED
        self._archive = archive
        self._crc = info.CRC
        self._intact = False
        known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if info.flag_bits & 1 or not known:
            raise WeightsFileError(
                f"Its member {self.name[:100]!r} is encrypted, or compressed in a way that no "
                "writer of weights uses."
            )
        header = archive[info.header_offset :][: LOCAL_HEADER.size].tobytes()
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise WeightsFileError(
                f"Its member {self.name[:100]!r} is not where its directory says."
            )
        _, name_length, extra_length = LOCAL_HEADER.unpack(header)
        self.start = info.header_offset + LOCAL_HEADER.size + name_length + extra_length
        self.end = self.start + info.compress_size
        if self.end > len(archive) or (self.stored and self.size != info.compress_size):
            raise WeightsFileError(f"Its member {self.name[:100]!r} is cut off.")
        if self.size > max(MAX_EXPANSION * info.compress_size, SMALL):
            raise WeightsFileError(
                f"Its member {self.name[:100]!r} inflates from {info.compress_size:,} to "
                f"{self.size:,} bytes, which no weights do."
            )

    def content(self) -> Array:
        """All bytes, checked against the member's checksum at the first call."""
        packed = self._archive[self.start : self.end]
        content = packed if self.stored else np.frombuffer(_inflate(packed, self.size), np.uint8)
        # torch writes 0 where it was told to leave checksums out.
        damaged = self._crc != 0 and not self._intact and zlib.crc32(content.data) != self._crc
        if damaged or len(content) != self.size:
            raise WeightsFileError(
                f"The bytes of its member {self.name[:100]!r} are damaged (wrong checksum). "
                "Fetch or save the file again."
            )
        self._intact = True
        return content

    def text(self) -> str:
        """The content as text."""
        if self.size > MAX_TEXT:
            raise WeightsFileError(f"Its {self.name!r} is longer than {MAX_TEXT:,} bytes.")
        return self.content().tobytes().decode("utf-8", "replace")

    def head(self, length: int) -> bytes:
        """The first bytes, unchecked."""
        packed = self._archive[self.start : self.end]
        return packed[:length].tobytes() if self.stored else _inflate(packed[: 2 * length], length)


def read_members(path: Path) -> dict[str, Member]:
    """Every member of an archive by its name, in the order of its directory."""
    archive = map_file(path)
    try:
        with _DirectoryReader(path) as file, zipfile.ZipFile(file) as opened:
            infos = opened.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise WeightsFileError(f"Its zip directory cannot be read: {error}.") from error
    if _announced(archive) not in (len(infos), NO_COUNT):
        raise WeightsFileError("Its zip directory is damaged: members are missing from it.")
    members: dict[str, Member] = {}
    for info in infos:
        if info.is_dir():
            continue
        if _climbs(info.filename):
            raise WeightsFileError(
                f"Its member {info.filename[:100]!r} points outside the archive."
            )
        if info.filename in members:
            raise WeightsFileError(f"It holds two members named {info.filename[:100]!r}.")
        members[info.filename] = Member(archive, info)
    end = 0
    for member in sorted(members.values(), key=lambda member: member.start):
        if member.start < end:
            raise WeightsFileError(f"Its member {member.name[:100]!r} overlaps another.")
        end = member.end
    return members


def add_member(archive: zipfile.ZipFile, name: str, *parts: bytes | memoryview) -> None:
    """Stores a member, aligned so that its first byte can be mapped as any dtype."""
    info = zipfile.ZipInfo(name)
    info.file_size = sum(len(part) for part in parts)
    large = info.file_size > LARGE
    assert archive.fp is not None
    start = archive.fp.tell() + 30 + len(name.encode()) + 4 + (20 if large else 0)
    padding = -start % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
    with archive.open(info, "w", force_zip64=large) as member:
        for part in parts:
            member.write(part)


class _DirectoryReader(io.FileIO):
    """A file that limits the size of the directory that `zipfile` reads."""

    def read(self, size: int | None = -1) -> bytes:
        asked = -1 if size is None else size
        data = super().read(asked if 0 <= asked <= MAX_DIRECTORY else MAX_DIRECTORY + 1)
        if len(data) > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"it is longer than {MAX_DIRECTORY:,} bytes")
        return data


def _announced(archive: Array) -> int:
    """Number of members in the record at the archive's end, which `zipfile` does not check."""
    tail = archive[-MAX_END:].tobytes()
    end = tail.rfind(b"PK\5\6")
    return int.from_bytes(tail[end + 10 : end + 12], "little")


def _climbs(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts


def _inflate(packed: Array, length: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed.data, length)
    except zlib.error as error:
        raise WeightsFileError(f"A compressed member is damaged: {error}.") from error
