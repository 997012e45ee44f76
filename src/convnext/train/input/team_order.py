"""Divides batches over hosts, keeping together the pairs of pictures that are mixed.

A picture is mixed with its mirror in the batch. A host that has both mixes them as a single host
would mix the whole batch, so a run has the same mixed pictures on any number of hosts.
"""

from __future__ import annotations

import numpy as np

from convnext.errors import ArgumentError
from convnext.train.input.order import Indices, Order

__all__ = ["PairedOrder", "paired_rows"]


def paired_rows(index: int, count: int, batch_size: int) -> Indices:
    """Rows of a batch that belong to a host: pairs with the same distance from both ends.

    Args:
        index: Rank of the host, from 0.
        count: Number of hosts.
        batch_size: Of all hosts together.

    Raises:
        ArgumentError: There is no such host, or the batch does not divide.

    Example:
        >>> paired_rows(0, 2, 8).tolist(), paired_rows(1, 2, 8).tolist()
        ([0, 1, 6, 7], [2, 3, 4, 5])
    """
    if not 0 <= index < count:
        raise ArgumentError(f"host is (rank, count), rank below count; got {index, count}.")
    if count == 1:
        return np.arange(batch_size, dtype=np.int64)
    if batch_size < 1 or batch_size % (2 * count):
        raise ArgumentError(
            f"batch_size is a multiple of {2 * count}, an equal and even number on each of {count} "
            f"hosts; got {batch_size}."
        )
    half = batch_size // (2 * count)
    front = np.arange(index * half, (index + 1) * half, dtype=np.int64)
    return np.concatenate([front, batch_size - 1 - front[::-1]])


class PairedOrder(Order):
    """The order of one host's examples; arguments as for `paired_rows`."""

    def __init__(self, order: Order, index: int, count: int, batch_size: int) -> None:
        super().__init__(order.labels, seed=order.seed, balanced=order.balanced)
        self._rows = paired_rows(index, count, batch_size)
        self._batch_size = batch_size

    def positions(self, start: int, count: int) -> Indices:
        """Indices of this host's examples in the sequence of all hosts."""
        own = np.arange(start, start + count, dtype=np.int64)
        steps, offsets = np.divmod(own, len(self._rows))
        return steps * self._batch_size + self._rows[offsets]
