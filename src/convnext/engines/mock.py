"""A mock engine, for tests of code that uses engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from convnext.engines.base import Array, Engine, InputSpec

__all__ = ["MockEngine"]


class MockEngine(Engine):
    """Computes its outputs by a function, and records the sizes of batches.

    Args:
        answer: Function from a batch to each output; by default, logits that depend on each
            picture's mean colour.
        num_classes: Number of the default logits.
        size: Side of the pictures.
        outputs: Names of the outputs.

    Example:
        >>> engine = MockEngine(num_classes=3, size=8)
        >>> engine.predict(np.zeros((2, 8, 8, 3), np.uint8)).shape
        (2, 3)
    """

    def __init__(
        self,
        answer: Callable[[Array], Sequence[Array]] | None = None,
        *,
        num_classes: int = 1000,
        size: int = 224,
        outputs: tuple[str, ...] = ("logits",),
    ) -> None:
        self.name = "mock"
        self.input = InputSpec((size, size, 3))
        self.outputs = outputs
        self.batch_sizes: list[int] = []
        self._answer = answer or (lambda batch: (_by_colour(batch, num_classes),))

    def run(self, batch: Array) -> Sequence[Array]:
        """Call the function, and record the size of the batch."""
        self.batch_sizes.append(len(batch))
        return self._answer(batch)


def _by_colour(batch: Array, num_classes: int) -> Array:
    means = batch.mean((1, 2), dtype=np.float32) @ np.array([1, 3, 9], np.float32)
    answer: Array = np.cos(means[:, None] + np.arange(num_classes, dtype=np.float32))
    return answer
