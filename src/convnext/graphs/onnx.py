"""Build an ONNX graph directly from canonical weights, without a framework.

Its operators are those that ran fastest in ONNX Runtime (docs/engines.md has the measurements):
NCHW, linear layers as 1x1 convolutions, norms as reductions over channels, the exact GELU as one
operator. Shifts per channel are one-dimensional or the bias of a convolution, as ONNX Runtime fuses
other forms wrongly.

With `layer_norm`, for other runtimes, each norm is one LayerNormalization over the last axis
between transpositions. Float16 is for the steps between the pictures and the head: pictures,
outputs, the head and GRN's norm, whose sum of squares would overflow, are in float32.

With `rounding`, the linear layers of blocks compute in int8, as `QuantizeLinear`,
`DequantizeLinear` and `Gemm`, which ONNX Runtime fuses into one integer product. Inputs are scaled
per channel by the step before, and quantised with one scale for the tensor, as fusion demands it.
Such a block has its positions as rows of a matrix, and its skip has channels last.

Weights are external to the graph, so that a network may be larger than the 2 GB of a protocol
buffer, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convnext.errors import WeightsError
from convnext.graphs.fold import Affine, Folded, Linear, folded, pixel_mean, steps_to
from convnext.graphs.network import Network
from convnext.images.resizing import binned
from convnext.steps import (
    GRN,
    GRN_EPSILON,
    Activation,
    AddEnlarged,
    Aside,
    BinPool,
    Conv,
    Depthwise,
    Enlarge,
    Fuse,
    Norm,
    Pads,
    Pool,
    Residual,
    Take,
    Tap,
    Unit,
)
from convnext.steps import Linear as LinearStep

__all__ = [
    "IR_VERSION",
    "OPERATORS",
    "OPSET",
    "Graph",
    "IntegerLinear",
    "OnnxGraph",
    "Rounding",
    "build",
]

CHANNELS, PLACES = [1], [2, 3]  # of NCHW
PLACES_OF_LAST = [1, 2]
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # transpositions to channels first and last
OPSET, IR_VERSION = 20, 9  # the first opset with Gelu, and its IR version
SHORTEST = 1e-12  # minimum of the length that a vector is divided by, as in PyTorch
LARGE = 1024  # bytes; smaller constants are part of the graph

OPERATORS = frozenset(
    (
        *("Add", "And", "Cast", "Concat", "ConstantOfShape", "Conv", "DequantizeLinear", "Div"),
        *("Gather", "Gelu", "Gemm", "GreaterOrEqual", "Identity", "LayerNormalization", "Less"),
        *("MatMul", "Max", "Mul", "QuantizeLinear", "Range", "ReduceL2", "ReduceMean"),
        *("ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Softmax", "Sqrt", "Sub"),
        "Transpose",
    )
)
"""All operators of the graphs; they belong to ONNX's standard operator set."""

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class IntegerLinear:
    """Constants of a linear layer in int8.

    Attributes:
        inputs: Scale and shift of its inputs, which then are rounded to integers in 0..255.
        kernel: `(in, out)`, int8.
        steps: `(out,)`: the factor of each sum of products of integers.
        bias: `(out,)`, int32, added to these sums.
    """

    inputs: Affine
    kernel: NDArray[np.int8]
    steps: NDArray[np.float32]
    bias: NDArray[np.int32]


Rounding = Callable[[Folded], IntegerLinear | None]
"""The int8 constants of a linear layer of a block; None to compute it in float32.

Both layers of a block are rounded, or none.
"""


@dataclass(frozen=True)
class OnnxGraph:
    """A model and the weights it refers to.

    Attributes:
        model: The graph, whose weights are external data, by name.
        weights: The values of the weights, by name.

    Example:
        options = onnxruntime.SessionOptions()
        values = [OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
        options.add_external_initializers(list(graph.weights), values)
        session = onnxruntime.InferenceSession(graph.model.SerializeToString(), options)
    """

    model: onnx.ModelProto
    weights: dict[str, Array]


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
    emit = _Emitter(
        graph, network, x, layer_norm or half or rounding is not None, outputs, softmax, rounding
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


@dataclass
class Graph:
    """The nodes and constants of a graph under construction; values are referred to by name."""

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
        """Add whole numbers, and return their name."""
        return self.constant(np.array(values, np.int64))

    def widened(self, x: str) -> str:
        """Cast a value to float32."""
        return self.add("Cast", x, to=TensorProto.FLOAT) if self.half else x

    def narrowed(self, x: str) -> str:
        """Cast a float32 value to the graph's precision."""
        return self.add("Cast", x, to=TensorProto.FLOAT16) if self.half else x

    @contextmanager
    def wide(self) -> Iterator[None]:
        """Add constants in float32 in this context."""
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
            f"A weight of {float(np.abs(array).max()):.3g} is too large for float16, whose largest "
            "value is 65504. Export in float32."
        )
    return halves


