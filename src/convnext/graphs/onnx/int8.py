"""The nodes of blocks whose linear layers compute in int8.

These are `QuantizeLinear`, `DequantizeLinear` and `Gemm`, which ONNX Runtime fuses into one integer
product. Inputs are scaled per channel by the step before, and quantised with one scale for the
tensor, as fusion demands it. Such a block has its positions as rows of a matrix, and its skip has
channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from convnext.graphs.fold import Affine, Folded
from convnext.graphs.network import Network
from convnext.graphs.onnx.graph import Graph
from convnext.graphs.onnx.steps import Emitter
from convnext.steps import GRN_EPSILON
from convnext.steps import Linear as LinearStep

__all__ = ["IntegerEmitter", "IntegerLinear", "Rounding"]

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


class IntegerEmitter(Emitter):
    """Adds the nodes of each step to a graph, those of linear layers of blocks in int8.

    Args:
        graph: The graph.
        network: The network.
        pictures: The input, channels first.
        outputs: The requested outputs.
        softmax: Whether to turn logits into probabilities.
        rounding: The constants of layers in int8.
    """

    def __init__(
        self,
        graph: Graph,
        network: Network,
        pictures: str,
        outputs: tuple[str, ...],
        softmax: bool,
        rounding: Rounding,
    ) -> None:
        super().__init__(graph, network, pictures, True, outputs, softmax)
        self.rounding = rounding
        self.integer: dict[str, IntegerLinear] = {}  # of the current block's layers, by name
        self.batch = ""  # number of pictures

    def residual(self, x: str, node: Folded) -> str:
        """A residual branch and its skip connection."""
        branch = self._rounded(node.branch)
        return self._block(x, branch, node.step.name) if self.integer else super().residual(x, node)

    def linear(self, x: str, node: Folded) -> str:
        """A linear layer over channels, of a map or of vectors."""
        layer = self.integer.get(node.step.name)
        return super().linear(x, node) if layer is None else self._product(x, layer, node.step.name)

    def grn(self, x: str, node: Folded) -> str:
        """Global response normalisation with its skip."""
        if not self.pooled:
            return super().grn(x, node)
        assert node.gamma is not None
        return self._grn_of_rows(x, node.gamma, node.affine)

    def _rounded(self, branch: Sequence[Folded]) -> list[Folded]:
        """Find the int8 layers of a block; the step before each then scales its inputs."""
        self.integer = {}
        nodes = list(branch)
        for number, node in enumerate(nodes):
            if isinstance(node.step, LinearStep):
                found = self.rounding(node)
                if found is not None:
                    self.integer[node.step.name] = found
                    nodes[number - 1] = replace(nodes[number - 1], affine=found.inputs)
        return nodes

    def _block(self, x: str, branch: list[Folded], name: str) -> str:
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

    def _product(self, x: str, layer: IntegerLinear, name: str) -> str:
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
