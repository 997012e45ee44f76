"""The five ConvNeXt functions of `keras.applications`, and nine for V2, which it lacks.

Arguments, checks, error types and shapes are those of keras.applications 3.15, so a program changes
only its import. Differences:

- Weights are found by variant, not by `name`, so any `name` works.
- `include_preprocessing` also normalises pictures with 1, 4 or any number of channels, with the
  average of ImageNet's three statistics; keras.applications silently does nothing.
- The image data format `channels_first` works; keras.applications refuses it.
- Layer scale and drop path, which keras.applications fixes, are arguments of
  `convnext.create_convnext_v1`.
- Depthwise kernels have the shape `(7, 7, C, 1)`, and the convolution is not compiled with XLA on a
  CPU, which makes `predict` and `fit` several times faster.

As there, a model without the top ends in a norm, after the pooling or on the feature map. The stem
and the downsamplings are plain layers, not nested models, so layer names differ.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from convnext.architecture import SMALLEST_PUBLISHED_SIDE, VARIANTS, Variant
from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.nn.initializers import undrawn
from convnext.nn.model import classify, encode, normalize_pixels, pool

__all__ = [
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtV2Atto",
    "ConvNeXtV2Base",
    "ConvNeXtV2Femto",
    "ConvNeXtV2Huge",
    "ConvNeXtV2Large",
    "ConvNeXtV2Nano",
    "ConvNeXtV2Pico",
    "ConvNeXtV2Small",
    "ConvNeXtV2Tiny",
    "ConvNeXtXLarge",
    "decode_predictions",
    "preprocess_input",
]

DEFAULT_SIDE = 224
IMAGENET_CLASSES = 1000
ModelFunction = Callable[..., keras.Model]

_DOCSTRING = """{title} with the arguments of `keras.applications`.

    Args:
        include_top: Whether the model ends in the classifier.
        include_preprocessing: Whether the model takes pixels in 0..255 and normalises them itself.
        weights: None for random weights, `"imagenet"` for the default checkpoint of this variant
            (see `convnext info {name}`), or the path of a weights file in any layout.
        input_tensor: Keras tensor to use as the picture.
        input_shape: Shape of a picture; at least {smallest} pixels a side. With the top and
            `weights="imagenet"` it must be the default one.
        pooling: Without the top: None, `"avg"` or `"max"`.
        classes: Width of the classifier.
        classifier_activation: Activation of the classifier; None for logits.
        name: Name of the model.

    Returns:
        A `keras.Model`.

    Example:
        >>> {function}(weights=None, classes=10).output_shape
        (None, 10)
    """


def _model_function(function: str, variant: Variant) -> ModelFunction:
    """Create the public function that builds one variant."""

    def build(  # noqa: PLR0913
        include_top: bool = True,
        include_preprocessing: bool = True,
        weights: str | Path | None = "imagenet",
        input_tensor: Any = None,
        input_shape: tuple[int | None, ...] | None = None,
        pooling: str | None = None,
        classes: int = IMAGENET_CLASSES,
        classifier_activation: Any = "softmax",
        name: str = variant.name,
    ) -> keras.Model:
        _check_weights(weights, include_top, classes, classifier_activation)
        if input_tensor is None:
            images = keras.Input(_input_shape(input_shape, weights, include_top))
        else:
            images = _checked_tensor(input_tensor, weights)
        x = _channels_last(images)
        if include_preprocessing:
            x = normalize_pixels(x)
        with undrawn(weights is not None):
            x = encode(x, variant)[-1]
            if include_top:
                x = pool(x, variant)
                x = classify(x, variant, classes, classifier_activation)
            else:
                x = _channels_as_configured(pool(x, variant, _known_pooling(pooling)))
        model = keras.Model(keras.utils.get_source_inputs(images)[0], x, name=name)
        if weights is not None:
            _load(model, variant, weights)
        return model

    build.__name__ = build.__qualname__ = function
    build.__doc__ = _DOCSTRING.format(
        title=f"ConvNeXt{'' if variant.family == 'v1' else ' V2'} {variant.size}",
        name=variant.name,
        function=function,
        smallest=SMALLEST_PUBLISHED_SIDE,
    )
    return build


def _load(model: keras.Model, variant: Variant, weights: str | Path) -> None:
    from convnext.weights.catalog import default_checkpoint
    from convnext.weights.load import load_weights

    source = default_checkpoint(variant.name).name if weights == "imagenet" else weights
    load_weights(model, source)


def _check_weights(
    weights: str | Path | None, include_top: bool, classes: int, activation: Any
) -> None:
    if weights is None:
        return
    if weights != "imagenet" and not Path(weights).exists():
        raise ArgumentError(
            f"weights={str(weights)!r} is neither None, 'imagenet', nor an existing path."
        )
    if weights == "imagenet" and include_top and classes != IMAGENET_CLASSES:
        raise ArgumentError(
            f"weights='imagenet' with include_top=True has {IMAGENET_CLASSES} classes, not "
            f"classes={classes}. For other classes: include_top=False and a layer of your own, or "
            "convnext.create_convnext_v1(..., weights='imagenet', head='new')."
        )
    allowed = (keras.activations.get("softmax"), keras.activations.get(None))
    if include_top and keras.activations.get(activation) not in allowed:
        raise ArgumentError(
            "Only None and 'softmax' are allowed as classifier_activation with pretrained "
            f"weights and include_top=True, not {activation!r}."
        )


def _is_channels_first() -> bool:
    return bool(keras.config.image_data_format() == "channels_first")


def _input_shape(
    given: tuple[int | None, ...] | None, weights: str | Path | None, include_top: bool
) -> tuple[int | None, ...]:
    """Check a picture's shape, in the configured data format, as keras.applications does."""
    first = _is_channels_first()
    if not given:
        side = DEFAULT_SIDE if include_top else None
        return (3, side, side) if first else (side, side, 3)
    if len(given) != 3:
        raise ArgumentError(f"input_shape must be a tuple of three integers, not {given!r}.")
    channels, height, width = given if first else (given[2], given[0], given[1])
    if weights == "imagenet" and channels != 3:
        raise ArgumentError(
            f"weights='imagenet' takes pictures with 3 channels, not input_shape={given!r}."
        )
    if weights == "imagenet" and include_top and (height, width) != (DEFAULT_SIDE, DEFAULT_SIDE):
        raise ArgumentError(
            f"weights='imagenet' with include_top=True takes {DEFAULT_SIDE}x{DEFAULT_SIDE} "
            f"pictures, not input_shape={given!r}. "
            "convnext.create_convnext_v1 loads them at any size."
        )
    if any(side is not None and side < SMALLEST_PUBLISHED_SIDE for side in (height, width)):
        raise ArgumentError(
            f"Input size must be at least {SMALLEST_PUBLISHED_SIDE}x{SMALLEST_PUBLISHED_SIDE}, not "
            f"input_shape={given!r}. convnext.create_convnext_v1 adapts to smaller pictures."
        )
    if include_top and None in (height, width):
        raise ArgumentError(
            f"include_top=True needs a static input_shape, not {given!r}. "
            "convnext.create_convnext_v1 allows sides of None with the top."
        )
    return tuple(given)


