"""Resizing of an axis as the few positions and weights that each result is mixed from.

A map of many positions is resized without large matrices; resizings follow one another by `then`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mixing"]


class Mixing(NamedTuple):
    """The positions of an axis that each position of a resized axis is mixed from.

    Attributes:
        positions: `(outputs, mixed)`.
        weights: `(outputs, mixed)`; those of an output add up to 1.
    """

    positions: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def enlarging(cls, inputs: int, outputs: int) -> Mixing:
        """Bilinear resizing, as `convnext.images.resizing.enlarged`.

        Example:
            >>> Mixing.enlarging(2, 4).weights.tolist()
            [[1.0, 0.0], [0.75, 0.25], [0.75, 0.25], [1.0, 0.0]]
        """
        centres = np.clip((np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5, 0, inputs - 1)
        low = centres.astype(np.int64)
        high = np.minimum(low + 1, inputs - 1)
        share = (centres - low).astype(np.float32)
        return _tidy(np.stack([low, high], 1), np.stack([1 - share, share], 1))

    @classmethod
    def windows(cls, starts: Sequence[int], window: int, inputs: int, outputs: int) -> Mixing:
        """The mean of the windows that cover each position, each enlarged from a few inputs.

        Args:
            starts: Where each window starts, ascending; it may exceed the axis.
            window: Length of a window.
            inputs: Positions of a window that are enlarged to its length. Those of all windows
                follow one another.
            outputs: Length of the axis.
        """
        within = cls.enlarging(inputs, window)
        begins, places = np.array(starts), np.arange(outputs)
        first = np.searchsorted(begins, places - window, side="right")
        count = np.searchsorted(begins, places, side="right") - first
        steps = np.arange(count.max())
        chosen = np.minimum(first[:, None] + steps, len(begins) - 1)  # (outputs, windows)
        local = np.clip(places[:, None] - begins[chosen], 0, window - 1)
        share = np.where(steps < count[:, None], 1 / count[:, None], 0).astype(np.float32)
        positions = within.positions[local] + (chosen * inputs)[..., None]
        weights = within.weights[local] * share[..., None]
        return _tidy(positions.reshape(outputs, -1), weights.reshape(outputs, -1))

    def then(self, later: Mixing) -> Mixing:
        """This resizing, followed by another of its results."""
        positions = self.positions[later.positions]  # (outputs, mixed later, mixed)
        weights = self.weights[later.positions] * later.weights[..., None]
        outputs = len(positions)
        return _tidy(positions.reshape(outputs, -1), weights.reshape(outputs, -1))

    def rows(self, chosen: slice | NDArray[np.int64]) -> Mixing:
        """The mixing of some of the results."""
        return Mixing(self.positions[chosen], self.weights[chosen])

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Resize the first axis."""
        total = np.zeros((len(self.positions), *values.shape[1:]), np.float32)
        extra = (1,) * (values.ndim - 1)
        for positions, weights in zip(self.positions.T, self.weights.T, strict=True):
            total += values[positions] * weights.reshape(-1, *extra)
        return total


def _tidy(positions: NDArray[np.int64], weights: NDArray[np.float32]) -> Mixing:
    """Add up the weights of equal positions, and sort by weight."""
    order = np.argsort(positions, axis=1, kind="stable")
    positions = np.take_along_axis(positions, order, axis=1)
    weights = np.take_along_axis(weights, order, axis=1)
    for column in range(1, positions.shape[1]):
        same = positions[:, column] == positions[:, column - 1]
        weights[:, column] += np.where(same, weights[:, column - 1], 0)
        weights[:, column - 1] = np.where(same, 0, weights[:, column - 1])
    order = np.argsort(-weights, axis=1, kind="stable")[:, : int((weights > 0).sum(1).max())]
    positions = np.take_along_axis(positions, order, axis=1)
    weights = np.take_along_axis(weights, order, axis=1)
    # A weight of zero must not bring in a position that is not mixed.
    return Mixing(np.where(weights > 0, positions, positions[:, :1]), weights)
