"""Small ONNX files of networks that are not ours: the means of the colours, times a matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TO_CLASSES = np.array([[4.0, 0.0, -4.0], [0.0, 2.0, 1.0]], np.float32).T  # (colours, classes)


def write_means(
    path: Path,
    *,
    matrix: np.ndarray = TO_CLASSES,
    shape: tuple[int | str, ...] = ("n", 3, 8, 8),
    axes: tuple[int, int] = (2, 3),
    kind: str = "FLOAT",
    outputs: tuple[str, ...] = ("logits",),
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a file whose answers are the means of the colours over `axes`, times the matrix."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    if kind != "FLOAT":
        nodes.append(helper.make_node("Cast", ["pictures"], ["floats"], to=TensorProto.FLOAT))
    given = "pictures" if kind == "FLOAT" else "floats"
    nodes.append(helper.make_node("ReduceMean", [given, "axes"], ["means"], keepdims=0))
    nodes += [helper.make_node("MatMul", ["means", "matrix"], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("pictures", getattr(TensorProto, kind), list(shape))],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", matrix.shape[1]])
            for name in outputs
        ],
        [
            numpy_helper.from_array(matrix, "matrix"),
            numpy_helper.from_array(np.array(axes, np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path
