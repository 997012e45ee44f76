"""The layers' computations, in the fastest form for the backend and device.

For example, Keras compiles with XLA by default, whose depthwise convolution on a CPU is 25 to 130
times slower than the form used here. Only this file distinguishes backends and devices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

__all__ = [
    "SMALLEST_SQUARED_NORM",
    "depthwise_conv",
    "grn",
    "jax_runs_on_cpu",
    "keeps_less",
    "layer_norm",
    "linear",
    "patch_conv",
    "patches_along",
    "portable_gradients",
    "recomputed",
    "take_positions",
]

# Minimum of GRN's squared norms, far below its epsilon: a root's gradient at zero is infinite.
SMALLEST_SQUARED_NORM = 1e-24


def depthwise_conv(
    x: Any, kernel: Any, bias: Any, dilation: int = 1, training: bool | None = False
) -> Any:
    """Depthwise convolution with stride 1, padded to keep the size."""
    backend = keras.backend.backend()
    if backend == "torch":
        from convnext.nn.torch_depthwise import depthwise_conv as on_torch

        x = x.permute(0, 3, 1, 2)  # a view in PyTorch's channels-last format: nothing is copied
        return on_torch(x, kernel.permute(2, 3, 0, 1), bias, dilation).permute(0, 2, 3, 1)
    if jax_runs_on_cpu():
        from convnext.nn.jax_depthwise import depthwise_conv as on_jax

        return on_jax(x, kernel[..., 0], dilation) + bias
    options = {"padding": "same", "data_format": "channels_last", "dilation_rate": dilation}
    convolve = functools.partial(ops.depthwise_conv, **options)
    if _tensorflow_trains_on_cpu(training) and None not in x.shape[1:]:
        from convnext.nn.tensorflow_training import depthwise_conv as in_training

        return in_training(x, kernel, bias, dilation, convolve)
    return convolve(x, kernel) + bias


def patch_conv(
    x: Any, kernel: Any, bias: Any, stride: int, dilation: int = 1, pads_both: bool = False
) -> Any:
    """Convolve patches; a stride smaller than the patch pads the picture instead of cutting it."""
    side = kernel.shape[0]
    cuts = stride == side and not pads_both
    around = side // 2 if pads_both else 0
    if (cuts or pads_both) and keras.backend.backend() == "torch":
        from torch.nn.functional import conv2d

        nchw = x.permute(0, 3, 1, 2)
        y = conv2d(nchw, kernel.permute(3, 2, 0, 1), bias, stride=stride, padding=around)
        return y.permute(0, 2, 3, 1)
    if pads_both:
        x = ops.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
    padding = "valid" if cuts or pads_both else "same"
    y = ops.conv(x, kernel, stride, padding, "channels_last", dilation)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # TensorFlow 2.21 gives the convolution of an empty batch the shape of its input.
        batch, *sides = tf.unstack(tf.shape(x)[:3])
        sides = [patches_along(s - 2 * around, side, stride, pads_both) for s in sides]
        y = tf.reshape(y, (batch, *sides, kernel.shape[-1]))
    return y + bias


def patches_along(side: Any, kernel_size: int, stride: int, pads_both: bool = False) -> Any:
    """Number of patches along a side, rounded down without padding, else up."""
    cuts = stride == kernel_size and not pads_both
    return (side if cuts else side + stride - 1) // stride


def linear(x: Any, kernel: Any, bias: Any, activation: Any, training: bool | None = False) -> Any:
    """A linear layer and its activation, in as few passes as the backend can."""
    backend = keras.backend.backend()
    if backend == "torch":
        from torch.nn import functional

        return activation(functional.linear(x, kernel.t(), bias))
    if backend == "tensorflow":
        import tensorflow as tf

        rows = tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), kernel)
        gelu = activation is keras.activations.gelu
        if gelu and _tensorflow_trains_on_cpu(training):
            from convnext.nn.tensorflow_training import gelu_of_sum

            rows = gelu_of_sum(rows, bias)
        else:
            # TensorFlow fuses exactly this sequence: MatMul, BiasAdd, activation.
            rows = tf.nn.bias_add(rows, bias)
            # TensorFlow's GELU uses erfc, which tf2onnx and LiteRT lack (2026-11).
            full = gelu and rows.dtype == tf.float32
            rows = _gelu_of_erf(rows) if full else activation(rows)
        return tf.reshape(rows, tf.concat([tf.shape(x)[:-1], kernel.shape[1:]], 0))
    if x.dtype == "bfloat16" and jax_runs_on_cpu():
        from convnext.nn.jax_product import product

        # In float32, as XLA rounds after each operation in bfloat16.
        rows = product(x, kernel) + bias
    else:
        rows = ops.matmul(x, kernel) + bias
    if activation is keras.activations.gelu and backend == "jax":
        # JAX's exact GELU uses erfc, which takes 2.5 times as long with XLA on a CPU.
        activation = _gelu_of_erf
    return ops.cast(activation(rows), x.dtype)


def _gelu_of_erf(x: Any) -> Any:
    return 0.5 * x * (1 + ops.erf(x * math.sqrt(0.5)))


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float, training: bool | None) -> Any:
    """Layer norm over the last axis, in float32 or wider."""
    if _tensorflow_trains_on_cpu(training):
        from convnext.nn.tensorflow_training import layer_norm as in_training

        return in_training(x, gamma, beta, epsilon)
    return ops.layer_normalization(x, gamma, beta, -1, epsilon)


# Whether models are traced for a file that others read.
_portable = ContextVar("_portable", default=False)


@contextmanager
def portable_gradients() -> Iterator[None]:
    """Within it, TensorFlow's own gradients are used in training: readers of a file have them."""
    before = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(before)


