"""Opens a teacher: a published checkpoint, a model folder, a run, a weights file or an ONNX file.

The teacher sees the pictures of a training step, after augmentation and mixing, with its own
normalisation and at its own size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convnext.engines.opening import open_engine
from convnext.errors import ArgumentError, TrainingError, listed
from convnext.images.labels import Labels, resolve_labels
from convnext.images.recipe import Preprocess
from convnext.images.resizing import enlarged
from convnext.train.distillation.onnx_file import open_onnx
from convnext.train.input.loader import TrainingBatch
from convnext.train.recipe import Distill
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
    """

    def __init__(
        self,
        name: str,
        digest: str,
        about: str,
        run: Callable[[Array], Array],
        view: View,
        columns: NDArray[np.int64] | None,
    ) -> None:
        self.name = name
        self.digest = digest
        self.about = about
        self._run = run
        self._view = view
        self._columns = columns

    def answers(self, batch: TrainingBatch) -> Array:
        """Compute the answers for the pictures of a batch.

        Raises:
            TrainingError: They are not finite.
        """
        found = self._run(self._view(batch.pictures))
        if self._columns is not None:
            found = np.ascontiguousarray(found[:, self._columns])
        if not np.isfinite(found).all():
            raise TrainingError(
                f"The teacher {self.name} gives answers that are no finite numbers at step "
                f'{batch.step:,}. Try distill.precision = "float32"; otherwise its weights are '
                "damaged."
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


def open_teacher(
    source: str | Path,
    settings: Distill,
    classes: tuple[str, ...],
    model: Preprocess,
    threads: int | None = None,
) -> EngineTeacher:
    """Open a teacher.

    Args:
        source: A published checkpoint's name, a model folder, a run, a weights file, or an ONNX
            file.
        settings: The recipe's section on it.
        classes: Of the run.
        model: Preprocessing of the run's pictures.
        threads: Number of threads; None for all processors.

    Raises:
        ConvNeXtError: It cannot be read, has other classes, or more has to be known of it.
    """
    path = Path(source)
    if path.suffix.lower() == ".onnx":
        return _onnx_teacher(path, settings, classes, model, threads)
    if path.is_dir():
        source = path / "model" if (path / "model").is_dir() else path
    with read_weights(source) as weights:
        if weights.found.segmentation is not None or not weights.num_classes:
            raise ArgumentError(
                f"The teacher {weights.source} is a {weights.found.kind} without classes for "
                "pictures. Soft targets need a classifier."
            )
        recipe = _preprocess(settings, weights.recipe)
        if recipe is None:
            weights.check_recipe()
        engine = open_engine(
            weights,
            settings.engine,
            precision=settings.precision,
            threads=threads,
            input="float32",
            preprocess=recipe,
        )
        labels = labels_of(settings, classes, weights.info, weights.num_classes, weights.source)
        name = weights.info.name or str(source)
        where = weights.path
    assert recipe is not None
    identity = digest(where) if where is not None else name
    about = f"{engine.name}, {engine.precision}"
    columns = columns_of(labels, classes, name)
    return EngineTeacher(name, identity, about, engine.predict, View(model, recipe), columns)


def _onnx_teacher(
    path: Path,
    settings: Distill,
    classes: tuple[str, ...],
    model: Preprocess,
    threads: int | None,
) -> EngineTeacher:
    file = open_onnx(
        path,
        engine=settings.engine,
        precision=settings.precision,
        threads=threads,
        layout=settings.layout,
        size=settings.size,
        output=settings.output,
    )
    info = WeightsInfo.from_metadata(file.metadata)
    recipe = _preprocess(settings, info.preprocess)
    if recipe is None:
        raise ArgumentError(
            f"{path} does not tell how its pictures are normalised. Set distill.mean and "
            "distill.std, of colours between 0 and 1; distill.mean=[0,0,0] distill.std=[1,1,1] "
            "for a file that normalises them itself."
        )
    recipe = replace(recipe, size=file.size)
    labels = labels_of(settings, classes, info, file.width, str(path))
    columns = columns_of(labels, classes, str(path))
    view = View(model, recipe)
    return EngineTeacher(str(path), digest(path), file.about, file.run, view, columns)


def _preprocess(settings: Distill, stated: Preprocess | None) -> Preprocess | None:
    """The teacher's preprocessing, of its file and with the recipe's changes; None if unknown."""
    if (settings.mean is None) != (settings.std is None):
        raise ArgumentError("distill.mean and distill.std go together. Set both, or neither.")
    base = stated
    if settings.mean is not None and settings.std is not None:
        base = replace(stated or Preprocess(), mean=settings.mean, std=settings.std)
    return base and replace(base, size=settings.size or base.size)


def labels_of(
    settings: Distill, classes: tuple[str, ...], info: WeightsInfo, width: int, source: str
) -> Labels:
    """The teacher's classes, of the recipe or of its file."""
    if not settings.classes and info.labels is None:
        raise ArgumentError(
            f"{source} does not tell its {width:,} classes. Set distill.classes to a file of their "
            f'names, one a line, or to "{SAME}" if they are those of the run in the same order '
            f"({listed(list(classes))})."
        )
    if settings.classes != SAME:
        return resolve_labels(settings.classes or None, info.labels, width, source)
    if width != len(classes):
        raise ArgumentError(
            f"{source} has {width:,} classes, and the run {len(classes):,}. Set distill.classes "
            "to a file of the teacher's names, one a line."
        )
    return Labels(classes)
