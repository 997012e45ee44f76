"""Write many named vectors to a file, in constant memory and atomically."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convnext.atomic import disk_errors
from convnext.cli.output import replaced
from convnext.cli.pictures import Unreadable, show_progress, unseen
from convnext.errors import MissingDependencyError
from convnext.search.files import ARRAYS, FACTS, Column, checksum

if TYPE_CHECKING:
    from convnext.classifier import Classifier

__all__ = ["VectorFile", "npz_file", "parquet_file", "write_vectors"]

Vector = NDArray[np.float32]
ROW_GROUP = 4096  # most vectors in memory


class VectorFile(ABC):
    """A file of vectors that is being written."""

    @abstractmethod
    def add(self, name: str, vector: Vector) -> None:
        """Add one vector."""


def write_vectors(
    args: argparse.Namespace,
    classifier: Classifier,
    column: Column,
    bad: Unreadable,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write a vector of each readable picture to `--out`, an .npz or .parquet file.

    Args:
        args: The options.
        classifier: Computes the vectors.
        column: Which of its outputs they are.
        bad: Collects the pictures that cannot be read.
        facts: Facts beside those of the classifier.
    """
    write = npz_file if args.out.suffix.lower() == ".npz" else parquet_file
    width = classifier.vector_width if column == "embedding" else len(classifier.labels)
    with write(args.out, width, {**classifier.facts, **(facts or {})}, column) as file:
        answers = classifier.run(unseen(args.paths), (column,), args.batch)
        for answer in show_progress(answers, args):
            if answer.error is not None:
                bad.add(answer.id, answer.error)
            else:
                file.add(answer.id, answer.outputs[column])


@contextmanager
def npz_file(
    path: Path, width: int, facts: Mapping[str, str], column: Column = "embedding"
) -> Iterator[VectorFile]:
    """Write a NumPy archive with the arrays `ids` and `embeddings` or `logits` `[n, width]`.

    A third array, `facts`, is JSON: the facts given here, and checksums.
    """
    with replaced(path) as temporary, _spool(path) as names, _spool(path) as vectors:
        spooled = _Spooled(names, vectors, ARRAYS[column])
        yield spooled
        spooled.pack(temporary, width, facts)


@contextmanager
def parquet_file(
    path: Path, width: int, facts: Mapping[str, str], column: Column = "embedding"
) -> Iterator[VectorFile]:
    """Write a Parquet file with `id` and the column, and `facts` as its metadata.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    arrow = _pyarrow()
    kind = arrow.list_(arrow.float32(), width)
    schema = arrow.schema([("id", arrow.string()), (column, kind)], metadata=dict(facts))
    with replaced(path) as temporary:
        writer = arrow.parquet.ParquetWriter(temporary, schema, write_page_checksum=True)
        with writer:
            groups = _RowGroups(arrow, writer, schema, width)
            yield groups
            groups.flush()


def _pyarrow() -> Any:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pyarrow, which Parquet files need,", "parquet") from error
    return pyarrow


def _spool(path: Path) -> IO[bytes]:
    """A temporary file on the same disk, deleted when closed."""
    with disk_errors(path):
        return tempfile.TemporaryFile(dir=path.absolute().parent)


class _Spooled(VectorFile):
    """Buffers vectors on disk, as an array file begins with the length."""

    def __init__(self, names: IO[bytes], vectors: IO[bytes], array: str) -> None:
        self._names = names
        self._vectors = vectors
        self._array = array
        self._count = 0
        self._longest = 1
        self._sums = {"ids": 0, array: 0}

    def add(self, name: str, vector: Vector) -> None:
        self._names.write(json.dumps(name).encode() + b"\n")
        values = np.ascontiguousarray(vector, "<f4")[None]
        self._vectors.write(values.tobytes())
        self._sums[self._array] = checksum(values, self._sums[self._array])
        self._count += 1
        self._longest = max(self._longest, len(name))

    def pack(self, path: Path, width: int, facts: Mapping[str, str]) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            with archive.open("ids.npy", "w", force_zip64=True) as member:
                text = np.dtype(f"<U{self._longest}")
                _write_header(member, text, (self._count,))
                self._names.seek(0)
                while lines := list(islice(self._names, ROW_GROUP)):
                    block = np.array([json.loads(line) for line in lines], text)
                    member.write(block.tobytes())
                    words = block.view(np.uint32).reshape(len(block), -1)
                    self._sums["ids"] = checksum(words, self._sums["ids"])
            with archive.open(f"{self._array}.npy", "w", force_zip64=True) as member:
                _write_header(member, np.dtype("<f4"), (self._count, width))
                self._vectors.seek(0)
                shutil.copyfileobj(self._vectors, member)
            with archive.open(f"{FACTS}.npy", "w") as member:
                content = np.array(json.dumps({**facts, "checksums": self._sums}))
                np.lib.format.write_array(member, content)


def _write_header(stream: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(stream, header)


class _RowGroups(VectorFile):
    """Buffers vectors in memory, and writes them in row groups."""

    def __init__(self, arrow: Any, writer: Any, schema: Any, width: int) -> None:
        self._arrow = arrow
        self._writer = writer
        self._schema = schema
        self._names: list[str] = []
        self._vectors = np.empty((ROW_GROUP, width), np.float32)

    def add(self, name: str, vector: Vector) -> None:
        self._vectors[len(self._names)] = vector
        self._names.append(name)
        if len(self._names) == ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        if not self._names:
            return
        rows = self._vectors[: len(self._names)]
        values = self._arrow.array(rows.ravel())
        vectors = self._arrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
        columns = [self._arrow.array(self._names), vectors]
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))
        self._names.clear()
