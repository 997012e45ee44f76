"""Layers that Keras lacks or computes slowly: convolutions, linear, norms, layer scale, drop path.

They hold the parameters; `operations` has the computation. Every layer is registered under the
package name `convnext`, so that saved models load.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from convnext.nn.operations import (
    depthwise_conv,
    grn,
    layer_norm,
    linear,
    patch_conv,
    patches_along,
)

__all__ = [
    "GRN",
    "DepthwiseConv",
    "DropPath",
    "LayerNorm",
    "LayerScale",
    "Linear",
    "PatchConv",
    "RMSNorm",
]

Shape = tuple[int | None, ...]


def _other_than(usual: object, **option: object) -> dict[str, object]:
    """An entry for a layer's config, empty for the default, so that saved files do not change."""
    return {name: value for name, value in option.items() if value != usual}


@keras.saving.register_keras_serializable(package="convnext")
class DepthwiseConv(keras.layers.Layer):  # type: ignore[misc]
    """Depthwise convolution, stride 1, zero padding that keeps the size, with bias.

    Results and parameter shapes are those of `keras.layers.DepthwiseConv2D(padding="same")`:
    kernel `(size, size, channels, 1)` and bias `(channels,)`. The computation depends on the
    backend:

    - TensorFlow: the native kernel, without XLA by default (`supports_jit`), whose kernel is 25
      times slower or more. In training on a CPU, the gradient of the kernel is
      `convnext.nn.kernel_gradient`, a small function that XLA compiles.
    - JAX on a CPU: shifted products with their own gradient, see `convnext.nn.jax_depthwise`.
    - PyTorch, and JAX elsewhere: the native kernel.

    Args:
        kernel_size: Odd side of the kernel.
        kernel_initializer: Initializer of the kernel.
        dilation: Distance between the positions that a kernel covers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:
        >>> DepthwiseConv(7)(keras.ops.ones((1, 14, 14, 8))).shape
        (1, 14, 14, 8)
    """

    def __init__(
        self,
        kernel_size: int = 7,
        kernel_initializer: Any = "glorot_uniform",
        dilation: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def build(self, input_shape: Shape) -> None:
        """Create the kernel and the bias."""
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, 1),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Convolve `(batch, height, width, channels)`."""
        return depthwise_conv(x, self.kernel.value, self.bias.value, self.dilation, training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            **_other_than(1, dilation=self.dilation),
        }


@keras.saving.register_keras_serializable(package="convnext")
class PatchConv(keras.layers.Layer):  # type: ignore[misc]
    """The convolution of the stem and the downsamplings: a projection of each patch.

    As `keras.layers.Conv2D` with padding `"valid"`, or `"same"` where the stride is smaller than
    the kernel; `pads="both"` pads half a kernel on each side, as PyTorch does. On PyTorch, it
    avoids Conv2D's copies to other memory formats and its separate pass for the bias.

    Args:
        filters: Width of the output.
        kernel_size: Side of a patch.
        strides: Distance between patches.
        kernel_initializer: Initializer of the kernel.
        dilation: Distance between the positions that a patch covers.
        pads: `"auto"` or `"both"`.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int,
        kernel_initializer: Any = "glorot_uniform",
        dilation: int = 1,
        pads: Literal["auto", "both"] = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.dilation = dilation
        self.pads = pads
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Shape) -> None:
        """Create the kernel and the bias."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, input_shape[-1], self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, x: Any) -> Any:
        """Map `(batch, height, width, channels)` to patches of `filters` channels."""
        options = (self.strides, self.dilation, self.pads == "both")
        return patch_conv(x, self.kernel.value, self.bias.value, *options)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Height and width divided by the stride, rounded down without padding, else up."""
        both = self.pads == "both"
        sides = [
            None if side is None else patches_along(side, self.kernel_size, self.strides, both)
            for side in input_shape[1:3]
        ]
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            **_other_than(1, dilation=self.dilation),
            **_other_than("auto", pads=self.pads),
        }


