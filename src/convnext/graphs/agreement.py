"""Compare logits with a reference: differences, signal-to-noise ratio and top-1 agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """A comparison of logits.

    Attributes:
        pictures: Number of pictures.
        max_difference: Largest absolute difference.
        mean_difference: Mean absolute difference.
        decibels: Signal-to-noise ratio. The signal is the logits minus their mean over pictures,
            which decides nothing.
        top1: Share of pictures with the same most probable class.
    """

    pictures: int
    max_difference: float
    mean_difference: float
    decibels: float
    top1: float


def agreement(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> Agreement:
    """Compare logits, `[pictures, classes]` each; values that are not finite differ infinitely.

    Example:
        >>> reference = np.array([[0.0, 2.0], [3.0, 0.0]], np.float32)
        >>> found = agreement(reference + np.float32(0.5), reference)
        >>> found.max_difference, found.top1, round(found.decibels, 1)
        (0.5, 1.0, 8.1)
    """
    ours = reference.astype(np.float64)
    differences = np.abs(logits.astype(np.float64) - ours)
    if not np.isfinite(differences).all():
        return Agreement(len(ours), math.inf, math.inf, -math.inf, _same_class(logits, reference))
    signal = ours - ours.mean(axis=0) if len(ours) > 1 else ours
    power, noise = np.square(signal).mean(), np.square(differences).mean()
    with np.errstate(divide="ignore"):
        decibels = math.inf if noise == 0 else float(10 * np.log10(power / noise))
    return Agreement(
        pictures=len(ours),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        decibels=decibels,
        top1=_same_class(logits, reference),
    )


def _same_class(logits: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    finite = np.isfinite(logits).all(axis=1)
    same = logits.argmax(axis=1) == reference.argmax(axis=1)
    return float((finite & same).mean())
