"""THE architecture: ConvNeXt V1 and V2 as one functional Keras model. Read it top to bottom.

V2 is V1 with a switch: global response normalisation inside each block instead of layer scale
behind it. Everything is channels last. Layers have stable names, the same for every variant:

    images -> [normalization] -> stem_conv -> stem_norm
           -> stage_0_block_0 ... -> stage_0
           -> downsample_1_norm -> downsample_1_conv -> stage_1_block_0 ... -> stage_1
           -> ... -> stage_3 -> head_pool -> head_norm -> head

`model.get_layer("stage_2").output` is the third feature map, whatever the variant.

This file knows nothing of files, foreign names, pictures or optimizers.

References: https://arxiv.org/abs/2201.03545 (V1), https://arxiv.org/abs/2301.00808 (V2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from convnext.architecture import (
    BLOCK_KERNEL,
    DOWNSAMPLE_KERNEL,
    EXPANSION,
    PUBLISHED_STRIDES,
    STEM_KERNEL,
    Strides,
    Variant,
)
from convnext.errors import ArgumentError
from convnext.images.recipe import IMAGENET_MEAN, IMAGENET_STD
from convnext.nn.initializers import Normal
from convnext.nn.layers import GRN, DepthwiseConv, DropPath, LayerScale, Linear, PatchConv
from convnext.nn.visible import Places, listed, mapped

__all__ = [
    "Block",
    "build_model",
    "encode",
    "feature_maps",
    "head",
    "normalize_pixels",
    "output_norm",
]

NORM_EPSILON = 1e-6
KERNEL_STDDEV = 0.02  # the authors' truncation, at 100 standard deviations, never truncates
STAGES = range(4)


def _kernel_initializer(scale: float = 1.0) -> keras.Initializer:
    # One initializer a layer: an instance that is shared would give every layer the same values.
    return Normal(KERNEL_STDDEV * scale)


def _norm(name: str, dtype: Any = None, epsilon: float = NORM_EPSILON) -> keras.Layer:
    return keras.layers.LayerNormalization(epsilon=epsilon, name=name, dtype=dtype)


def output_norm(x: Any, name: str) -> Any:
    """The norm that a dense-prediction backbone puts on one of its feature maps."""
    return _norm(name)(x)


def _patch_conv(width: int, kernel: int, stride: int, name: str) -> keras.Layer:
    return PatchConv(width, kernel, stride, _kernel_initializer(), name=name)


@keras.saving.register_keras_serializable(package="convnext")
class Block(keras.layers.Layer):  # type: ignore[misc]
    """The ConvNeXt block: a 7x7 depthwise convolution, then an inverted bottleneck, then a skip.

    Args:
        grn: Whether the hidden layer is followed by global response normalisation (V2).
        layer_scale: Initial value of the factor behind the bottleneck (V1); None for no factor.
        drop_path: Probability with which training drops the branch, for each picture.
        activation: Name of the hidden layer's activation; `"gelu"` is the exact one.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(
        self,
        *,
        grn: bool = False,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        activation: Any = "gelu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.use_grn = grn
        self.layer_scale_value = layer_scale
        self.drop_path_rate = drop_path
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the sublayers for inputs `(batch, height, width, dim)`."""
        dim = input_shape[-1]
        dtype = self.dtype_policy
        hidden_shape = (*input_shape[:-1], EXPANSION * dim)

        def linear(width: int, name: str, activation: Any = None) -> keras.Layer:
            return Linear(width, activation, _kernel_initializer(), name=name, dtype=dtype)

        self.dwconv = DepthwiseConv(BLOCK_KERNEL, _kernel_initializer(), name="dwconv", dtype=dtype)
        self.norm = _norm("norm", dtype)
        self.pwconv1 = linear(EXPANSION * dim, "pwconv1", self.activation)
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

    def call(self, x: Any, places: Places | None = None, training: bool | None = None) -> Any:
        """Map `(batch, height, width, dim)` to the same shape.

        With `places` it maps the list of a map's places, `(batch, count, 1, dim)`, to such a list,
        as a convolution does that knows no others.
        """
        # Sublayers are entered by `call`: this layer's own `__call__` has cast and scoped already,
        # and seven more of them cost more than a small block's arithmetic.
        if places is None:
            branch = self.dwconv.call(x)
        else:
            branch = listed(self.dwconv.call(mapped(x, places)), places)
        branch = self.norm.call(branch)
        branch = self.pwconv1.call(branch)  # (B, H, W, 4 dim)
        if self.grn is not None:
            branch = self.grn.call(branch)
        branch = self.pwconv2.call(branch)  # (B, H, W, dim)
        if self.layer_scale is not None:
            branch = self.layer_scale.call(branch)
        return x + self.drop_path.call(branch, training=training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {
            **super().get_config(),
            "grn": self.use_grn,
            "layer_scale": self.layer_scale_value,
            "drop_path": self.drop_path_rate,
            "activation": keras.activations.serialize(self.activation),
        }


def normalize_pixels(x: Any) -> Any:
    """Subtract ImageNet's mean and divide by its deviation, from pixels in 0..255.

    Three channels are taken as red, green, blue; any other number is normalised with the average
    of the three, so that every channel arrives in the range the model expects.
    """
    channels = x.shape[-1]
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    if channels != len(mean):
        mean, std = np.full(channels, mean.mean()), np.full(channels, std.mean())
    return keras.layers.Normalization(
        mean=(255 * mean).tolist(),
        variance=((255 * std) ** 2).tolist(),
        name="normalization",
        dtype="float32",  # half precision cannot hold a pixel's distance from the mean
    )(x)


def encode(
    x: Any,
    variant: Variant,
    *,
    layer_scale_init_value: float | None,
    patch_size: int = STEM_KERNEL,
    strides: Sequence[int] = PUBLISHED_STRIDES,
    drop_path_rate: float = 0.0,
    activation: Any = "gelu",
) -> list[Any]:
    """The stem and the stages: pictures in, one feature map for each stage out.

    Args:
        x: Symbolic pictures `(batch, height, width, channels)`, already normalised.
        variant: Depths, widths, and whether there is GRN.
        layer_scale_init_value: Where layer scale starts; None or 0 for none.
        patch_size: Side of the stem's patches.
        strides: Of the stem and of the downsamplings, one for each stage.
        drop_path_rate: Of the last block; it rises linearly from 0 at the first.
        activation: Inside the blocks.
    """
    drop_rates = iter(np.linspace(0.0, drop_path_rate, variant.num_blocks).tolist())
    layer_scale = layer_scale_init_value or None
    maps = []
    for stage, (depth, dim) in enumerate(zip(variant.depths, variant.dims, strict=True)):
        if stage == 0:
            x = _patch_conv(dim, patch_size, strides[0], "stem_conv")(x)  # (B, H/4, W/4, dim)
            x = _norm("stem_norm")(x)
        else:
            x = _norm(f"downsample_{stage}_norm")(x)
            name = f"downsample_{stage}_conv"
            x = _patch_conv(dim, DOWNSAMPLE_KERNEL, strides[stage], name)(x)  # half of each side
        for block in range(depth):
            x = Block(
                grn=variant.has_grn,
                layer_scale=layer_scale,
                drop_path=next(drop_rates),
                activation=activation,
                name=f"stage_{stage}_block_{block}",
            )(x)
        x = keras.layers.Identity(name=f"stage_{stage}")(x)
        maps.append(x)
    return maps


def _head_dtype() -> Any:
    # A few thousand numbers: half precision gains nothing here and costs digits of the answer.
    policy = keras.config.dtype_policy()
    return "float32" if policy.compute_dtype in ("float16", "bfloat16") else policy


def head(
    x: Any,
    *,
    pooling: str | None = "avg",
    norm: bool = True,
    norm_epsilon: float = NORM_EPSILON,
    num_classes: int = 0,
    activation: Any = None,
    init_scale: float = 1.0,
) -> Any:
    """What follows the last feature map: pooling, then the norm, then the classifier.

    Args:
        x: The last feature map `(batch, height, width, dim)`.
        pooling: `"avg"`, `"max"`, or None to keep the map.
        norm: Whether the result is layer-normalised.
        norm_epsilon: Of that norm; transformers has another than the authors.
        num_classes: Width of the classifier; 0 for none.
        activation: Of the classifier; None for logits.
        init_scale: Multiplies the classifier's initial weights.
    """
    dtype = _head_dtype()
    if pooling is not None:
        pools = {
            "avg": keras.layers.GlobalAveragePooling2D,
            "max": keras.layers.GlobalMaxPooling2D,
        }
        x = pools[pooling](data_format="channels_last", name="head_pool", dtype=dtype)(
            x
        )  # (B, dim)
    if norm:
        x = _norm("head_norm", dtype, norm_epsilon)(x)
    if num_classes:
        x = keras.layers.Dense(
            num_classes,
            activation=activation,
            kernel_initializer=_kernel_initializer(init_scale),
            name="head",
            dtype=dtype,
        )(x)
    return x


def build_model(  # noqa: PLR0913
    variant: Variant,
    *,
    layer_scale_init_value: float | None,
    input_shape: Sequence[int | None] = (224, 224, 3),
    strides: Strides = PUBLISHED_STRIDES,
    num_classes: int = 1000,
    include_top: bool = True,
    pooling: str | None = None,
    drop_path_rate: float = 0.0,
    classifier_activation: Any = "softmax",
    include_preprocessing: bool = False,
    head_init_scale: float = 1.0,
    name: str | None = None,
) -> keras.Model:
    """A whole model. The doors check their arguments and call this.

    Without the top, `pooling=None` gives the last feature map as it is, and `"avg"` or `"max"` the
    pooled vector after the head's norm: what the classifier would have seen.
    """
    inputs = keras.Input(tuple(input_shape), name="images")
    x = normalize_pixels(inputs) if include_preprocessing else inputs
    x = encode(
        x,
        variant,
        layer_scale_init_value=layer_scale_init_value,
        strides=strides,
        drop_path_rate=drop_path_rate,
    )[-1]
    if include_top:
        x = head(
            x,
            num_classes=num_classes,
            activation=classifier_activation,
            init_scale=head_init_scale,
        )
    else:
        x = head(x, pooling=pooling, norm=pooling is not None)
    return keras.Model(inputs, x, name=name or variant.name)


def feature_maps(model: keras.Model) -> keras.Model:
    """The same network with the four stages' feature maps as its outputs.

    Example:
        >>> from convnext.architecture import VARIANTS
        >>> model = build_model(
        ...     VARIANTS["test_v2"], layer_scale_init_value=None, input_shape=(64, 64, 3)
        ... )
        >>> [m.shape for m in feature_maps(model).outputs]
        [(None, 16, 16, 8), (None, 8, 8, 16), (None, 4, 4, 24), (None, 2, 2, 32)]
    """
    names = {layer.name for layer in model.layers}
    wanted = [f"stage_{stage}" for stage in STAGES]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ArgumentError(
            f"The model {model.name!r} has no layers {', '.join(missing)}: it is not a ConvNeXt "
            "model of this package. Build one with create_convnext_v1 or create_convnext_v2."
        )
    outputs = [model.get_layer(name).output for name in wanted]
    return keras.Model(model.input, outputs, name=f"{model.name}_features")
