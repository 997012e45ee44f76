"""The nodes of each kind of step, in float32 or float16.

Maps are NCHW, linear layers 1x1 convolutions, norms reductions over channels, and the exact GELU is
one operator. Shifts per channel are one-dimensional or the bias of a convolution, as ONNX Runtime
fuses other forms wrongly.

With `layer_norm`, for other runtimes, each norm is one LayerNormalization over the last axis
between transpositions. Float16 is for the steps between the pictures and the head: pictures,
outputs, the head and GRN's norm, whose sum of squares would overflow, are in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from convnext.graphs.fold import Affine, Folded, Linear
from convnext.graphs.network import Network
from convnext.graphs.onnx.graph import Graph
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

__all__ = ["FIRST", "Emitter"]

CHANNELS, PLACES = [1], [2, 3]  # of NCHW
PLACES_OF_LAST = [1, 2]
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # transpositions to channels first and last
SHORTEST = 1e-12  # minimum of the length that a vector is divided by, as in PyTorch

ANY_LAYOUT = (Aside, Norm, Pool, Residual, Take, Tap)
"""Steps that take maps with channels first or last."""

METHODS: dict[type, str] = {
    Activation: "activation",
    AddEnlarged: "add_enlarged",
    Aside: "aside",
    BinPool: "bin_pool",
    Conv: "conv",
    Depthwise: "depthwise",
    Enlarge: "enlarge",
    Fuse: "fuse",
    GRN: "grn",
    LinearStep: "linear",
    Norm: "norm",
    Pool: "pool",
    Residual: "residual",
    Take: "take",
    Tap: "tap",
    Unit: "unit",
}


class Emitter:
    """Adds the nodes of each step to a graph; a method for each kind of step.

    Args:
        graph: The graph.
        network: The network.
        pictures: The input, channels first.
        layer_norm: Whether each norm is one LayerNormalization.
        outputs: The requested outputs.
        softmax: Whether to turn logits into probabilities.
    """

    def __init__(
        self,
        graph: Graph,
        network: Network,
        pictures: str,
        layer_norm: bool,
        outputs: tuple[str, ...],
        softmax: bool,
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
        self.channels_last: set[str] = set()  # maps with channels last; all others have them first
        self.turned: dict[str, str] = {}  # maps that exist in both layouts

    def __call__(self, x: str, node: Folded) -> str:
        """Add a step; returns the name of its output."""
        if not isinstance(node.step, ANY_LAYOUT):
            x = self._first(x)
        name: str = getattr(self, METHODS[type(node.step)])(x, node)
        return name

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
        y = x
        for each in node.branch:
            y = self(y, each)
        return self.graph.add("Add", self._first(x), y, name=node.step.name)

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
        return self._turn(x, FIRST) if x in self.channels_last and not self.pooled else x

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
