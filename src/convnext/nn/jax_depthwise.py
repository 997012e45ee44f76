"""Depthwise convolution for JAX on a CPU, as sums of shifted products with their own gradient.

XLA's depthwise convolution is slow on a CPU: one of 7x7 over 8x56x56x96 takes about 150 ms, and
240 ms more for its gradients. Written as 49 shifted elementwise products, which XLA fuses into one
loop, it takes 5 ms. The gradient of the input is the same operation with the flipped kernel. The
gradient of the kernel is accumulated over rows as one elementwise expression of the kernel's shape,
since 49 reductions would take longer than everything else.

Both are compiled, so that a call outside a compiled function does not run 49 operations one by one.
Results equal those of XLA's convolution up to float32 rounding.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["depthwise_conv"]

# Positions per step of the kernel gradient's loop: more compile slowly, fewer cost overhead.
POSITIONS_PER_STEP = 32
# A picture with at most this many positions is one step, so that the sum stays in the cache.
SMALL_PICTURE = 49


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(x: jax.Array, kernel: jax.Array, dilation: int = 1) -> jax.Array:
    """Convolve each channel with its own kernel, keeping the size.

    Args:
        x: `(batch, height, width, channels)`.
        kernel: `(side, side, channels)`, an odd side.
        dilation: Distance between the positions that a kernel covers.

    Returns:
        An array of the shape of `x`.
    """
    return _shifted_products(x, kernel, dilation)


def _forward(
    x: jax.Array, kernel: jax.Array, dilation: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _shifted_products(x, kernel, dilation), (x, kernel)


def _backward(
    dilation: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    grad_x = _shifted_products(grad, kernel[::-1, ::-1], dilation)
    of_kernel = _kernel_gradient(x, grad, kernel.shape[0], dilation)
    return grad_x, of_kernel.astype(kernel.dtype)


depthwise_conv.defvjp(_forward, _backward)


def _pad(x: jax.Array, around: int) -> jax.Array:
    # The barrier keeps XLA from fusing the padding, which would add a test to each load.
    border = (around, around)
    return lax.optimization_barrier(jnp.pad(x, ((0, 0), border, border, (0, 0))))


@functools.partial(jax.jit, static_argnames="dilation")
def _shifted_products(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    height, width = x.shape[1:3]
    side, d = kernel.shape[0], dilation
    padded = _pad(x, d * (side // 2))
    # In float32 for any precision: the loop is bound by loads, not by arithmetic.
    products = (
        padded[:, d * i : d * i + height, d * j : d * j + width].astype(jnp.float32)
        * kernel[i, j].astype(jnp.float32)
        for i in _overlapping(side, height, d)
        for j in _overlapping(side, width, d)
    )
    return functools.reduce(jnp.add, products).astype(x.dtype)


def _overlapping(side: int, length: int, dilation: int) -> range:
    """Rows of the kernel that overlap a picture of this length, not only its padding."""
    centre, reach = side // 2, (length - 1) // dilation
    return range(max(0, centre - reach), min(side, centre + reach + 1))


@functools.partial(jax.jit, static_argnames=("side", "dilation"))
def _kernel_gradient(x: jax.Array, grad: jax.Array, side: int, dilation: int) -> jax.Array:
    batch, height, width, channels = x.shape
    padded = _pad(x, dilation * (side // 2)).astype(jnp.float32)
    grad = grad.astype(jnp.float32)
    if height * width <= SMALL_PICTURE:
        return _sum_over_pictures(padded, grad, side, dilation)
    most = max(1, POSITIONS_PER_STEP // width)
    rows = max(count for count in range(1, most + 1) if height % count == 0)
    reach = dilation * (side - 1)

    def add_rows(step: Any, total: jax.Array) -> jax.Array:
        window = lax.dynamic_slice_in_dim(padded, step * rows, reach + rows, axis=1)
        here = lax.dynamic_slice_in_dim(grad, step * rows, rows, axis=1)
        return total + _window_products(window, here, side, dilation)

    total = jnp.zeros((batch, side, side, channels), jnp.float32)
    return lax.fori_loop(0, height // rows, add_rows, total).sum(0)


def _sum_over_pictures(padded: jax.Array, grad: jax.Array, side: int, dilation: int) -> jax.Array:
    def add_picture(index: Any, total: jax.Array) -> jax.Array:
        window = lax.dynamic_slice_in_dim(padded, index, 1)
        here = lax.dynamic_slice_in_dim(grad, index, 1)
        return total + _window_products(window, here, side, dilation)

    total = jnp.zeros((1, side, side, grad.shape[-1]), jnp.float32)
    return lax.fori_loop(0, len(grad), add_picture, total)[0]


def _window_products(window: jax.Array, grad: jax.Array, side: int, dilation: int) -> jax.Array:
    """The gradient from the positions of `grad`: `(batch, side, side, channels)`."""
    reach = dilation * (side - 1) + 1
    products = (
        window[:, i : i + reach : dilation, j : j + reach : dilation]
        * grad[:, i : i + 1, j : j + 1]
        for i in range(grad.shape[1])
        for j in range(grad.shape[2])
    )
    return functools.reduce(jnp.add, products)
