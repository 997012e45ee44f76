"""The order of training examples: an endless sequence with random access; class weights.

The sequence is a function of the seed and keeps no state, so that a resumed run, or one on several
hosts, trains on the same examples as an uninterrupted run on one host.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convnext.data.random_streams import Purpose, check_seed, stream
from convnext.errors import ArgumentError, UnknownNameError

__all__ = ["Order", "class_weights"]

Indices = NDArray[np.int64]

_KEPT = 2  # permutations of whole epochs: the one that ends and the one that begins


class Order:
    """The endless sequence of a run's examples.

    Each epoch has every example once, in a new permutation. If balanced, each round has every class
    once, in a new permutation, and each class cycles through its own examples in the same way.

    Args:
        labels: The class of each example.
        seed: Of the run.
        balanced: Whether all classes are equally frequent.

    Example:
        >>> order = Order([0, 0, 0, 1], seed=0)
        >>> sorted(order.indices(4, 4).tolist())
        [0, 1, 2, 3]
        >>> (order.indices(0, 8)[3:5] == order.indices(3, 2)).all()
        True
    """

    def __init__(
        self, labels: Sequence[int] | NDArray[Any], *, seed: int, balanced: bool = False
    ) -> None:
        check_seed(seed)
        self.labels = np.asarray(labels, np.int64)
        if not len(self.labels):
            raise ArgumentError("labels is empty: there are no examples to train on.")
        self.seed = seed
        self.balanced = balanced

    def __len__(self) -> int:
        return len(self.labels)

    def positions(self, start: int, count: int) -> Indices:
        """Indices in the sequence of all hosts; `PairedOrder` overrides this."""
        return np.arange(start, start + count, dtype=np.int64)

    def indices(self, start: int, count: int) -> Indices:
        """Numbers of `count` examples from index `start` of the sequence on."""
        positions = self.positions(start, count)
        if self.balanced:
            return np.array([self._balanced(int(position)) for position in positions], np.int64)
        epochs, offsets = np.divmod(positions, len(self.labels))
        found = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            now = epochs == epoch
            found[now] = self._permutation(int(epoch))[offsets[now]]
        return found

    def _balanced(self, position: int) -> int:
        turn, offset = divmod(position, len(self._members))
        number = int(self._classes(turn)[offset])
        members = self._members[number]
        epoch, offset = divmod(turn, len(members))
        return int(members[self._member_order(number, epoch)[offset]])

    @functools.cached_property
    def _members(self) -> list[Indices]:
        by_class = np.argsort(self.labels, kind="stable")
        borders = np.flatnonzero(np.diff(self.labels[by_class])) + 1
        return np.split(by_class, borders)

    @functools.cached_property
    def _permutation(self) -> Any:
        def permutation(epoch: int) -> Indices:
            return stream(self.seed, Purpose.ORDER, epoch).permutation(len(self.labels))

        return functools.lru_cache(_KEPT)(permutation)

    @functools.cached_property
    def _classes(self) -> Any:
        def classes(turn: int) -> Indices:
            return stream(self.seed, Purpose.CLASSES, turn).permutation(len(self._members))

        return functools.lru_cache(_KEPT)(classes)

    @functools.cached_property
    def _member_order(self) -> Any:
        def members(number: int, epoch: int) -> Indices:
            generator = stream(self.seed, Purpose.MEMBERS, epoch, part=number)
            return generator.permutation(len(self._members[number]))

        return functools.lru_cache(_KEPT * len(self._members))(members)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _CACHES}


_CACHES = ("_members", "_permutation", "_classes", "_member_order")


def class_weights(
    labels: Sequence[int] | NDArray[Any],
    kind: Literal["none", "balanced"] | Sequence[float],
    num_classes: int | None = None,
) -> NDArray[np.float32]:
    """Weight in the loss of an example of each class, 1 on average over all examples.

    Args:
        labels: The class of each example.
        kind: `"none"`: 1 for all. `"balanced"`: the same total for every class. Or a number for
            each class, of which only the ratios matter.
        num_classes: Number of classes, if the last ones have no examples.

    Example:
        >>> class_weights([0, 0, 0, 1], "balanced").tolist()
        [0.6666666865348816, 2.0]
    """
    counts = np.bincount(np.asarray(labels, np.int64), minlength=num_classes or 0)
    if isinstance(kind, str):
        if kind not in ("none", "balanced"):
            raise UnknownNameError("kind of class weights", kind, ("none", "balanced"))
        raw = np.ones(len(counts)) if kind == "none" else 1 / np.maximum(counts, 1)
    else:
        raw = np.asarray(kind, np.float64)
        if raw.shape != counts.shape or not np.isfinite(raw).all() or raw.min() < 0:
            raise ArgumentError(
                f"Class weights are one number, 0 or more, for each of {len(counts)} classes; got "
                f"{list(kind)}."
            )
    mean = float((raw * counts).sum() / counts.sum())
    if mean <= 0:
        raise ArgumentError(
            f"Class weights {list(kind)} are 0 for all examples. Make one positive."
        )
    return (raw / mean).astype(np.float32)
