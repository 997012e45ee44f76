"""From the class scores of a segmentation model to the class of each pixel of a picture.

Scores are resized bilinearly, first to the size of the model's input and then to the picture's, as
transformers and mmsegmentation do. A pixel whose scores are mixed from positions with one winner
has that class, so scores are computed only where the winners differ, a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.images.resizing import enlarged

__all__ = ["Classes", "class_map", "pixel_scores"]

Scores = NDArray[np.float32]
ROWS = 16  # of the picture, at a time: a few megabytes for 150 classes


class Classes(NamedTuple):
    """The class of each pixel.

    Attributes:
        numbers: `(height, width)`, uint8 or, for more than 256 classes, uint16.
        confidence: Probability of that class, in half precision; None if not asked for.
    """

    numbers: NDArray[np.uint8] | NDArray[np.uint16]
    confidence: NDArray[np.float16] | None = None


def class_map(
    scores: Scores,
    sides: tuple[int, int],
    through: tuple[int, int] | None = None,
    *,
    confidence: bool = False,
) -> Classes:
    """Compute the class of each pixel.

    Args:
        scores: Logits `(height, width, classes)`, of the first feature map for example.
        sides: Height and width of the picture.
        through: Size of the model's input, to which the scores are resized first; None to resize
            them once.
        confidence: Whether to compute the probability of each pixel's class, which needs the scores
            of all pixels.
    """
    down, across = (
        _Mixing.of(n, m, size)
        for n, m, size in zip(scores.shape, through or (None, None), sides, strict=False)
    )
    winners = scores.argmax(axis=-1)
    dtype = np.uint8 if scores.shape[-1] <= 256 else np.uint16
    numbers = np.empty(sides, dtype)
    sure = np.empty(sides, np.float16) if confidence else None
    for start in range(0, sides[0], ROWS):
        rows = slice(start, start + ROWS)
        mixed = down.rows(rows).apply(scores)  # (rows, width of the scores, classes)
        if sure is not None:
            every = across.apply(mixed.swapaxes(0, 1)).swapaxes(0, 1)  # (rows, width, classes)
            numbers[rows] = every.argmax(axis=-1)
            sure[rows] = _highest_probability(every)
            continue
        corners = winners[down.positions[rows][:, None, :, None], across.positions[None, :, None]]
        first = corners[..., 0, 0]
        numbers[rows] = first
        y, x = np.nonzero((corners != first[..., None, None]).any(axis=(2, 3)))
        taken = mixed[y[:, None], across.positions[x]]  # (pixels, positions, classes)
        numbers[start + y, x] = np.einsum("pkc,pk->pc", taken, across.weights[x]).argmax(axis=-1)
    return Classes(numbers, sure)


def pixel_scores(
    scores: Scores, sides: tuple[int, int], through: tuple[int, int] | None = None
) -> Iterator[tuple[slice, Scores]]:
    """Yield rows of the picture, and the scores `(rows, width, classes)` of their pixels.

    Args:
        scores: See `class_map`.
        sides: See `class_map`.
        through: See `class_map`.
    """
    down, across = (
        _Mixing.of(n, m, size)
        for n, m, size in zip(scores.shape, through or (None, None), sides, strict=False)
    )
    for start in range(0, sides[0], ROWS):
        rows = slice(start, min(start + ROWS, sides[0]))
        mixed = down.rows(rows).apply(scores)
        yield rows, across.apply(mixed.swapaxes(0, 1)).swapaxes(0, 1)


class _Mixing(NamedTuple):
    """The few positions and weights that each position of a resized axis is mixed from."""

    positions: NDArray[np.int64]  # (outputs, mixed)
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, inputs: int, middle: int | None, outputs: int) -> _Mixing:
        """Create the resizing of an axis, by way of a middle size."""
        matrix = enlarged(inputs, outputs) if middle is None else _both(inputs, middle, outputs)
        most = int((matrix > 0).sum(axis=1).max())
        positions = np.argsort(-matrix, axis=1, kind="stable")[:, :most]
        weights = np.take_along_axis(matrix, positions, axis=1)
        # A weight of zero must not bring in a position with another winner.
        return cls(np.where(weights > 0, positions, positions[:, :1]), weights)

    def rows(self, chosen: slice) -> _Mixing:
        return _Mixing(self.positions[chosen], self.weights[chosen])

    def apply(self, values: Scores) -> Scores:
        """Resize the first axis."""
        total = np.zeros((len(self.positions), *values.shape[1:]), np.float32)
        extra = (1,) * (values.ndim - 1)
        for positions, weights in zip(self.positions.T, self.weights.T, strict=True):
            total += values[positions] * weights.reshape(-1, *extra)
        return total


def _both(inputs: int, middle: int, outputs: int) -> NDArray[np.float32]:
    matrix: NDArray[np.float32] = enlarged(middle, outputs) @ enlarged(inputs, middle)
    return matrix


def _highest_probability(scores: Scores) -> Scores:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probability: Scores = 1 / powers.sum(axis=-1)
    return probability
