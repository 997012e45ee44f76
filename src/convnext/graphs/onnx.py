"""Canonical weights to an ONNX graph, by hand: no framework, no tracing, no conversion.

The forms are those that ran fastest in ONNX Runtime (docs/engines.md has the measurements): NCHW
throughout, linear layers as 1x1 convolutions, norms as plain reductions over channels, the exact
GELU as one operator. What is added per channel stays one-dimensional or belongs to a convolution:
ONNX Runtime has fused wrongly what was not.

For others to read there is a second form: each norm is one LayerNormalization over the last axis,
between the transpositions that it needs. Float16 concerns what lies between the pictures and the
head: pictures and outputs stay as they are, the head computes in float32, and so does GRN's
statistic, whose sum of squares half precision cannot hold.

Weights stay outside the graph, so that a network of more than 2 GB, which no protocol buffer can
hold, is built like any other and nothing is copied. It knows neither files nor how graphs are run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convnext.errors import WeightsError
from convnext.graphs.fold import (
    GRN_EPSILON,
    NORM_EPSILON,
    Affine,
    Block,
    Linear,
    fold_block,
    fold_downsampling,
    fold_head,
    fold_stem,
)
from convnext.graphs.network import Network

__all__ = ["OPERATORS", "OnnxGraph", "build"]

CHANNELS, PLACES = [1], [2, 3]  # of NCHW
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # where a transposition puts the channels
OPSET, IR_VERSION = 20, 9  # the first opset with Gelu, and what belongs to it
LARGE = 1024  # bytes; smaller constants are part of the graph

OPERATORS = frozenset(
    (
        *("Add", "Cast", "Conv", "Div", "Gelu", "Gemm", "LayerNormalization", "Mul"),
        *("ReduceL2", "ReduceMean", "Softmax", "Sqrt", "Sub", "Transpose"),
    )
)
"""Every operator that a graph may hold, all of them of ONNX's own standard set."""

Array = NDArray[Any]


@dataclass(frozen=True)
class OnnxGraph:
    """A model and the weights it refers to.

    Attributes:
        model: The graph, in which each weight is announced as external data under its name.
        weights: Their values.

    Example:
        options = onnxruntime.SessionOptions()
        values = [OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
        options.add_external_initializers(list(graph.weights), values)
        session = onnxruntime.InferenceSession(graph.model.SerializeToString(), options)
    """

    model: onnx.ModelProto
    weights: dict[str, Array]