class _Emitter:
    """Adds the nodes of each step to a graph; a method for each kind of step.

    Args:
        graph: The graph.
        network: The network.
        pictures: The input, channels first.
        layer_norm: Whether each norm is one LayerNormalization.
        outputs: The requested outputs.
        softmax: Whether to turn logits into probabilities.
        rounding: The constants of layers in int8, if any.
    """

    def __init__(
        self,
        graph: Graph,
        network: Network,
        pictures: str,
        layer_norm: bool,
        outputs: tuple[str, ...],
        softmax: bool,
        rounding: Rounding | None = None,
    ) -> None:
        self.graph = graph
        self.maps = network.feature_sizes()
        self.pictures = pictures
        self.named: dict[str, str] = {}  # the values at taps
        self.layer_norm = layer_norm
        self.outputs = outputs
        self.softmax = softmax
        self.pooled = False  # whether the current value is vectors, not maps
        self.channels = CHANNELS  # their axis
        self.rounding = rounding
        self.integer: dict[str, IntegerLinear] = {}  # of the current block's layers, by name
        self.batch = ""  # number of pictures
        self.channels_last: set[str] = set()  # maps with channels last; all others have them first
        self.turned: dict[str, str] = {}  # maps that exist in both layouts

    def __call__(self, x: str, node: Folded) -> str:
        """Add a step; returns the name of its output."""
        if not isinstance(node.step, ANY_LAYOUT):
            x = self._first(x)
        return EMITTERS[type(node.step)](self, x, node)

    def conv(self, x: str, node: Folded) -> str:
        """A dense convolution."""
        step = node.step
        return self._convolution(x, node.linear, step.name, step.stride, step.dilation, step.pads)

    def depthwise(self, x: str, node: Folded) -> str:
        """A convolution of each channel."""
        step, linear, graph = node.step, node.linear, self.graph
        assert linear is not None
        kernel = graph.constant(linear.kernel.transpose(2, 0, 1)[:, None])
        bias = graph.constant(linear.bias)
        options: dict[str, Any] = {"pads": [step.dilation * (step.kernel // 2)] * 4}
        if step.dilation > 1:
            options["dilations"] = [step.dilation] * 2
        group = linear.kernel.shape[-1]
        return graph.add("Conv", x, kernel, bias, name=step.name, group=group, **options)

    def norm(self, x: str, node: Folded) -> str:
        """A norm over channels, with its scale and shift unless they are folded."""
        step, graph = node.step, self.graph
        if step.kind != "layer":
            wide = graph.widened(self._first(x))
            with graph.wide():
                wide = self._power_norm(wide, step)
            return self._scaled(graph.narrowed(wide), node.affine)
        if not self.layer_norm:
            return self._scaled(self._reduced(self._first(x), step.epsilon), node.affine)
        if self.pooled:
            return self._layer_norm(x, step, node.affine)
        y = self._layer_norm(self._last(x), step, node.affine)
        self.channels_last.add(y)
        return y

    def linear(self, x: str, node: Folded) -> str:
        """A linear layer over channels, of a map or of vectors."""
        linear, name = node.linear, node.step.name
        assert linear is not None
        if name in self.integer:
            return self._integer_product(x, self.integer[name], name)
        if not self.pooled:
            return self._convolution(x, Linear(linear.kernel[None, None], linear.bias), name)
        kernel, bias = self.graph.constant(linear.kernel), self.graph.constant(linear.bias)
        if name == "head" and not self.softmax:
            name = "logits"
        return self.graph.add("Gemm", x, kernel, bias, name=name)

    def activation(self, x: str, node: Folded) -> str:
        """An activation."""
        return self._scaled(self._activated(x, node.step.kind), node.affine)

    def grn(self, x: str, node: Folded) -> str:
        """Global response normalisation with its skip."""
        graph, gamma = self.graph, node.gamma
        assert gamma is not None
        if self.pooled:
            return self._grn_of_rows(x, gamma, node.affine)
        wide = graph.widened(x)
        with graph.wide():
            norm = graph.add("ReduceL2", wide, graph.ints(*PLACES))  # (B, 4 dim, 1, 1)
            mean = graph.add("ReduceMean", norm, graph.ints(*CHANNELS))
            mean = graph.add("Add", mean, graph.constant(np.float32(GRN_EPSILON)))
            relative = graph.add("Div", norm, mean)
            scale = graph.add("Mul", relative, graph.constant(gamma.reshape(-1, 1, 1)))
            scale = graph.add("Add", scale, graph.constant(np.float32(1)))
        return graph.add("Mul", x, graph.narrowed(scale))

    def pool(self, x: str, node: Folded) -> str:
        """The mean over positions; later steps compute vectors, in float32."""
        del node
        places = PLACES_OF_LAST if x in self.channels_last else PLACES
        x = self.graph.widened(x)
        self.pooled, self.graph.half = True, False
        return self.graph.add("ReduceMean", x, self.graph.ints(*places), keepdims=0)  # (B, dim)

    def tap(self, x: str, node: Folded) -> str:
        """An output: a map with channels last, or a vector; with scale and shift of its norm."""
        graph, name = self.graph, node.step.name
        self.named[name] = x
        if name not in self.outputs:
            return x
        if x in self.channels_last and node.affine is None:
            graph.add("Identity", graph.widened(x), name=name)
        elif not self.pooled:
            y = self._scaled(self._first(x), node.affine)
            graph.add("Transpose", graph.widened(y), name=name, perm=LAST)
        elif name == "logits":
            if self.softmax:
                graph.add("Softmax", x, name=name, axis=1)
        elif node.affine is None:
            graph.add("Identity", x, name=name)
        else:
            self._scaled(x, node.affine, name)
        return x

    def unit(self, x: str, node: Folded) -> str:
        """Vectors divided by their length."""
        del node
        length = self.graph.add("ReduceL2", x, self.graph.ints(1))
        shortest = self.graph.constant(np.float32(SHORTEST))
        return self.graph.add("Div", x, self.graph.add("Max", length, shortest))

    def take(self, x: str, node: Folded) -> str:
        """A value at an earlier tap."""
        del x
        return self.named[node.step.name]

    def bin_pool(self, x: str, node: Folded) -> str:
        """The means over a grid of bins of the last map."""
        graph, bins = self.graph, node.step.bins
        if self.maps is not None:
            down, across = (graph.constant(binned(side, bins)) for side in self.maps[-1])
        else:
            sides = graph.add("Shape", x)
            down, across = (graph.narrowed(self._binned(sides, axis, bins)) for axis in (2, 3))
        x = graph.add("MatMul", x, graph.add("Transpose", across))
        return graph.add("MatMul", down, x)

    def add_enlarged(self, x: str, node: Folded) -> str:
        """The sum with an earlier map, resized."""
        return self.graph.add("Add", x, self._resized(self._first(self.named[node.step.name]), x))

    def enlarge(self, x: str, node: Folded) -> str:
        """A map resized to the pictures."""
        del node
        return self._resized(x, self.pictures)

    def fuse(self, x: str, node: Folded) -> str:
        """A convolution over several maps, resized to the first."""
        del x
        step = node.step
        first, *others = (self._first(self.named[name]) for name in step.maps)
        resized = (self._resized(other, first) for other in others)
        maps = self.graph.add("Concat", first, *resized, axis=1)
        return self._convolution(maps, node.linear, step.name, pads="both")

    def aside(self, x: str, node: Folded) -> str:
        """Steps that only an output needs."""
        y = self.graph.widened(self._last(x))
        before = self.pooled, self.channels
        self.pooled, self.channels = True, [3]
        with self.graph.wide():
            for each in node.branch:
                y = self(y, each)
        self.pooled, self.channels = before
        return x

    def residual(self, x: str, node: Folded) -> str:
        """A residual branch and its skip connection."""
        rounded = self._rounded(node.branch)
        if self.integer:
            return self._integer_residual(x, rounded, node.step.name)
        y = x
        for each in node.branch:
            y = self(y, each)
        return self.graph.add("Add", self._first(x), y, name=node.step.name)

    def _rounded(self, branch: Sequence[Folded]) -> list[Folded]:
        """Find the int8 layers of a block; the step before each then scales its inputs."""
        self.integer = {}
        nodes = list(branch)
        for number, node in enumerate(nodes):
            if self.rounding and isinstance(node.step, LinearStep):
                found = self.rounding(node)
                if found is not None:
                    self.integer[node.step.name] = found
                    nodes[number - 1] = replace(nodes[number - 1], affine=found.inputs)
        return nodes

    def _integer_residual(self, x: str, branch: list[Folded], name: str) -> str:
        """A block with linear layers in int8."""
        graph, [depthwise, *others] = self.graph, branch
        y, skip = self._last(self(x, depthwise)), self._last(x)
        shape = graph.add("Shape", skip)
        y = graph.add("Reshape", y, graph.ints(-1, depthwise.step.width))  # (positions, dim)
        self.pooled = True
        for each in others:
            y = self(y, each)
        self.pooled = False
        y = graph.add("Add", skip, graph.add("Reshape", y, shape), name=name)
        self.channels_last.add(y)
        return y

    def _integer_product(self, x: str, layer: IntegerLinear, name: str) -> str:
        """A linear layer of scaled rows in int8."""
        graph = self.graph
        one, zero = graph.constant(np.float32(1)), graph.constant(np.uint8(0))
        x = graph.add("QuantizeLinear", x, one, zero)
        x = graph.add("DequantizeLinear", x, one, zero)
        steps = graph.constant(layer.steps)
        # ONNX Runtime fuses only what states its zero points
        none = graph.constant(np.zeros(len(layer.steps), np.int8))
        kernel = graph.add("DequantizeLinear", graph.constant(layer.kernel), steps, none, axis=1)
        bias = graph.add("DequantizeLinear", graph.constant(layer.bias), steps, axis=0)
        return graph.add("Gemm", x, kernel, bias, name=name)

    def _grn_of_rows(self, x: str, gamma: Array, after: Affine | None) -> str:
        """GRN of rows `(positions, width)`, with scale and shift."""
        graph, width = self.graph, len(gamma)
        self.batch = self.batch or graph.add("Shape", self.pictures, start=0, end=1)
        x = graph.add("Reshape", x, graph.add("Concat", self.batch, graph.ints(-1, width), axis=0))
        # A product with ones: more than twice as fast as ReduceL2 over an axis that is not the last
        ones = graph.add("Concat", graph.ints(1), graph.add("Shape", x, start=1, end=2), axis=0)
        one = numpy_helper.from_array(np.ones(1, np.float32))
        ones = graph.add("ConstantOfShape", ones, value=one)
        norm = graph.add("Sqrt", graph.add("MatMul", ones, graph.add("Mul", x, x)))  # (B, 1, width)
        mean = graph.add("ReduceMean", norm, graph.ints(2))
        mean = graph.add("Add", mean, graph.constant(np.float32(GRN_EPSILON)))
        relative = graph.add("Div", norm, mean)
        factor = np.ones_like(gamma) if after is None else after.scale
        scale = graph.add("Mul", relative, graph.constant(gamma * factor))
        x = graph.add("Mul", x, graph.add("Add", scale, graph.constant(factor)))
        if after is not None and after.shift is not None:
            x = graph.add("Add", x, graph.constant(after.shift))
        return graph.add("Reshape", x, graph.ints(-1, width))

    def _activated(self, x: str, kind: str) -> str:
        graph = self.graph
        if kind == "gelu":
            return graph.add("Gelu", x)
        if kind == "gelu_tanh":
            return graph.add("Gelu", x, approximate="tanh")
        if kind == "relu":
            return graph.add("Relu", x)
        slope = graph.constant(np.float32(1.702))
        inner = graph.add("Mul", x, slope) if kind == "quick_gelu" else x
        return graph.add("Mul", x, graph.add("Sigmoid", inner))

    def _first(self, x: str) -> str:
        """A map with channels first; vectors as they are."""
        return self._turn(x, FIRST) if x in self.channels_last else x

    def _last(self, x: str) -> str:
        """A map with channels last."""
        if x in self.channels_last:
            return x
        y = self._turn(x, LAST)
        self.channels_last.add(y)
        return y

    def _turn(self, x: str, perm: list[int]) -> str:
        if x not in self.turned:
            self.turned[x] = self.graph.add("Transpose", x, perm=perm)
            self.turned[self.turned[x]] = x
        return self.turned[x]

    def _binned(self, sides: str, axis: int, bins: int) -> str:
        """The matrix `convnext.images.resizing.binned` for an axis of any length, in float32."""
        graph, numbers = self.graph, np.arange(bins)[:, None]
        length = graph.add("Gather", sides, graph.constant(np.int64(axis)))
        starts = graph.add("Mul", graph.constant(numbers), length)
        stops = graph.add("Mul", graph.constant(numbers + 1), length)
        stops = graph.add("Add", stops, graph.constant(np.int64(bins - 1)))
        starts, stops = (
            graph.add("Div", x, graph.constant(np.int64(bins))) for x in (starts, stops)
        )
        zero, one = (graph.constant(np.int64(number)) for number in (0, 1))
        positions = graph.add("Range", zero, length, one)
        begun = graph.add("GreaterOrEqual", positions, starts)
        inside = graph.add("And", begun, graph.add("Less", positions, stops))
        inside = graph.add("Cast", inside, to=TensorProto.FLOAT)
        return graph.add("Div", inside, graph.add("ReduceSum", inside, graph.ints(1)))

    def _resized(self, x: str, like: str) -> str:
        """A map resized to the size of another."""
        graph = self.graph
        of, sides = graph.add("Shape", x), graph.add("Shape", like)
        kept = graph.add("Gather", of, graph.ints(0, 1), axis=0)
        wanted = graph.add("Gather", sides, graph.ints(2, 3), axis=0)
        sizes = graph.add("Concat", kept, wanted, axis=0)
        return graph.add("Resize", x, "", "", sizes, mode="linear")

    def _layer_norm(self, x: str, norm: Norm, after: Affine | None) -> str:
        scale = np.ones(norm.width, np.float32) if after is None else after.scale
        names = [self.graph.constant(scale)]
        if after is not None and after.shift is not None:
            names.append(self.graph.constant(after.shift))
        return self.graph.add("LayerNormalization", x, *names, axis=-1, epsilon=norm.epsilon)

    def _reduced(self, x: str, epsilon: float) -> str:
        graph, axes = self.graph, self.graph.ints(*self.channels)
        centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes))
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
        deviation = graph.add(
            "Sqrt", graph.add("Add", variance, graph.constant(np.float32(epsilon)))
        )
        return graph.add("Div", centred, deviation)

    def _power_norm(self, x: str, norm: Norm) -> str:
        """RMS and simple norms, which divide without subtracting the mean."""
        graph, axes, y = self.graph, self.graph.ints(*self.channels), x
        if norm.kind == "simple":
            y = graph.add("Sub", x, graph.add("ReduceMean", x, axes))
        power = graph.add("ReduceMean", graph.add("Mul", y, y), axes)
        if norm.kind == "simple":
            sample = graph.constant(np.float32(norm.width / (norm.width - 1)))
            power = graph.add("Mul", power, sample)
        power = graph.add("Add", power, graph.constant(np.float32(norm.epsilon)))
        return graph.add("Div", x, graph.add("Sqrt", power))

    def _scaled(self, x: str, affine: Affine | None, name: str = "") -> str:
        """Apply scale and shift, if any; the last operation has the name `name`."""
        if affine is None:
            return x
        form = (-1,) if self.pooled else (-1, 1, 1)
        parts = [("Mul", affine.scale)] + ([] if affine.shift is None else [("Add", affine.shift)])
        for number, (operator, values) in enumerate(parts, start=1):
            constant = self.graph.constant(values.reshape(form))
            x = self.graph.add(operator, x, constant, name=name if number == len(parts) else "")
        return x

    def _convolution(
        self,
        x: str,
        linear: Linear | None,
        name: str,
        stride: int = 1,
        dilation: int = 1,
        pads: Pads = "none",
    ) -> str:
        assert linear is not None
        kernel = self.graph.constant(linear.kernel.transpose(3, 2, 0, 1))  # (out, in, h, w)
        bias = self.graph.constant(linear.bias)
        options: dict[str, Any] = {"strides": [stride] * 2}
        side = linear.kernel.shape[0]
        if pads == "both":
            options["pads"] = [side // 2] * 4
        elif dilation > 1:  # ONNX Runtime lacks auto_pad for dilated convolutions
            around = dilation * (side - 1)
            options["pads"] = [around // 2] * 2 + [around - around // 2] * 2
        else:
            options["auto_pad"] = "SAME_UPPER" if pads == "same" else "VALID"
        if dilation > 1:
            options["dilations"] = [dilation] * 2
        return self.graph.add("Conv", x, kernel, bias, name=name, **options)


ANY_LAYOUT = (Aside, Norm, Pool, Residual, Take, Tap)
"""Steps that take maps with channels first or last."""

EMITTERS: dict[type, Callable[[_Emitter, str, Folded], str]] = {
    Activation: _Emitter.activation,
    AddEnlarged: _Emitter.add_enlarged,
    Aside: _Emitter.aside,
    BinPool: _Emitter.bin_pool,
    Conv: _Emitter.conv,
    Depthwise: _Emitter.depthwise,
    Enlarge: _Emitter.enlarge,
    Fuse: _Emitter.fuse,
    GRN: _Emitter.grn,
    LinearStep: _Emitter.linear,
    Norm: _Emitter.norm,
    Pool: _Emitter.pool,
    Residual: _Emitter.residual,
    Take: _Emitter.take,
    Tap: _Emitter.tap,
    Unit: _Emitter.unit,
}
