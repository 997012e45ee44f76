"""The report of an evaluation, as JSON: results, and everything needed to reproduce them.

Markdown, plots and the TF-Hub collection's table are made from it alone. Except for its section
`session`, it does not depend on interruptions of the run.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from convnext import __version__
from convnext.data.classes import Classes
from convnext.data.datasets import Dataset
from convnext.errors import ArgumentError
from convnext.evaluate.accuracy import Accuracy, wilson
from convnext.evaluate.run import Measured
from convnext.evaluate.subject import Subject
from convnext.processors import processor_name

__all__ = ["FILE", "FORMAT", "Report", "build_report", "machine_facts", "read_report", "settings"]

Report = dict[str, Any]

FILE = "report.json"
FORMAT = 1

WORST_CLASSES = 12
CONFUSIONS = 100
SECTIONS = ("model", "engine", "data", "results", "session")
VALIDATION_PICTURES, VALIDATION_CLASSES = 50_000, 1000
READING = {"exif_orientation": "not applied", "transparency": "dropped"}
OTHER_PICTURES = (
    f"The published numbers were measured on all {VALIDATION_PICTURES:,} pictures of ImageNet's "
    f"validation set, among its {VALIDATION_CLASSES:,} classes, not on these pictures."
)


def settings(subject: Subject, data: Dataset, batch_size: int) -> dict[str, Any]:
    """Everything that results depend on, for the header of a journal."""
    return {
        "weights": subject.facts["weights"]["sha256"],
        "classes": subject.classes.count,
        "preprocess": asdict(subject.preprocess),
        "engine": subject.engine.name,
        "precision": subject.engine.precision,
        "batch": batch_size,
        "pictures": len(data.entries),
        "data": data.fingerprint,
        "versions": _versions(subject.engine.name),
    }


def build_report(subject: Subject, data: Dataset, measured: Measured, batch_size: int) -> Report:
    """Build the report of an evaluation; values are plain JSON."""
    accuracy, classes = measured.accuracy, data.classes
    results = _results(accuracy, len(measured.bad))
    published = _published(subject, results)
    is_validation_set = _is_validation_set(data, len(measured.bad))
    engine = {"name": subject.engine.name, "precision": subject.engine.precision}
    return _plain(
        {
            "convnext_report": FORMAT,
            "model": subject.facts,
            "preprocess": asdict(subject.preprocess) | READING,
            "engine": engine | {"batch": batch_size},
            "data": _data(data) | {"is_imagenet_validation": is_validation_set},
            "results": results,
            "published": published,
            "notes": [
                *subject.notes,
                *data.notes,
                *([OTHER_PICTURES] if published and not is_validation_set else []),
            ],
            "calibration": [asdict(bin) for bin in accuracy.bins],
            "per_class": [
                {"name": classes.name(row.index), "wnid": classes.wnid(row.index)} | asdict(row)
                for row in accuracy.classes
            ],
            "confusions": [
                {"of": classes.name(pair.label), "for": classes.name(pair.prediction)}
                | asdict(pair)
                for pair in accuracy.confusions[:CONFUSIONS]
            ],
            "worst_classes": _worst_classes(accuracy, classes),
            "bad_pictures": [asdict(bad) for bad in measured.bad],
            "session": _session(measured, len(data.entries), subject.engine.name),
        }
    )


def read_report(path: Path) -> Report:
    """Read a report from its file.

    Raises:
        ArgumentError: The file cannot be read, or is not a report.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
        known = report["convnext_report"] == FORMAT and report.keys() >= set(SECTIONS)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArgumentError(f"{path} is not an evaluation report: {error!r}") from error
    if not known:
        raise ArgumentError(f"{path} is a report of another version. Evaluate again.")
    return dict(report)


def _plain(report: Mapping[str, Any]) -> Report:
    """Convert to plain JSON types; refuse NaN and infinity."""
    plain: Report = json.loads(json.dumps(report, allow_nan=False, default=dict))
    return plain


