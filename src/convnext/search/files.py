"""Read the files of vectors that `convnext embed` and `predict --logits` write, piece by piece.

An .npz file is mapped into memory; its facts hold checksums, as a zip archive's own would take
longer than the search. The pages of a Parquet file have theirs.
"""

from __future__ import annotations

import json
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from convnext.data.arrow import pyarrow
from convnext.errors import ArgumentError, WeightsMismatchError

__all__ = ["ARRAYS", "FACTS", "Column", "Piece", "Vectors", "checksum", "open_vectors"]

PIECE = 16_384  # vectors in memory
FACTS = "facts"  # the array of an .npz file; in a Parquet file they are keys of its metadata
KNOWN = ("model", "licence", "fingerprint", "annotations")
SHARD = re.compile(r"part-(\d+)-of-(\d+)\.parquet")
Column = Literal["embedding", "logits"]
ARRAYS: dict[Column, str] = {"embedding": "embeddings", "logits": "logits"}  # of .npz files
COMMANDS: dict[Column, str] = {"embedding": "convnext embed", "logits": "convnext predict --logits"}
LOCAL_HEADER = 30  # bytes, before the name of a member of a zip archive


class Piece(NamedTuple):
    """Consecutive vectors.

    Attributes:
        names: Of the pictures, a sequence.
        vectors: `[n, width]`, float32.
    """

    names: Any
    vectors: NDArray[np.float32]


class Vectors(ABC):
    """A file or folder of vectors.

    Attributes:
        path: Its path.
        column: What the vectors are.
        facts: The model's name, licence, fingerprint and annotations, as far as the file has them.
        width: Numbers in a vector.
        count: Number of vectors, or of rows of which some may have none.
    """

    path: Path
    column: Column
    facts: Mapping[str, str]
    width: int
    count: int

    @abstractmethod
    def unchecked(self) -> Iterator[Piece]:
        """Yield all vectors, without comparing their checksum: see `check_sum`.

        Raises:
            ArgumentError: The file is damaged; some pieces may have been yielded before.
        """

    def check_sum(self, total: int) -> None:  # noqa: B027
        """Compare the checksum of all vectors; not for files that are checked in reading.

        Raises:
            ArgumentError: The file is damaged.
        """

    def pieces(self) -> Iterator[Piece]:
        """Yield all vectors.

        Raises:
            ArgumentError: The file is damaged; some pieces may have been yielded before.
        """
        total = 0
        for piece in self.unchecked():
            total = checksum(np.require(piece.vectors, requirements="A"), total)
            yield piece
        self.check_sum(total)

    def check_model(self, fingerprint: str, model: object) -> None:
        """Refuse vectors of another model.

        Args:
            fingerprint: Of the model, see `convnext.session.Session.fingerprint`.
            model: Its name, for the error.

        Raises:
            WeightsMismatchError: The file says that another model computed them.
        """
        own = self.facts.get("fingerprint")
        if own is not None and own != fingerprint:
            named = self.facts.get("model") or "another model"
            raise WeightsMismatchError(
                f"{self.path} holds vectors of {named} (fingerprint {str(own)[:12]}), which cannot "
                f"be compared with those of {model} ({fingerprint[:12]}). Give the model that they "
                "were computed with."
            )

    def damaged(self, why: object) -> ArgumentError:
        """The error for a damaged file."""
        return ArgumentError(
            f"{self.path} is damaged: {why}. Restore it, or compute it again with "
            f"`{COMMANDS[self.column]}`."
        )


def checksum(values: NDArray[Any], before: int = 0) -> int:
    """The sum of an array's words of 8 bytes, or of 4 if its rows have an odd number of these.

    Args:
        values: Contiguous, of a type of 4 bytes.
        before: The sum of earlier rows of the array.
    """
    data = values.view(np.uint32).reshape(len(values), -1)
    words = data.view(np.uint64) if data.shape[1] % 2 == 0 else data
    return (before + int(words.sum(dtype=np.uint64))) % 2**64


def open_vectors(path: str | Path, column: Column = "embedding") -> Vectors:
    """Open a file or folder of vectors.

    Args:
        path: An .npz or .parquet file, or a folder of shards.
        column: Embeddings, or the logits of `convnext predict --logits`.

    Raises:
        ArgumentError: It is none, or damaged.
        MissingDependencyError: It is a Parquet file, and pyarrow is not installed.

    Example:
        vectors = open_vectors("photos.npz")
        print(vectors.count, vectors.width, vectors.facts)
    """
    path = Path(path)
    if path.is_dir():
        return _Parquet(path, _shards(path), column)
    command = COMMANDS[column]
    if not path.is_file():
        raise ArgumentError(f"There is no file or folder {path}. `{command}` writes them.")
    if path.suffix.lower() == ".npz":
        return _Npz(path, column)
    if path.suffix.lower() == ".parquet":
        return _Parquet(path, [path], column)
    raise ArgumentError(
        f"{path} is no file of vectors: .npz, .parquet or a folder, as `{command}` writes them. "
        "(A .jsonl file is read by any other program; embed again to search it.)"
    )


