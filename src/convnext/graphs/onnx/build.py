"""Build an ONNX graph directly from canonical weights, without a framework.

Its operators are those that ran fastest in ONNX Runtime; docs/engines.md has the measurements.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from onnx import TensorProto, helper

from convnext.graphs.fold import folded, pixel_mean, steps_to
from convnext.graphs.network import Network
from convnext.graphs.onnx.graph import IR_VERSION, OPSET, Graph, OnnxGraph
from convnext.graphs.onnx.int8 import IntegerEmitter, Rounding
from convnext.graphs.onnx.steps import FIRST, Emitter

__all__ = ["build"]


def build(  # noqa: PLR0913
    network: Network,
    outputs: tuple[str, ...] = ("logits",),
    *,
    input: Literal["uint8", "float32"] = "uint8",
    batch: int | None = None,
    softmax: bool = False,
    layer_norm: bool = False,
    precision: Literal["float32", "float16"] = "float32",
    rounding: Rounding | None = None,
) -> OnnxGraph:
    """Build an ONNX model from pictures, channels last, to outputs.

    Args:
        network: The network.
        outputs: Some of `convnext.graphs.network.OUTPUTS`. Feature maps are channels last.
        input: `"uint8"` to take pixels, `"float32"` to take normalised pictures.
        batch: Batch size; None for any.
        softmax: Whether to turn logits into probabilities.
        layer_norm: Whether each norm is one LayerNormalization, for other runtimes, instead of
            reductions, which are faster in ONNX Runtime.
        precision: Precision of the weights and of the computation up to the head. Float16 implies
            `layer_norm`, which computes in float32, as squares in float16 overflow.
        rounding: For int8: the constants of linear layers. Implies `layer_norm`.

    Raises:
        WeightsError: A weight is not finite, or too large for float16.
    """
    network.check_outputs(outputs)
    half = precision == "float16"
    graph, from_pixels = Graph(half), input == "uint8"
    x = graph.add("Transpose", "pictures", perm=FIRST)  # (B, channels, H, W)
    if from_pixels:  # subtracted after the transposition, four times as fast
        x = graph.add("Cast", x, to=TensorProto.FLOAT)
        with graph.wide():
            x = graph.add("Sub", x, graph.constant(pixel_mean(network).reshape(-1, 1, 1)))
    x = graph.narrowed(x)
    emit = (
        Emitter(graph, network, x, layer_norm or half, outputs, softmax)
        if rounding is None
        else IntegerEmitter(graph, network, x, outputs, softmax, rounding)
    )
    for node in folded(network, steps_to(network.steps, outputs), from_pixels=from_pixels):
        x = emit(x, node)
    dims = [batch or "batch", *(network.sides or ("height", "width")), network.channels]
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(input))
    pictures = helper.make_tensor_value_info("pictures", dtype, dims)
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [dims[0], *_shape(network, name)])
        for name in outputs
    ]
    proto = helper.make_graph(
        graph.nodes, network.architecture.name, [pictures], results, graph.initializers
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(proto, opset_imports=[opset], ir_version=IR_VERSION)
    return OnnxGraph(model, graph.weights)


def _shape(network: Network, output: str) -> list[int | str]:
    """Shape of an output for one picture; a variable side is a name."""
    width = network.width(output)
    if output in ("logits", "embedding", "pre_logits"):
        return [width]
    if output == "segmentation":
        return [*(network.sides or ("height", "width")), width]
    stages = {"tokens": -1, "scores": 0}
    stage = stages[output] if output in stages else int(output.removeprefix("stage_"))
    sides = network.feature_sizes()
    named = (f"{output}_height", f"{output}_width")
    return [*(sides[stage] if sides else named), width]
