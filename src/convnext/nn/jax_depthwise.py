"""Depthwise convolution for JAX on a CPU, as sums of shifted products with their own gradient.

XLA's depthwise convolution is slow on a CPU: one of 7x7 over 8x56x56x96 takes about 150 ms, and
240 ms more for its gradients. Written as 49 shifted elementwise products, which XLA fuses into one
loop, it takes 5 ms. The gradient of the input is the same operation with the flipped kernel; that
of the kernel is `convnext.nn.kernel_gradient`.

Both are compiled, so that a call outside a compiled function does not run 49 operations one by one.
Results equal those of XLA's convolution up to float32 rounding.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from convnext.nn.kernel_gradient import kernel_gradient

__all__ = ["depthwise_conv"]


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
    padded = _pad(x, dilation * (side // 2)).astype(jnp.float32)
    return kernel_gradient(padded, grad.astype(jnp.float32), side, dilation)
