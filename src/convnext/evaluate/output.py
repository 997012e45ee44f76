"""Write the files of a report into a folder."""

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
    """Check that a folder is writable, or can be created, without creating it.

    Raises:
        ArgumentError: The folder, or its nearest existing parent, is not a writable folder.
    """
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not os.access(existing, os.W_OK | os.X_OK) or not existing.is_dir():
        raise ArgumentError(
            f"Reports cannot be written to {folder}: {existing} is not a writable folder. Give "
            "another --out."
        )


def write_reports(report: Report, folder: str | Path) -> tuple[list[Path], str | None]:
    """Write `report.json`, `report.md` and, where matplotlib is installed, the two plots.

    Returns:
        The files, and why plots were not written, or None.

    Raises:
        ConvNeXtError: A file cannot be written; those before it are complete.
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
            with disk_errors(file), replaced(file) as temporary:
                draw(report, temporary)
            files.append(file)
    except MissingDependencyError as error:
        return files, str(error)
    return files, None
