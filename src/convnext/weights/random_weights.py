"""Random weights of the magnitude of trained ones, to time and compare networks.

Initial values are unsuitable: a layer scale of 1e-6 and a GRN of 0 switch the blocks off, so that a
wrong implementation of them would give the right result.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from convnext.architecture import Architecture
from convnext.segmentation import SegmentationHead
from convnext.steps import Shape
from convnext.weights.canonical import parameter_shapes

__all__ = ["random_weights"]


def random_weights(
    architecture: Architecture,
    num_classes: int = 1000,
    seed: int = 0,
    *,
    segmentation: SegmentationHead | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Random values of every parameter, by canonical name.

    Args:
        architecture: The architecture.
        num_classes: Width of the classifier.
        seed: Seed of the random numbers.
        segmentation: A head for segmentation instead of the classifier.

    Example:
        >>> from convnext.architecture import ARCHITECTURES
        >>> weights = random_weights(ARCHITECTURES["test_v2"])
        >>> bool(abs(weights["stage_0_block_0.grn.gamma"]).mean() > 0.1)
        True
    """
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(architecture, num_classes, segmentation=segmentation)
    return {name: _values(rng, name, shape) for name, shape in shapes.items()}


def _values(rng: np.random.Generator, name: str, shape: Shape) -> NDArray[np.float32]:
    mean, scale = 0.0, 0.5  # those of layer scale and GRN
    if name.endswith("dwconv.kernel"):
        scale = 1 / shape[0]
    elif name.endswith("kernel"):
        scale = 1 / math.sqrt(math.prod(shape[:-1]))
    elif name.endswith(("norm.gamma", "moving_variance")):
        mean, scale = 1.0, 0.25
    elif name.endswith(("bias", "norm.beta")):
        scale = 0.25
    values = rng.standard_normal(shape, np.float32)
    values *= np.float32(scale)
    values += np.float32(mean)
    return np.abs(values) if name.endswith("moving_variance") else values