@keras.saving.register_keras_serializable(package="convnext")
class Linear(keras.layers.Layer):  # type: ignore[misc]
    """A linear layer over the last axis, as `keras.layers.Dense`, with the bias inside the product.

    Dense adds the bias in a separate pass over the result, the widest tensor of a block. On
    TensorFlow the activation is fused too, if the runtime can.

    Args:
        units: Width of the output.
        activation: Name of the activation, or None.
        kernel_initializer: Initializer of the kernel.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Shape) -> None:
        """Create the kernel and the bias."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Map `(..., channels)` to `(..., units)`."""
        return linear(x, self.kernel.value, self.bias.value, self.activation, training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input, with `units` channels."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="convnext")
class GRN(keras.layers.Layer):  # type: ignore[misc]
    """Global response normalisation: scales channels by their relative norm over the picture.

    For each picture, `G[c]` is the L2 norm of channel `c` over all positions, `N[c]` is `G[c]`
    divided by the *mean* of `G` over channels, and the result is `gamma * (x * N) + beta + x`.
    (The paper divides by the sum; the published code and weights by the mean.) Both parameters
    start at zero, so the layer starts as the identity.

    Norms are computed in float32 for any precision, and their gradient is finite at zero.

    Args:
        epsilon: Added to the mean norm.
        **kwargs: Arguments of `keras.layers.Layer`.

    Reference: https://arxiv.org/abs/2301.00808, section 4.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        """Create gamma and beta, one value a channel."""
        self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer="zeros")
        self.beta = self.add_weight(name="beta", shape=input_shape[-1:], initializer="zeros")

    def call(self, x: Any) -> Any:
        """Normalise `(batch, height, width, channels)`."""
        return grn(x, self.gamma.value, self.beta.value, self.epsilon)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="convnext")
class LayerNorm(keras.layers.LayerNormalization):  # type: ignore[misc]
    """`keras.layers.LayerNormalization` over the last axis, with a faster gradient on TensorFlow.

    Args:
        epsilon: Added to the variance.
        **kwargs: Arguments of `keras.layers.LayerNormalization`.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, **kwargs)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Normalise `(..., channels)`, in float32 for any precision."""
        y = layer_norm(x, self.gamma.value, self.beta.value, self.epsilon, training)
        return ops.cast(y, self.compute_dtype)


@keras.saving.register_keras_serializable(package="convnext")
class RMSNorm(keras.layers.Layer):  # type: ignore[misc]
    """A norm over channels without subtracting the mean, with a scale for each but no shift.

    Args:
        epsilon: Added to the mean square.
        unbiased_variance: Whether to divide by the sample's standard deviation instead of the root
            mean square, as timm's simple norm.
        **kwargs: Arguments of `keras.layers.Layer`.

    Reference: https://arxiv.org/abs/1910.07467
    """

    def __init__(
        self, epsilon: float = 1e-6, unbiased_variance: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.unbiased_variance = unbiased_variance

    def build(self, input_shape: Shape) -> None:
        """Create the factors, initially 1."""
        self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer="ones")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Normalise `(..., channels)`, in float32 for any precision; the same in training."""
        del training
        wide = ops.cast(x, "float32")
        if self.unbiased_variance:
            channels = x.shape[-1]
            power = ops.var(wide, axis=-1, keepdims=True) * (channels / (channels - 1))
        else:
            power = ops.mean(ops.square(wide), axis=-1, keepdims=True)
        return x * ops.cast(ops.rsqrt(power + self.epsilon), x.dtype) * self.gamma.value

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "unbiased_variance": self.unbiased_variance,
        }


@keras.saving.register_keras_serializable(package="convnext")
class LayerScale(keras.layers.Layer):  # type: ignore[misc]
    """A learned factor for each channel, initially small so that blocks start near the identity.

    Args:
        initial_value: Of every factor.
        **kwargs: Arguments of `keras.layers.Layer`.

    Reference: https://arxiv.org/abs/2103.17239
    """

    def __init__(self, initial_value: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape: Shape) -> None:
        """Create the factors."""
        self.gamma = self.add_weight(
            name="gamma",
            shape=input_shape[-1:],
            initializer=keras.initializers.Constant(self.initial_value),
        )

    def call(self, x: Any) -> Any:
        """Scale each channel."""
        return x * self.gamma.value

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "initial_value": self.initial_value}


@keras.saving.register_keras_serializable(package="convnext")
class DropPath(keras.layers.Layer):  # type: ignore[misc]
    """Stochastic depth: while training, zero a residual branch for some of the pictures.

    Each picture of a batch is dropped with probability `rate`; the others are divided by
    `1 - rate`, so that the expectation does not change. At inference nothing is dropped.

    Args:
        rate: Probability of dropping, in [0, 1).
        seed: Seed of the random choice.
        **kwargs: Arguments of `keras.layers.Layer`.

    Reference: https://arxiv.org/abs/1603.09382
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Drop whole pictures of `(batch, ...)` while training."""
        if not training or self.rate == 0:
            return x
        keep = 1.0 - self.rate
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        # Drawn in float32, as half precision would round the probability.
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) < keep
        return x * (ops.cast(kept, x.dtype) / keep)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
