"""Open the model to export: a name, a weights file or a Keras model.

A Keras model also sets the defaults of preprocessing and softmax, and is compared with the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from convnext.architecture import PUBLISHED_STRIDES, VARIANTS, adapted_strides
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.exports.spec import Array, ExportSpec
from convnext.graphs.network import Network
from convnext.session import Session
from convnext.weights.catalog import DEFAULT_RECIPES
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights
from convnext.weights.random_weights import random_weights

__all__ = ["ExportSource", "Resolution", "opened_source"]

Resolution = int | Literal["any"] | None

HALVES = ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class ExportSource:
    """The network to export, and the traits of the Keras model it comes from.

    Attributes:
        network: The network, whose weights are readable while the source is open.
        softmax: Whether the Keras model outputs probabilities.
        pixels: Whether the Keras model normalises pictures.
        drop_path_rate: Of the Keras model.
        model: The Keras model, if it is one.
    """

    network: Network
    softmax: bool = False
    pixels: bool = False
    drop_path_rate: float = 0.0
    model: Any = None

    def answers(self, spec: ExportSpec, pictures: Array, normalised: Array) -> Array | None:
        """Run the Keras model; None without one in float32 of the same size and geometry."""
        model = self.model
        if model is None or str(model.compute_dtype) in HALVES:
            return None
        sides = model.input_shape[1:3]
        if sides not in ((None, None), normalised.shape[1:3]):
            return None
        if spec.network.geometry != Network.of_model(model).geometry:
            return None
        from convnext.nn.model import with_outputs

        tapped = with_outputs(model, spec.output)
        batch = pictures.astype(np.float32) if self.pixels else normalised
        found: Array = np.asarray(tapped.predict_on_batch(batch), np.float32)
        return found


@contextmanager
def opened_source(
    model: Any,
    resolution: Resolution = None,
    *,
    random: bool = False,
    output_stride: int | None = None,
) -> Iterator[ExportSource]:
    """Open the model to export for the duration of the context.

    Args:
        model: The name of a published checkpoint or of a repository on the Hugging Face Hub, a
            weights file, or a Keras model of this package; with `random`, the name of a variant.
        resolution: Side of the pictures, or `"any"`; by default that of the weights or the model.
        random: Whether to allow random weights.
        output_stride: See `convnext.engines.open_engine`.

    Raises:
        ArgumentError: There are no weights, or the resolution is invalid.
    """
    _check_resolution(resolution)
    if hasattr(model, "get_layer"):
        with Session.open(model) as session:
            source = _of_model(model, session.network, resolution, random)
            yield replace(source, network=source.network.dilated(output_stride))
        return
    if random and isinstance(model, str | os.PathLike):
        model = _drawn(str(model))
    elif _is_unpublished(model):
        raise ArgumentError(
            f"No weights were ever published for {model!r}. Give a weights file, or allow random "
            "weights with random=True (--random)."
        )
    size = resolution if isinstance(resolution, int) else None
    with Session.open(model, size=size, any_size=resolution == "any") as session:
        yield ExportSource(session.network.dilated(output_stride))


def _check_resolution(resolution: Resolution) -> None:
    if resolution in (None, "any"):
        return
    if not isinstance(resolution, int) or isinstance(resolution, bool):
        raise ArgumentTypeError(
            f"resolution must be the side of the pictures in pixels, or 'any', not {resolution!r}."
        )
    adapted_strides(resolution, resolution)


def _is_unpublished(model: Any) -> bool:
    """Whether it is the name of a variant without published weights."""
    unpublished = VARIANTS.keys() - DEFAULT_RECIPES.keys()
    return isinstance(model, str) and model in unpublished and not Path(model).exists()


def _drawn(name: str) -> CanonicalWeights:
    if name not in VARIANTS:
        raise UnknownNameError("variant to draw random weights for", name, VARIANTS)
    arrays = random_weights(VARIANTS[name])
    found = recognise({key: array.shape for key, array in arrays.items()}, "convnext")
    tensors = {key: LazyTensor.from_array(array) for key, array in arrays.items()}
    return CanonicalWeights(tensors, found, WeightsInfo(), f"{name} (random weights)")


def _of_model(model: Any, network: Network, resolution: Resolution, random: bool) -> ExportSource:
    if not random and not any(_trained(network)):
        raise ArgumentError(
            f"The model {model.name!r} has its initial weights: every bias is zero. Load weights "
            "or train it first, or allow random weights with random=True (--random)."
        )
    if resolution is not None:
        network = _resized(network, resolution)
    last = network.variant.depths[-1] - 1
    block = model.get_layer(f"stage_3_block_{last}")
    return ExportSource(
        network,
        softmax="logits" in network.outputs and _ends_in_softmax(model),
        pixels=any(layer.name == "normalization" for layer in model.layers),
        drop_path_rate=float(block.drop_path_rate),
        model=model,
    )


def _resized(network: Network, resolution: int | Literal["any"]) -> Network:
    """Change the picture size, and the strides unless they were chosen independently of it."""
    own, strides, recipe = network.sides, network.strides, network.preprocess
    sides = None if resolution == "any" else (resolution, resolution)
    if own not in (None, sides) and strides == adapted_strides(*own):
        strides = adapted_strides(*sides) if sides else PUBLISHED_STRIDES
    if sides:
        recipe = replace(recipe, size=sides[0])
    return replace(network, sides=sides, strides=strides, preprocess=recipe)


def _trained(network: Network) -> Iterator[bool]:
    """Yield for each bias whether it differs from its initial value, zero."""
    for name in network.weights.tensors:
        if name.endswith(".bias"):
            yield bool(network.values(name).any())


def _ends_in_softmax(model: Any) -> bool:
    activation: Callable[..., Any] = model.get_layer("head").activation
    name = getattr(activation, "__name__", str(activation))
    if name not in ("softmax", "linear"):
        raise ArgumentError(
            f"The model {model.name!r} ends in the activation {name!r}; exports allow logits or "
            "softmax. Build it with classifier_activation=None."
        )
    return name == "softmax"
