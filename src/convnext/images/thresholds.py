"""Thresholds of a multi-label model: from which probability on a picture has a label."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from convnext.atomic import write_text
from convnext.errors import ArgumentError, ArgumentTypeError, listed
from convnext.images.labels import Labels

__all__ = ["THRESHOLD", "Thresholds", "checked_thresholds", "with_thresholds", "write_thresholds"]

THRESHOLD = 0.5
"""The threshold of labels for which none was chosen."""

COLUMNS = ["label", "threshold"]

Thresholds = float | Sequence[float] | str | os.PathLike[str]
"""Types of a `thresholds` argument, see `with_thresholds`."""


def checked_thresholds(values: object) -> tuple[float, ...]:
    """Thresholds from a list of numbers.

    Raises:
        ArgumentError: One is not a number from 0 to 1.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentTypeError(f"Thresholds are a list of numbers, not {values!r}.")
    found = tuple(values)
    for value in found:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 <= value <= 1:
            raise ArgumentError(f"A threshold is a probability, from 0 to 1; got {value!r}.")
    return tuple(map(float, found))


def with_thresholds(labels: Labels, given: Thresholds) -> Labels:
    """Replace the thresholds of labels.

    Args:
        labels: The labels.
        given: One number for all labels, a number for each in order, or a .csv file with the
            columns label and threshold.

    Raises:
        ArgumentError: A threshold is not from 0 to 1, or they are not those of these labels.

    Example:
        >>> with_thresholds(Labels(("cat", "dog")), 0.3).thresholds
        (0.3, 0.3)
    """
    if isinstance(given, str | os.PathLike):
        values = _read(Path(given), labels)
    elif isinstance(given, int | float):
        values = checked_thresholds([given]) * len(labels)
    else:
        values = checked_thresholds(given)
    if len(values) != len(labels):
        raise ArgumentError(
            f"There are {len(values):,} thresholds for {len(labels):,} labels. Give one for each, "
            "in order, or one for all."
        )
    return replace(labels, thresholds=values)


def write_thresholds(path: Path, labels: Labels) -> None:
    """Write the thresholds of labels as a .csv file, which `with_thresholds` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(labels.names, map(repr, labels.thresholds or ()), strict=True))
    write_text(path, text.getvalue())


def _read(path: Path, labels: Labels) -> tuple[float, ...]:
    """Read a file; every label has one row in it."""
    try:
        rows = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"))))
        if not rows or rows[0] != COLUMNS:
            raise ValueError(f"its first line is not {','.join(COLUMNS)}")
        values = {name: float(value) for name, value in rows[1:]}
    except (OSError, ValueError, csv.Error) as error:
        raise ArgumentError(f"The thresholds in {path} cannot be read: {error}.") from error
    if len(values) != len(rows) - 1:
        raise ArgumentError(f"{path} has a label twice. Leave one row of each.")
    unknown = sorted(values.keys() - set(labels.names))
    lacking = sorted(set(labels.names) - values.keys())
    if unknown or lacking:
        what, names = (
            ("labels that the model lacks", unknown) if unknown else ("no row of", lacking)
        )
        raise ArgumentError(
            f"{path} has {what}: {listed(list(map(repr, names)))}. Give the thresholds of this "
            f"model, of {len(labels):,} labels."
        )
    return checked_thresholds([values[name] for name in labels.names])
