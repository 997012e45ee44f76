"""Layers that resize feature maps: bilinear, and means over bins.

Each is a product with a small matrix along each axis, made for the size at hand, as in
`convnext.images.resizing`. So the backends agree at borders, and sizes may vary.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["BinPooling", "Resized", "resized"]

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="convnext")
class Resized(keras.layers.Layer):  # type: ignore[misc]
    """Resizes a map bilinearly to the size of another: `Resized()([x, like])`.

    As PyTorch's `interpolate(mode="bilinear", align_corners=False)`.

    Example:
        >>> Resized()([keras.ops.ones((1, 2, 2, 8)), keras.ops.ones((1, 5, 4, 3))]).shape
        (1, 5, 4, 8)
    """

    def call(self, inputs: list[Any]) -> Any:
        """Resize the first map to the second's height and width."""
        x, like = inputs
        return resized(x, ops.shape(like)[1:3])

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """Height and width of the second map, channels of the first."""
        x, like = input_shape
        return (x[0], *like[1:3], x[-1])

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor; Keras would not save a dtype that is a policy by itself."""
        config: dict[str, Any] = super().get_config()
        return config


@keras.saving.register_keras_serializable(package="convnext")
class BinPooling(keras.layers.Layer):  # type: ignore[misc]
    """The means over a grid of bins that cover the map, as PyTorch's `adaptive_avg_pool2d`.

    Args:
        bins: Number of bins on each side.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, bins: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = bins

    def call(self, x: Any) -> Any:
        """Pool `(batch, height, width, channels)`."""
        down, across = (ops.cast(_binning(n, self.bins), x.dtype) for n in ops.shape(x)[1:3])
        return _along_both(x, down, across)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The grid, with the channels of the input."""
        return (input_shape[0], self.bins, self.bins, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "bins": self.bins}


def resized(x: Any, sides: Any) -> Any:
    """Resize a map bilinearly to a height and width, as `Resized`."""
    pairs = zip(ops.shape(x)[1:3], sides, strict=True)
    down, across = (ops.cast(_enlarging(*pair), x.dtype) for pair in pairs)
    return _along_both(x, down, across)


def _along_both(x: Any, down: Any, across: Any) -> Any:
    x = ops.einsum("oh,bhwc->bowc", down, x)
    return ops.einsum("pw,bowc->bopc", across, x)


def _positions(count: Any) -> Any:
    return ops.arange(count, dtype="float32")


def _float(number: Any) -> Any:
    return ops.cast(ops.convert_to_tensor(number), "float32")


def _enlarging(inputs: Any, outputs: Any) -> Any:
    """The matrix `[outputs, inputs]` of a bilinear resizing."""
    scale = _float(inputs) / _float(outputs)
    centres = ops.clip((_positions(outputs) + 0.5) * scale - 0.5, 0.0, _float(inputs) - 1.0)
    return ops.maximum(0.0, 1.0 - ops.abs(centres[:, None] - _positions(inputs)[None]))


def _binning(inputs: Any, bins: int) -> Any:
    """The matrix `[bins, inputs]` of the means over bins."""
    size, number = _float(inputs), _positions(bins)
    # Half a position of slack, as quotients in float32 may be just below a whole number.
    start = ops.floor((number * size + 0.5) / bins)
    stop = ops.ceil(((number + 1.0) * size - 0.5) / bins)
    place = _positions(inputs)[None]
    inside = ops.cast((place >= start[:, None]) & (place < stop[:, None]), "float32")
    return inside / ops.sum(inside, axis=1, keepdims=True)
