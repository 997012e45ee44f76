"""Convert between feature maps and lists of their visible positions, for masked pretraining.

There, 60 % of the positions are hidden, and nine tenths of a block's products are in layers that
treat each position alone, so these run on a list of the visible ones. A list is
`(batch, count, 1, channels)`, so that layers that sum over a map's height and width work on it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from convnext.nn.operations import take_positions

__all__ = ["Listed", "Mapped", "Positions", "find_positions", "listed", "mapped"]


class Positions(NamedTuple):
    """Positions of a map that are in a list, equally many of each picture."""

    on_map: Any  # (batch, count): index of each in the map, row by row
    in_list: Any  # (batch, height, width): index of each in the list; `count` if it is not there


def find_positions(visible: Any, count: int) -> Positions:
    """Find the first `count` positions of each picture where `(batch, height, width, 1)` is not 0.

    If there are fewer, positions where it is 0 fill up the list.

    Example:
        >>> positions = find_positions(ops.convert_to_tensor([[[[0.0], [1.0]], [[0.0], [1.0]]]]), 2)
        >>> ops.convert_to_numpy(positions.on_map).tolist()
        [[1, 3]]
        >>> ops.convert_to_numpy(positions.in_list).tolist()
        [[[2, 0], [2, 1]]]
    """
    _, height, width, _ = visible.shape
    size = height * width
    seen = ops.cast(ops.reshape(visible, (-1, size)) > 0, "int32")
    order = size * (1 - seen) + ops.arange(size, dtype="int32")  # sorts visible positions first
    on_map = ops.argsort(order, axis=-1)[:, :count]
    number = ops.where(seen > 0, ops.cumsum(seen, axis=-1) - 1, count)
    in_list = ops.minimum(number, count)
    return Positions(on_map, ops.reshape(in_list, (-1, height, width)))


def listed(x: Any, positions: Positions) -> Any:
    """Convert a map `(batch, height, width, channels)` to a list."""
    return _either_way(x, positions, _list, _map)


def mapped(x: Any, positions: Positions) -> Any:
    """Convert a list to a map, 0 at positions that are not in the list."""
    return _either_way(x, positions, _map, _list)


def _list(x: Any, positions: Positions) -> Any:
    _, height, width, channels = x.shape
    rows = ops.reshape(x, (-1, height * width, channels))
    return take_positions(rows, positions.on_map)[:, :, None]


def _map(x: Any, positions: Positions) -> Any:
    _, height, width = positions.in_list.shape
    rows = ops.pad(x[:, :, 0], ((0, 0), (0, 1), (0, 0)))  # a row of zeros for other positions
    y = take_positions(rows, ops.reshape(positions.in_list, (-1, height * width)))
    return ops.reshape(y, (-1, height, width, x.shape[-1]))


def _either_way(
    x: Any,
    positions: Positions,
    there: Callable[[Any, Positions], Any],
    back: Callable[[Any, Positions], Any],
) -> Any:
    """Convert with `there`; the gradient is `back`, as no position occurs twice."""

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def go(x: Any) -> Any:
        def gradient(*inputs: Any, upstream: Any = None) -> Any:
            return back(inputs[0] if upstream is None else upstream, positions)

        return there(x, positions), gradient

    return go(x)


@keras.saving.register_keras_serializable(package="convnext")
class Listed(keras.layers.Layer):  # type: ignore[misc]
    """`listed` as a layer."""

    def call(self, x: Any, positions: Positions) -> Any:
        """Map `(batch, height, width, channels)` to `(batch, count, 1, channels)`."""
        return listed(x, positions)


@keras.saving.register_keras_serializable(package="convnext")
class Mapped(keras.layers.Layer):  # type: ignore[misc]
    """`mapped` as a layer."""

    def call(self, x: Any, positions: Positions) -> Any:
        """Map `(batch, count, 1, channels)` to `(batch, height, width, channels)`."""
        return mapped(x, positions)
