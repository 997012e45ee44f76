"""Which pictures of a batch are a host's: pairs that are mixed with each other stay together.

Why it exists: a batch is mixed with itself, read backwards. If a host has, with every picture, the
one at the same distance from the batch's other end, it mixes them as one host would mix the whole
batch, and nothing has to be read twice. So a run has the same mixed pictures on any number of
hosts. It knows nothing of pictures.
"""

from __future__ import annotations

import numpy as np

from convnext.errors import ArgumentError
from convnext.train.order import Indices, Order

__all__ = ["PairedOrder", "paired_rows"]


def paired_rows(index: int, count: int, batch_size: int) -> Indices:
    """The rows of a batch that are one host's; read backwards, they are each other's partners.

    Args:
        index: Of the host, from 0.
        count: Of hosts.
        batch_size: Of all hosts together.

    Raises:
        ArgumentError: There is no such host, or the batch does not divide.

    Example:
        >>> paired_rows(0, 2, 8).tolist(), paired_rows(1, 2, 8).tolist()
        ([0, 1, 6, 7], [2, 3, 4, 5])
    """
    if not 0 <= index < count:
        raise ArgumentError(f"A shard is (index, count), index below count; got {index, count}.")
    if count == 1:
        return np.arange(batch_size, dtype=np.int64)
    if batch_size < 1 or batch_size % (2 * count):
        raise ArgumentError(
            f"batch_size is a multiple of {2 * count}, the same even number on each of {count} "
            f"hosts; got {batch_size}."
        )
    half = batch_size // (2 * count)
    front = np.arange(index * half, (index + 1) * half, dtype=np.int64)
    return np.concatenate([front, batch_size - 1 - front[::-1]])


class PairedOrder(Order):
    """One host's part of an order, batch by batch.

    Args:
        order: Of all hosts.
        index: Of the host, from 0.
        count: Of hosts.
        batch_size: Of all hosts together.
    """

    def __init__(self, order: Order, index: int, count: int, batch_size: int) -> None:
        super().__init__(order.labels, seed=order.seed, balanced=order.balanced)
        self._rows = paired_rows(index, count, batch_size)
        self._batch_size = batch_size

    def positions(self, start: int, count: int) -> Indices:
        """Where in the whole sequence this host's examples come."""
        own = np.arange(start, start + count, dtype=np.int64)
        steps, places = np.divmod(own, len(self._rows))
        return steps * self._batch_size + self._rows[places]
