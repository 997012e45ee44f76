"""The gradient of a depthwise kernel, as loops that XLA compiles well on a CPU.

It is accumulated over rows as one elementwise expression of the kernel's shape, since a reduction
for each of its elements would take longer than everything else.
"""

from __future__ import annotations

import functools
from typing import Any

from keras import ops

__all__ = ["kernel_gradient"]

# Positions per step of the loop: more compile slowly, fewer cost overhead.
POSITIONS_PER_STEP = 32
# A picture with at most this many positions is one step, so that the sum stays in the cache.
SMALL_PICTURE = 49


def kernel_gradient(padded: Any, grad: Any, side: int, dilation: int) -> Any:
    """The gradient `(side, side, channels)` of a kernel.

    Args:
        padded: The convolution's input, with zeros around it, in float32 or wider.
        grad: The gradient of its output `(batch, height, width, channels)`, of that type.
        side: Of the kernel.
        dilation: Distance between the positions that the kernel covers.
    """
    batch, (height, width, channels) = ops.shape(grad)[0], grad.shape[1:]
    reach = dilation * (side - 1)
    if height * width <= SMALL_PICTURE:
        shape, steps = (1, reach + height, reach + width, channels), batch
        here_shape, first = (1, height, width, channels), (1, 0)
    else:
        most = max(1, POSITIONS_PER_STEP // width)
        rows = max(count for count in range(1, most + 1) if height % count == 0)
        shape, steps = (batch, reach + rows, reach + width, channels), height // rows
        here_shape, first = (batch, rows, width, channels), (0, rows)

    def add(step: Any, total: Any) -> Any:
        start = (step * first[0], step * first[1], 0, 0)
        window, here = ops.slice(padded, start, shape), ops.slice(grad, start, here_shape)
        return total + _window_products(window, here, side, dilation)

    total = ops.zeros((shape[0], side, side, channels), grad.dtype)
    return ops.sum(ops.fori_loop(0, steps, add, total), axis=0)


def _window_products(window: Any, grad: Any, side: int, dilation: int) -> Any:
    """The gradient from the positions of `grad`: `(batch, side, side, channels)`."""
    reach = dilation * (side - 1) + 1
    products = (
        window[:, i : i + reach : dilation, j : j + reach : dilation]
        * grad[:, i : i + 1, j : j + 1]
        for i in range(grad.shape[1])
        for j in range(grad.shape[2])
    )
    return functools.reduce(ops.add, products)
