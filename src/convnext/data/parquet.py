"""Reads Parquet files with a picture in each row: encoded pictures, names and labels in columns.

A worker reads its rows only, a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from convnext.data.archives import LabelledSource
from convnext.data.arrow import pyarrow
from convnext.data.files import open_file
from convnext.errors import ArgumentError, ImageError

__all__ = ["TableColumns", "row_ranges", "table_rows"]

_NAMES = ("path", "file_name", "filename")  # default columns of a picture's name
_LABEL = "label"
_ROWS = 16  # pictures in memory at once
_READ_AHEAD = 2**20  # bytes of a column


@dataclass(frozen=True)
class TableColumns:
    """Names of the columns of a Parquet file.

    Attributes:
        image: Encoded pictures, or structs with them as `bytes`, as `datasets` writes; None for the
            only such column.
        path: Names of pictures; None for `path`, `file_name` or `filename`, or without these the
            file's name and the row number.
        label: Labels; None for `label`, if it exists.
    """

    image: str | None = None
    path: str | None = None
    label: str | None = None


class _Chosen(NamedTuple):
    """The columns of a file, with defaults resolved."""

    image: str
    is_struct: bool
    path: str | None
    label: str | None

    @property
    def read(self) -> list[str]:
        """Columns to read; of a struct, only its bytes."""
        image = f"{self.image}.bytes" if self.is_struct else self.image
        return [image, *(name for name in (self.path, self.label) if name)]


def row_ranges(path: str, columns: TableColumns, wanted: int) -> Iterator[tuple[int, int]]:
    """Divide a table into ranges of about `wanted` rows, at the bounds of row groups if possible.

    Only a row group with more than twice as many rows is divided, and is then read for each part.

    Raises:
        ArgumentError: It is no Parquet file, is truncated, or lacks these columns.
    """
    arrow = pyarrow()
    try:
        with open_file(path) as stream, arrow.parquet.ParquetFile(stream) as file:
            _choose(path, file.schema_arrow, columns)
            meta = file.metadata
            groups = [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]
    except (OSError, arrow.ArrowException) as error:
        raise ArgumentError(
            f"{path} cannot be read as Parquet: {error}. Copy it again if it is incomplete."
        ) from error
    start = stop = 0
    for rows in groups:
        if rows > 2 * wanted:
            if stop > start:
                yield start, stop
            parts = rows // wanted
            for part in range(parts):
                yield stop + part * rows // parts, stop + (part + 1) * rows // parts
            start = stop = stop + rows
            continue
        stop += rows
        if stop - start >= wanted:
            yield start, stop
            start = stop
    if stop > start:
        yield start, stop


def table_rows(path: str, columns: TableColumns, start: int, stop: int) -> Iterator[LabelledSource]:
    """Read a range of rows; if the file is damaged, each remaining row has the error."""
    arrow = pyarrow()
    row = start
    try:
        with open_file(path) as stream:
            file = arrow.parquet.ParquetFile(stream, buffer_size=_READ_AHEAD)
            chosen = _choose(path, file.schema_arrow, columns)
            groups, first = _groups(file.metadata, start, stop)
            batches = file.iter_batches(_ROWS, row_groups=groups, columns=chosen.read)
            for batch in batches:
                count = batch.num_rows
                if first + count > start and first < stop:
                    low, high = max(start - first, 0), min(stop - first, count)
                    for item in _rows(batch.slice(low, high - low), chosen, path, first + low):
                        yield item
                        row += 1
                first += count
                if first >= stop:
                    return
    except (OSError, arrow.ArrowException) as error:
        problem = ImageError(f"{path} cannot be read from row {row:,} on: {error}")
        for number in range(row, stop):
            yield LabelledSource(f"{path}#{number}", problem, None)


def _groups(meta: Any, start: int, stop: int) -> tuple[list[int], int]:
    """Row groups that contain a range of rows, and the first row in them."""
    groups: list[int] = []
    first = position = 0
    for number in range(meta.num_row_groups):
        rows = meta.row_group(number).num_rows
        if position + rows > start and position < stop:
            if not groups:
                first = position
            groups.append(number)
        position += rows
    return groups, first


def _rows(batch: Any, chosen: _Chosen, path: str, first: int) -> Iterator[LabelledSource]:
    images = batch.column(chosen.image)
    values = [batch.column(name) if name else None for name in (chosen.path, chosen.label)]
    for position in range(batch.num_rows):
        image = images[position].as_py()
        if chosen.is_struct and image is not None:
            image = image["bytes"]
        name, label = (None if v is None else v[position].as_py() for v in values)
        source = image if image is not None else ImageError("The row holds no picture: it is null.")
        default = f"{path}#{first + position}"
        yield LabelledSource(default if name is None else str(name), source, _text(label))


def _text(label: Any) -> str | None:
    return None if label is None else str(label)


def _choose(path: str, schema: Any, columns: TableColumns) -> _Chosen:
    types = pyarrow().types
    forms = {field.name: _form(types, field.type) for field in schema}
    able = [name for name, form in forms.items() if form]
    image = columns.image or (able[0] if len(able) == 1 else None)
    if image is None or not forms.get(image):
        raise ArgumentError(_no_image(path, schema, columns.image, able))
    for name in (columns.path, columns.label):
        if name and name not in forms:
            raise ArgumentError(
                f"{path} has no column {name!r}. It has: {', '.join(map(repr, forms))}."
            )
    name = columns.path or next((name for name in _NAMES if name in forms), None)
    label = columns.label or (_LABEL if _LABEL in forms else None)
    return _Chosen(image, forms[image] == "struct", name, label)


def _form(types: Any, kind: Any) -> str | None:
    """Form of pictures in a column of this type; None if it cannot hold pictures."""
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "binary"
    if types.is_struct(kind):
        names = [kind.field(number).name for number in range(kind.num_fields)]
        if "bytes" in names and _form(types, kind.field(names.index("bytes")).type) == "binary":
            return "struct"
    return None


def _no_image(path: str, schema: Any, given: str | None, able: Sequence[str]) -> str:
    listed = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if given is not None:
        problem = f"has no column {given!r} of encoded pictures"
    elif able:
        problem = f"has more than one column that could hold the pictures: {', '.join(able)}"
    else:
        problem = "has no column of encoded pictures"
    return f"{path} {problem}. Its columns: {listed}. Name one of binary type with image_column."
