"""The ConvNeXt block: depthwise convolution, norm, inverted bottleneck and residual connection.

References: https://arxiv.org/abs/2201.03545 (V1), https://arxiv.org/abs/2301.00808 (V2).
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras

from convnext.architecture import Arithmetic
from convnext.nn.activations import kind_of
from convnext.nn.initializers import Normal
from convnext.nn.layers import GRN, DepthwiseConv, DropPath, LayerNorm, LayerScale, Linear, RMSNorm
from convnext.nn.operations import SMALLEST_SQUARED_NORM, keeps_less, recomputed
from convnext.nn.visible import Positions, listed, mapped

__all__ = ["Block", "kernel_initializer", "norm"]

KERNEL_STDDEV = 0.02  # the authors truncate at 100 standard deviations: not at all


def kernel_initializer(scale: float = 1.0) -> keras.Initializer:
    """Create the authors' initializer of kernels, times a factor."""
    # A new one for each layer, as a shared one would give all layers the same values.
    return Normal(KERNEL_STDDEV * scale)


def norm(name: str, kind: str = "layer", epsilon: float = 1e-6, dtype: Any = None) -> keras.Layer:
    """Create a norm over channels, see `convnext.steps.Norm`."""
    if kind == "layer":
        return LayerNorm(epsilon, name=name, dtype=dtype)
    return RMSNorm(epsilon, unbiased_variance=kind == "simple", name=name, dtype=dtype)


@keras.saving.register_keras_serializable(package="convnext")
class Block(keras.layers.Layer):  # type: ignore[misc]
    """The ConvNeXt block: depthwise convolution, inverted bottleneck and residual connection.

    Args:
        grn: Whether the hidden layer is followed by global response normalisation (V2).
        layer_scale: Initial value of the layer scale after the bottleneck (V1); None for none.
        drop_path: Probability of dropping the branch of a picture in training.
        activation: Of the hidden layer; `"gelu"` is the exact one.
        kernel: Side of the depthwise kernel.
        dilation: Of the depthwise convolution.
        expansion: Ratio of the hidden layer's width to the block's.
        norm: `"layer"`, `"rms"` or `"simple"`, see `convnext.steps.Norm`.
        epsilon: Of the norm.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        grad_checkpointing: Whether training computes the branch again for its gradient instead of
            keeping its intermediate results.
    """

    USUAL: ClassVar[dict[str, Any]] = {
        "kernel": 7,
        "dilation": 1,
        "expansion": 4,
        "norm": "layer",
        "epsilon": 1e-6,
    }

    def __init__(
        self,
        *,
        grn: bool = False,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        activation: Any = "gelu",
        **kwargs: Any,
    ) -> None:
        self.traits = {name: kwargs.pop(name, usual) for name, usual in self.USUAL.items()}
        super().__init__(**kwargs)
        self.use_grn = grn
        self.layer_scale_value = layer_scale
        self.drop_path_rate = drop_path
        self.activation = keras.activations.get(activation)
        self.grad_checkpointing = False

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the sublayers for inputs `(batch, height, width, dim)`."""
        dim, traits = input_shape[-1], self.traits
        dtype = self.dtype_policy
        hidden = traits["expansion"] * dim
        hidden_shape = (*input_shape[:-1], hidden)

        def linear(width: int, name: str, activation: Any = None) -> keras.Layer:
            return Linear(width, activation, kernel_initializer(), name=name, dtype=dtype)

        self.dwconv = DepthwiseConv(
            traits["kernel"],
            kernel_initializer(),
            dilation=traits["dilation"],
            name="dwconv",
            dtype=dtype,
        )
        self.norm = norm("norm", traits["norm"], traits["epsilon"], dtype)
        self.pwconv1 = linear(hidden, "pwconv1", self.activation)
        self.grn = GRN(name="grn", dtype=dtype) if self.use_grn else None
        self.pwconv2 = linear(dim, "pwconv2")
        self.layer_scale = (
            LayerScale(self.layer_scale_value, name="layer_scale", dtype=dtype)
            if self.layer_scale_value is not None
            else None
        )
        self.drop_path = DropPath(self.drop_path_rate, name="drop_path", dtype=dtype)
        for layer in (self.dwconv, self.norm, self.pwconv1, self.layer_scale):
            if layer is not None:
                layer.build(input_shape)
        for layer in (self.grn, self.pwconv2):
            if layer is not None:
                layer.build(hidden_shape)

    def call(self, x: Any, positions: Positions | None = None, training: bool | None = None) -> Any:
        """Map `(batch, height, width, dim)` to the same shape.

        With `positions`, input and output are lists of positions, `(batch, count, 1, dim)`, and the
        convolution sees zeros at all other positions.
        """

        def branch(x: Any) -> Any:
            return self._branch(x, positions, training)

        again = self.grad_checkpointing and training
        # Outside `recomputed`, so that the random choice is made once.
        return x + self.drop_path.call(recomputed(branch, x) if again else branch(x), training)

    def _branch(self, x: Any, positions: Positions | None, training: bool | None) -> Any:
        # Calls `call` of the sublayers, as `__call__` of each would take longer than the arithmetic
        # of a small block; this layer's `__call__` has cast the inputs already.
        if positions is None:
            branch = self.dwconv.call(x, training)
        else:
            branch = listed(self.dwconv.call(mapped(x, positions), training), positions)
        branch = self.norm.call(branch, training)
        if self.activation is keras.activations.gelu and keeps_less(branch, self.pwconv1.units):
            return self._bottleneck_on_torch(branch)
        branch = self.pwconv1.call(branch, training)  # (B, H, W, 4 dim)
        if self.grn is not None:
            branch = self.grn.call(branch)
        branch = self.pwconv2.call(branch, training)  # (B, H, W, dim)
        if self.layer_scale is not None:
            branch = self.layer_scale.call(branch)
        return branch

    def _bottleneck_on_torch(self, x: Any) -> Any:
        """The layers behind the norm, with less memory for the gradient."""
        from convnext.nn.torch_bottleneck import Bottleneck, bottleneck

        first, grn, second, scale = self.pwconv1, self.grn, self.pwconv2, self.layer_scale
        parameters = Bottleneck(
            first.kernel.value,
            first.bias.value,
            second.kernel.value,
            second.bias.value,
            None if grn is None else grn.gamma.value,
            None if grn is None else grn.beta.value,
            None if scale is None else scale.gamma.value,
        )
        epsilon = 0.0 if grn is None else grn.epsilon
        return bottleneck(x, parameters, epsilon, SMALLEST_SQUARED_NORM)

    @property
    def arithmetic(self) -> Arithmetic:
        """The traits that do not follow from the parameters' names and shapes."""
        traits = self.traits
        return Arithmetic(traits["epsilon"], kind_of(self.activation), traits["norm"])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor; traits with their default are left out."""
        unusual = {k: value for k, value in self.traits.items() if value != self.USUAL[k]}
        return {
            **super().get_config(),
            "grn": self.use_grn,
            "layer_scale": self.layer_scale_value,
            "drop_path": self.drop_path_rate,
            "activation": keras.activations.serialize(self.activation),
            **unusual,
        }
