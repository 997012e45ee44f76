"""The graph answers as the architecture is written, whatever its form."""

import pytest

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from contracts import GraphContract  # noqa: E402
from convnext.graphs.onnx.build import build  # noqa: E402


def answers(graph, pictures):
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
    settings.add_external_initializers(list(graph.weights), values)
    session = ort.InferenceSession(
        graph.model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pictures": pictures}), strict=True))


class TestContract(GraphContract):
    def build(self, network, *outputs, **options):
        return build(network, outputs or ("logits",), **options)

    def answers(self, graph, pictures):
        return answers(graph, pictures)


def test_a_fixed_number_of_pictures(oracle):
    model = build(oracle.network(), batch=3).model
    [pictures] = model.graph.input
    assert pictures.name == "pictures"
    assert [dim.dim_value for dim in pictures.type.tensor_type.shape.dim] == [3, 32, 32, 3]


def test_large_weights_stay_outside_and_the_graph_is_valid(oracle):
    network = oracle.network("test_v1")
    graph = build(network, network.outputs)
    assert len(graph.model.SerializeToString()) < 100_000
    assert all(array.nbytes >= 1024 for array in graph.weights.values())
    for tensor in graph.model.graph.initializer:
        if tensor.name in graph.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(graph.weights[tensor.name], tensor.name))
    onnx.checker.check_model(graph.model, full_check=True)
