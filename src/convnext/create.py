"""`create_convnext_v1` and `create_convnext_v2`: check the arguments and build a Keras model.

All arguments are checked here; `nn.model` does not check them again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras

from convnext.architecture import (
    SMALLEST_PUBLISHED_SIDE,
    Architecture,
    Family,
    Geometry,
    get_variant,
)
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.nn.initializers import undrawn
from convnext.nn.model import build_model

__all__ = ["create_convnext_v1", "create_convnext_v2"]

InputShape = tuple[int | None, int | None, int]
Head = Literal["keep", "new"]
Activation = str | Callable[[Any], Any] | None

DEFAULT_INPUT_SHAPE = (224, 224, 3)
POOLINGS = ("avg", "max", "avgmax")

Pooling = Literal["avg", "max", "avgmax"] | None


def create_convnext_v1(  # noqa: PLR0913
    variant: str,
    num_classes: int = 1000,
    input_shape: InputShape | None = None,
    include_top: bool = True,
    *,
    pooling: Pooling = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = 1e-6,
    classifier_activation: Activation = "softmax",
    include_preprocessing: bool = False,
    head_init_scale: float = 1.0,
    weights: str | Path | None = None,
    head: Head = "keep",
    output_stride: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Create a ConvNeXt V1 as a functional Keras model, channels last.

    Args:
        variant: `"atto"`, `"femto"`, `"pico"`, `"nano"`, `"tiny"`, `"small"`, `"base"`, `"large"`
            or `"xlarge"`.
        num_classes: Width of the classifier.
        input_shape: Height, width and channels. None means (224, 224, 3); (None, None, 3) takes
            pictures of any size from 32 pixels on. For a small fixed size the strides are relaxed
            so that the last feature map keeps at least 4 pixels on its short side; the parameters
            stay the same, so published weights load at every size.
        include_top: Whether the model ends in the classifier.
        pooling: `"avg"`, `"max"`, or `"avgmax"` for the mean of both. Without the top, the output
            is the normalised pooled vector, or with None the last feature map; with the top, None
            means `"avg"`, for which weights were trained.
        drop_rate: Dropout rate before the classifier.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 at the first.
        layer_scale_init_value: Initial value of layer scale; None or 0 for no layer scale, which
            the isotropic small and base never have.
        classifier_activation: `"softmax"` for probabilities, None for logits, or any activation.
        include_preprocessing: Whether the model takes pixels in 0..255 and normalises them itself.
        head_init_scale: Multiplies the classifier's initial weights (0.001 for fine-tuning).
        weights: None for random weights, the name of a published checkpoint or of a repository on
            the Hugging Face Hub, `"imagenet"` for the variant's default checkpoint, or the path of
            a weights file in any layout. If the weights have another number of channels, the stem's
            kernel is adapted as in timm: its sum for one channel, otherwise repeated and rescaled.
        head: `"new"` loads everything but the classifier, to train on other classes; `"keep"`
            loads the classifier too.
        output_stride: 8 or 16 for a last feature map of an eighth or a sixteenth of each side, by
            dilation, as for dense prediction. Weights stay as they are.
        name: Name of the model; by default that of the variant, such as `"convnext_tiny"`.

    Returns:
        A `keras.Model`. The feature maps are at `model.get_layer("stage_0").output` to `"stage_3"`.

    Example:
        >>> create_convnext_v1("tiny", num_classes=10).output_shape
        (None, 10)
    """
    return _create(
        "v1",
        variant,
        num_classes=num_classes,
        input_shape=input_shape,
        include_top=include_top,
        pooling=pooling,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        layer_scale_init_value=layer_scale_init_value,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        head_init_scale=head_init_scale,
        weights=weights,
        head=head,
        output_stride=output_stride,
        name=name,
    )


