"""The files of a report, in one folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from convnext.atomic import replaced, write_text
from convnext.errors import ArgumentError, MissingDependencyError
from convnext.evaluate.journal import disk_errors
from convnext.evaluate.markdown import markdown
from convnext.evaluate.plots import draw_confusion, draw_reliability
from convnext.evaluate.report import FILE, Report

__all__ = ["JOURNAL", "check_folder", "write_reports"]

JOURNAL = "journal.jsonl"


def check_folder(folder: str | Path) -> None:
    """Refuse at once a folder that can be neither written into nor made; makes none.

    Raises:
        ArgumentError: It, or the first above it that is there, is no such folder.
    """
    folder = Path(folder).absolute()
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
        raise ArgumentError(
            f"{there} is no folder that may be written into, so no reports can be in {folder}. "
            "Give another --out."
        )


def write_reports(report: Report, folder: str | Path) -> tuple[list[Path], str | None]:
    """Write `report.json`, `report.md` and, where matplotlib is installed, the two plots.

    Returns:
        The files, and why there are no plots if there are none.

    Raises:
        ConvNeXtError: One cannot be written; those before are whole.
    """
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = [folder / FILE, folder / "report.md"]
    texts = (json.dumps(report, indent=1) + "\n", markdown(report))
    for file, text in zip(files, texts, strict=True):
        with disk_errors(file):
            write_text(file, text)
    try:
        for draw, name in ((draw_reliability, "reliability"), (draw_confusion, "confusion")):
            file = folder / f"{name}.png"
            with disk_errors(file), replaced(file) as place:
                draw(report, place)
            files.append(file)
    except MissingDependencyError as error:
        return files, str(error)
    return files, None
