"""From what a user asks to what every worker is told, with all that can be refused refused here.

It opens the weights' file, not the model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from convnext.engines import quantize
from convnext.engines.base import Precision
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.graphs.levels import Calibration, names_calibration
from convnext.images.labels import Labels, Names, choose_labels, labels_for, numbered
from convnext.images.recipe import Preprocess
from convnext.images.sources import Sources
from convnext.scale.job import Job, Task
from convnext.scale.tables import TableColumns
from convnext.weights.info import WeightsInfo
from convnext.weights.load import CanonicalWeights, read_weights

__all__ = ["Asked", "calibration_for", "prepare"]

TASKS = ("predict", "embed")


@dataclass(frozen=True)
class Asked:
    """What to answer and how, in a user's words; `predict_dataset` says what each means."""

    task: Task = "predict"
    top: int = 1
    vectors: bool = False
    engine: str = "auto"
    precision: Precision = "auto"
    device: str = "auto"
    calibration: Calibration | Sources | None = None
    labels: Names | None = None
    size: int | None = None
    batch_size: int = 32
    shard_size: int = 1024
    columns: TableColumns | None = None


def prepare(model: str | os.PathLike[str], asked: Asked) -> tuple[Job, str | None]:
    """The job, and on what terms the weights may be used.

    Raises:
        ArgumentError: An option makes no sense, or the weights cannot do what is asked.
        ArgumentTypeError: The model is an object that cannot be sent to workers.
    """
    _check(model, asked)
    source = Path(model) if isinstance(model, os.PathLike) else model
    with read_weights(source) as weights:
        info, classes, width = weights.info, weights.num_classes, weights.variant.dims[-1]
        if asked.task != "embed" and not classes:
            raise ArgumentError(
                f"{weights.source} has no classifier and cannot say what a picture shows. Use "
                "these weights for vectors, or take fine-tuned ones."
            )
    recipe = info.preprocess or Preprocess()
    if asked.size is not None:
        recipe = replace(recipe, size=asked.size)
    job = Job(
        task=asked.task,
        model=Path(source).absolute() if Path(source).exists() else source,
        preprocess=recipe,
        labels=_labels(asked.labels, info, classes, source),
        width=width,
        root=str(Path.cwd()),
        engine=asked.engine,
        precision=asked.precision,
        device=asked.device,
        calibration=calibration_for(model, asked.calibration, asked.size),
        batch_size=asked.batch_size,
        top=min(asked.top, classes or 1),
        vectors=asked.vectors,
        columns=asked.columns or TableColumns(),
    )
    return job, info.notice


def _check(model: object, asked: Asked) -> None:
    if not isinstance(model, str | os.PathLike):
        raise ArgumentTypeError(
            "Workers in other processes open the model for themselves: give a published "
            f"checkpoint's name or a weights file (see save_weights), not {type(model).__name__}."
        )
    if asked.task not in TASKS:
        raise UnknownNameError("task", asked.task, TASKS)
    numbers = {"batch_size": asked.batch_size, "shard_size": asked.shard_size}
    numbers |= {"top": asked.top} | ({"size": asked.size} if asked.size is not None else {})
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ArgumentError(f"{name} must be 1 or more; got {number!r}.")
    if asked.calibration is not None and asked.precision != "int8":
        raise ArgumentError(f"A calibration is for precision='int8', not {asked.precision!r}.")


def _labels(given: Names | None, info: WeightsInfo, classes: int, source: str | Path) -> Labels:
    stored = info.labels
    if given is not None:
        labels = choose_labels(given)
    elif isinstance(stored, str):
        labels = labels_for(stored)
    else:
        labels = Labels(stored) if stored else numbered(classes)
    if classes and len(labels) != classes:
        raise ArgumentError(
            f"{source} has {classes} classes, and there are {len(labels)} names for them. Give one "
            "name for each class, in order."
        )
    return labels


def calibration_for(
    model: str | os.PathLike[str] | CanonicalWeights,
    given: Calibration | Sources | None,
    size: int | None = None,
) -> Calibration | None:
    """A calibration, from its file or from pictures; made once, as all workers have to round alike.

    Args:
        model: What it is for, with the recipe by which pictures are read.
        given: A calibration, its file, or pictures; None for none.
        size: Side of the pictures, if not that of the weights.
    """
    if given is None or isinstance(given, Calibration):
        return given
    if names_calibration(given):
        return Calibration.load(Path(given))
    return quantize(model, given, size=size)
