"""A network to run: weights, preprocessing, picture size and strides, for engines and exports.

Weights stay in their file until a graph builder reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.architecture import Architecture, Geometry, Strides
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.thresholds import THRESHOLD
from convnext.segmentation import SegmentationHead
from convnext.steps import Shape, Step, taps
from convnext.weights.canonical import (
    activation_of,
    arithmetic_of,
    bins_of,
    canonical_variables,
)
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights

__all__ = ["OUTPUTS", "Network"]

OUTPUTS = (
    "logits",
    "embedding",
    "stage_0",
    "stage_1",
    "stage_2",
    "stage_3",
    "tokens",
    "pre_logits",
    "scores",
    "segmentation",
)
"""All outputs; a network has those that its architecture allows.

    logits       output of the classifier; of CLIP's image towers, the projected vector
    embedding    normalised mean of the last feature map; of CLIP, the projection at length 1
    stage_0 ...  feature maps
    tokens       the last feature map with each position normalised by the last norm
    pre_logits   input of the last linear layer, if it is not the embedding
    scores       of a segmentation model, logits of the classes at each position of the first map
    segmentation these, enlarged to the size of the pictures
"""

REASONS = {
    "tokens": "Tokens are positions of the last map after the last norm, which is not there.",
    "pre_logits": "There is no hidden layer before the classifier: use the embedding.",
    "segmentation": "These weights have no segmentation head.",
    "logits": "These weights have no classifier.",
}


@dataclass(frozen=True)
class Network:
    """Weights and the geometry they run at.

    Attributes:
        weights: All parameters, readable while their file is open.
        preprocess: The preprocessing of pictures.
        sides: Height and width of the pictures; None for any from 32 pixels on.
        strides: Of the stem and the downsamplings.
        dilations: Of the depthwise convolutions in each stage; empty for 1 everywhere.
        recipe_known: Whether the normalisation of pixels is known.
    """

    weights: CanonicalWeights
    preprocess: Preprocess
    sides: tuple[int, int] | None
    strides: Strides
    dilations: tuple[int, ...] = ()
    recipe_known: bool = True

    @classmethod
    def of_weights(
        cls, weights: CanonicalWeights, size: int | None = None, *, any_size: bool = False
    ) -> Network:
        """Create the network of weights, as `create_convnext_v1` and `_v2` do.

        Args:
            weights: From `read_weights`.
            size: Side of the pictures; by default that of the weights' recipe, or 224.
            any_size: Whether to allow pictures of any size from 32 pixels on.

        Raises:
            UnstatedError: Epsilon, activation or norm of the network are unknown.
        """
        weights.found.check_arithmetic(weights.source)
        recipe = weights.recipe
        known, preprocess = recipe is not None, recipe or Preprocess()
        if size is not None:
            preprocess = replace(preprocess, size=size)
        side, architecture = preprocess.size, weights.architecture
        chosen = weights.info.strides
        if weights.found.segmentation:  # strides of small pictures are not relaxed
            chosen = chosen or architecture.strides
            if not any_size and side < math.prod(chosen):
                raise ArgumentError(
                    f"Pictures of {side}x{side} are too small for the segmentation model "
                    f"{weights.source}: each side must be at least {math.prod(chosen)} pixels."
                )
        if any_size:
            return cls(weights, preprocess, None, chosen or architecture.strides, (), known)
        strides = chosen or architecture.geometry(side, side).strides
        return cls(weights, preprocess, (side, side), strides, (), known)

    @classmethod
    def of_model(cls, model: Any, info: WeightsInfo | None = None) -> Network:
        """Create the network of a Keras model of this package."""
        variables = canonical_variables(model)
        shapes = {name: tuple(v.shape) for name, v in variables.items()}
        info = info or WeightsInfo()
        found = recognise(shapes, "convnext", arithmetic_of(model), bins_of(model))
        if found.segmentation:
            info = replace(info, task="segmentation")
        if activation_of(model) == "sigmoid" and info.thresholds is None:
            info = replace(info, thresholds=(THRESHOLD,) * found.num_classes)
        tensors = {name: LazyTensor.of(variables[name]) for name in found.sources}
        weights = CanonicalWeights(tensors, found, info, f"model {model.name!r}")
        height, width = model.input_shape[1:3]
        layers, stages = (
            {layer.name: layer for layer in model.layers},
            range(len(found.architecture.depths)),
        )
        pool = layers.get("head_pool")
        classifies = found.num_classes and found.segmentation is None
        if classifies and type(pool).__name__ != "GlobalAveragePooling2D":
            raise ArgumentError(
                f"The model {model.name!r} does not classify a mean over positions, the only "
                "pooling of engines and exports. Build it without pooling=, or call the model."
            )
        stem = [layers[name] for name in layers if name.startswith("stem_") and "conv" in name]
        downsamplings = [layers[f"downsample_{stage}_conv"] for stage in stages[1:]]
        strides = (math.prod(x.strides for x in stem), *(x.strides for x in downsamplings))
        dilations = [layers[f"stage_{stage}_block_0"].traits["dilation"] for stage in stages]
        preprocess = weights.info.preprocess or Preprocess(size=height or Preprocess.size)
        sides = (height, width) if height and width else None
        return cls(weights, preprocess, sides, strides, tuple(dilations))

    def dilated(self, output_stride: int | None) -> Network:
        """Dilate the network to an output stride; None returns it unchanged.

        Args:
            output_stride: See `convnext.architecture.Architecture.dilated`.
        """
        if output_stride is None:
            return self
        strides, dilations = self.architecture.dilated(output_stride)
        return replace(self, strides=strides, dilations=dilations)

    @property
    def architecture(self) -> Architecture:
        """The traits of the network."""
        return self.weights.architecture

    @property
    def variant(self) -> Architecture:
        """Another name of `architecture`."""
        return self.architecture

    @property
    def num_classes(self) -> int:
        """Number of classes, of the whole picture or of each pixel; 0 without a head for them."""
        return self.weights.num_classes

    @property
    def channels(self) -> int:
        """Channels of the pictures."""
        return self.weights.found.channels

    @property
    def geometry(self) -> Geometry:
        """Strides and dilations."""
        return Geometry(self.strides, self.dilations)

    @property
    def is_clip(self) -> bool:
        """Whether the head is CLIP's projection, to compare with texts, and no classifier."""
        return self.weights.info.task == "clip" and self.num_classes > 0

    @property
    def segmentation(self) -> SegmentationHead | None:
        """The head for semantic segmentation, if there is one instead of a classifier."""
        return self.weights.found.segmentation

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps from normalised pictures to outputs, in order."""
        architecture, head = self.architecture, self.segmentation
        sizes = (self.num_classes, self.channels, self.geometry)
        if head is not None:
            return tuple(head.network_steps(architecture, *sizes))
        return tuple(architecture.steps(*sizes, clip=self.is_clip))

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every parameter."""
        return {name: tensor.shape for name, tensor in self.weights.tensors.items()}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those of `OUTPUTS` that this network has."""
        there = set(taps(self.steps))
        return tuple(name for name in OUTPUTS if name in there)

    @property
    def default_output(self) -> str:
        """The last output in the order of computation, such as logits or the embedding."""
        return list(taps(self.steps))[-1]

    def width(self, output: str) -> int:
        """Width of an output, or channels of a feature map."""
        widths = {f"stage_{stage}": dim for stage, dim in enumerate(self.architecture.dims)}
        last = self.architecture.dims[-1]
        widths |= dict.fromkeys(("logits", "scores", "segmentation"), self.num_classes)
        widths["tokens"] = last
        widths["pre_logits"] = self.architecture.head_hidden or last
        vectors = self.num_classes if self.is_clip else self.architecture.projection
        widths["embedding"] = vectors or last
        return widths[output]

    def values(self, name: str) -> NDArray[np.float32]:
        """Read a parameter by its canonical name."""
        return self.weights.tensors[name].read().astype(np.float32, copy=False)

    def feature_sizes(self) -> list[tuple[int, int]] | None:
        """Height and width of each feature map; None for pictures of any size."""
        if self.sides is None:
            return None
        return self.architecture.feature_sizes(*self.sides, self.geometry)

    def check_outputs(self, outputs: tuple[str, ...]) -> None:
        """Refuse outputs that this network does not have.

        Raises:
            ArgumentError: One is unknown, or needs a part that these weights lack.
        """
        if not outputs or any(name not in self.outputs for name in outputs):
            lacking = ", ".join(name for name in outputs if name not in self.outputs)
            why = "".join(f" {reason}" for name, reason in REASONS.items() if name in lacking)
            raise ArgumentError(
                f"{self.weights.source} has no output {lacking or '(none given)'!r}. "
                f"It can give: {', '.join(self.outputs)}.{why}"
            )
