"""What every shard holds: single pictures, parts of tables, whole archives.

Why it exists: a worker looks its shard up, in a table that is written once and may have more rows
than fit in memory. It knows nothing of what is done with pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

from convnext.errors import ImageError
from convnext.scale.archives import tar_places, zip_places
from convnext.scale.arrow import pyarrow
from convnext.scale.finding import Found
from convnext.scale.places import Folder
from convnext.scale.tables import TableColumns, row_ranges

__all__ = ["INPUTS", "Item", "items_of", "printable", "read_items", "write_inputs"]

INPUTS = "_inputs"  # without a suffix: patterns such as *.parquet are for the answers
_ROW_GROUP = 2**16


class Item(NamedTuple):
    """A part of a shard: one picture, or many that lie together.

    Attributes:
        kind: `"file"`, `"zip"` and `"tar"` are one picture; `"stream"` is a whole archive and
            `"table"` some rows; `"error"` takes the place of what could not be found out.
        path: Of the file.
        name: In the archive.
        start: Of the picture's bytes; or the first row; or which member of a zip archive it is.
        stop: Behind the last.
        label: What the picture shows, if something said so.
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
        """How many; None if that is not known before they are read."""
        if self.kind == "stream":
            return None
        if self.kind == "table":
            return (self.stop or 0) - (self.start or 0)
        return 1


def printable(text: str) -> str:
    """The text in UTF-8, whatever bytes a file's name was made of."""
    return text.encode("utf-8", "backslashreplace").decode()


def items_of(
    found: Iterable[Found], shard_size: int, columns: TableColumns
) -> Iterator[list[Item]]:
    """The shards that files make: of so many pictures where pictures can be picked.

    A Parquet file gives shards of its own, of about that size. An archive that has to be read from
    its beginning is one shard.
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
    if file.kind == "zip":
        try:
            for place, name in zip_places(file.path):
                empty = False
                yield Item("zip", file.path, name, place)
        except ImageError as error:
            empty = False
            yield Item("error", file.path, error=str(error))
    else:
        for found in tar_places(file.path):
            empty = False
            kind = "error" if found.error else "tar"
            where = found.name or None
            yield Item(kind, file.path, where, found.start, found.stop, found.label, found.error)
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
    """Write what every shard holds; how many shards, and how many pictures.

    Args:
        folder: Where to.
        shards: The items of each.
        before: Called with the number of shards when all is written, and not in its place yet.
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
    """What a shard holds."""
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
