"""Build the ONNX graph of a text tower directly from weights, for texts of any length."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, helper

from convnext.graphs.onnx.graph import IR_VERSION, OPSET, Graph, OnnxGraph
from convnext.text.tower import EPSILON, TextWeights

__all__ = ["build"]

SHORTEST = 1e-12  # minimum of the length that a vector is divided by, as in PyTorch
MASKED = np.finfo(np.float32).min


def build(weights: TextWeights) -> OnnxGraph:
    """Build an ONNX model from `tokens` `[n, length]` and `ends` `[n]` to `vectors`."""
    emit = _Emitter(weights, Graph(half=False))
    graph, tower = emit.graph, weights.tower
    size = graph.add("Shape", "tokens", start=1, end=2)
    zero, both = graph.ints(0), graph.ints(0, 1)
    positions = graph.add("Slice", emit.constant("text_embedding.positions"), zero, size, zero)
    later = np.triu(np.full((tower.length, tower.length), MASKED, np.float32), 1)
    square = graph.add("Concat", size, size, axis=0)
    mask = graph.add("Slice", graph.constant(later), graph.ints(0, 0), square, both)
    x = graph.add("Gather", emit.constant("text_embedding.tokens"), "tokens")
    x = graph.add("Add", x, positions)  # (n, length, width)
    for block in range(tower.layers):
        x = emit.block(f"text_block_{block}", x, mask)
    # (n, 1) pairs of a row and a position would be another operator: one position of each row.
    ends = graph.add("Reshape", "ends", graph.ints(-1, 1, 1))
    ends = graph.add("Expand", ends, graph.ints(1, 1, tower.width))
    x = graph.add("GatherElements", x, ends, axis=1)
    x = emit.norm("text_norm", graph.add("Squeeze", x, graph.ints(1)))
    x = graph.add("MatMul", x, emit.constant("text_projection.kernel"))
    length = graph.add("ReduceL2", x, graph.ints(1))
    length = graph.add("Max", length, graph.constant(np.float32(SHORTEST)))
    graph.add("Div", x, length, name="vectors")
    whole = TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("tokens", whole, ["texts", "length"]),
        helper.make_tensor_value_info("ends", whole, ["texts"]),
    ]
    outputs = [
        helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", tower.outputs])
    ]
    proto = helper.make_graph(graph.nodes, "text_tower", inputs, outputs, graph.initializers)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(proto, opset_imports=[opset], ir_version=IR_VERSION)
    return OnnxGraph(model, graph.weights)


class _Emitter:
    """Adds the parts of a tower to a graph."""

    def __init__(self, weights: TextWeights, graph: Graph) -> None:
        self.weights = weights
        self.graph = graph

    def block(self, name: str, x: str, mask: str) -> str:
        """A block; `mask` is added to the scores of the attention."""
        graph, tower = self.graph, self.weights.tower
        part = tower.width // tower.heads
        y = self.linear(f"{name}.query_key_value", self.norm(f"{name}.norm_1", x))
        y = graph.add("Reshape", y, graph.ints(0, 0, 3, tower.heads, part))
        y = graph.add("Transpose", y, perm=[2, 0, 3, 1, 4])  # (3, n, heads, length, part)
        query, key, value = (
            graph.add("Squeeze", graph.add("Gather", y, graph.ints(index)), graph.ints(0))
            for index in range(3)
        )
        query = graph.add("Mul", query, graph.constant(np.float32(1 / math.sqrt(part))))
        y = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 1, 3, 2]))
        y = graph.add("Softmax", graph.add("Add", y, mask), axis=-1)
        y = graph.add("Transpose", graph.add("MatMul", y, value), perm=[0, 2, 1, 3])
        y = graph.add("Reshape", y, graph.ints(0, 0, tower.width))
        x = graph.add("Add", x, self.linear(f"{name}.attention_out", y))
        y = self.linear(f"{name}.hidden", self.norm(f"{name}.norm_2", x))
        return graph.add("Add", x, self.linear(f"{name}.hidden_out", graph.add("Gelu", y)))

    def norm(self, name: str, x: str) -> str:
        gamma, beta = self.constant(f"{name}.gamma"), self.constant(f"{name}.beta")
        return self.graph.add("LayerNormalization", x, gamma, beta, axis=-1, epsilon=EPSILON)

    def linear(self, name: str, x: str) -> str:
        x = self.graph.add("MatMul", x, self.constant(f"{name}.kernel"))
        return self.graph.add("Add", x, self.constant(f"{name}.bias"))

    def constant(self, name: str) -> str:
        return self.graph.constant(self.weights.values(name))
