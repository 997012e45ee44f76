"""What a classifier answers, and the way from a model's outputs to classes with names.

It knows nothing of pictures, files or engines.
"""

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
    """One class and how probable the model finds it.

    Attributes:
        label: What it is called, with all synonyms.
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
    """What one picture shows.

    Attributes:
        id: Names the picture, see `convnext.images.sources.Named`.
        classes: The most probable ones, best first; none if the picture could not be read.
        error: Why it could not.
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
    """One picture as a vector.

    Attributes:
        id: Names the picture.
        vector: `[width of the last stage]`, float32; None if the picture could not be read.
        error: Why it could not.
    """

    id: str
    vector: NDArray[np.float32] | None = None
    error: ImageError | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model gives for one picture.

    Attributes:
        id: Names the picture.
        outputs: Each requested output; empty if the picture could not be read.
        error: Why it could not.
        pixels: The picture as the model was given it, `[size, size, 3]`, uint8.
    """

    id: str
    outputs: Mapping[str, Array] = field(default_factory=dict)
    error: ImageError | None = None
    pixels: NDArray[np.uint8] | None = None


def softmax(logits: Array) -> NDArray[np.float64]:
    """Probabilities along the last axis; no logit is too large.

    Raises:
        WeightsError: A logit is no number.

    Example:
        >>> softmax(np.array([1e4, 1e4])).tolist()
        [0.5, 0.5]
    """
    if not np.isfinite(logits).all():
        raise WeightsError(
            "The model answers with numbers that are none (NaN or infinity). Its weights are "
            "damaged, or too large for the precision: try float32."
        )
    powers = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    probabilities: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return probabilities


def class_score(logits: Array, index: int, labels: Labels) -> ClassScore:
    """One class of a picture, by the picture's logits."""
    return _score(softmax(logits), index, labels)


def best_classes(logits: Array, labels: Labels, top: int) -> tuple[ClassScore, ...]:
    """The most probable classes of a picture, best first; of equals, the lower number first.

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