def build(
    network: Network,
    outputs: tuple[str, ...] = ("logits",),
    *,
    input: Literal["uint8", "float32"] = "uint8",
    batch: int | None = None,
    softmax: bool = False,
    layer_norm: bool = False,
    precision: Literal["float32", "float16"] = "float32",
) -> OnnxGraph:
    """The network as an ONNX model from pictures, channels last, to its outputs.

    Args:
        network: What to build.
        outputs: Any of `convnext.graphs.network.OUTPUTS`. Feature maps are given channels last.
        input: `"uint8"` to take pixels, `"float32"` to take normalised pictures.
        batch: How many pictures at once; None for any number.
        softmax: Whether to turn logits into probabilities.
        layer_norm: Whether norms are one LayerNormalization each, as other tools expect them, and
            not the reductions that ONNX Runtime does faster.
        precision: What weights are stored in, and what is computed in up to the head. Float16 means
            `layer_norm`, whose own arithmetic is in float32: squares of half precision overflow.

    Raises:
        WeightsError: A weight is not finite, or too large for float16.
    """
    network.check_outputs(outputs)
    half = precision == "float16"
    graph = _Graph(layer_norm or half, half)
    x = _stem(graph, network, input)
    for stage, depth in enumerate(network.variant.depths):
        if stage:
            x = _downsample(graph, network, x, stage)
        for index in range(depth):
            x = _block(graph, x, fold_block(network, stage, index))
        if f"stage_{stage}" in outputs:
            graph.add("Transpose", graph.widened(x), name=f"stage_{stage}", perm=LAST)
    if {"embedding", "logits"} & set(outputs):
        _head(graph, network, x, outputs, softmax)
    dims = [batch or "batch", *(network.sides or ("height", "width")), network.channels]
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(input))
    pictures = helper.make_tensor_value_info("pictures", dtype, dims)
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [dims[0], *_shape(network, name)])
        for name in outputs
    ]
    proto = helper.make_graph(
        graph.nodes, network.variant.name, [pictures], results, graph.initializers
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(proto, opset_imports=[opset], ir_version=IR_VERSION)
    return OnnxGraph(model, graph.weights)


def _shape(network: Network, output: str) -> list[int | str]:
    """Of one output for one picture; a side that may vary has a name."""
    if output == "logits":
        return [network.num_classes]
    if output == "embedding":
        return [network.variant.dims[-1]]
    stage = int(output.removeprefix("stage_"))
    sides = network.feature_sizes()
    named = (f"{output}_height", f"{output}_width")
    return [*(sides[stage] if sides else named), network.variant.dims[stage]]


@dataclass
class _Graph:
    """Nodes in the making; every value is known by its name."""

    layer_norm: bool
    half: bool
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return that output's name."""
        name = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, values: Any) -> str:
        """Add values, and return their name."""
        name = f"constant_{len(self.initializers)}"
        array = np.ascontiguousarray(values)
        if self.half and array.dtype == np.float32:
            array = _halved(array)
        if array.nbytes < LARGE:
            self.initializers.append(numpy_helper.from_array(array, name))
            return name
        tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.external_data.add(key="location", value=name)
        self.initializers.append(tensor)
        self.weights[name] = array
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def widened(self, x: str) -> str:
        """A value in float32."""
        return self.add("Cast", x, to=TensorProto.FLOAT) if self.half else x

    def narrowed(self, x: str) -> str:
        """A value in float32, in what is computed in."""
        return self.add("Cast", x, to=TensorProto.FLOAT16) if self.half else x

    @contextmanager
    def wide(self) -> Iterator[None]:
        """Constants that are added in here are float32."""
        before, self.half = self.half, False
        try:
            yield
        finally:
            self.half = before


def _halved(array: Array) -> Array:
    with np.errstate(over="ignore"):
        halves = array.astype(np.float16)
    if not np.isfinite(halves).all():
        raise WeightsError(
            f"A weight of {float(np.abs(array).max()):.3g} is too large for float16, which ends at "
            "65504. Export in float32."
        )
    return halves


def _stem(graph: _Graph, network: Network, input: str) -> str:
    stem = fold_stem(network, from_pixels=input == "uint8")
    x = "pictures"
    if stem.subtract is not None:
        x = graph.add("Cast", x, to=TensorProto.FLOAT)
        with graph.wide():
            x = graph.add("Sub", x, graph.constant(stem.subtract))
    x = graph.add("Transpose", graph.narrowed(x), perm=FIRST)  # (B, channels, H, W)
    x = _convolution(graph, x, stem.conv, "stem_conv", stem.stride, stem.pads)
    return _norm(graph, x, len(stem.conv.bias), stem.norm)


def _downsample(graph: _Graph, network: Network, x: str, stage: int) -> str:
    down = fold_downsampling(network, stage)
    x = _norm(graph, x, down.conv.kernel.shape[-2], down.norm)
    return _convolution(graph, x, down.conv, f"downsample_{stage}_conv", down.stride, down.pads)


def _block(graph: _Graph, x: str, block: Block) -> str:
    branch = _depthwise(graph, x, block.depthwise, f"{block.name}.dwconv")
    branch = _norm(graph, branch, len(block.depthwise.bias))
    branch = _product(graph, branch, block.first, f"{block.name}.pwconv1")
    branch = graph.add("Gelu", branch)  # (B, 4 dim, H, W)
    if block.grn is not None:
        branch = _grn(graph, branch, block.grn)
    branch = _product(graph, branch, block.second, f"{block.name}.pwconv2")
    return graph.add("Add", x, branch, name=block.name)


