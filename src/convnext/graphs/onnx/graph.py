"""The nodes and constants of an ONNX graph.

Weights are external to the graph, so that a network may be larger than the 2 GB of a protocol
buffer, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convnext.errors import WeightsError

__all__ = ["IR_VERSION", "OPERATORS", "OPSET", "Graph", "OnnxGraph"]

OPSET, IR_VERSION = 20, 9  # the first opset with Gelu, and its IR version
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
