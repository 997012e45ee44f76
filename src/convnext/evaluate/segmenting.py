"""Measure a segmentation model on pictures with masks, and write reports.

with Session.open("runs/street/model/model.safetensors") as session:
    model = SegmentingModel.of(session)
    data = open_segmented("street/", names=model.labels).train
    report = segmentation_report(segmenter, data, Path("street"), measure(segmenter, data))
"""

from __future__ import annotations

import heapq
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from convnext.atomic import replaced, write_text
from convnext.data.masked import SegmentedExamples
from convnext.errors import ImageError, MissingDependencyError
from convnext.evaluate.journal import disk_errors
from convnext.evaluate.markdown import table
from convnext.evaluate.plots import draw_confusion
from convnext.evaluate.report import FILE, Report, machine_facts
from convnext.evaluate.segmentation import DILATION, Boundaries, PixelTally, Segmented
from convnext.images.sheets import captioned, contact_sheet, shown
from convnext.segmenter import Segmenter

__all__ = [
    "Measured",
    "measure",
    "name_of",
    "segmentation_report",
    "summary_rows",
    "write_segmentation_reports",
]

WORST_PICTURES = 8
WORST_CLASSES = 12
COLUMNS = 2  # of three pictures each
SHOWN_SIDE = 240  # pixels
NO_CLASS = (40, 40, 40)  # colour of pixels without a class

Map = NDArray[Any]


@dataclass
class Measured:
    """The result of an evaluation.

    Attributes:
        tally: Pixels of each class, and what they were predicted as.
        boundaries: The same of boundaries.
        seconds: Running time.
        pictures: Mean IoU over its own classes and number of each picture that could be read.
        bad: Pictures that could not be read, and the errors.
    """

    tally: PixelTally
    boundaries: Boundaries
    seconds: float = 0.0
    pictures: list[tuple[float, int]] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def worst(self) -> list[tuple[float, int]]:
        """The pictures with the lowest mean IoU."""
        return heapq.nsmallest(WORST_PICTURES, self.pictures)


def measure(segmenter: Segmenter, data: SegmentedExamples, *, progress: bool = False) -> Measured:
    """Measure a model on pictures with masks.

    Args:
        segmenter: The model.
        data: Pictures and masks of its classes.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        ArgumentError: A mask has another size than its picture, or a class that there is not.
    """
    count = len(segmenter.labels)
    measured = Measured(PixelTally(count), Boundaries(count))
    began = time.perf_counter()
    disable = None if progress else True  # None: shown on a terminal only
    for number in tqdm(range(len(data)), desc="evaluating", unit="img", disable=disable):
        try:
            picture, mask = data.pair(number)
        except ImageError as error:
            measured.bad[data.name(number)] = str(error)
            continue
        predicted = found_in(segmenter, picture)
        own = PixelTally(count)
        own.counts = measured.tally.add(mask, predicted)
        measured.boundaries.add(mask, predicted)
        measured.pictures.append((own.result().mean_iou, number))
    measured.seconds = time.perf_counter() - began
    return measured


def found_in(segmenter: Segmenter, picture: Image.Image) -> Map:
    """The class that a model finds for each pixel of a picture."""
    found = segmenter(picture).class_map
    assert found is not None  # an unreadable picture would have raised an error
    return found


def segmentation_report(
    segmenter: Segmenter, data: SegmentedExamples, path: Path, measured: Measured
) -> Report:
    """Build the report of an evaluation; values are plain JSON."""
    found, edges = measured.tally.result(), measured.boundaries
    names = segmenter.labels.names
    session, count = segmenter.session, len(measured.pictures)
    engine = session.engine("scores")
    return {
        "convnext_segmentation_report": 1,
        "model": {
            "name": name_of(segmenter),
            "architecture": segmenter.variant.name,
            "origin": segmenter.info.origin,
            "licence": segmenter.info.licence,
            "weights": {"source": str(session.source), "sha256": session.digest},
        },
        "preprocess": asdict(segmenter.preprocess) | {"inference": segmenter.inference},
        "engine": {"name": engine.name, "precision": engine.precision},
        "data": {
            "path": path.as_posix(),
            "pictures": len(data),
            "pixels": int(found.pixels.sum()),
            "fingerprint": data.fingerprint,
        },
        "results": {
            "pictures": count,
            "bad_pictures": len(measured.bad),
            "mean_iou": found.mean_iou,
            "mean_accuracy": found.mean_accuracy,
            "accuracy": found.accuracy,
            "boundary_iou": edges.mean_iou,
            "boundary_dilation": DILATION,
        },
        "per_class": [
            {
                "index": index,
                "name": name,
                "pixels": int(found.pixels[index]),
                "iou": _number(found.iou[index]),
                "accuracy": _number(found.recall[index]),
                "boundary_iou": _number(edges.iou[index]),
            }
            for index, name in enumerate(names)
        ],
        "worst_classes": _worst_classes(measured.tally.counts, found, names),
        "worst_pictures": [
            {"name": data.name(number), "mean_iou": iou} for iou, number in measured.worst
        ],
        "bad_pictures": measured.bad,
        "session": {
            "seconds": round(measured.seconds, 3),
            "pictures_per_second": round(count / max(measured.seconds, 1e-9), 2),
            **machine_facts(engine.name),
        },
    }


