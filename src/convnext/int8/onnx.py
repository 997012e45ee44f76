"""The int8 constants of an ONNX graph, from a calibration.

graph = build(network, rounding=rounded(calibration))
"""

from __future__ import annotations

import numpy as np

from convnext.graphs.fold import Affine, Folded, Linear, length_factor
from convnext.graphs.onnx.int8 import IntegerLinear, Rounding
from convnext.int8.calibration import Calibration
from convnext.int8.rounding import is_rounded

__all__ = ["rounded"]

LARGEST_BIAS = 2.0**30  # in steps; with the largest sum of products below it fits into 32 bits


def rounded(calibration: Calibration) -> Rounding:
    """The int8 constants of each linear layer, for `convnext.graphs.onnx.build.build`.

    They are those of OpenVINO's graph: the same levels, kernels and steps.
    """

    def of_layer(node: Folded) -> IntegerLinear | None:
        name, linear = node.step.name, node.linear
        if not is_rounded(name) or linear is None:
            return None
        factor = np.float32(1 if node.behind is None else length_factor(node.behind))
        linear = Linear(linear.kernel * factor, linear.bias)  # as it was calibrated
        levels = calibration.levels(name, linear)
        kernel, steps = levels.round_kernel(linear.kernel)
        bias = levels.bias(linear)
        least = np.abs(bias) / np.float32(LARGEST_BIAS)
        wide = np.where(kernel.any(axis=0), np.maximum(steps, least), least)
        wide[wide == 0] = 1
        return IntegerLinear(
            Affine(
                np.float32(1) / (levels.step * factor),
                np.asarray(-levels.low / levels.step, np.float32),
            ),
            np.rint(kernel * (steps / wide)).astype(np.int8),
            wide,
            np.rint(bias / wide).astype(np.int32),
        )

    return of_layer
