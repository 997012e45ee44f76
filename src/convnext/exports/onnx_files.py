"""ONNX files: built from the weights by the graphs room, run by ONNX Runtime.

What is known about the weights goes into the file's metadata. Weights lie in the file, or beside it
where it would have more than 2 GB, which no protocol buffer can hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from convnext.exports.job import Answer, Array, Job
from convnext.graphs.onnx import OnnxGraph, build

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = f"ONNX Runtime {ort.__version__}"
LARGEST = 2_000_000_000  # bytes of weights in the graph's own file
ALIGNED = 4096  # so that whoever maps the weights finds them at the start of a page
ERRORS_ONLY = 3


def write(job: Job, target: Path) -> None:
    """Write the model, checked by ONNX's own checker."""
    graph = build(
        job.network,
        (job.output,),
        input=job.dtype.name,  # type: ignore[arg-type]
        batch=job.batch,
        softmax=job.softmax,
        layer_norm=True,
        precision=job.precision,  # type: ignore[arg-type]
    )
    for name, value in job.network.weights.info.to_metadata().items():
        graph.model.metadata_props.add(key=name, value=value)
    graph.model.producer_name = "convnext"
    if sum(array.nbytes for array in graph.weights.values()) > LARGEST:
        _move_beside(graph, target.with_suffix(job.kind.second_suffix))
    else:
        _move_inside(graph)
    target.write_bytes(graph.model.SerializeToString())
    onnx.checker.check_model(str(target), full_check=True)


def _announced(graph: OnnxGraph) -> list[tuple[Any, Array]]:
    """Each weight that is announced as lying elsewhere, and its values."""
    tensors = graph.model.graph.initializer
    return [(t, graph.weights[t.name]) for t in tensors if t.name in graph.weights]


def _move_inside(graph: OnnxGraph) -> None:
    for tensor, values in _announced(graph):
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _move_beside(graph: OnnxGraph, path: Path) -> None:
    with path.open("wb") as file:
        for tensor, values in _announced(graph):
            file.write(bytes(-file.tell() % ALIGNED))
            places = {"location": path.name, "offset": file.tell(), "length": values.nbytes}
            del tensor.external_data[:]
            for key, value in places.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(values.data)


def opened(job: Job, target: Path) -> Answer:
    """The file in ONNX Runtime."""
    settings = ort.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    session = ort.InferenceSession(str(target), settings, providers=["CPUExecutionProvider"])

    def answer(batch: Array) -> Array:
        [values] = session.run([job.output], {"pictures": batch})
        result: Array = values
        return result

    return answer
