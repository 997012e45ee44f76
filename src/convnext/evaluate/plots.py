"""Plots of a report: reliability (accuracy against confidence) and the confusion matrix.

matplotlib is imported when a plot is drawn.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.errors import MissingDependencyError
from convnext.evaluate.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_confusion", "draw_reliability"]

DPI = 120
BLUE, RED, GREY = "#2f6db3", "#c8553d", "#888888"
LONGEST_NAME = 24


def draw_reliability(report: Report, path: str | Path) -> None:
    """Draw accuracy against confidence, and a histogram of confidence, as PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = _figure(5.0, 6.0)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    bins = [bin for bin in report["calibration"] if bin["pictures"]]
    centres = [(bin["low"] + bin["high"]) / 2 for bin in bins]
    width = 0.92 / len(report["calibration"])
    upper.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1)
    upper.bar(centres, [bin["accuracy"] for bin in bins], width, color=BLUE, label="right")
    confidences = [bin["confidence"] for bin in bins]
    upper.plot(confidences, [bin["accuracy"] for bin in bins], "o", color=RED, markersize=3)
    ece = report["results"]["ece"]
    shown = "-" if ece is None else f"{ece:.4f}"
    upper.set(
        title=f"{_plain(report['model']['name'])}\ncalibration error {shown}", ylabel="share right"
    )
    upper.set(xlim=(0, 1), ylim=(0, 1))
    lower.bar(centres, [bin["pictures"] for bin in bins], width, color=GREY)
    lower.set(xlabel="confidence", ylabel="pictures")
    _save(figure, path)


def draw_confusion(report: Report, path: str | Path) -> None:
    """Draw the confusion matrix of the least accurate classes, as PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    worst = report["worst_classes"]
    rows, columns, counts = worst["rows"], worst["columns"], worst["pictures"]
    figure = _figure(3.0 + 0.34 * len(columns), 2.8 + 0.3 * len(rows))
    axes = figure.subplots()
    if rows:
        axes.imshow(counts, cmap="Blues", aspect="auto", vmin=0)
    axes.set_xticks(range(len(columns)), [_short(c) for c in columns], rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), [_short(row) for row in rows], fontsize=7)
    which = "classes" if len(rows) == len(report["per_class"]) else "worst classes"
    axes.set(title=f"{_plain(report['model']['name'])}: {which}")
    axes.set(xlabel="taken for", ylabel="class")
    half = max((count for line in counts for count in line), default=0) / 2
    for y, line in enumerate(counts):
        for x, count in enumerate(line):
            if count:
                color = "white" if count > half else "black"
                axes.text(x, y, str(count), ha="center", va="center", fontsize=6, color=color)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib, which draws plots,", "plots") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: str | Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # other scripts are drawn as boxes
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _short(cls: dict[str, Any]) -> str:
    name = str(cls["name"])
    return _plain(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")


def _plain(text: str) -> str:
    """Escape text for matplotlib: no mathematics, no lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")