def _data(data: Dataset) -> dict[str, Any]:
    return {
        "path": data.path.as_posix(),
        "labels": data.layout,
        "pictures": len(data.entries),
        "classes": len({entry.label for entry in data.entries}),
        "competing_classes": len(data.competing or range(data.classes.count)),
        "fingerprint": data.fingerprint,
    }


def _results(accuracy: Accuracy, bad: int) -> dict[str, Any]:
    return {
        "pictures": accuracy.pictures,
        "bad_pictures": bad,
        "unanswered": accuracy.unanswered,
        "top1": _share(accuracy.correct, accuracy.pictures),
        "top5": _share(accuracy.within_5, accuracy.pictures),
        "log_loss": accuracy.log_loss,
        "ece": accuracy.ece,
    }


def _share(count: int | None, pictures: int) -> dict[str, Any] | None:
    """A count in percent, with its 95 % interval; None without pictures."""
    if count is None or not pictures:
        return None
    low, high = wilson(count, pictures)
    percent = 100 * count / pictures
    return {"count": count, "percent": percent, "low": 100 * low, "high": 100 * high}


def _published(subject: Subject, results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The published accuracies and their differences; preferably timm's, which are more exact.

    The interval of a difference is that of the measured number; the published one counts as exact.
    """
    row = subject.checkpoint
    if row is None or row.labels != "imagenet-1k" or not (row.timm_top1 or row.top1):
        return None
    numbers = {"top1": row.timm_top1 or row.top1, "top5": row.timm_top5}
    differences = {
        f"{name}_difference": {
            end: results[name][key] - number
            for end, key in (("points", "percent"), ("low", "low"), ("high", "high"))
        }
        for name, number in numbers.items()
        if number is not None and results[name] is not None
    }
    measured_by = "timm" if row.timm_top1 else "the authors"
    return numbers | {"measured_by": measured_by, "authors_top1": row.top1} | differences


def _is_validation_set(data: Dataset, bad: int) -> bool:
    """Whether the data has the counts of ImageNet's validation set, with nothing left out."""
    pictures = Counter(entry.label for entry in data.entries)
    return (
        not bad
        and data.competing is None
        and data.classes.count == len(pictures) == VALIDATION_CLASSES
        and set(pictures.values()) == {VALIDATION_PICTURES // VALIDATION_CLASSES}
    )


def _worst_classes(accuracy: Accuracy, classes: Classes) -> dict[str, Any]:
    """The part of the confusion matrix with the least accurate classes.

    Rows are these classes; columns are these and the class each is most often confused with.
    """
    ranked = sorted(accuracy.classes, key=lambda row: (row.correct / row.pictures, row.index))
    rows = sorted(row.index for row in ranked[:WORST_CLASSES])
    mostly: dict[int, int] = {}
    for pair in accuracy.confusions:  # sorted by frequency
        mostly.setdefault(pair.label, pair.prediction)
    columns = sorted({*rows, *(mostly[row] for row in rows if row in mostly)})
    taken = {(pair.label, pair.prediction): pair.pictures for pair in accuracy.confusions}
    taken |= {(row.index, row.index): row.correct for row in accuracy.classes}
    return {
        "rows": [{"index": index, "name": classes.name(index)} for index in rows],
        "columns": [{"index": index, "name": classes.name(index)} for index in columns],
        "pictures": [[taken.get((row, column), 0) for column in columns] for row in rows],
    }


def _session(measured: Measured, pictures: int, engine: str) -> dict[str, Any]:
    return {
        "seconds": round(measured.seconds, 3),
        "pictures_per_second": round(pictures / max(measured.seconds, 1e-9), 2),
        **machine_facts(engine),
    }


def machine_facts(engine: str) -> dict[str, Any]:
    """The date, the machine, and the versions of this package and an engine's runtime."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(engine),
    }


def _versions(engine: str) -> dict[str, str]:
    versions = {"convnext": __version__, "numpy": np.__version__, "pillow": PIL.__version__}
    for runtime in engine.split("-"):
        version = getattr(sys.modules.get(runtime), "__version__", None)
        if version is not None:
            versions[runtime] = str(version)
    return versions


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
    }