def _tensorflow_trains_on_cpu(training: bool | None) -> bool:
    """Whether TensorFlow trains on a CPU, where fewer passes over memory count."""
    if keras.backend.backend() != "tensorflow" or training is not True or _portable.get():
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def jax_runs_on_cpu() -> bool:
    """Whether the backend is JAX on a CPU, where XLA is slow."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return bool(jax.default_backend() == "cpu")


def keeps_less(x: Any, hidden: int) -> bool:
    """Whether `convnext.nn.torch_bottleneck` is for this input and width of the hidden layer."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    from convnext.nn.torch_bottleneck import SMALLEST

    if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return bool(x.numel() // x.shape[-1] * hidden >= SMALLEST)


def grn(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Global response normalisation of `(batch, height, width, channels)`, norms in float32."""
    if keras.backend.backend() == "torch":
        from convnext.nn.torch_grn import grn as on_torch

        return on_torch(x, gamma, beta, epsilon, SMALLEST_SQUARED_NORM)
    squares = ops.sum(ops.square(ops.cast(x, "float32")), axis=(1, 2), keepdims=True)
    norm = ops.sqrt(ops.maximum(squares, SMALLEST_SQUARED_NORM))  # (B, 1, 1, C)
    relative = norm / (ops.mean(norm, axis=-1, keepdims=True) + epsilon)
    scale = 1.0 + ops.cast(gamma, "float32") * relative
    return x * ops.cast(scale, x.dtype) + beta


def recomputed(function: Any, x: Any) -> Any:
    """`function(x)`, computed again for its gradient instead of keeping intermediate results.

    Args:
        function: A function without random numbers, which would differ the second time.
        x: A tensor.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        from torch.utils.checkpoint import checkpoint

        return checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.recompute_grad(function)(x)
    import jax

    return jax.checkpoint(function)(x)


def take_positions(x: Any, positions: Any) -> Any:
    """Gather rows of each picture from `(batch, n, channels)` by the indices `(batch, m)`."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        batch, count, channels = x.shape
        first = count * torch.arange(batch, device=x.device)[:, None]
        taken = x.reshape(-1, channels).index_select(0, (positions + first).flatten())
        return taken.reshape(batch, -1, channels)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.gather(x, positions, axis=1, batch_dims=1)
    from jax import numpy as jnp

    return jnp.take_along_axis(x, positions[..., None], axis=1, mode="promise_in_bounds")
