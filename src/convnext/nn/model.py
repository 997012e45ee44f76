"""THE network: ConvNeXt in all its kinds as one functional Keras model. Read it top to bottom.

What kind it is says a `convnext.architecture.Architecture`: V2 is V1 with global response
normalisation inside each block instead of layer scale behind it, and the other traits are switches
likewise. Everything is channels last. Layers have stable names, the same for every architecture:

    images -> [normalization] -> stem_conv -> [stem_conv_2 or stem_act_conv] -> stem_norm
           -> stage_0_block_0 ... -> stage_0
           -> downsample_1_norm -> downsample_1_conv -> stage_1_block_0 ... -> stage_1
           -> ... -> stage_3 -> [map_norm] -> head_pool -> [head_norm] -> [head_hidden] -> head

`model.get_layer("stage_2").output` is the third feature map, whatever the architecture, and
`with_outputs` gives a model with any outputs.

This file knows nothing of files, foreign names, pictures or optimizers.

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
from convnext.errors import ArgumentError
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
    "feature_maps",
    "normalize_pixels",
    "output_norm",
    "pool",
    "with_outputs",
]


def output_norm(x: Any, name: str) -> Any:
    """The norm that a dense-prediction backbone puts on one of its feature maps."""
    return norm(name)(x)


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
    """The stem and the stages: pictures in, one feature map for each stage out.

    Args:
        x: Symbolic pictures `(batch, height, width, channels)`, already normalised.
        architecture: What the network is.
        layer_scale_init_value: Where layer scale starts, if the architecture has it.
        geometry: Strides and dilations; by default as published.
        drop_path_rate: Of the last block; it rises linearly from 0 at the first.
        activation: Inside the blocks, in place of the architecture's: any Keras activation.
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


def _head_dtype() -> Any:
    # A few thousand numbers: half precision gains nothing here and costs digits of the answer.
    policy = keras.config.dtype_policy()
    return "float32" if policy.compute_dtype in ("float16", "bfloat16") else policy


def pool(x: Any, architecture: Architecture, pooling: str | None = "avg") -> Any:
    """The last feature map to a vector, with the norm that belongs there: what is classified.

    Args:
        x: The map `(batch, height, width, dim)`.
        architecture: Where the norm stands, and its kind.
        pooling: `"avg"`, `"max"`, `"avgmax"` for the mean of both, or None to keep the map, every
            position of it normed.
    """
    dtype, epsilon = _head_dtype(), architecture.head_epsilon or architecture.epsilon

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
    """The vector to classes, if any, behind the hidden layer if the architecture has one.

    Args:
        x: The vector `(batch, dim)`.
        architecture: Whether there is a hidden layer.
        num_classes: Width of the classifier; 0 for none.
        activation: Of the classifier; None for logits.
        init_scale: Multiplies the classifier's initial weights.
        drop_rate: Probability with which training drops each number that is classified.
    """
    if architecture.head_hidden:
        x = dense(architecture.head_hidden, "head_hidden", "gelu")(x)
    if drop_rate:
        x = keras.layers.Dropout(drop_rate, name="head_drop", dtype=_head_dtype())(x)
    return dense(num_classes, "head", activation, init_scale)(x) if num_classes else x


def dense(width: int, name: str, activation: Any, scale: float = 1.0) -> keras.Layer:
    """A linear layer of the head, with its activation; `scale` multiplies its initial weights."""
    kernel, dtype = kernel_initializer(scale), _head_dtype()
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
    """A whole model. The doors check their arguments and call this.

    Without the top, `pooling=None` gives the last feature map as it is, and `"avg"` or `"max"` the
    pooled vector with the head's norm: what the classifier would have seen.
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
    """The same network, its layers shared, with outputs that `convnext.graphs.network` describes.

    Args:
        model: A model of ours that has the layers for them; its own activation stays on the logits.
        outputs: Their names; a single one, not in a list, is not answered in a list.
        clip: Whether the head gives CLIP's vectors, which are the embedding then.

    Example:
        >>> from convnext.architecture import ARCHITECTURES
        >>> model = build_model(ARCHITECTURES["test_v2"], input_shape=(64, 64, 3))
        >>> with_outputs(model, "tokens").output_shape
        (None, 2, 2, 32)
    """
    layers = {layer.name: layer for layer in model.layers}
    last = "head_norm" if "head_norm" in layers else "head_pool"
    names = {"logits": "head", "embedding": last, "pre_logits": "head_hidden", "tokens": "map_norm"}
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


def feature_maps(model: keras.Model, stages: Sequence[int] = ()) -> keras.Model:
    """The same network with the stages' feature maps as its outputs.

    Args:
        model: A model of this package.
        stages: Which of them, counted from 0; all by default.

    Example:
        >>> from convnext.architecture import ARCHITECTURES
        >>> model = build_model(ARCHITECTURES["test_v2"], input_shape=(64, 64, 3))
        >>> [m.shape for m in feature_maps(model, (1, 3)).outputs]
        [(None, 8, 8, 16), (None, 2, 2, 32)]
    """
    layers = {layer.name: layer for layer in model.layers}
    wanted = [f"stage_{stage}" for stage in stages or range(4 if "stage_1" in layers else 1)]
    missing = [name for name in wanted if name not in layers]
    if missing:
        raise ArgumentError(
            f"The model {model.name!r} has no layers {', '.join(missing)}: it is not a ConvNeXt "
            "model of this package. Build one with create_convnext_v1 or create_convnext_v2."
        )
    outputs = [layers[name].output for name in wanted]
    return keras.Model(model.input, outputs, name=f"{model.name}_features")
