"""Reads CSV and TSV tables of paths and labels.

A table may name any file of this machine, by an absolute path or with "..", as the user wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from convnext.data.ground_truth import csv_rows
from convnext.errors import ArgumentError, listed
from convnext.images.folders import SUFFIXES as PICTURE_SUFFIXES

__all__ = ["LABEL_SETS", "SEPARATOR", "SUFFIXES", "Table", "read_table"]

SUFFIXES = (".csv", ".tsv")

_PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "picture")
LABEL_SETS = "labels"  # the column with any number of labels in each cell
SEPARATOR = "|"  # between the labels of a cell

_LABELS = ("label", "class", "category", "target", "class_name", "label_name")
_SPLITS = ("split", "part", "subset", "set")
_SEPARATORS = "\t;,"
_LISTED = 5


class Table(NamedTuple):
    """The columns of a table, as it spells them.

    Attributes:
        paths: A file for each row.
        labels: Its class; empty without such a column.
        splits: Its split; empty without such a column.
        label_sets: Whether labels come from the column `labels`, whose cells may hold any number of
            them.
    """

    paths: list[str]
    labels: list[str]
    splits: list[str]
    label_sets: bool = False


def read_table(path: Path) -> Table:
    """Read a table whose separator is a comma, a semicolon or a tab.

    A first row without a picture's path is a header, by which columns are found; without it, the
    first column holds paths and the second labels.

    Raises:
        ArgumentError: It cannot be read, a row is incomplete, or a file does not exist.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ArgumentError(f"The table {path} cannot be read: {error}") from error
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ArgumentError(f"The table {path} is empty. Write a path and a label in each row.")
    separator = max(_SEPARATORS, key=first.count)
    rows = [row for row in csv_rows(lines, separator, path) if any(row)]
    pictured = any(Path(cell.strip()).suffix.lower() in PICTURE_SUFFIXES for cell in rows[0])
    header = None if pictured else rows.pop(0)
    paths, labels, splits = _columns(header, len(rows[0]) if rows else 0)
    if not rows:
        raise ArgumentError(f"The table {path} has a header, {header}, and no row below it.")
    sets = header is not None and labels is not None and _named(header, labels) == LABEL_SETS
    table = Table(
        _column(rows, paths, path),
        _cells(rows, labels, path) if sets else _column(rows, labels, path),
        _column(rows, splits, path),
        sets,
    )
    _check_files(table.paths, path)
    return table


def _columns(header: Sequence[str] | None, width: int) -> tuple[int | None, int | None, int | None]:
    """Column numbers of paths, labels and splits."""
    names = [_named(header, column) for column in range(len(header))] if header else []

    def find(wanted: Sequence[str]) -> int | None:
        return next((names.index(name) for name in wanted if name in names), None)

    paths, labels, splits = find(_PATHS), find(_LABELS), find(_SPLITS)
    paths = 0 if paths is None else paths
    if labels is None:
        labels = find([LABEL_SETS])
    if labels is None:
        others = [column for column in range(width) if column not in (paths, splits)]
        labels = others[0] if others else None
    return paths, labels, splits


def _named(header: Sequence[str], column: int) -> str:
    return header[column].strip().lower()


def _cells(rows: Sequence[Sequence[str]], column: int | None, path: Path) -> list[str]:
    """A column whose cells may be empty."""
    for row in rows:
        if column is None or len(row) <= column:
            raise ArgumentError(f"{path}: the row {list(row)} has fewer columns than the header.")
    return [row[column or 0].strip() for row in rows]


def _column(rows: Sequence[Sequence[str]], column: int | None, path: Path) -> list[str]:
    if column is None:
        return []
    for row in rows:
        if len(row) <= column or not row[column].strip():
            raise ArgumentError(
                f"{path}: column {column + 1} of the row {list(row)} is empty. Fill it."
            )
    return [row[column].strip() for row in rows]


def _check_files(paths: Sequence[str], table: Path) -> None:
    folder = str(table.absolute().parent)
    missing = [name for name in paths if not os.path.isfile(os.path.join(folder, name))]  # noqa: PTH113, PTH118
    if missing:
        raise ArgumentError(
            f"{table} names {len(missing):,} files that do not exist: "
            f"{listed(list(map(repr, missing)))}. Paths are relative to {folder}."
        )
