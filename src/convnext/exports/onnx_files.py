"""Write ONNX files with `convnext.graphs.onnx.build`, and run them in ONNX Runtime.

The file's metadata describes the weights. These are in the file, or beside it if they exceed the
2 GB of a protocol buffer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from convnext.engines.quantizing import calibration_of
from convnext.exports.spec import Array, ExportSpec, Predict
from convnext.graphs.onnx.build import build
from convnext.graphs.onnx.graph import OnnxGraph
from convnext.int8.onnx import rounded

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = f"ONNX Runtime {ort.__version__}"
LARGEST = 2_000_000_000  # bytes of weights in the graph's file
ALIGNED = 4096  # bytes: each weight starts at a memory page
ERRORS_ONLY = 3


def write(spec: ExportSpec, target: Path) -> None:
    """Write the model, and check it with ONNX's checker."""
    graph = build(
        spec.network,
        (spec.output,),
        input=spec.dtype.name,  # type: ignore[arg-type]
        batch=spec.batch,
        softmax=spec.softmax,
        layer_norm=True,
        precision="float16" if spec.precision == "float16" else "float32",
        rounding=None
        if spec.precision != "int8"
        else rounded(calibration_of(spec.network, spec.calibration)),
    )
    for name, value in spec.network.weights.info.to_metadata().items():
        graph.model.metadata_props.add(key=name, value=value)
    graph.model.producer_name = "convnext"
    if sum(array.nbytes for array in graph.weights.values()) > LARGEST:
        _move_beside(graph, target.with_suffix(spec.kind.second_suffix))
    else:
        _move_inside(graph)
    target.write_bytes(graph.model.SerializeToString())
    onnx.checker.check_model(str(target), full_check=True)


def _external(graph: OnnxGraph) -> list[tuple[Any, Array]]:
    """Each weight of the graph that is external data, and its values."""
    tensors = graph.model.graph.initializer
    return [(t, graph.weights[t.name]) for t in tensors if t.name in graph.weights]


def _move_inside(graph: OnnxGraph) -> None:
    for tensor, values in _external(graph):
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _move_beside(graph: OnnxGraph, path: Path) -> None:
    with path.open("wb") as file:
        for tensor, values in _external(graph):
            file.write(bytes(-file.tell() % ALIGNED))
            entries = {"location": path.name, "offset": file.tell(), "length": values.nbytes}
            del tensor.external_data[:]
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(values.data)


def opened(spec: ExportSpec, target: Path) -> Predict:
    """Load the file in ONNX Runtime."""
    settings = ort.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    session = ort.InferenceSession(str(target), settings, providers=["CPUExecutionProvider"])

    def answer(batch: Array) -> Array:
        [values] = session.run([spec.output], {"pictures": batch})
        result: Array = values
        return result

    return answer
