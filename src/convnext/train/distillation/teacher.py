"""Opens a teacher: a published checkpoint, a model folder, a run, a weights file or an ONNX file.

The teacher sees the pictures of a training step, after augmentation and mixing, with its own
normalisation and at its own size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.engines.opening import ENGINES, choose_runtime, open_engine
from convnext.errors import ArgumentError, TrainingError, listed
from convnext.images.labels import Labels, resolve_labels
from convnext.images.recipe import Preprocess
from convnext.images.resizing import enlarged
from convnext.train.distillation.onnx_file import CHANNELS, open_onnx
from convnext.train.input.loader import TrainingBatch
from convnext.train.recipe import Recipe
from convnext.train.sections import Distill
from convnext.train.team.base import ALONE, Team
from convnext.weights.digest import digest
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights

__all__ = ["EngineTeacher", "View", "columns_of", "labels_of", "open_teacher"]

Array = NDArray[np.float32]
SAME = "same"


class View:
    """Pictures of the model in training as its teacher sees them.

    Args:
        model: Preprocessing of the model's pictures.
        teacher: That of the teacher's.
    """

    def __init__(self, model: Preprocess, teacher: Preprocess) -> None:
        rescale = teacher.rescale / model.rescale
        std = np.asarray(teacher.std, np.float64)
        self._scale = (rescale * np.asarray(model.std) / std).astype(np.float32)
        self._shift = ((rescale * np.asarray(model.mean) - teacher.mean) / std).astype(np.float32)
        self._resizes = teacher.size != model.size
        self._matrix = _resized(model.size, teacher.size)

    def __call__(self, pictures: Array) -> Array:
        """Normalise a batch as the teacher's pictures are, and resize it."""
        pictures = pictures * self._scale + self._shift
        if not self._resizes:
            return pictures
        tall = np.einsum("oh,nhwc->nowc", self._matrix, pictures, optimize=True)
        wide: Array = np.einsum("pw,nowc->nopc", self._matrix, tall, optimize=True)
        return np.ascontiguousarray(wide)


def _resized(inputs: int, outputs: int) -> Array:
    """A bilinear resizing of an axis, antialiased where the axis gets shorter."""
    if outputs >= inputs:
        return enlarged(inputs, outputs)
    centres = (np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(inputs)) * (outputs / inputs))
    matrix: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


class EngineTeacher:
    """A teacher that computes its answers.

    Attributes:
        name: For messages.
        digest: SHA-256 of its weights.
        about: A few words on the engine.
        width: Numbers in an answer.
    """

    def __init__(
        self,
        source: _Source,
        view: View,
        columns: NDArray[np.int64] | None,
    ) -> None:
        self.name = source.name
        self.digest = source.digest
        self.about = source.about
        self.width = source.width if columns is None else len(columns)
        self._run = source.run
        self._view = view
        self._columns = columns

    def answers(self, batch: TrainingBatch) -> Array:
        """Compute the answers for the pictures of a batch.

        Raises:
            TrainingError: They are not finite.
        """
        return self.of_pictures(batch.pictures)

    def of_pictures(self, pictures: Array) -> Array:
        """Compute the answers for pictures as the model in training sees them.

        Raises:
            TrainingError: They are not finite.
        """
        found = self._run(self._view(pictures))
        if self._columns is not None:
            found = np.ascontiguousarray(found[:, self._columns])
        if not np.isfinite(found).all():
            raise TrainingError(
                f"The teacher {self.name} answers with numbers that are not finite. Set "
                'distill.precision to "float32"; if that does not help, its weights are damaged.'
            )
        return found


def columns_of(theirs: Labels, classes: tuple[str, ...], name: str) -> NDArray[np.int64] | None:
    """Numbers of the run's classes among the teacher's; None if they are the same.

    Args:
        theirs: The teacher's classes.
        classes: Of the run, by name or WordNet id.
        name: Of the teacher.

    Raises:
        ArgumentError: The teacher lacks some, or has two of a name.
    """
    if theirs.names == classes:
        return None
    numbers: dict[str, list[int]] = {}
    for number, label in enumerate(theirs.names):
        numbers.setdefault(label, []).append(number)
    numbers = {wnid: [number] for number, wnid in enumerate(theirs.wnids)} | numbers
    lacking = [label for label in classes if label not in numbers]
    if lacking:
        raise ArgumentError(
            f"The teacher {name} does not know {len(lacking):,} of the {len(classes):,} classes: "
            f"{listed(lacking)}. Its own are {listed(list(theirs.names))}. Classes are matched by "
            "name; name the teacher's with distill.classes."
        )
    twice = [label for label in classes if len(numbers[label]) > 1]
    if twice:
        raise ArgumentError(
            f"The teacher {name} has several classes of the name {listed(twice)}. Name its classes "
            "differently with distill.classes."
        )
    return np.array([numbers[label][0] for label in classes], np.int64)


class _Source(NamedTuple):
    """An opened teacher, and what is known of it."""

    name: str
    digest: str
    about: str
    run: Callable[[Array], Array]
    width: int
    preprocess: Preprocess
    labels: str | tuple[str, ...] | None


