"""What is to be run: weights, what is done to pictures first, and at which size.

Why it exists: a graph builder, and every engine, needs exactly this and nothing of files, names or
frameworks. Values stay in their file until a builder asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.architecture import (
    PUBLISHED_STRIDES,
    Strides,
    Variant,
    adapted_strides,
    feature_sizes,
)
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.weights.canonical import Shape, canonical_variables
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights

__all__ = ["OUTPUTS", "Network"]

OUTPUTS = ("logits", "embedding", "stage_0", "stage_1", "stage_2", "stage_3")
"""What a network can give: the classifier's outputs, what the classifier sees, the feature maps."""


@dataclass(frozen=True)
class Network:
    """Weights and the geometry they run at.

    Attributes:
        weights: Every parameter, readable while its file is open.
        preprocess: What is done to pictures; its size is the side they have afterwards.
        sides: Height and width of the pictures; None for any from 32 pixels on.
        strides: Of the stem and the three downsamplings.
    """

    weights: CanonicalWeights
    preprocess: Preprocess
    sides: tuple[int, int] | None
    strides: Strides

    @classmethod
    def of_weights(
        cls, weights: CanonicalWeights, size: int | None = None, *, any_size: bool = False
    ) -> Network:
        """The network of some weights, as `create_convnext_v1` and `_v2` would build it.

        Args:
            weights: From `read_weights`.
            size: Side of the pictures; by default that of the weights' own recipe, 224 if they
                have none.
            any_size: Whether pictures of every size are taken, from 32 pixels on.
        """
        preprocess = weights.info.preprocess or Preprocess()
        if size is not None:
            preprocess = replace(preprocess, size=size)
        side = preprocess.size
        chosen = weights.info.strides
        if any_size:
            return cls(weights, preprocess, None, chosen or PUBLISHED_STRIDES)
        return cls(weights, preprocess, (side, side), chosen or adapted_strides(side, side))

    @classmethod
    def of_model(cls, model: Any, info: WeightsInfo | None = None) -> Network:
        """The network of a Keras model of ours, whose values are read when asked for."""
        variables = canonical_variables(model)
        found = recognise({name: tuple(v.shape) for name, v in variables.items()}, "convnext")
        tensors = {name: LazyTensor.of(variables[name]) for name in found.sources}
        weights = CanonicalWeights(tensors, found, info or WeightsInfo(), f"model {model.name!r}")
        height, width = model.input_shape[1:3]
        downsamplings = [model.get_layer(f"downsample_{stage}_conv") for stage in (1, 2, 3)]
        strides = tuple(x.strides for x in (model.get_layer("stem_conv"), *downsamplings))
        preprocess = weights.info.preprocess or Preprocess(size=height or Preprocess.size)
        return cls(weights, preprocess, (height, width) if height and width else None, strides)

    @property
    def variant(self) -> Variant:
        """The architecture."""
        return self.weights.variant

    @property
    def num_classes(self) -> int:
        """Width of the classifier; 0 where there is none."""
        return self.weights.num_classes

    @property
    def default_output(self) -> str:
        """The logits, or what is nearest to them where there is no classifier."""
        has_norm = self.weights.found.head_norm
        return "logits" if self.num_classes else "embedding" if has_norm else "stage_3"

    @property
    def channels(self) -> int:
        """Channels of the pictures."""
        return self.weights.found.channels

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every parameter."""
        return {name: tensor.shape for name, tensor in self.weights.tensors.items()}

    def values(self, name: str) -> NDArray[np.float32]:
        """One parameter, by its canonical name."""
        return self.weights.tensors[name].read().astype(np.float32, copy=False)

    def feature_sizes(self) -> list[tuple[int, int]] | None:
        """Height and width of each feature map; None where pictures may have any size."""
        return feature_sizes(*self.sides, self.strides) if self.sides else None

    def check_outputs(self, outputs: tuple[str, ...]) -> None:
        """Refuse outputs that this network has not.

        Raises:
            ArgumentError: One is unknown, or needs a part that these weights lack.
        """
        lacking = {
            "logits": not self.num_classes,
            "embedding": not self.weights.found.head_norm,
        }
        allowed = [name for name in OUTPUTS if not lacking.get(name)]
        if not outputs or any(name not in allowed for name in outputs):
            raise ArgumentError(
                f"{self.weights.source} has no output {', '.join(outputs) or '(none given)'!r}. "
                f"It can give: {', '.join(allowed)}."
            )
