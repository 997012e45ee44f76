"""ConvNeXt of every architecture as a functional Keras model.

A `convnext.architecture.Architecture` selects the traits: V2 is V1 with global response
normalisation inside each block instead of layer scale after it. Everything is channels last. Layers
have stable names, the same for every architecture:

    images -> [normalization] -> stem_conv -> [stem_conv_2 or stem_act_conv] -> stem_norm
           -> stage_0_block_0 ... -> stage_0
           -> downsample_1_norm -> downsample_1_conv -> stage_1_block_0 ... -> stage_1
           -> ... -> stage_3 -> [map_norm] -> head_pool -> [head_norm] -> [head_hidden]
           -> [head_projection -> head_unit] -> head

`model.get_layer("stage_2").output` is the third feature map, and `with_outputs` creates a model
with any outputs.

References: https://arxiv.org/abs/2201.03545 (V1), https://arxiv.org/abs/2301.00808 (V2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from convnext.architecture import (
    DOWNSAMPLE_KERNEL,
    STEM_KERNEL,
    Architecture,
    Geometry,
)
from convnext.images.recipe import IMAGENET_MEAN, IMAGENET_STD
from convnext.nn.activations import FUNCTIONS
from convnext.nn.block import Block, kernel_initializer, norm
from convnext.nn.layers import PatchConv

__all__ = [
    "Block",
    "build_model",
    "classify",
    "dense",
    "encode",
    "head_dtype",
    "normalize_pixels",
    "output_norm",
    "pool",
    "with_outputs",
]


def output_norm(x: Any, name: str) -> Any:
    """Apply a norm to a feature map of a backbone for dense prediction."""
    return norm(name)(x)


def normalize_pixels(x: Any) -> Any:
    """Subtract ImageNet's mean and divide by its deviation, from pixels in 0..255.

    Three channels are red, green and blue; any other number is normalised with the averages of the
    three statistics.
    """
    channels = x.shape[-1]
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    if channels != len(mean):
        mean, std = np.full(channels, mean.mean()), np.full(channels, std.mean())
    return keras.layers.Normalization(
        mean=(255 * mean).tolist(),
        variance=((255 * std) ** 2).tolist(),
        name="normalization",
        dtype="float32",  # half precision is too coarse for pixels minus the mean
    )(x)


def _stem(x: Any, architecture: Architecture, stride: int) -> Any:
    def conv(x: Any, width: int, kernel: int, stride: int, name: str, pads: Any) -> Any:
        return PatchConv(width, kernel, stride, kernel_initializer(), pads=pads, name=name)(x)

    dim = architecture.dims[0]
    if architecture.stem == "patch":
        x = conv(x, dim, architecture.patch, stride, "stem_conv", "auto")  # (B, H/4, W/4, dim)
    else:
        name, first = "stem_conv_2", min(stride, 2)
        x = conv(x, architecture.stem_width, STEM_KERNEL, first, "stem_conv", "both")
        if architecture.stem == "overlap_act":
            name = "stem_act_conv"
            x = keras.layers.Activation(FUNCTIONS[architecture.activation], name="stem_act")(x)
        x = conv(x, dim, STEM_KERNEL, stride // first, name, "both")  # (B, H/4, W/4, dim)
    if architecture.stem_norm:
        x = norm("stem_norm", architecture.norm, architecture.epsilon)(x)
    return x


def encode(
    x: Any,
    architecture: Architecture,
    *,
    layer_scale_init_value: float | None = 1e-6,
    geometry: Geometry | None = None,
    drop_path_rate: float = 0.0,
    activation: Any = None,
) -> list[Any]:
    """Apply the stem and the stages; returns the feature map of each stage.

    Args:
        x: Symbolic pictures `(batch, height, width, channels)`, already normalised.
        architecture: The traits of the network.
        layer_scale_init_value: Initial value of layer scale, if the architecture has it.
        geometry: Strides and dilations; by default as published.
        drop_path_rate: Of the last block; it rises linearly from 0 at the first.
        activation: Any Keras activation, to replace the architecture's in the blocks.
    """
    strides, dilations = geometry or Geometry(architecture.strides)
    dilations = dilations or (1,) * len(architecture.depths)
    drop_rates = iter(np.linspace(0.0, drop_path_rate, architecture.num_blocks).tolist())
    layer_scale = (layer_scale_init_value or None) if architecture.layer_scale else None
    maps = []
    for stage, (depth, dim) in enumerate(zip(architecture.depths, architecture.dims, strict=True)):
        if stage == 0:
            x = _stem(x, architecture, strides[0])
        else:
            x = norm(f"downsample_{stage}_norm", architecture.norm, architecture.epsilon)(x)
            x = PatchConv(
                dim,
                DOWNSAMPLE_KERNEL,
                strides[stage],
                kernel_initializer(),
                dilation=dilations[stage - 1] if strides[stage] == 1 else 1,
                name=f"downsample_{stage}_conv",
            )(x)  # half of each side
        for block in range(depth):
            x = Block(
                grn=architecture.grn,
                layer_scale=layer_scale,
                drop_path=next(drop_rates),
                activation=activation or FUNCTIONS[architecture.activation],
                kernel=architecture.kernel(stage),
                dilation=dilations[stage],
                expansion=architecture.expansion,
                norm=architecture.norm,
                epsilon=architecture.epsilon,
                name=f"stage_{stage}_block_{block}",
            )(x)
        x = keras.layers.Identity(name=f"stage_{stage}")(x)
        maps.append(x)
    return maps


def head_dtype() -> Any:
    """The dtype of a head, float32: it is small, so half precision would only be less accurate."""
    policy = keras.config.dtype_policy()
    return "float32" if policy.compute_dtype in ("float16", "bfloat16") else policy


def pool(x: Any, architecture: Architecture, pooling: str | None = "avg") -> Any:
    """Pool the last feature map, with the head's norm, to the input of the classifier.

    Args:
        x: The map `(batch, height, width, dim)`.
        architecture: Says whether the norm is before or after the pooling, and its kind.
        pooling: `"avg"`, `"max"`, `"avgmax"` for the mean of both, or None to only normalise each
            position of the map.
    """
    dtype, epsilon = head_dtype(), architecture.head_epsilon or architecture.epsilon

    def pooled(x: Any, kind: str, name: str) -> Any:
        kinds = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
        return kinds[kind](data_format="channels_last", name=name, dtype=dtype)(x)

    if architecture.head == "norm_pool":
        x = norm("map_norm", architecture.norm, epsilon, dtype)(x)
    if pooling == "avgmax":
        both = [pooled(x, kind, f"head_pool_{kind}") for kind in ("avg", "max")]
        x = keras.layers.Average(name="head_pool", dtype=dtype)(both)  # (B, dim)
    elif pooling is not None:
        x = pooled(x, pooling, "head_pool")  # (B, dim)
    if architecture.head == "pool_norm":
        x = norm("head_norm", architecture.norm, epsilon, dtype)(x)
    return x


def classify(
    x: Any,
    architecture: Architecture,
    num_classes: int,
    activation: Any = None,
    init_scale: float = 1.0,
    drop_rate: float = 0.0,
) -> Any:
    """Apply the head's hidden layer and projection, if there are any, and the classifier.

    Args:
        x: The vector `(batch, dim)`.
        architecture: Says whether there is a hidden layer or a projection.
        num_classes: Width of the classifier; 0 for none.
        activation: Of the classifier; None for logits.
        init_scale: Multiplies the classifier's initial weights.
        drop_rate: Dropout rate before the classifier.
    """
    if architecture.head_hidden:
        x = dense(architecture.head_hidden, "head_hidden", "gelu")(x)
    if architecture.projection:
        x = dense(architecture.projection, "head_projection", None)(x)
        x = keras.layers.UnitNormalization(name="head_unit", dtype="float32")(x)
    if drop_rate:
        x = keras.layers.Dropout(drop_rate, name="head_drop", dtype=head_dtype())(x)
    return dense(num_classes, "head", activation, init_scale)(x) if num_classes else x


def dense(width: int, name: str, activation: Any, scale: float = 1.0) -> keras.Layer:
    """Create a linear layer of the head; `scale` multiplies its initial weights."""
    kernel, dtype = kernel_initializer(scale), head_dtype()
    return keras.layers.Dense(width, activation, kernel_initializer=kernel, name=name, dtype=dtype)


def build_model(  # noqa: PLR0913
    architecture: Architecture,
    *,
    layer_scale_init_value: float | None = 1e-6,
    input_shape: Sequence[int | None] = (224, 224, 3),
    geometry: Geometry | None = None,
    num_classes: int = 1000,
    include_top: bool = True,
    pooling: str | None = None,
    drop_path_rate: float = 0.0,
    classifier_activation: Any = "softmax",
    include_preprocessing: bool = False,
    head_init_scale: float = 1.0,
    drop_rate: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Build a whole model; callers check the arguments.

    Without the top, `pooling=None` outputs the last feature map, and `"avg"` or `"max"` the pooled
    vector with the head's norm, the input of a classifier.
    """
    inputs = keras.Input(tuple(input_shape), name="images")
    x = normalize_pixels(inputs) if include_preprocessing else inputs
    x = encode(
        x,
        architecture,
        layer_scale_init_value=layer_scale_init_value,
        geometry=geometry,
        drop_path_rate=drop_path_rate,
    )[-1]
    if include_top:
        x = pool(x, architecture, pooling or "avg")
        options = (classifier_activation, head_init_scale, drop_rate)
        x = classify(x, architecture, num_classes, *options)
    elif pooling is not None:
        x = pool(x, architecture, pooling)
    return keras.Model(inputs, x, name=name or architecture.name)


