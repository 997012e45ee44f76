"""Convert axes between foreign arrays and ours, as NumPy views if possible.

Frameworks store the same numbers with the axes in another order, or with axes of length one added.
A `Move` converts in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from convnext.steps import Shape
from convnext.weights.files.tensors import LazyTensor

__all__ = [
    "CONV",
    "DEPTHWISE",
    "GROUPED",
    "LINEAR",
    "POINTWISE",
    "SAME",
    "SPARSE_CONV",
    "SPARSE_DEPTHWISE",
    "ZEROS",
    "Array",
    "Move",
    "Tensor",
    "moved",
    "vector",
]

Array = NDArray[Any]
Tensor = TypeVar("Tensor", Array, LazyTensor)


@dataclass(frozen=True)
class Move:
    """An invertible change of axes.

    Attributes:
        name: Name for messages.
        read: Converts the foreign array to ours; raises for an impossible shape.
        write: Converts our array to the foreign one.
    """

    name: str
    read: Callable[[Array], Array]
    write: Callable[[Array], Array]

    def read_shape(self, shape: Shape) -> Shape | None:
        """The shape that `read` returns; None if it cannot read this shape."""
        return _shape_after(self.read, shape)

    def written_shape(self, shape: Shape) -> Shape | None:
        """The shape that `write` returns; None if it cannot write this shape."""
        return _shape_after(self.write, shape)


@overload
def moved(change: Callable[[Array], Array], tensor: Array) -> Array: ...
@overload
def moved(change: Callable[[Array], Array], tensor: LazyTensor) -> LazyTensor: ...
def moved(change: Callable[[Array], Array], tensor: Array | LazyTensor) -> Array | LazyTensor:
    """Apply a `read` or `write` to a tensor; a lazy one stays lazy."""
    if isinstance(tensor, LazyTensor):
        shape = _shape_after(change, tensor.shape)
        if shape is None:
            raise ValueError(f"A tensor of shape {tensor.shape} cannot be moved.")
        return LazyTensor(shape, tensor.dtype, lambda: change(tensor.read()))
    return change(tensor)


def _shape_after(change: Callable[[Array], Array], shape: Shape) -> Shape | None:
    try:
        # All strides are zero, so an array of any shape costs one byte.
        return change(np.broadcast_to(np.zeros((), np.int8), shape)).shape
    except (ValueError, TypeError):  # TypeError: an array without axes has no length
        return None


def _flat(array: Array) -> Array:
    return array.reshape(max(array.shape))


def _matrix(array: Array) -> Array:
    """(out, in) or (out, in, 1, 1) to (in, out)."""
    return array.reshape(array.shape[:2]).transpose(1, 0)


def _depthwise_from_keras(array: Array) -> Array:
    """(7, 7, 1, C) of a grouped convolution, or (7, 7, C, 1), to (7, 7, C, 1)."""
    return array.swapaxes(2, 3) if array.shape[2:3] == (1,) else array


def _square(array: Array) -> Array:
    """(k * k, ...) to (k, k, ...); the sparse engine counts down the columns first."""
    side = math.isqrt(len(array))
    return array.reshape(side, side, *array.shape[1:]).swapaxes(0, 1)


def _unsquare(array: Array) -> Array:
    return array.swapaxes(0, 1).reshape(len(array) ** 2, *array.shape[2:])


def vector(*shape: int) -> Move:
    """A vector that the foreign side stores with extra axes of length one.

    These are read at any position; `shape`, with one -1 in it, is written.

    Example:
        >>> vector(1, 1, 1, -1).written_shape((8,))
        (1, 1, 1, 8)
    """
    return Move(f"vector{shape}", _flat, lambda array: array.reshape(shape))


SAME = Move("same", lambda array: array, lambda array: array)
CONV = Move("conv", lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
"""(out, in, height, width) to (height, width, in, out)."""
DEPTHWISE = Move("depthwise", lambda a: a.transpose(2, 3, 0, 1), lambda a: a.transpose(2, 3, 0, 1))
"""(C, 1, height, width) to (height, width, C, 1)."""
LINEAR = Move("linear", _matrix, lambda a: a.transpose(1, 0))
"""(out, in), or (out, in, 1, 1) when read, to (in, out)."""
POINTWISE = Move("pointwise", _matrix, lambda a: a.transpose(1, 0)[:, :, None, None])
"""(out, in, 1, 1), or (out, in) when read, to (in, out)."""
ZEROS = Move("zeros", lambda a: np.zeros(len(a), a.dtype), lambda a: a)
"""The kernel (out, in) of a layer without a bias, read as that bias: (out,)."""
GROUPED = Move("grouped", _depthwise_from_keras, lambda a: a.swapaxes(2, 3))
"""(height, width, 1, C), or (height, width, C, 1) when read, to (height, width, C, 1)."""
SPARSE_CONV = Move("sparse conv", _square, _unsquare)
"""(side * side, in, out), columns first, to (height, width, in, out)."""
SPARSE_DEPTHWISE = Move(
    "sparse depthwise", lambda a: _square(a)[..., None], lambda a: _unsquare(a[..., 0])
)
"""(side * side, C), columns first, to (height, width, C, 1)."""
