"""The TF-Hub collection's table of accuracies, with a column for this package's reports.

Each checkpoint has the authors' number, that of the collection's Keras models, which lost up to 0.8
points of top-1 to a different resize, and that of a stored report.

Reference: the results in the README of github.com/sayakpaul/ConvNeXt-TF.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from convnext.errors import ArgumentError
from convnext.evaluate.markdown import table
from convnext.evaluate.report import FILE, Report, read_report
from convnext.weights.catalog import get_checkpoint

__all__ = ["COLLECTION", "collection_table", "read_reports"]

COLLECTION = {
    "convnext_tiny_1k_224": 81.312,
    "convnext_small_1k_224": 82.392,
    "convnext_base_1k_224": 83.28,
    "convnext_large_1k_224": 83.844,
    "convnext_base_1k_384": 84.876,
    "convnext_large_1k_384": 85.376,
    "convnext_base_21k_1k_224": 85.364,
    "convnext_large_21k_1k_224": 86.36,
    "convnext_xlarge_21k_1k_224": 86.732,
    "convnext_base_21k_1k_384": 86.79,
    "convnext_large_21k_1k_384": 87.504,
    "convnext_xlarge_21k_1k_384": 87.68,
    "convnext_base_21k_224": None,
    "convnext_large_21k_224": None,
    "convnext_xlarge_21k_224": None,
}
"""The collection's classifiers with the top-1 of its Keras models; the last three, with 21841
classes, have no published accuracy."""


def read_reports(folder: str | Path) -> tuple[list[Report], list[str]]:
    """Read every `report.json` below a folder; also returns the errors of invalid ones.

    Raises:
        ArgumentError: There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArgumentError(f"{folder} is not a folder. Give the one with the reports.")
    reports, problems = [], []
    for path in sorted(folder.rglob(FILE)):
        try:
            reports.append(read_report(path))
        except ArgumentError as error:
            problems.append(str(error))
    return reports, problems


def collection_table(reports: Iterable[Report]) -> str:
    """Write the table in Markdown.

    Reports on the whole ImageNet validation set count, the newest for each checkpoint.
    """
    ours: dict[str, Report] = {}
    for report in sorted(reports, key=lambda report: str(report["session"]["date"])):
        if report["data"]["is_imagenet_validation"] and report["model"]["checkpoint"]:
            ours[report["model"]["checkpoint"]] = report
    titles = ("model", "original", "old Keras port", "ours", "ours - original", "engine")
    return table(titles, [_row(name, port, ours) for name, port in COLLECTION.items()])


def _row(name: str, port: float | None, ours: Mapping[str, Report]) -> tuple[str, ...]:
    checkpoint = get_checkpoint(name)
    original, report = checkpoint.top1, ours.get(checkpoint.name)
    measured, engine = None, "-"
    if report:
        measured = float(report["results"]["top1"]["percent"])
        engine = f"{report['engine']['name']}, {report['engine']['precision']}"
    difference = None if measured is None or original is None else measured - original
    shown = ("-" if number is None else f"{number:.3f}" for number in (original, port, measured))
    return name, *shown, "-" if difference is None else f"{difference:+.3f}", engine
