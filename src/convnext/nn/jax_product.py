"""Products of bfloat16 matrices for JAX on a CPU, whose processor may have them in hardware.

XLA computes a product with a bfloat16 result from float32 copies of its inputs, at the speed of
float32 and slower (jaxlib 0.10.2); with a float32 result it uses the processor's own instruction, 5
times as fast with AMX. That holds for the result and for the gradient of `x`, but not for that of
the kernel, which sums over rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["product"]


@jax.custom_vjp  # type: ignore[untyped-decorator]
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiply `(..., inputs)` by `(inputs, outputs)`, added up and returned in float32."""
    return _product(x, kernel, 0)


def _product(x: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
    axes = (((x.ndim - 1,), (axis,)), ((), ()))
    return lax.dot_general(x, kernel, axes, preferred_element_type=jnp.float32)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    grad = grad.astype(x.dtype)
    rows = tuple(range(x.ndim - 1))
    of_kernel = lax.dot_general(
        x, grad, ((rows, rows), ((), ())), preferred_element_type=jnp.float32
    )
    return _product(grad, kernel, 1).astype(x.dtype), of_kernel.astype(kernel.dtype)


product.defvjp(_forward, _backward)
