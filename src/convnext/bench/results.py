"""Results of races as rows of a CSV file, each with its machine, versions and date."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.atomic import disk_errors, replaced
from convnext.bench.machine import Machine
from convnext.bench.material import Model
from convnext.bench.race import Result
from convnext.bench.rounds import Ratio, ratio_of
from convnext.errors import ArgumentError
from convnext.graphs.agreement import agreement

__all__ = ["KEY", "Row", "check_csv", "read_csv", "rows_of", "write_csv"]


@dataclass(frozen=True)
class Row:
    """The result of a contender; None for values that were not measured.

    Attributes:
        model: Name of the model.
        side: Height and width of the pictures.
        batch: Pictures in a batch.
        contender: Name of the contender.
        precision: The precision it used.
        threads: Number of its threads.
        median_ms: Median time of a call, for the whole batch.
        min_ms: Shortest time of a call.
        ratio: Its time over that of the race's first contender: the median of the rounds' ratios.
        ratio_low: Start of the ratio's 95 % interval; None for the first contender, and with too
            few rounds.
        ratio_high: End of the interval.
        pictures_per_s: At the median.
        load_s: Seconds to open the model.
        first_call_s: Seconds of the first call.
        peak_mib: Peak memory of its process.
        max_difference: Largest difference of a logit from the reference, in float32.
        mean_difference: Mean difference of the logits.
        decibels: See `convnext.graphs.agreement.Agreement`.
        top1_agreement: Fraction of pictures with the same most probable class.
        pictures: Number of compared pictures.
        rounds: Number of turns.
        calls: Number of timed calls.
        error: Why the contender failed; empty if it did not.
        processor: Name of the processor.
        flags: Its instructions, of those in `convnext.bench.machine.FLAGS`.
        versions: Of Python and packages.
        date: Of the measurement.
    """

    model: str
    side: int
    batch: int
    contender: str
    precision: str
    threads: int
    median_ms: float | None
    min_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    pictures_per_s: float | None
    load_s: float | None
    first_call_s: float | None
    peak_mib: float | None
    max_difference: float | None
    mean_difference: float | None
    decibels: float | None
    top1_agreement: float | None
    pictures: int | None
    rounds: int
    calls: int
    error: str
    processor: str
    flags: str
    versions: str
    date: str

    @property
    def relative(self) -> Ratio | None:
        """The ratio with its interval; None for the first contender of a race and failed ones."""
        if self.ratio is None or (self.ratio == 1 and self.ratio_low is None):
            return None
        return Ratio(self.ratio, self.ratio_low, self.ratio_high, self.rounds)


COLUMNS = tuple(field.name for field in fields(Row))
LATER_COLUMNS = {"ratio_low", "ratio_high"}  # absent from older files
KEY = ("model", "side", "batch", "contender", "precision", "threads")
"""Columns that identify a measurement."""


def rows_of(
    model: Model,
    results: Sequence[Result],
    reference: NDArray[np.float32] | None,
    threads: int,
    machine: Machine,
) -> list[Row]:
    """Create a row for each result of a race."""
    base = next((result for result in results if result.error is None), None)
    rows = []
    for result in results:
        known: dict[str, Any] = dict.fromkeys(COLUMNS)
        known |= {**_facts(model, result), **asdict(machine), "threads": threads}
        if result.error is None and base is not None:
            known |= _speed(result, base)
            if result.logits is not None and reference is not None:
                known |= _agreement(result.logits, reference)
        rows.append(Row(**known))
    return rows


def _facts(model: Model, result: Result) -> dict[str, Any]:
    return {
        "model": model.name,
        "side": model.preprocess.size,
        "batch": result.batch,
        "contender": result.contender.name,
        "precision": result.precision or result.contender.precision,
        "rounds": len(result.turns),
        "calls": sum(map(len, result.turns)),
        "error": result.error or "",
    }


def _speed(result: Result, base: Result) -> dict[str, float | int | None]:
    calls = [seconds for turn in result.turns for seconds in turn]
    median = statistics.median(calls)
    ratio = ratio_of(result.seconds, base.seconds).columns("ratio") if result is not base else {}
    return {
        "median_ms": round(1e3 * median, 3),
        "min_ms": round(1e3 * min(calls), 3),
        "ratio": 1.0,
        **ratio,
        "pictures_per_s": round(result.batch / median, 2),
        "load_s": round(result.load_s, 2),
        "first_call_s": round(result.first_call_s, 3),
        "peak_mib": round(result.peak_mib, 1),
    }


def _agreement(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> dict[str, float]:
    found = agreement(logits, reference)
    return {
        "max_difference": float(f"{found.max_difference:.4g}"),
        "mean_difference": float(f"{found.mean_difference:.4g}"),
        "decibels": round(found.decibels, 1),
        "top1_agreement": round(found.top1, 4),
        "pictures": found.pictures,
    }


def check_csv(path: Path) -> None:
    """Check, before measuring, that `write_csv` can add to a file.

    Raises:
        ArgumentError: It holds something else, or its folder does not exist.
    """
    if path.is_dir():
        raise ArgumentError(f"{path} is a folder. Name a file to write.")
    if not path.absolute().parent.is_dir():
        raise ArgumentError(f"The folder {path.absolute().parent} does not exist. Create it first.")
    read_csv(path)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a file as text; empty if it does not exist.

    Raises:
        ArgumentError: It was not written by `write_csv`.
    """
    if not path.exists() or not path.stat().st_size:
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        try:
            rows = list(reader)
            found = tuple(reader.fieldnames or ())
            older = tuple(name for name in COLUMNS if name not in LATER_COLUMNS)
            ours = found in (COLUMNS, older)
        except csv.Error:
            ours = False
        if not ours or any(None in row or None in row.values() for row in rows):
            raise ArgumentError(
                f"{path} does not hold results of convnext bench. Name another file."
            )
    return [{name: row.get(name, "") for name in COLUMNS} for row in rows]


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file atomically, replacing earlier rows of the same measurement (`KEY`).

    Raises:
        ConvNeXtError: It cannot be written.
    """
    new = [{name: _text(value) for name, value in asdict(row).items()} for row in rows]
    measured = {tuple(row[name] for name in KEY) for row in new}
    kept = [row for row in read_csv(path) if tuple(row[name] for name in KEY) not in measured]
    with (
        disk_errors(path),
        replaced(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *new])


def _text(value: object) -> str:
    return "" if value is None else str(value)
