"""The inputs of every shard: pictures, rows of tables, whole archives.

They are written once, as a Parquet table that may exceed memory; a worker reads its shard's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

from convnext.data.archives import picture_locations
from convnext.data.arrow import pyarrow
from convnext.data.files import Folder
from convnext.data.finding import Found
from convnext.data.parquet import TableColumns, row_ranges

__all__ = ["INPUTS", "Item", "items_of", "printable", "read_items", "write_inputs"]

INPUTS = "_inputs"  # without a suffix, so that *.parquet matches the output alone
_ROW_GROUP = 2**16


class Item(NamedTuple):
    """An input of a shard: a picture, rows of a table, or a whole archive.

    Attributes:
        kind: `"file"`, `"zip"` and `"tar"` are a picture, `"stream"` is a whole archive, `"table"`
            are rows, `"error"` is an input that cannot be listed.
        path: Of the file.
        name: In the archive.
        start: First byte of the picture, first row, or index of the member of a zip archive.
        stop: The byte or row after the last.
        label: Of the picture, if there is one.
        error: Why it cannot be read.
    """

    kind: str
    path: str
    name: str | None = None
    start: int | None = None
    stop: int | None = None
    label: str | None = None
    error: str | None = None

    @property
    def pictures(self) -> int | None:
        """Number of pictures; None if it is unknown before reading."""
        if self.kind == "stream":
            return None
        if self.kind == "table":
            return (self.stop or 0) - (self.start or 0)
        return 1


def printable(text: str) -> str:
    """Convert a file's name, which may have any bytes, to valid UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def items_of(
    found: Iterable[Found], shard_size: int, columns: TableColumns
) -> Iterator[list[Item]]:
    """Divide files into shards of a number of pictures.

    Parquet files have shards of their own, of about that size. An archive without random access is
    one shard.
    """
    pending: list[Item] = []
    for file in found:
        if file.kind in ("stream", "table"):
            if pending:
                yield pending
                pending = []
            yield from _alone(file, shard_size, columns)
            continue
        for item in _pictures(file):
            pending.append(item)
            if len(pending) == shard_size:
                yield pending
                pending = []
    if pending:
        yield pending


def _alone(file: Found, shard_size: int, columns: TableColumns) -> Iterator[list[Item]]:
    if file.kind == "stream":
        yield [Item("stream", file.path)]
        return
    for start, stop in row_ranges(file.path, columns, shard_size):
        yield [Item("table", file.path, None, start, stop)]


def _pictures(file: Found) -> Iterator[Item]:
    if file.kind == "file":
        yield Item("file", file.path)
        return
    empty = True
    for found in picture_locations(file.path):
        empty = False
        kind = "error" if found.error else file.kind
        member = found.name or None
        yield Item(kind, file.path, member, found.start, found.stop, found.label, found.error)
    if empty:
        problem = f"{file.path} holds no file that is named like a picture."
        yield Item("error", file.path, error=problem)


def _schema() -> Any:
    arrow = pyarrow()
    return arrow.schema(
        [
            ("shard", arrow.int32()),
            ("kind", arrow.string()),
            ("path", arrow.binary()),  # a file's name may hold any bytes
            ("name", arrow.binary()),
            ("start", arrow.int64()),
            ("stop", arrow.int64()),
            ("label", arrow.string()),
            ("error", arrow.string()),
        ]
    )


def write_inputs(
    folder: Folder, shards: Iterable[list[Item]], before: Callable[[int], object] = lambda _: None
) -> tuple[int, int | None]:
    """Write the inputs of every shard; returns the numbers of shards and of pictures, if known.

    Args:
        folder: Of the output.
        shards: The inputs of each shard.
        before: Called with the number of shards before the file is moved into place.
    """
    count, pictures = 0, 0
    unknown = False
    arrow, schema = pyarrow(), _schema()

    def write(stream: IO[bytes]) -> None:
        nonlocal count, pictures, unknown
        with arrow.parquet.ParquetWriter(stream, schema) as writer:
            rows: list[tuple[Any, ...]] = []
            for items in shards:
                rows += [_row(count, item) for item in items]
                numbers = [item.pictures for item in items]
                unknown = unknown or None in numbers
                pictures += sum(number or 0 for number in numbers)
                count += 1
                if len(rows) >= _ROW_GROUP:
                    writer.write_table(_table(arrow, schema, rows))
                    rows = []
            if rows:
                writer.write_table(_table(arrow, schema, rows))
        stream.flush()
        before(count)

    folder.put(INPUTS, write)
    return count, None if unknown else pictures


def _row(shard: int, item: Item) -> tuple[Any, ...]:
    name = None if item.name is None else _bytes(item.name)
    texts = (None if t is None else printable(t) for t in (item.label, item.error))
    return (shard, item.kind, _bytes(item.path), name, item.start, item.stop, *texts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _table(arrow: Any, schema: Any, rows: list[tuple[Any, ...]]) -> Any:
    return arrow.table(list(map(list, zip(*rows, strict=True))), schema=schema)


def read_items(folder: Folder, shard: int) -> list[Item]:
    """Read the inputs of a shard."""
    with folder.open(INPUTS) as stream:
        table = pyarrow().parquet.read_table(stream, filters=[("shard", "==", shard)])
    return [
        Item(
            row["kind"],
            row["path"].decode("utf-8", "surrogateescape"),
            None if row["name"] is None else row["name"].decode("utf-8", "surrogateescape"),
            *(row[field] for field in ("start", "stop", "label", "error")),
        )
        for row in table.to_pylist()
    ]
