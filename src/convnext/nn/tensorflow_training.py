"""What a block computes while TensorFlow trains it on a CPU, with gradients of its own.

TensorFlow's GELU and layer norm, with their gradients, are ten to fifteen passes over memory that
nothing fuses, and its gradient of a depthwise kernel takes 2 to 17 times as long as a loop over
rows. Here, elementwise chains and that loop are small functions compiled by XLA, and sums are
products of matrices. Convolutions and products stay with TensorFlow's kernels, faster than XLA's.

Gradients of the convolution's gradient raise TensorFlow's `InvalidArgumentError`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from convnext.nn.kernel_gradient import kernel_gradient

__all__ = ["depthwise_conv", "gelu_of_sum", "layer_norm"]

# With `tf.stop_gradient` on their inputs, forward functions keep nothing for TensorFlow's gradient.
_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def depthwise_conv(
    x: Any, kernel: Any, bias: Any, dilation: int, convolve: Callable[[Any, Any], Any]
) -> Any:
    """Depthwise convolution with stride 1, padded to keep the size.

    Args:
        x: `(batch, height, width, channels)`; height and width are known.
        kernel: `(side, side, channels, 1)`, an odd side.
        bias: `(channels,)`.
        dilation: Distance between the positions that a kernel covers.
        convolve: The convolution of `x` and `kernel` by TensorFlow's kernel.
    """
    around = [dilation * (kernel.shape[0] // 2)] * 2

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolved(x: Any, kernel: Any, bias: Any) -> Any:
        def gradient(towards: Any) -> tuple[Any, Any, Any]:
            of_x = convolve(towards, tf.reverse(kernel, [0, 1]))
            # Padded here, as XLA would fuse the padding, which adds a test to each load.
            padded = tf.pad(x, [[0, 0], around, around, [0, 0]])
            of_kernel, of_bias = _of_depthwise(padded, towards, kernel.shape[0], dilation)
            return of_x, tf.cast(of_kernel, kernel.dtype), tf.cast(of_bias, bias.dtype)

        return convolve(x, kernel) + bias, gradient

    return convolved(x, tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias))


@_compiled
def _of_depthwise(padded: Any, towards: Any, side: int, dilation: int) -> tuple[Any, Any]:
    padded, towards = _wide(padded), _wide(towards)
    of_kernel = kernel_gradient(padded, towards, side, dilation)
    return of_kernel[..., None], tf.reduce_sum(tf.reshape(towards, (-1, towards.shape[-1])), 0)


def gelu_of_sum(rows: Any, bias: Any) -> Any:
    """The exact GELU of `rows + bias`, `(positions, channels)` and `(channels,)`."""
    return _gelu(rows, tf.convert_to_tensor(bias))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _gelu(rows: Any, bias: Any) -> Any:
    def gradient(towards: Any) -> Any:
        return _of_gelu(rows, bias, towards)

    return _gelu_of_sum(tf.stop_gradient(rows), tf.stop_gradient(bias)), gradient


@_compiled
def _gelu_of_sum(rows: Any, bias: Any) -> Any:
    x = _wide(rows) + _wide(bias)
    return tf.cast(x * _normal_below(x), rows.dtype)


@_compiled
def _of_gelu(rows: Any, bias: Any, towards: Any) -> tuple[Any, Any]:
    x = _wide(rows) + _wide(bias)
    density = tf.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    of_x = _wide(towards) * (_normal_below(x) + x * density)
    return tf.cast(of_x, rows.dtype), tf.cast(tf.reduce_sum(of_x, 0), bias.dtype)


def _normal_below(x: Any) -> Any:
    """The probability that a normal variable is below `x`."""
    return 0.5 * (1 + tf.math.erf(x * math.sqrt(0.5)))


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Layer norm over the last axis, in float32 or wider."""
    # Sums over either axis are matrix products, several times as fast as TensorFlow's and XLA's.
    gamma, beta = (_wide(tf.convert_to_tensor(value)) for value in (gamma, beta))
    rows = _wide(tf.reshape(x, (-1, x.shape[-1])))
    epsilon = tf.constant(epsilon, rows.dtype)
    return tf.cast(tf.reshape(_layer_norm(rows, gamma, beta, epsilon), tf.shape(x)), x.dtype)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _layer_norm(rows: Any, gamma: Any, beta: Any, epsilon: Any) -> Any:
    channels = rows.shape[-1]
    each = tf.fill((channels, 1), tf.constant(1 / channels, rows.dtype))
    apart = rows - tf.matmul(rows, each)
    scale = tf.math.rsqrt(tf.matmul(apart * apart, each) + epsilon)  # (positions, 1)

    def gradient(towards: Any) -> tuple[Any, ...]:
        both = towards * apart
        weights = gamma[:, None] / channels
        of_mean, of_deviation = tf.matmul(towards, weights), tf.matmul(both, weights)
        of_rows = _of_layer_norm(apart, scale, gamma, towards, of_mean, of_deviation)
        of_gamma = tf.matmul(scale, both, transpose_a=True)[0]
        of_beta = tf.reduce_sum(towards, 0)
        return of_rows, of_gamma, of_beta, None

    return _scaled(*map(tf.stop_gradient, (apart, scale, gamma, beta))), gradient


@_compiled
def _scaled(apart: Any, scale: Any, gamma: Any, beta: Any) -> Any:
    return apart * scale * gamma + beta


@_compiled
def _of_layer_norm(
    apart: Any, scale: Any, gamma: Any, towards: Any, of_mean: Any, of_deviation: Any
) -> Any:
    return scale * (towards * gamma - of_mean - apart * (scale * scale * of_deviation))


def _wide(x: Any) -> Any:
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)
