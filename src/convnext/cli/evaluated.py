"""Output that the evaluations of `convnext evaluate` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from convnext.cli.rows import printable
from convnext.cli.table import Column, render
from convnext.errors import ArgumentError

__all__ = ["OUT", "bad_lines", "new_folder", "summary"]

OUT = Path("evaluations")
SHOWN_BAD = 5
REPORT = "report.json"


def new_folder(args: argparse.Namespace, name: str) -> Path:
    """The folder of reports of an evaluation that is not resumed.

    Raises:
        ArgumentError: It has a report, and is not to be overwritten.
    """
    out: Path = args.out or OUT / f"{name}-{args.data.resolve().stem}"
    if (out / REPORT).exists() and not args.overwrite:
        raise ArgumentError(f"{out} has a report. Discard it with --overwrite, or give --out.")
    return out


def summary(rows: Sequence[tuple[str, str]], bad: Sequence[tuple[str, str]]) -> str:
    """A table of measures, and the pictures that could not be read."""
    names, values = zip(*rows, strict=True)
    columns = [Column("MEASURE", names), Column("MEASURED", values, numeric=True)]
    return "\n".join([render(columns), *bad_lines(bad)])


def bad_lines(bad: Sequence[tuple[str, str]]) -> list[str]:
    """Lines on pictures that could not be read, each a name and the reason."""
    if not bad:
        return []
    lines = [f"{len(bad):,} pictures could not be read and are not counted:"]
    lines += [f"  {printable(name)}: {why}" for name, why in bad[:SHOWN_BAD]]
    if len(bad) > SHOWN_BAD:
        lines.append(f"  and {len(bad) - SHOWN_BAD:,} more, in report.json")
    return lines
