"""The model that is evaluated: opened, and with everything a report has to say of it.

Why it exists: a number without the exact weights, recipe and precision behind it cannot be had
again. A weights file often knows none of these: the catalogue does, if told what the file is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnext.engines import Engine, open_engine
from convnext.engines.base import Precision
from convnext.errors import ArgumentError, WeightsMismatchError
from convnext.evaluate.classes import Classes
from convnext.graphs.levels import Calibration
from convnext.images.labels import IMAGENET_SETS, Labels, labels_for, read_labels
from convnext.images.recipe import Preprocess
from convnext.images.sources import Sources
from convnext.weights.catalog import CHECKPOINTS, Checkpoint, get_checkpoint
from convnext.weights.digest import digest
from convnext.weights.info import WeightsInfo
from convnext.weights.load import CanonicalWeights, read_weights

__all__ = ["Subject", "open_subject"]


@dataclass(frozen=True)
class Subject:
    """A model, ready to answer.

    Attributes:
        engine: Runs it.
        preprocess: What is done to pictures.
        classes: What its outputs mean.
        checkpoint: The published weights that these are, if they are.
        facts: What else a report says of it; values are plain JSON.
        notes: What whoever reads the result should know.
    """

    engine: Engine
    preprocess: Preprocess
    classes: Classes
    checkpoint: Checkpoint | None
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


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
        engine: What `open_engine` takes.
        weights: A file to take instead of fetching the checkpoint: a copy of it, in any layout.
        labels: A file with the names of the model's classes, or one of `IMAGENET_SETS`.
        precision: What `open_engine` takes. Not `"auto"` by default, as other precisions change the
            numbers, if little.
        calibration: What `"int8"` needs, see `open_engine`.

    Raises:
        ConvNeXtError: The model cannot be found, read or run, or the labels do not fit it.
    """
    checkpoint = get_checkpoint(str(model)) if weights else None
    source = Path(weights) if weights else model
    with read_weights(source) as read:
        if checkpoint:
            _check_copy(read, checkpoint)
            read = replace(read, info=WeightsInfo.of_checkpoint(checkpoint))
        checkpoint = CHECKPOINTS.get(read.info.name or "")
        classes, notes = _classes(read, labels)
        if read.info.preprocess is None:
            notes += (
                "The weights do not say what is done to pictures first: taken for granted are "
                f"{Preprocess.size} pixels after a crop of {Preprocess.crop_fraction:g}. If they "
                "are a copy of a published checkpoint, name that one and give them as --weights.",
            )
        opened = open_engine(read, engine, precision=precision, calibration=calibration)
        file = read.path
        assert file is not None  # they were read from one
        facts = {
            "name": read.info.name or file.name,
            "checkpoint": read.info.name if checkpoint else None,
            "architecture": read.variant.name,
            "weights": {"file": file.name, "layout": read.layout, "sha256": digest(file)},
            "origin": read.info.origin,
            "licence": read.info.licence,
            "classes": classes.count,
            "class_names": classes.origin,
        }
        preprocess = read.info.preprocess or Preprocess()
        return Subject(opened, preprocess, classes, checkpoint, facts, notes)


def _check_copy(read: CanonicalWeights, checkpoint: Checkpoint) -> None:
    found = (read.variant.name, read.num_classes)
    wanted = (checkpoint.variant, checkpoint.head_width)
    if found != wanted:
        raise WeightsMismatchError(
            f"{read.source} is no copy of {checkpoint.name}: it is {found[0]} with {found[1]:,} "
            f"classes, not {wanted[0]} with {wanted[1]:,}."
        )


def _classes(read: CanonicalWeights, labels: str | Path | None) -> tuple[Classes, tuple[str, ...]]:
    count, own = read.num_classes, read.info.labels
    if not count:
        raise ArgumentError(
            f"{read.source} has no classifier, so there is nothing to evaluate. Checkpoints that "
            "have one are listed with their accuracies by `convnext list`."
        )
    if labels in IMAGENET_SETS:
        return Classes(count, labels_for(str(labels)), str(labels)), ()
    if labels:
        return Classes(count, read_labels(labels), f"the file {Path(labels).name}"), ()
    if isinstance(own, tuple):
        return Classes(count, Labels(own), "the weights file"), ()
    if own in IMAGENET_SETS:
        return Classes(count, labels_for(own), own), ()
    for name, size in IMAGENET_SETS.items():
        if size == count:
            note = (
                f"The weights do not name their classes: as there are {count:,}, {name} is taken "
                "for granted. Give others with --labels."
            )
            return Classes(count, labels_for(name), f"{name}, by their number"), (note,)
    return Classes(count), ()
