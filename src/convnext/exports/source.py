"""What a caller wants exported: from a name, a file or a Keras model to a network.

A Keras model also says what is done before and after the network, and answers for itself when the
result is compared. It knows no format.
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
from convnext.exports.job import Array, Job
from convnext.graphs.network import Network
from convnext.session import Session
from convnext.weights.catalog import DEFAULT_RECIPES
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights
from convnext.weights.random_weights import random_weights

__all__ = ["Resolution", "Source", "opened_source"]

Resolution = int | Literal["any"] | None

HALVES = ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Source:
    """A network, and what else there is to know of where it comes from.

    Attributes:
        network: Its weights are readable while the source is open.
        softmax: Whether the model itself ends in probabilities.
        pixels: Whether the model itself normalises pictures.
        drop_path_rate: The model's own.
        model: The Keras model, if it is one.
    """

    network: Network
    softmax: bool = False
    pixels: bool = False
    drop_path_rate: float = 0.0
    model: Any = None

    def answers(self, job: Job, pictures: Array, normalised: Array) -> Array | None:
        """What the Keras model itself gives for pictures; None if there is none to ask.

        Nor is one asked that computes in half precision, or for another size or another geometry.
        """
        model = self.model
        if model is None or str(model.compute_dtype) in HALVES:
            return None
        sides = model.input_shape[1:3]
        if sides not in ((None, None), normalised.shape[1:3]):
            return None
        if job.network.geometry != Network.of_model(model).geometry:
            return None
        from convnext.nn.model import with_outputs

        tapped = with_outputs(model, job.output)
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
) -> Iterator[Source]:
    """The network that is meant, as long as its weights can be read.

    Args:
        model: The name of a published checkpoint or of a repository on the Hugging Face Hub, a
            weights file, or a Keras model of ours; with `random`, the name of a variant.
        resolution: Side of the pictures, or `"any"`; by default the weights' or the model's own.
        random: Whether random weights will do.
        output_stride: See `convnext.engines.open_engine`.

    Raises:
        ArgumentError: There are no weights, or pictures cannot have that size.
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
            "weights with random=True (--random): they answer nothing, but have the right form."
        )
    size = resolution if isinstance(resolution, int) else None
    with Session.open(model, size=size, any_size=resolution == "any") as session:
        yield Source(session.network.dilated(output_stride))


def _check_resolution(resolution: Resolution) -> None:
    if resolution in (None, "any"):
        return
    if not isinstance(resolution, int) or isinstance(resolution, bool):
        raise ArgumentTypeError(
            f"resolution is the side of the pictures in pixels, or 'any', not {resolution!r}."
        )
    adapted_strides(resolution, resolution)


def _is_unpublished(model: Any) -> bool:
    """Whether it is the name of a variant that nobody published weights of."""
    unpublished = VARIANTS.keys() - DEFAULT_RECIPES.keys()
    return isinstance(model, str) and model in unpublished and not Path(model).exists()


def _drawn(name: str) -> CanonicalWeights:
    if name not in VARIANTS:
        raise UnknownNameError("variant to draw random weights for", name, VARIANTS)
    arrays = random_weights(VARIANTS[name])
    found = recognise({key: array.shape for key, array in arrays.items()}, "convnext")
    tensors = {key: LazyTensor.from_array(array) for key, array in arrays.items()}
    return CanonicalWeights(tensors, found, WeightsInfo(), f"{name} (random weights)")


def _of_model(model: Any, network: Network, resolution: Resolution, random: bool) -> Source:
    if not random and not any(_trained(network)):
        raise ArgumentError(
            f"The model {model.name!r} has its initial weights: every bias is zero. Load weights "
            "or train it first, or allow random ones with random=True (--random)."
        )
    if resolution is not None:
        network = _resized(network, resolution)
    last = network.variant.depths[-1] - 1
    block = model.get_layer(f"stage_3_block_{last}")
    return Source(
        network,
        softmax=bool(network.num_classes) and _ends_in_softmax(model),
        pixels=any(layer.name == "normalization" for layer in model.layers),
        drop_path_rate=float(block.drop_path_rate),
        model=model,
    )


def _resized(network: Network, resolution: int | Literal["any"]) -> Network:
    """For pictures of a size: strides that followed from another follow from it, others stay."""
    own, strides, recipe = network.sides, network.strides, network.preprocess
    sides = None if resolution == "any" else (resolution, resolution)
    if own not in (None, sides) and strides == adapted_strides(*own):
        strides = adapted_strides(*sides) if sides else PUBLISHED_STRIDES
    if sides:
        recipe = replace(recipe, size=sides[0])
    return replace(network, sides=sides, strides=strides, preprocess=recipe)


def _trained(network: Network) -> Iterator[bool]:
    """For each bias, whether it is another than the initial one."""
    for name in network.weights.tensors:
        if name.endswith(".bias"):
            yield bool(network.values(name).any())


def _ends_in_softmax(model: Any) -> bool:
    activation: Callable[..., Any] = model.get_layer("head").activation
    name = getattr(activation, "__name__", str(activation))
    if name not in ("softmax", "linear"):
        raise ArgumentError(
            f"The model {model.name!r} ends in the activation {name!r}, and exports end in logits "
            "or in softmax. Build it with classifier_activation=None."
        )
    return name == "softmax"