def _shards(folder: Path) -> list[Path]:
    parts = {
        part: found for part in sorted(folder.iterdir()) if (found := SHARD.fullmatch(part.name))
    }
    if not parts:
        raise ArgumentError(f"{folder} holds no shards of `convnext embed --out FOLDER/`.")
    wanted = {int(found[2]) for found in parts.values()}
    if wanted != {len(parts)}:
        raise ArgumentError(
            f"{folder} holds {len(parts)} of {max(wanted)} shards: the run is not finished. "
            "Continue it with `convnext embed --resume`."
        )
    return list(parts)


class _Npz(Vectors):
    def __init__(self, path: Path, column: Column) -> None:
        self.path, self.column = path, column
        array = ARRAYS[column]
        try:
            with zipfile.ZipFile(path) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                if FACTS in members:
                    with archive.open(members[FACTS]) as stream:
                        stored = json.loads(str(npy.read_array(stream)))
                    self.facts = _known(stored)
                    self._sums: tuple[int, int] | None = _sums(stored, array)
                    self._names = self._mapped(members["ids"])
                    self._vectors = self._mapped(members[array])
                else:  # not ours, or of an earlier version: the archive's own checksums
                    self.facts, self._sums = {}, None
                    with archive.open(members["ids"]) as stream:
                        self._names = npy.read_array(stream)
                    with archive.open(members[array]) as stream:
                        self._vectors = npy.read_array(stream)
        except (*_FAILURES, zipfile.BadZipFile) as error:
            raise self.damaged(f"it holds no arrays 'ids' and {array!r} ({error})") from error
        shape = self._vectors.shape
        if len(shape) != 2 or self._vectors.dtype != np.float32 or self._names.shape != shape[:1]:
            raise self.damaged(
                f"its vectors are {self._vectors.dtype} {shape}, and its ids {self._names.shape}"
            )
        self.count, self.width = shape
        if self._sums and self.count and checksum(_words(self._names)) != self._sums[0]:
            raise self.damaged("the checksum of its ids is wrong")

    def _mapped(self, member: zipfile.ZipInfo) -> NDArray[Any]:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("compressed")
        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            header = file.read(LOCAL_HEADER)
            skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(
                header[28:30], "little"
            )
            file.seek(member.header_offset + LOCAL_HEADER + skipped)
            npy.read_magic(file)
            shape, fortran, dtype = npy.read_array_header_1_0(file)
            if fortran or dtype.hasobject:
                raise ValueError("of another form")
            if not np.prod(shape):
                return np.empty(shape, dtype)
            return np.memmap(self.path, dtype, "r", file.tell(), shape)

    def unchecked(self) -> Iterator[Piece]:
        for begin in range(0, self.count, PIECE):
            rows = slice(begin, begin + PIECE)
            yield Piece(self._names[rows], np.asarray(self._vectors[rows]))

    def check_sum(self, total: int) -> None:
        if self._sums and total != self._sums[1]:
            raise self.damaged("the checksum of its vectors is wrong")


def _known(stored: Mapping[str, Any]) -> dict[str, str]:
    """The facts that a file states."""
    return {name: str(stored[name]) for name in KNOWN if stored.get(name)}


def _sums(stored: Mapping[str, Any], array: str) -> tuple[int, int]:
    sums = stored["checksums"]
    return int(sums["ids"]), int(sums[array])


def _words(names: NDArray[Any]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(names).view(np.uint32).reshape(len(names), -1)


_FAILURES = (
    *(AttributeError, EOFError, LookupError, OSError, RecursionError, SyntaxError),
    *(TypeError, ValueError),
)


class _Parquet(Vectors):
    def __init__(self, path: Path, files: Sequence[Path], column: Column) -> None:
        self.path, self.column = path, column
        self._files = files
        self.count = 0
        found: list[Any] = []
        for file in files:
            with self._opened(file) as opened:
                schema = opened.schema_arrow
                self.count += opened.metadata.num_rows
            name = next((each for each in ("id", "path") if each in schema.names), None)
            kind = schema.field(column).type if column in schema.names else None
            arrow = pyarrow()
            fixed = kind is not None and arrow.types.is_fixed_size_list(kind)
            if name is None or kind is None or not fixed or kind.value_type != arrow.float32():
                raise ArgumentError(
                    f"{file} has no column {column!r} of vectors with 'id' or 'path' beside it, "
                    f"as `{COMMANDS[column]}` writes them."
                )
            stored = schema.metadata or {}
            facts = {key.decode("utf-8", "replace"): stored[key].decode() for key in stored}
            found.append((name, kind.list_size, _known(facts)))
        if any(each != found[0] for each in found):
            raise ArgumentError(f"The files of {path} are of different models. Search one by one.")
        self._name, self.width, self.facts = found[0]

    def _opened(self, file: Path) -> Any:
        arrow = pyarrow()
        try:
            return arrow.parquet.ParquetFile(file, page_checksum_verification=True)
        except (OSError, arrow.ArrowException) as error:
            raise self.damaged(error) from error

    def unchecked(self) -> Iterator[Piece]:
        arrow = pyarrow()
        columns = [self._name, self.column]
        for file in self._files:
            try:
                with self._opened(file) as opened:
                    for batch in opened.iter_batches(PIECE, columns=columns):
                        rows = batch.filter(batch.column(1).is_valid())
                        values = rows.column(1).flatten().to_numpy(zero_copy_only=False)
                        yield Piece(rows.column(0), values.reshape(-1, self.width))
            except (OSError, arrow.ArrowException) as error:
                raise self.damaged(f"{file.name}: {error}") from error
