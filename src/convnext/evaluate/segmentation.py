"""Intersection over union and accuracy of class maps, as mmsegmentation computes them.

All are ratios of counts over all pictures together. A pixel without a class is left out.

Reference: Cheng et al., "Boundary IoU", https://arxiv.org/abs/2103.16562.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DILATION", "Boundaries", "PixelTally", "Segmented", "boundary"]

DILATION = 0.02
"""Width of boundaries, as a share of the picture's diagonal."""

Map = NDArray[Any]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Segmented:
    """The results over all pictures.

    Attributes:
        pixels: Pixels of each class.
        iou: Intersection over union of each class; NaN of a class that neither masks nor
            predictions have.
        recall: Share of each class's pixels that are right; NaN of a class without pixels.
        mean_iou: Mean over the classes that there are (mIoU).
        mean_accuracy: Mean share of right pixels over the classes with pixels (mAcc).
        accuracy: Share of right pixels (aAcc).
    """

    pixels: Counts
    iou: NDArray[np.float64]
    recall: NDArray[np.float64]
    mean_iou: float
    mean_accuracy: float
    accuracy: float


class PixelTally:
    """Counts the pixels of each class and what they were predicted as.

    Attributes:
        counts: `(classes, classes)`: rows are classes of the masks, columns predictions.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts: Counts = np.zeros((num_classes, num_classes), np.int64)

    def add(self, mask: Map, predicted: Map) -> Counts:
        """Add a picture; returns its counts.

        Args:
            mask: The class of each pixel; negative for none.
            predicted: The predicted class of each pixel.
        """
        count = len(self.counts)
        known = mask >= 0
        pairs = mask[known].astype(np.int64) * count + predicted[known]
        found = np.bincount(pairs, minlength=count * count).reshape(count, count)
        self.counts += found
        return found

    def result(self) -> Segmented:
        """The results over all pictures added so far."""
        return _ratios(self.counts)


def _ratios(counts: Counts) -> Segmented:
    right = np.diag(counts)
    pixels, predicted = counts.sum(axis=1), counts.sum(axis=0)
    iou = _divided(right, pixels + predicted - right)
    recall = _divided(right, pixels)
    return Segmented(
        pixels, iou, recall, _mean(iou), _mean(recall), float(right.sum() / max(pixels.sum(), 1))
    )


class Boundaries:
    """Intersection over union of the boundaries of classes."""

    def __init__(self, num_classes: int) -> None:
        self.both: Counts = np.zeros(num_classes, np.int64)
        self.either: Counts = np.zeros(num_classes, np.int64)

    def add(self, mask: Map, predicted: Map) -> None:
        """Add a picture, as in `PixelTally.add`."""
        count = len(self.both)
        width = max(1, round(DILATION * float(np.hypot(*mask.shape))))
        true = np.where(boundary(mask, width), mask, -1)
        found = np.where(boundary(predicted, width) & (mask >= 0), predicted.astype(np.int32), -1)
        both = np.bincount(true[(true == found) & (true >= 0)], minlength=count)
        self.both += both
        self.either += np.bincount(true[true >= 0], minlength=count) - both
        self.either += np.bincount(found[found >= 0], minlength=count)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Of each class; NaN without a boundary."""
        return _divided(self.both, self.either)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that there are."""
        return _mean(self.iou)


def boundary(classes: Map, width: int) -> NDArray[np.bool_]:
    """Pixels within a distance of a pixel of another class or of the picture's border.

    The distance is the larger of the two along the axes, so that a class's boundary is what
    `width` erosions by a square of three pixels remove.

    Example:
        >>> boundary(np.zeros((3, 4), int), 1).astype(int).tolist()
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    values = np.pad(classes.astype(np.int32), width, constant_values=-2)
    low, high = values, values
    for axis in (0, 1):
        low = _extreme(np.minimum, low, axis, 2 * width + 1)
        high = _extreme(np.maximum, high, axis, 2 * width + 1)
    found: NDArray[np.bool_] = low != high
    return found


def _extreme(of: np.ufunc, values: Map, axis: int, length: int) -> Map:
    """The minimum or maximum in windows along an axis, in a few steps of doubled windows."""
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        count = values.shape[axis] - step
        first, second = (np.take(values, range(n, n + count), axis) for n in (0, step))
        values = of(first, second)
        covered += step
    return values


def _divided(above: Counts, below: Counts) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = above / np.where(below, below, np.nan)
    return found


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0
