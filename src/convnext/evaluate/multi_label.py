"""Measure a multi-label model on pictures with any number of labels, and write reports.

with Session.open("runs/tags/model") as session:
    data = open_multi_label("photos/labels.csv", classes=session.labels)
    report = multi_label_report(session, data, Path("photos"), measure(session, data))
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from convnext.atomic import write_text
from convnext.classifier.results import sigmoid
from convnext.data.multi_label import MultiLabelExamples
from convnext.errors import ImageError
from convnext.evaluate.journal import disk_errors
from convnext.evaluate.labelling import Labelling, best_threshold, labelling
from convnext.evaluate.markdown import table
from convnext.evaluate.report import FILE, Report, machine_facts
from convnext.images.batches import batches
from convnext.images.sources import Named
from convnext.images.thresholds import write_thresholds
from convnext.session import Session

__all__ = [
    "Measured",
    "measure",
    "multi_label_report",
    "summary_rows",
    "write_multi_label_reports",
]

BEST = "thresholds.csv"


@dataclass
class Measured:
    """The result of an evaluation.

    Attributes:
        labelling: The results, at the model's thresholds.
        best: For each label, the threshold with the best F1 on these pictures.
        unanswered: Pictures whose logits are not finite, which count as having no label.
        seconds: Running time.
        bad: Pictures that could not be read, and the errors.
    """

    labelling: Labelling
    best: NDArray[np.float64]
    unanswered: int = 0
    seconds: float = 0.0
    bad: dict[str, str] = field(default_factory=dict)


def measure(
    session: Session, data: MultiLabelExamples, batch_size: int = 32, *, progress: bool = False
) -> Measured:
    """Measure a model on labelled pictures.

    Args:
        session: The model, a multi-label one.
        data: Pictures with its labels.
        batch_size: Pictures in a batch.
        progress: Whether to show a progress bar on a terminal.
    """
    bad: dict[str, str] = {}
    began = time.perf_counter()
    disable = None if progress else True  # None: shown on a terminal only
    logits = np.full(data.has.shape, -np.inf)
    with tqdm(total=len(data), desc="evaluating", unit="img", disable=disable) as bar:
        for number, answer in enumerate(_answers(session, data, batch_size)):
            bar.update()
            if isinstance(answer, ImageError):
                bad[data.name(number)] = str(answer)
            else:
                logits[number] = answer
    read = [number for number in range(len(data)) if data.name(number) not in bad]
    logits, truth = logits[read], data.has[read]
    answered = np.isfinite(logits).all(1)
    shares = np.zeros(logits.shape)
    shares[answered] = sigmoid(logits[answered])
    columns = zip(shares.T, truth.T, strict=True)
    return Measured(
        labelling(shares, truth, session.labels.thresholds),
        np.array([best_threshold(*column) for column in columns]),
        int((~answered).sum()),
        time.perf_counter() - began,
        bad,
    )


def _answers(
    session: Session, data: MultiLabelExamples, batch_size: int
) -> Iterator[NDArray[Any] | ImageError]:
    """The logits of each picture, or why it cannot be read."""
    named = (Named(data.name(number), cast("Any", number)) for number in range(len(data)))
    read = cast("Any", data.read)
    for batch in batches(named, session.preprocess, batch_size, read=read):
        found = session.run(batch.pixels, ("logits",))["logits"] if len(batch.pixels) else ()
        for _, outcome in batch.outcomes(list(found)):
            yield outcome


def multi_label_report(
    session: Session, data: MultiLabelExamples, path: Path, measured: Measured
) -> Report:
    """Build the report of an evaluation; values are plain JSON."""
    found, engine = measured.labelling, session.engine("logits")
    per_class = {
        "pictures": found.positives,
        "average_precision": found.average_precision,
        "threshold": found.thresholds,
        "precision": found.precision,
        "recall": found.recall,
        "f1": found.f1,
        "best_threshold": measured.best,
    }
    return {
        "convnext_multi_label_report": 1,
        "model": {
            "name": session.info.name or Path(str(session.source)).stem,
            "architecture": session.variant.name,
            "origin": session.info.origin,
            "licence": session.info.licence,
            "weights": {"source": str(session.source), "sha256": session.digest},
        },
        "preprocess": asdict(session.preprocess),
        "engine": {"name": engine.name, "precision": engine.precision},
        "data": {
            "path": path.as_posix(),
            "pictures": len(data),
            "fingerprint": data.fingerprint,
        },
        "results": {
            "pictures": found.pictures,
            "bad_pictures": len(measured.bad),
            "unanswered": measured.unanswered,
            "labels": len(data.classes),
            "labels_without_a_picture": int((found.positives == 0).sum()),
            "mean_average_precision": _plain(found.mean_average_precision),
            "macro_f1": _plain(found.macro_f1),
            "micro_f1": _plain(found.micro_f1),
        },
        "per_class": [
            {"index": index, "name": name}
            | {title: _plain(values[index].item()) for title, values in per_class.items()}
            for index, name in enumerate(data.classes)
        ],
        "bad_pictures": measured.bad,
        "session": {
            "seconds": round(measured.seconds, 3),
            "pictures_per_second": round(found.pictures / max(measured.seconds, 1e-9), 2),
            **machine_facts(engine.name),
        },
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value


def write_multi_label_reports(
    report: Report, folder: str | Path, session: Session, measured: Measured
) -> list[Path]:
    """Write `report.json`, `report.md` and `thresholds.csv`, the best ones on these pictures.

    Returns:
        The files.

    Raises:
        ConvNeXtError: A file cannot be written; those before it are complete.
    """
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = [folder / FILE, folder / "report.md"]
    for file, text in zip(files, (json.dumps(report, indent=1) + "\n", page(report)), strict=True):
        with disk_errors(file):
            write_text(file, text)
    files.append(folder / BEST)
    with disk_errors(files[-1]):
        best = replace(session.labels, thresholds=tuple(measured.best.tolist()))
        write_thresholds(files[-1], best)
    return files


def summary_rows(report: Report) -> list[tuple[str, str]]:
    """The main results: measure, and its value."""
    results = report["results"]
    return [
        ("mAP", _percent(results["mean_average_precision"])),
        ("macro F1", _percent(results["macro_f1"])),
        ("micro F1", _percent(results["micro_f1"])),
        ("pictures/s", f"{report['session']['pictures_per_second']:,.1f}"),
    ]


def page(report: Report) -> str:
    """Write the report as Markdown."""
    results, data = report["results"], report["data"]
    shares = ("average_precision", "precision", "recall", "f1")
    rows = [
        (
            row["name"],
            f"{row['pictures']:,}",
            *(_percent(row[name]) for name in shares),
            f"{row['threshold']:.3f}",
            f"{row['best_threshold']:.3f}",
        )
        for row in report["per_class"]
    ]
    titles = ("label", "pictures", "AP", "precision", "recall", "F1", "threshold", "best here")
    parts = [
        f"# {report['model']['name']}",
        f"{results['pictures']:,} pictures, {results['labels']:,} labels, from `{data['path']}`. "
        f"mAP and macro F1 are means over labels that a picture has; "
        f"{results['labels_without_a_picture']:,} have none.",
        table(("measure", "measured"), summary_rows(report)),
        "## Labels",
        table(titles, rows),
    ]
    if report["bad_pictures"]:
        parts += [
            "## Bad pictures",
            table(("picture", "why"), list(report["bad_pictures"].items())),
        ]
    return "\n\n".join(parts) + "\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