def open_teacher(
    source: str | Path, recipe: Recipe, classes: tuple[str, ...], team: Team = ALONE
) -> EngineTeacher:
    """Open a teacher.

    Args:
        source: A published checkpoint's name, a model folder, a run, a weights file, or an ONNX
            file.
        recipe: The recipe of the run.
        classes: Of the run.
        team: The hosts of the run.

    Raises:
        ConvNeXtError: It cannot be read, has other classes, or more has to be known of it.
    """
    settings = recipe.distill
    is_onnx = Path(source).suffix.lower() == ".onnx"
    opened = (_of_onnx if is_onnx else _of_weights)(source, settings, team)
    columns = None
    if settings.loss != "features":
        labels = labels_of(settings, classes, opened.labels, opened.width, opened.name)
        columns = columns_of(labels, classes, opened.name)
    return EngineTeacher(opened, View(recipe.model.preprocess, opened.preprocess), columns)


def _of_weights(source: str | Path, settings: Distill, team: Team) -> _Source:
    path = Path(source)
    if path.is_dir():
        source = path / "model" if (path / "model").is_dir() else path
    with read_weights(source) as weights:
        found, info = weights.found, weights.info
        features = settings.loss == "features"
        if found.segmentation is not None or not (features or weights.num_classes):
            raise ArgumentError(
                f"The teacher {weights.source} is a {found.kind}, without classes for a picture. "
                'Name a classifier, or learn its embedding with distill.loss = "features".'
            )
        preprocess = _preprocess(settings, weights.recipe)
        if preprocess is None:
            raise _unnormalised(weights.source)
        engine = open_engine(
            weights,
            **_engine(settings, team),
            outputs="embedding" if features else "logits",
            input="float32",
            size=preprocess.size,
            preprocess=preprocess,
        )
        digested = weights.path and digest(weights.path)
        name = info.name or str(source)
    channels = engine.input.shape[-1]
    if channels != CHANNELS:
        raise ArgumentError(
            f"The teacher {name} takes pictures of {channels} channels. It sees those of the run, "
            "which are red, green and blue."
        )
    blank = np.zeros((1, preprocess.size, preprocess.size, CHANNELS), np.float32)
    width = engine.predict(blank).shape[1]
    about = f"{engine.name}, {engine.precision}"
    return _Source(name, digested or name, about, engine.predict, width, preprocess, info.labels)


def _engine(settings: Distill, team: Team) -> dict[str, Any]:
    """The engine of a model of ours, its precision and its threads.

    Raises:
        ArgumentError: The team's models belong to all hosts and devices, and so would Keras'.
    """
    engine, precision = settings.engine, settings.precision
    if engine == "auto" and "keras" in sys.modules:
        from convnext.train.optim.precision import actual_precision, on_processor

        if not on_processor():
            engine = "keras"
            precision = actual_precision(precision)
    if choose_runtime(engine) is not ENGINES["keras"]:
        return {"engine": engine, "precision": precision, "threads": team.processors}
    if team.shares_models:
        raise ArgumentError(
            "On several devices or hosts of JAX a teacher cannot be computed by Keras. Install "
            "convnext[openvino] or convnext[onnxruntime], and set distill.engine to it."
        )
    return {"engine": engine, "precision": precision}


def _of_onnx(source: str | Path, settings: Distill, team: Team) -> _Source:
    path = Path(source)
    file = open_onnx(
        path,
        engine=settings.engine,
        precision=settings.precision,
        threads=team.processors,
        layout=settings.layout,
        size=settings.size,
        output=settings.output,
    )
    info = WeightsInfo.from_metadata(file.metadata)
    preprocess = _preprocess(settings, info.preprocess)
    if preprocess is None:
        raise _unnormalised(path)
    preprocess = replace(preprocess, size=file.size)
    return _Source(
        str(path), digest(path), file.about, file.run, file.width, preprocess, info.labels
    )


def _unnormalised(source: object) -> ArgumentError:
    return ArgumentError(
        f"The teacher {source} does not tell how its pictures are normalised. Set distill.mean and "
        "distill.std, of colours between 0 and 1: distill.mean=[0,0,0] and distill.std=[1,1,1] if "
        "it takes those as they are."
    )


def _preprocess(settings: Distill, stated: Preprocess | None) -> Preprocess | None:
    """The teacher's preprocessing, of its file and at the recipe's size; None if unknown.

    Raises:
        ArgumentError: The recipe has another normalisation than the file.
    """
    if settings.mean is not None and settings.std is not None:
        if stated and (stated.mean, stated.std) != (settings.mean, settings.std):
            raise ArgumentError(
                f"The teacher's file says that its colours are normalised by {stated.mean} and "
                f"{stated.std}, and distill.mean and distill.std differ. Leave them out."
            )
        stated = stated or replace(Preprocess(), mean=settings.mean, std=settings.std)
    return stated and replace(stated, size=settings.size or stated.size)


def labels_of(
    settings: Distill,
    classes: tuple[str, ...],
    stated: str | tuple[str, ...] | None,
    width: int,
    name: str,
) -> Labels:
    """The teacher's classes, of the recipe or of its file.

    Args:
        settings: The recipe's section on it.
        classes: Of the run.
        stated: What its file states.
        width: Numbers in an answer.
        name: Of the teacher.

    Raises:
        ArgumentError: Neither tells them, or they are more or fewer than the answer's numbers.
    """
    if not settings.classes and stated is None:
        raise ArgumentError(
            f"The teacher {name} does not tell its {width:,} classes. Set "
            f'distill.classes to a file of their names, one a line, or to "{SAME}" if they are '
            f"those of the run in the same order: {listed(list(classes))}."
        )
    if settings.classes != SAME:
        return resolve_labels(settings.classes or None, stated, width, name)
    if width != len(classes):
        raise ArgumentError(
            f"The teacher {name} has {width:,} classes, and the run "
            f"{len(classes):,}. Set distill.classes to a file of the teacher's names, one a line."
        )
    return Labels(classes)
