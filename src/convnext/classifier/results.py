"""Results of a classifier, and their computation from logits and class names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ImageError, WeightsError
from convnext.images.labels import Labels

__all__ = [
    "Answer",
    "ClassScore",
    "Embedding",
    "Prediction",
    "best_classes",
    "class_score",
    "softmax",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability.

    Attributes:
        label: Its name, with all synonyms.
        index: Its number.
        probability: From 0 to 1; those of all classes add up to 1.
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
        classes: The most probable classes, best first; empty if the picture could not be read.
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
        """
        if self.error is not None:
            raise self.error
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
    """Compute probabilities along the last axis, without overflow.

    Raises:
        WeightsError: A logit is not finite.

    Example:
        >>> softmax(np.array([1e4, 1e4])).tolist()
        [0.5, 0.5]
    """
    if not np.isfinite(logits).all():
        raise WeightsError(
            "The model's outputs are not finite (NaN or infinity). Its weights are damaged, or too "
            "large for the precision: try float32."
        )
    powers = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    probabilities: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return probabilities


def class_score(logits: Array, index: int, labels: Labels) -> ClassScore:
    """The score of a class, from a picture's logits."""
    return _score(softmax(logits), index, labels)


def best_classes(logits: Array, labels: Labels, top: int) -> tuple[ClassScore, ...]:
    """The most probable classes of a picture, best first; equal ones by number.

    Example:
        >>> [best] = best_classes(np.array([0.0, 2.0]), Labels(("cat", "dog")), top=1)
        >>> best.label, round(best.probability, 3)
        ('dog', 0.881)
    """
    probabilities = softmax(logits)
    order = np.argsort(-logits, kind="stable")[:top]
    return tuple(_score(probabilities, int(index), labels) for index in order)


def _score(probabilities: Array, index: int, labels: Labels) -> ClassScore:
    wnid = labels.wnids[index] if labels.wnids else None
    return ClassScore(labels.names[index], index, float(probabilities[index]), wnid)