def with_outputs(
    model: keras.Model, outputs: str | Sequence[str], *, clip: bool = False
) -> keras.Model:
    """Create a model that shares its layers and has other outputs, as in `convnext.graphs.network`.

    Args:
        model: A model of this package that has the layers of the outputs; an activation of its
            classifier applies to the logits.
        outputs: A list of names, for a list of outputs, or one name, for one output.
        clip: Whether the head is CLIP's projection, which is then the embedding.

    Example:
        >>> from convnext.architecture import ARCHITECTURES
        >>> model = build_model(ARCHITECTURES["test_v2"], input_shape=(64, 64, 3))
        >>> with_outputs(model, "tokens").output_shape
        (None, 2, 2, 32)
    """
    layers = {layer.name: layer for layer in model.layers}
    last = "head_norm" if "head_norm" in layers else "head_pool"
    unit = "head_unit" if "head_unit" in layers else last
    names = {"logits": "head", "embedding": unit, "pre_logits": "head_hidden", "tokens": "map_norm"}
    if "head_hidden" not in layers:
        names["pre_logits"] = last

    def output(name: str) -> Any:
        if name == "embedding" and clip:
            return keras.layers.UnitNormalization(name="unit", dtype="float32")(output("logits"))
        if name == "tokens" and "head_norm" in layers:
            stages = [each for each in layers if each.startswith("stage_") and "block" not in each]
            return layers["head_norm"](layers[max(stages)].output)
        return layers[names.get(name, name)].output

    found = output(outputs) if isinstance(outputs, str) else [output(name) for name in outputs]
    return keras.Model(model.input, found, name=model.name)
