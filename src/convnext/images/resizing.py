"""Resizing of maps as matrices, one for each axis: bilinear, and means over bins.

A matrix `[output, input]` multiplies one axis of a map. It is PyTorch's and mmsegmentation's
`interpolate(mode="bilinear", align_corners=False)` and `adaptive_avg_pool2d`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["binned", "enlarged", "shifted"]

Matrix = NDArray[np.float32]


def enlarged(inputs: int, outputs: int) -> Matrix:
    """The bilinear resizing of an axis.

    Example:
        >>> enlarged(2, 4).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    centres = (np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5
    centres = np.clip(centres, 0, inputs - 1)
    distance = np.abs(centres[:, None] - np.arange(inputs))
    matrix: Matrix = np.maximum(0, 1 - distance).astype(np.float32)
    return matrix


def binned(inputs: int, bins: int) -> Matrix:
    """The means over bins that cover an axis, and overlap where their number does not divide it.

    Example:
        >>> binned(4, 2).tolist()
        [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    matrix = np.zeros((bins, inputs), np.float32)
    for number in range(bins):
        start, stop = number * inputs // bins, -(-(number + 1) * inputs // bins)
        matrix[number, start:stop] = 1 / (stop - start)
    return matrix


def shifted(matrix: Matrix, by: int) -> Matrix:
    """The matrix of a resizing whose output is then shifted, with zeros where nothing was.

    Example:
        >>> shifted(enlarged(2, 2), 1).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """
    moved = np.zeros_like(matrix)
    stop = len(matrix) - abs(by)
    if by >= 0:
        moved[:stop] = matrix[by:]
    else:
        moved[-by:] = matrix[:stop]
    return moved
