"""Feature maps of which only some places are computed: as a list of those places, and back.

Why it exists: nine tenths of a block's products are of layers that look at one place at a time. In
masked pretraining 60 % of the places are hidden; a list of the others is what those layers take.
A list is `(batch, count, 1, channels)`, so that a layer that adds up over a map adds up over it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from convnext.nn.operations import take_places

__all__ = ["Listed", "Mapped", "Places", "find_places", "listed", "mapped"]


class Places(NamedTuple):
    """Which places of a map a list has, of every picture equally many."""

    on_map: Any  # (batch, count): where each stands on the map, whose rows follow each other
    in_list: Any  # (batch, height, width): which of the list each is; `count` if none


def find_places(visible: Any, count: int) -> Places:
    """The first `count` places of each picture where `(batch, height, width, 1)` is not 0.

    Any that are missing to `count` are places where it is 0.

    Example:
        >>> places = find_places(ops.convert_to_tensor([[[[0.0], [1.0]], [[0.0], [1.0]]]]), 2)
        >>> ops.convert_to_numpy(places.on_map).tolist()
        [[1, 3]]
        >>> ops.convert_to_numpy(places.in_list).tolist()
        [[[2, 0], [2, 1]]]
    """
    _, height, width, _ = visible.shape
    size = height * width
    seen = ops.cast(ops.reshape(visible, (-1, size)) > 0, "int32")
    order = size * (1 - seen) + ops.arange(size, dtype="int32")  # those that are seen come first
    on_map = ops.argsort(order, axis=-1)[:, :count]
    number = ops.where(seen > 0, ops.cumsum(seen, axis=-1) - 1, count)
    in_list = ops.minimum(number, count)
    return Places(on_map, ops.reshape(in_list, (-1, height, width)))


def listed(x: Any, places: Places) -> Any:
    """The list of a map `(batch, height, width, channels)`."""
    return _either_way(x, places, _list, _map)


def mapped(x: Any, places: Places) -> Any:
    """The map of a list, 0 where it has no place."""
    return _either_way(x, places, _map, _list)


def _list(x: Any, places: Places) -> Any:
    _, height, width, channels = x.shape
    rows = ops.reshape(x, (-1, height * width, channels))
    return take_places(rows, places.on_map)[:, :, None]


def _map(x: Any, places: Places) -> Any:
    _, height, width = places.in_list.shape
    rows = ops.pad(x[:, :, 0], ((0, 0), (0, 1), (0, 0)))  # a last one of zeros
    y = take_places(rows, ops.reshape(places.in_list, (-1, height * width)))
    return ops.reshape(y, (-1, height, width, x.shape[-1]))


def _either_way(
    x: Any,
    places: Places,
    there: Callable[[Any, Places], Any],
    back: Callable[[Any, Places], Any],
) -> Any:
    """One way, and for its gradient the other: no place is taken twice, so nothing is added up."""

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def go(x: Any) -> Any:
        def gradient(*inputs: Any, upstream: Any = None) -> Any:
            return back(inputs[0] if upstream is None else upstream, places)

        return there(x, places), gradient

    return go(x)


@keras.saving.register_keras_serializable(package="convnext")
class Listed(keras.layers.Layer):  # type: ignore[misc]
    """`listed` as a layer."""

    def call(self, x: Any, places: Places) -> Any:
        """Map `(batch, height, width, channels)` to `(batch, count, 1, channels)`."""
        return listed(x, places)


@keras.saving.register_keras_serializable(package="convnext")
class Mapped(keras.layers.Layer):  # type: ignore[misc]
    """`mapped` as a layer."""

    def call(self, x: Any, places: Places) -> Any:
        """Map `(batch, count, 1, channels)` to `(batch, height, width, channels)`."""
        return mapped(x, places)