def _head(graph: _Graph, network: Network, x: str, outputs: tuple[str, ...], softmax: bool) -> None:
    head = fold_head(network)
    x = graph.widened(x)
    with graph.wide():
        x = graph.add("ReduceMean", x, graph.ints(*PLACES), keepdims=0)  # (B, dim)
        if graph.layer_norm:
            x = _layer_norm(graph, x, network.variant.dims[-1])
        else:
            x = _reduced(graph, x)
        if "embedding" in outputs:
            scaled = graph.add("Mul", x, graph.constant(head.embedding.scale))
            graph.add("Add", scaled, graph.constant(head.embedding.shift), name="embedding")
        if head.classifier is not None and "logits" in outputs:
            kernel = graph.constant(head.classifier.kernel)
            bias = graph.constant(head.classifier.bias)
            name = "head" if softmax else "logits"
            logits = graph.add("Gemm", x, kernel, bias, name=name)
            if softmax:
                graph.add("Softmax", logits, name="logits", axis=1)


def _norm(graph: _Graph, x: str, channels: int, after: Affine | None = None) -> str:
    """A norm over channels, with the scale and shift after it that are left."""
    if graph.layer_norm:
        x = graph.add("Transpose", x, perm=LAST)
        return graph.add("Transpose", _layer_norm(graph, x, channels, after), perm=FIRST)
    x = _reduced(graph, x)
    return x if after is None else _affine(graph, x, after)


def _layer_norm(graph: _Graph, x: str, channels: int, after: Affine | None = None) -> str:
    constants = [np.ones(channels, np.float32)] if after is None else [after.scale, after.shift]
    names = [graph.constant(values) for values in constants]
    return graph.add("LayerNormalization", x, *names, axis=-1, epsilon=NORM_EPSILON)


def _reduced(graph: _Graph, x: str) -> str:
    axes = graph.ints(*CHANNELS)
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
    deviation = graph.add(
        "Sqrt", graph.add("Add", variance, graph.constant(np.float32(NORM_EPSILON)))
    )
    return graph.add("Div", centred, deviation)


def _affine(graph: _Graph, x: str, norm: Affine) -> str:
    x = graph.add("Mul", x, graph.constant(norm.scale.reshape(-1, 1, 1)))
    return graph.add("Add", x, graph.constant(norm.shift.reshape(-1, 1, 1)))


def _grn(graph: _Graph, x: str, gamma: Array) -> str:
    wide = graph.widened(x)
    with graph.wide():
        norm = graph.add("ReduceL2", wide, graph.ints(*PLACES))  # (B, 4 dim, 1, 1)
        mean = graph.add("ReduceMean", norm, graph.ints(*CHANNELS))
        mean = graph.add("Add", mean, graph.constant(np.float32(GRN_EPSILON)))
        relative = graph.add("Div", norm, mean)
        scale = graph.add("Mul", relative, graph.constant(gamma.reshape(-1, 1, 1)))
        scale = graph.add("Add", scale, graph.constant(np.float32(1)))
    return graph.add("Mul", x, graph.narrowed(scale))


def _depthwise(graph: _Graph, x: str, linear: Linear, name: str) -> str:
    side, _, channels = linear.kernel.shape
    kernel = graph.constant(linear.kernel.transpose(2, 0, 1)[:, None])
    bias = graph.constant(linear.bias)
    padding = [side // 2] * 4
    return graph.add("Conv", x, kernel, bias, name=name, group=channels, pads=padding)


def _product(graph: _Graph, x: str, linear: Linear, name: str) -> str:
    return _convolution(graph, x, Linear(linear.kernel[None, None], linear.bias), name)


def _convolution(
    graph: _Graph, x: str, linear: Linear, name: str, stride: int = 1, pads: bool = False
) -> str:
    kernel = graph.constant(linear.kernel.transpose(3, 2, 0, 1))  # (out, in, height, width)
    padding = "SAME_UPPER" if pads else "VALID"
    bias = graph.constant(linear.bias)
    return graph.add("Conv", x, kernel, bias, name=name, strides=[stride] * 2, auto_pad=padding)