def create_convnext_v2(  # noqa: PLR0913
    variant: str,
    num_classes: int = 1000,
    input_shape: InputShape | None = None,
    include_top: bool = True,
    *,
    pooling: Pooling = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = None,
    classifier_activation: Activation = "softmax",
    include_preprocessing: bool = False,
    head_init_scale: float = 1.0,
    weights: str | Path | None = None,
    head: Head = "keep",
    output_stride: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Create a ConvNeXt V2 as a functional Keras model, channels last.

    Takes the arguments of `create_convnext_v1`. V2 has global response normalisation in each block
    and, as published, no layer scale. Its published weights may not be used commercially
    (CC-BY-NC-4.0).

    Args:
        variant: `"atto"`, `"femto"`, `"pico"`, `"nano"`, `"tiny"`, `"small"`, `"base"`, `"large"`
            or `"huge"`.
        num_classes: See `create_convnext_v1`.
        input_shape: See `create_convnext_v1`.
        include_top: See `create_convnext_v1`.
        pooling: See `create_convnext_v1`.
        drop_rate: See `create_convnext_v1`.
        drop_path_rate: See `create_convnext_v1`.
        layer_scale_init_value: None, as published; a number adds V1's layer scale.
        classifier_activation: See `create_convnext_v1`.
        include_preprocessing: See `create_convnext_v1`.
        head_init_scale: See `create_convnext_v1`.
        weights: See `create_convnext_v1`.
        head: See `create_convnext_v1`.
        output_stride: See `create_convnext_v1`.
        name: See `create_convnext_v1`.

    Returns:
        A `keras.Model`.

    Example:
        >>> create_convnext_v2("pico", 100, (96, 96, 3), include_top=False).output_shape
        (None, 6, 6, 512)
    """
    return _create(
        "v2",
        variant,
        num_classes=num_classes,
        input_shape=input_shape,
        include_top=include_top,
        pooling=pooling,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        layer_scale_init_value=layer_scale_init_value,
        classifier_activation=classifier_activation,
        include_preprocessing=include_preprocessing,
        head_init_scale=head_init_scale,
        weights=weights,
        head=head,
        output_stride=output_stride,
        name=name,
    )


def _create(  # noqa: PLR0913
    family: Family,
    size: str,
    *,
    num_classes: int,
    input_shape: InputShape | None,
    include_top: bool,
    pooling: str | None,
    drop_rate: float,
    drop_path_rate: float,
    layer_scale_init_value: float | None,
    classifier_activation: Activation,
    include_preprocessing: bool,
    head_init_scale: float,
    weights: str | Path | None,
    head: Head,
    output_stride: int | None,
    name: str | None,
) -> keras.Model:
    row = get_variant(family, size)
    shape, geometry = _checked_shape(input_shape, row)
    if output_stride is not None:
        geometry = row.dilated(output_stride)
    if pooling is not None and pooling not in POOLINGS:
        raise UnknownNameError("pooling", pooling, [*POOLINGS, "None"])
    with undrawn(weights is not None and head == "keep"):
        model = build_model(
            replace(row, layer_scale=bool(layer_scale_init_value) and (row.layer_scale or row.grn)),
            input_shape=shape,
            geometry=geometry,
            num_classes=_whole_number("num_classes", num_classes, at_least=1),
            include_top=include_top,
            pooling=pooling,
            drop_rate=_number("drop_rate", drop_rate, below=1.0),
            drop_path_rate=_number("drop_path_rate", drop_path_rate, below=1.0),
            layer_scale_init_value=(
                None
                if layer_scale_init_value is None
                else _number("layer_scale_init_value", layer_scale_init_value)
            ),
            classifier_activation=_checked_activation(classifier_activation),
            include_preprocessing=include_preprocessing,
            head_init_scale=_number("head_init_scale", head_init_scale),
            name=name,
        )
    if weights is not None:
        _fill(model, row.name, weights, head)
    return model


def _fill(model: keras.Model, variant: str, weights: str | Path, head: Head) -> None:
    from convnext.weights.catalog import default_checkpoint
    from convnext.weights.load import load_weights

    source = default_checkpoint(variant).name if weights == "imagenet" else weights
    load_weights(model, source, head=head, adapt_channels=True)


def _checked_shape(
    input_shape: InputShape | None, architecture: Architecture
) -> tuple[InputShape, Geometry]:
    """Check a shape, and find the strides for it."""
    shape = DEFAULT_INPUT_SHAPE if input_shape is None else input_shape
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ArgumentTypeError(
            f"input_shape is (height, width, channels), such as (224, 224, 3), not {shape!r}."
        )
    height, width, channels = shape
    channels = _whole_number("The number of channels in input_shape", channels, at_least=1)
    sides = [
        None if side is None else _whole_number("A side in input_shape", side, at_least=1)
        for side in (height, width)
    ]
    fixed = [side for side in sides if side is not None]
    if len(fixed) == 2:
        geometry = architecture.geometry(*fixed)
    elif min(fixed, default=SMALLEST_PUBLISHED_SIDE) < SMALLEST_PUBLISHED_SIDE:
        raise ArgumentError(
            f"input_shape={tuple(shape)!r} has a side of None, which needs at least "
            f"{SMALLEST_PUBLISHED_SIDE} pixels. For smaller pictures give both sides."
        )
    else:
        geometry = Geometry(architecture.strides)
    return (sides[0], sides[1], channels), geometry


def _whole_number(name: str, value: Any, *, at_least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ArgumentTypeError(f"{name} is a whole number, not {type(value).__name__}: {value!r}.")
    if number < at_least:
        raise ArgumentError(f"{name} is at least {at_least}, not {value!r}.")
    return number


def _number(name: str, value: Any, *, below: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(f"{name} is a number, not {type(value).__name__}: {value!r}.")
    if not 0 <= value < below:
        upper = "" if below == math.inf else f" and below {below:g}"
        raise ArgumentError(f"{name} is at least 0{upper}, not {value!r}.")
    return float(value)


def _checked_activation(activation: Activation) -> Any:
    try:
        return keras.activations.get(activation)
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"Unknown classifier_activation: {activation!r}. Allowed: None for logits, a function, "
            "or the name of a Keras activation such as 'softmax' or 'sigmoid'."
        ) from error
