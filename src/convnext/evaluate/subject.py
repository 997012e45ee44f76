"""Open a model for evaluation, with the facts about it that a report contains.

A weights file often has no metadata; for a copy of a published checkpoint, the catalogue has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.data.classes import Classes
from convnext.engines import Engine
from convnext.engines.base import Precision
from convnext.errors import ArgumentError, WeightsMismatchError
from convnext.images.labels import IMAGENET_SETS, labels_for
from convnext.images.recipe import Preprocess
from convnext.images.sources import Sources
from convnext.int8.calibration import Calibration
from convnext.session import Session
from convnext.weights.catalog import CHECKPOINTS, Checkpoint, get_checkpoint
from convnext.weights.info import WeightsInfo

__all__ = ["Subject", "open_subject"]


@dataclass(frozen=True)
class Subject:
    """A model under evaluation.

    Attributes:
        engine: Computes its logits.
        preprocess: Its preprocessing.
        classes: Its classes.
        checkpoint: The published checkpoint that its weights are; None for others.
        facts: Further JSON members of a report.
        notes: Warnings for the reader of a report.
        calibration: The int8 calibration, so that all workers round equally.
    """

    engine: Engine
    preprocess: Preprocess
    classes: Classes
    checkpoint: Checkpoint | None
    facts: Mapping[str, Any]
    notes: tuple[str, ...]
    calibration: Calibration | None = None


def open_subject(
    model: str | Path,
    engine: str = "auto",
    *,
    weights: str | Path | None = None,
    labels: str | Path | None = None,
    precision: Precision = "float32",
    calibration: Calibration | Sources | None = None,
) -> Subject:
    """Open a model for evaluation.

    Args:
        model: The name of a published checkpoint, or a weights file.
        engine: See `open_engine`.
        weights: A local copy of the checkpoint `model`, in any layout, instead of downloading it.
        labels: A file with the names of the model's classes, or one of `IMAGENET_SETS`.
        precision: See `open_engine`. The default is not `"auto"`, as other precisions slightly
            change the results.
        calibration: Required by `"int8"`, see `open_engine`.

    Raises:
        ConvNeXtError: The model cannot be found, read or run, or the labels do not fit it.
    """
    checkpoint = get_checkpoint(str(model)) if weights else None
    session = Session.open(
        weights or model,
        engine=engine,
        precision=precision,
        calibration=calibration,
        preprocess=checkpoint.preprocess if checkpoint else None,
        labels=labels or (checkpoint.labels if checkpoint else None),
    )
    with session:
        session.check_task(segmentation=False)
        if session.info.thresholds is not None:
            raise ArgumentError(
                f"{session.source} is a multi-label model, whose classes do not exclude one "
                "another. Measure it on a table of labels with convnext.evaluate.multi_label "
                "(`convnext evaluate` does)."
            )
        info = session.info
        if checkpoint:
            _check_copy(session, checkpoint)
            info = WeightsInfo.of_checkpoint(checkpoint)
        checkpoint = CHECKPOINTS.get(info.name or "")
        classes, notes = _classes(session, labels or info.labels)
        if info.preprocess is None:
            notes += (
                "The weights do not state their preprocessing: assumed are "
                f"{Preprocess.size} pixels after a crop of {Preprocess.crop_fraction:g}. If they "
                "are a copy of a published checkpoint, name it and give the file as --weights.",
            )
        file = session.network.weights.path
        assert file is not None  # they were read from one
        facts = {
            "name": info.name or file.name,
            "checkpoint": info.name if checkpoint else None,
            "architecture": session.variant.name,
            "weights": {
                "file": file.name,
                "layout": session.network.weights.layout,
                "sha256": session.digest,
            },
            "origin": info.origin,
            "licence": info.licence,
            "classes": classes.count,
            "class_names": classes.origin,
        }
        return Subject(
            session.engine("logits"),
            session.preprocess,
            classes,
            checkpoint,
            facts,
            notes,
            session.calibration,
        )


def _check_copy(session: Session, checkpoint: Checkpoint) -> None:
    found = (session.variant.name, session.network.num_classes)
    wanted = (checkpoint.variant, checkpoint.head_width)
    if found != wanted:
        raise WeightsMismatchError(
            f"{session.source} is not a copy of {checkpoint.name}: it is {found[0]} with "
            f"{found[1]:,} classes, not {wanted[0]} with {wanted[1]:,}. Name its own checkpoint."
        )


def _classes(session: Session, named: Any) -> tuple[Classes, tuple[str, ...]]:
    """The classes, named by `named`, and notes about the names."""
    count = session.num_classes
    if not count:
        raise ArgumentError(
            f"{session.source} has no classifier, so it cannot be evaluated. `convnext list` shows "
            "checkpoints with one, and their accuracies."
        )
    if named:
        file = "the weights file" if isinstance(named, tuple) else f"the file {Path(named).name}"
        return Classes(count, session.labels, named if named in IMAGENET_SETS else file), ()
    for name, size in IMAGENET_SETS.items():
        if size == count:
            note = (
                f"The weights do not name their classes; as there are {count:,}, {name} is assumed."
                "Give other names with --labels."
            )
            return Classes(count, labels_for(name), f"{name}, by their number"), (note,)
    return Classes(count), ()