def _checked_tensor(tensor: Any, weights: str | Path | None) -> Any:
    if not keras.backend.is_keras_tensor(tensor):
        raise ArgumentTypeError(
            f"input_tensor must be a Keras tensor such as keras.Input(...), not "
            f"{type(tensor).__name__}. To use an array, call the model on it."
        )
    channels = tensor.shape[1 if _is_channels_first() else -1]
    if weights == "imagenet" and channels != 3:
        raise ArgumentError(
            f"weights='imagenet' takes pictures with 3 channels; input_tensor has {channels}."
        )
    return tensor


def _known_pooling(pooling: str | None) -> str | None:
    # As in keras.applications, any other word means no pooling.
    return pooling if pooling in ("avg", "max") else None


def _channels_last(x: Any) -> Any:
    return keras.layers.Permute((2, 3, 1), name="channels_last")(x) if _is_channels_first() else x


def _channels_as_configured(x: Any) -> Any:
    if _is_channels_first() and len(x.shape) == 4:
        return keras.layers.Permute((3, 1, 2), name="channels_first")(x)
    return x


ConvNeXtTiny = _model_function("ConvNeXtTiny", VARIANTS["convnext_tiny"])
ConvNeXtSmall = _model_function("ConvNeXtSmall", VARIANTS["convnext_small"])
ConvNeXtBase = _model_function("ConvNeXtBase", VARIANTS["convnext_base"])
ConvNeXtLarge = _model_function("ConvNeXtLarge", VARIANTS["convnext_large"])
ConvNeXtXLarge = _model_function("ConvNeXtXLarge", VARIANTS["convnext_xlarge"])
ConvNeXtV2Atto = _model_function("ConvNeXtV2Atto", VARIANTS["convnextv2_atto"])
ConvNeXtV2Femto = _model_function("ConvNeXtV2Femto", VARIANTS["convnextv2_femto"])
ConvNeXtV2Pico = _model_function("ConvNeXtV2Pico", VARIANTS["convnextv2_pico"])
ConvNeXtV2Nano = _model_function("ConvNeXtV2Nano", VARIANTS["convnextv2_nano"])
ConvNeXtV2Tiny = _model_function("ConvNeXtV2Tiny", VARIANTS["convnextv2_tiny"])
ConvNeXtV2Small = _model_function("ConvNeXtV2Small", VARIANTS["convnextv2_small"])
ConvNeXtV2Base = _model_function("ConvNeXtV2Base", VARIANTS["convnextv2_base"])
ConvNeXtV2Large = _model_function("ConvNeXtV2Large", VARIANTS["convnextv2_large"])
ConvNeXtV2Huge = _model_function("ConvNeXtV2Huge", VARIANTS["convnextv2_huge"])


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Return `x` unchanged: the model normalises pixels itself (`include_preprocessing=True`)."""
    del data_format
    return x


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Turn ImageNet-1k probabilities into `(wnid, name, score)`, best first, for each picture.

    Nothing is downloaded: the names come with the package.

    Args:
        preds: `(pictures, 1000)` probabilities or logits.
        top: Number of classes for each picture.
    """
    from convnext.images.labels import labels_for

    scores = keras.ops.convert_to_numpy(preds)
    if scores.ndim != 2 or scores.shape[1] != IMAGENET_CLASSES:
        raise ArgumentError(
            f"decode_predictions takes an array of shape (pictures, {IMAGENET_CLASSES}), not "
            f"{scores.shape}."
        )
    labels = labels_for("imagenet-1k")
    return [
        [
            (labels.wnids[i], labels.short(i).replace(" ", "_"), row[i])
            for i in row.argsort()[::-1][:top]
        ]
        for row in scores
    ]
