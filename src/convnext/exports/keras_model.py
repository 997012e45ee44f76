"""Build the Keras model of an export, for the formats that Keras writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from convnext.errors import ArgumentError
from convnext.exports.spec import ExportSpec
from convnext.images.recipe import Preprocess
from convnext.nn.initializers import undrawn
from convnext.nn.model import build_model, with_outputs
from convnext.nn.segmenter import build_segmenter
from convnext.weights.canonical import canonical_variables
from convnext.weights.load import assign

__all__ = ["build"]


def build(spec: ExportSpec) -> Any:
    """Build a float32 model from pictures to the requested output, with its weights."""
    network = spec.network
    recipe, ours = network.preprocess, Preprocess()
    if spec.pixels and (recipe.mean, recipe.std, recipe.rescale) != (
        ours.mean,
        ours.std,
        ours.rescale,
    ):
        raise ArgumentError(
            f"{network.weights.source} was trained on pictures of another mean and deviation than "
            f"ImageNet's, which {spec.format} cannot include. Export without preprocessing, or "
            "to onnx or openvino."
        )
    with _float32(), undrawn():
        model = _segmenter(spec) if network.segmentation else _classifier(spec)
        variables = canonical_variables(model)
        assign(variables, {name: network.weights.tensors[name] for name in variables})
        return with_outputs(model, spec.output, clip=network.is_clip)


def _classifier(spec: ExportSpec) -> Any:
    network = spec.network
    projects = network.is_clip or network.variant.projection
    classified = spec.output in ("logits", "pre_logits") or bool(projects)
    return build_model(
        network.variant,
        input_shape=spec.shape[1:],
        geometry=network.geometry,
        num_classes=network.num_classes,
        include_top=classified,
        pooling="avg" if spec.output in ("embedding", "tokens") and not classified else None,
        drop_path_rate=spec.drop_path_rate,
        classifier_activation="softmax" if spec.softmax else None,
        include_preprocessing=spec.pixels,
    )


def _segmenter(spec: ExportSpec) -> Any:
    network = spec.network
    assert network.segmentation is not None
    return build_segmenter(
        network.variant,
        network.segmentation,
        network.num_classes,
        input_shape=spec.shape[1:],
        geometry=network.geometry,
        drop_path_rate=spec.drop_path_rate,
        include_preprocessing=spec.pixels,
    )


@contextmanager
def _float32() -> Iterator[None]:
    """Set the dtype policy float32 in this context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
