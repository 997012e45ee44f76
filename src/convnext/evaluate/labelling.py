"""Average precision, F1 and thresholds of labels, from probabilities and truth, with NumPy alone.

A picture has a label if its probability is at least the label's threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.images.thresholds import THRESHOLD

__all__ = ["Labelling", "average_precision", "best_threshold", "labelling"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Labelling:
    """The results of a multi-label model; arrays have a number for each label.

    Attributes:
        pictures: Number of pictures.
        positives: Pictures that have the label.
        average_precision: Area below precision over recall; NaN without a picture that has it.
        thresholds: Those that the following are measured at.
        found: Pictures that are given the label.
        right: Those of them that have it.
    """

    pictures: int
    positives: NDArray[np.int64]
    average_precision: Floats
    thresholds: Floats
    found: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def precision(self) -> Floats:
        """Share of pictures given the label that have it; NaN if none is given it."""
        return _ratio(self.right, self.found)

    @property
    def recall(self) -> Floats:
        """Share of pictures with the label that are given it; NaN if none has it."""
        return _ratio(self.right, self.positives)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall; NaN if no picture has the label or is given it."""
        return _ratio(2 * self.right, self.found + self.positives)

    @property
    def mean_average_precision(self) -> float:
        """The mean over labels that a picture has; NaN if there are none."""
        return _mean(self.average_precision, self.positives > 0)

    @property
    def macro_f1(self) -> float:
        """The mean of F1 over labels that a picture has; NaN if there are none."""
        return _mean(self.f1, self.positives > 0)

    @property
    def micro_f1(self) -> float:
        """F1 of all labels of all pictures together; NaN without any."""
        [value] = _ratio(
            np.array([2 * self.right.sum()]), np.array([self.found.sum() + self.positives.sum()])
        )
        return float(value)


def labelling(
    probabilities: NDArray[Any], truth: NDArray[np.bool_], thresholds: Any = None
) -> Labelling:
    """Measure the probabilities of labels.

    Args:
        probabilities: `[pictures, labels]`.
        truth: `[pictures, labels]`: which labels each picture has.
        thresholds: Of each label; by default those with the best F1 on these pictures.

    Example:
        >>> truth = np.array([[True], [False], [True]])
        >>> found = labelling(np.array([[0.9], [0.6], [0.2]]), truth, [0.5])
        >>> round(found.mean_average_precision, 3), found.macro_f1
        (0.833, 0.5)
    """
    columns = list(zip(probabilities.T, truth.T, strict=True))
    if thresholds is None:
        thresholds = [best_threshold(*column) for column in columns]
    limits = np.asarray(thresholds, np.float64)
    given = probabilities >= limits
    return Labelling(
        len(truth),
        truth.sum(0, dtype=np.int64),
        np.array([average_precision(*column) for column in columns], np.float64),
        limits,
        given.sum(0, dtype=np.int64),
        (given & truth).sum(0, dtype=np.int64),
    )


def average_precision(scores: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """The sum over scores of precision times the increase of recall, as scikit-learn's.

    Pictures of equal score count at once. NaN if no picture has the label.

    Example:
        >>> average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1], bool))
        0.8333333333333333
    """
    if not truth.any():
        return float("nan")
    _, right, given = _ranked(scores, truth)
    steps = np.diff(right, prepend=0) / right[-1]
    return float((right / given * steps).sum())


def best_threshold(probabilities: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """The threshold with the highest F1, in the middle between two probabilities.

    Of equal ones the highest; `THRESHOLD` if no picture has the label.

    Example:
        >>> best_threshold(np.array([0.1, 0.5, 0.7]), np.array([False, True, True]))
        0.3
    """
    if not truth.any():
        return THRESHOLD
    values, right, given = _ranked(probabilities.astype(np.float64), truth)
    best = int((2 * right / (given + right[-1])).argmax())
    below = float(values[best + 1]) if best + 1 < len(values) else 0.0
    middle = (float(values[best]) + below) / 2
    return middle if middle > below else float(values[best])


def _ranked(
    scores: NDArray[Any], truth: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Different scores, falling; pictures that have the label and pictures, down to each."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    return ordered[ends], np.cumsum(truth[order], dtype=np.int64)[ends], ends + 1


def _ratio(parts: NDArray[Any], wholes: NDArray[Any]) -> Floats:
    found = np.full(len(parts), np.nan)
    np.divide(parts, wholes, out=found, where=wholes > 0)
    return found


def _mean(values: Floats, where: NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else float("nan")
