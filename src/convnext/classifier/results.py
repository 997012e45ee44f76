"""Results of a classifier, and their computation from logits and class names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError, ImageError, WeightsError
from convnext.images.labels import Labels

__all__ = [
    "TOP",
    "Answer",
    "ClassScore",
    "Embedding",
    "Prediction",
    "best_classes",
    "class_score",
    "probabilities",
    "sigmoid",
    "softmax",
]

Array = NDArray[Any]

TOP = 5
"""The number of classes of a picture where none is chosen."""


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability.

    Attributes:
        label: Its name, with all synonyms.
        index: Its number.
        probability: From 0 to 1; those of all classes add up to 1, except for a multi-label model.
        wnid: Its WordNet id; None for classes that have none.
    """

    label: str
    index: int
    probability: float
    wnid: str | None = None


@dataclass(frozen=True)
class Prediction:
    """The predicted classes of a picture.

    Attributes:
        id: Name of the picture, see `convnext.images.sources.Named`.
        classes: The most probable classes, best first; empty if the picture could not be read. For
            a multi-label model, the labels that reach their thresholds, which may be none.
        error: The error if it could not be read.
    """

    id: str
    classes: tuple[ClassScore, ...] = ()
    error: ImageError | None = None

    @property
    def best(self) -> ClassScore:
        """The most probable class.

        Raises:
            ImageError: The picture could not be read.
            ArgumentError: No label reaches its threshold.
        """
        if self.error is not None:
            raise self.error
        if not self.classes:
            raise ArgumentError(
                f"{self.id}: no label reaches its threshold, so none is the best. Look at "
                "`classes`, or lower the thresholds."
            )
        return self.classes[0]


@dataclass(frozen=True, eq=False)
class Embedding:
    """The embedding of a picture.

    Attributes:
        id: Name of the picture.
        vector: `[width of the last stage]`, float32; None if the picture could not be read.
        error: The error if it could not be read.
    """

    id: str
    vector: NDArray[np.float32] | None = None
    error: ImageError | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """The model's outputs for a picture.

    Attributes:
        id: Name of the picture.
        outputs: The requested outputs by name; empty if the picture could not be read.
        error: The error if it could not be read.
    """

    id: str
    outputs: Mapping[str, Array] = field(default_factory=dict)
    error: ImageError | None = None


def softmax(logits: Array) -> NDArray[np.float64]:
    """Compute probabilities along the last axis, which add up to 1, without overflow.

    Raises:
        WeightsError: A logit is not finite.

    Example:
        >>> softmax(np.array([1e4, 1e4])).tolist()
        [0.5, 0.5]
    """
    _check_finite(logits)
    powers = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    shares: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return shares


def sigmoid(logits: Array) -> NDArray[np.float64]:
    """Compute a probability from each logit, without overflow.

    Raises:
        WeightsError: A logit is not finite.

    Example:
        >>> sigmoid(np.array([-1e4, 0.0, 1e4])).tolist()
        [0.0, 0.5, 1.0]
    """
    _check_finite(logits)
    values: NDArray[np.float64] = 0.5 + 0.5 * np.tanh(logits / 2, dtype=np.float64)
    return values


def _check_finite(logits: Array) -> None:
    if not np.isfinite(logits).all():
        raise WeightsError(
            "The model's outputs are not finite (NaN or infinity). Its weights are damaged, or too "
            "large for the precision: try float32."
        )


def probabilities(logits: Array, labels: Labels) -> NDArray[np.float64]:
    """Compute probabilities: by sigmoid for a multi-label model, else by softmax.

    Example:
        >>> probabilities(np.array([0.0, 0.0]), Labels(("cat", "dog"), thresholds=(0.5, 0.5)))
        array([0.5, 0.5])
    """
    return softmax(logits) if labels.thresholds is None else sigmoid(logits)


def class_score(logits: Array, index: int, labels: Labels) -> ClassScore:
    """The score of a class, from a picture's logits."""
    return _score(probabilities(logits, labels), index, labels)


def best_classes(logits: Array, labels: Labels, top: int | None = None) -> tuple[ClassScore, ...]:
    """The most probable classes of a picture, best first; equal ones by number.

    Args:
        logits: Of a picture.
        labels: The classes. If they have thresholds, those below theirs are left out.
        top: Largest number of classes; by default `TOP`, or with thresholds all that reach theirs.

    Example:
        >>> [best] = best_classes(np.array([0.0, 2.0]), Labels(("cat", "dog")), top=1)
        >>> best.label, round(best.probability, 3)
        ('dog', 0.881)
    """
    shares = probabilities(logits, labels)
    order = np.argsort(-logits, kind="stable")
    if labels.thresholds is not None:
        order = order[(shares >= labels.thresholds)[order]]
    elif top is None:
        top = TOP
    return tuple(_score(shares, int(index), labels) for index in order[:top])


def _score(shares: Array, index: int, labels: Labels) -> ClassScore:
    wnid = labels.wnids[index] if labels.wnids else None
    return ClassScore(labels.names[index], index, float(shares[index]), wnid)