def name_of(segmenter: Segmenter) -> str:
    """The name of a model, or else of its file."""
    return segmenter.info.name or Path(str(segmenter.session.source)).stem


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _worst_classes(counts: Map, found: Segmented, names: tuple[str, ...]) -> dict[str, Any]:
    """The classes with the lowest IoU, in percent of their pixels.

    Rows are these classes; columns are these and the class each is most often confused with.
    """
    order = np.argsort(np.where(np.isnan(found.iou), np.inf, found.iou), kind="stable")
    rows = sorted(int(row) for row in order[:WORST_CLASSES] if found.pixels[row])
    others = counts - np.diag(np.diag(counts))
    columns = sorted({*rows, *(int(others[row].argmax()) for row in rows if others[row].any())})
    shares = 100 * counts / np.maximum(found.pixels, 1)[:, None]
    return {
        "rows": [{"index": index, "name": names[index]} for index in rows],
        "columns": [{"index": index, "name": names[index]} for index in columns],
        "pictures": [[round(float(shares[row, column])) for column in columns] for row in rows],
    }


def write_segmentation_reports(
    report: Report,
    folder: str | Path,
    segmenter: Segmenter,
    data: SegmentedExamples,
    measured: Measured,
) -> tuple[list[Path], str | None]:
    """Write `report.json`, `report.md`, `worst.png` and, with matplotlib, `confusion.png`.

    Returns:
        The files, and why the plot was not written, or None.

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
    if measured.pictures:
        files.append(folder / "worst.png")
        sheet = worst_pictures(segmenter, data, measured)
        with disk_errors(files[-1]), replaced(files[-1]) as temporary:
            sheet.save(temporary, format="PNG")
    try:
        file = folder / "confusion.png"
        with disk_errors(file), replaced(file) as temporary:
            draw_confusion(report, temporary)
        return [*files, file], None
    except MissingDependencyError as error:
        return files, str(error)


def summary_rows(report: Report) -> list[tuple[str, str]]:
    """The main results: measure, and its value."""
    results = report["results"]
    return [
        ("mIoU", f"{results['mean_iou']:.2%}"),
        ("boundary IoU", f"{results['boundary_iou']:.2%}"),
        ("mean accuracy of classes", f"{results['mean_accuracy']:.2%}"),
        ("pixels right", f"{results['accuracy']:.2%}"),
        ("pictures/s", f"{report['session']['pictures_per_second']:,.1f}"),
    ]


def page(report: Report) -> str:
    """Write the report as Markdown."""
    results, data = report["results"], report["data"]
    rows = [
        (
            row["name"],
            f"{row['pixels']:,}",
            *(_percent(row[key]) for key in ("iou", "accuracy", "boundary_iou")),
        )
        for row in report["per_class"]
    ]
    parts = [
        f"# {report['model']['name']}",
        f"{results['pictures']:,} pictures, {data['pixels']:,} pixels with a class, from "
        f"`{data['path']}`.",
        table(("measure", "measured"), summary_rows(report)),
        "## Classes",
        table(("class", "pixels", "IoU", "accuracy", "boundary IoU"), rows),
        "## Worst pictures",
        table(
            ("picture", "mean IoU of its classes"),
            [(row["name"], _percent(row["mean_iou"])) for row in report["worst_pictures"]],
        ),
    ]
    if report["bad_pictures"]:
        parts += [
            "## Bad pictures",
            table(("picture", "why"), list(report["bad_pictures"].items())),
        ]
    return "\n\n".join(parts) + "\n"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def worst_pictures(
    segmenter: Segmenter, data: SegmentedExamples, measured: Measured
) -> Image.Image:
    """Draw the worst pictures: the picture, its mask, and what the model found."""
    colours = segmenter.palette
    panels = []
    for iou, number in measured.worst:
        picture, mask = data.pair(number)
        found = found_in(segmenter, picture)
        true = np.where((mask >= 0)[..., None], colours[mask], np.array(NO_CLASS, np.uint8))
        parts = [picture, Image.fromarray(true), Image.fromarray(colours[found])]
        title = f"{iou:.0%} mean IoU: picture, mask, model"
        drawn = [shown(part, SHOWN_SIDE) for part in parts]
        panels.append(captioned(drawn, title, data.name(number)))
    return contact_sheet(panels, COLUMNS)
