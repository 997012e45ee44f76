"""The files of a report, in one folder."""

from __future__ import annotations

import json
from pathlib import Path

from convnext.errors import MissingDependencyError
from convnext.evaluate.markdown import markdown
from convnext.evaluate.plots import draw_confusion, draw_reliability
from convnext.evaluate.report import FILE, Report

__all__ = ["JOURNAL", "write_reports"]

JOURNAL = "journal.jsonl"


def write_reports(report: Report, folder: str | Path) -> tuple[list[Path], str | None]:
    """Write `report.json`, `report.md` and, where matplotlib is installed, the two plots.

    Returns:
        The files, and why there are no plots if there are none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / FILE, folder / "report.md"]
    texts = (json.dumps(report, indent=1) + "\n", markdown(report))
    for file, text in zip(files, texts, strict=True):
        part = file.with_name(f"{file.name}.part")
        part.write_text(text, "utf-8")
        part.replace(file)
    try:
        for draw, name in ((draw_reliability, "reliability"), (draw_confusion, "confusion")):
            draw(report, folder / f"{name}.png")
            files.append(folder / f"{name}.png")
    except MissingDependencyError as error:
        return files, str(error)
    return files, None
