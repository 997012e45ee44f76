"""The graph answers as the architecture is written, whatever its form."""

import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from convnext.errors import ArgumentError  # noqa: E402
from convnext.graphs.onnx import build  # noqa: E402


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


def close(ours, expected):
    for name, values in ours.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=2e-5 * scale, err_msg=name)


@pytest.mark.parametrize("side", [8, 16, 32, 48, 64, 77])
def test_every_output_of_every_variant(oracle, side):
    """The smaller sides relax the strides: 8 and 16 down to the last downsampling but one."""
    for variant in oracle.variants:
        network = oracle.network(variant, side)
        pictures = oracle.pictures(network)
        ours = answers(build(network, network.outputs), pictures)
        assert tuple(ours) == network.outputs
        close(ours, oracle.answers(network, pictures))


def test_any_size_and_any_number(oracle):
    network = oracle.network("test_v2", any_size=True)
    model = build(network, ("logits", "stage_1"))
    for count, side in ((1, 32), (3, 45), (2, 64)):
        pictures = oracle.pictures(network, count, side)
        close(answers(model, pictures), oracle.answers(network, pictures))


def test_pictures_that_are_normalised_already_and_have_four_channels(oracle):
    network = oracle.network("test_v1", 32, channels=4)
    pictures = np.random.default_rng(5).standard_normal((2, 32, 32, 4), np.float32)
    close(answers(build(network, input="float32"), pictures), oracle.answers(network, pictures))


def test_a_fixed_number_of_pictures(oracle):
    model = build(oracle.network(), batch=3).model
    [pictures] = model.graph.input
    assert pictures.name == "pictures"
    assert [dim.dim_value for dim in pictures.type.tensor_type.shape.dim] == [3, 32, 32, 3]


def test_probabilities_on_request(oracle):
    network = oracle.network()
    pictures = oracle.pictures(network)
    logits = oracle.answers(network, pictures)["logits"]
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    close(answers(build(network, softmax=True), pictures), {"logits": expected})


def test_no_classifier_and_no_head(oracle):
    network = oracle.network("test_v1", num_classes=0)
    pictures = oracle.pictures(network)
    close(answers(build(network, ("embedding",)), pictures), oracle.answers(network, pictures))
    bare = oracle.network("test_v1", num_classes=0, traits={"head": "none"})
    close(answers(build(bare, ("stage_3",)), pictures), oracle.answers(bare, pictures))
    with pytest.raises(ArgumentError, match="It can give: embedding, stage_0"):
        build(network)


def test_large_weights_stay_outside_and_the_graph_is_valid(oracle):
    network = oracle.network("test_v1")
    graph = build(network, network.outputs)
    assert len(graph.model.SerializeToString()) < 100_000
    assert all(array.nbytes >= 1024 for array in graph.weights.values())
    for tensor in graph.model.graph.initializer:
        if tensor.name in graph.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(graph.weights[tensor.name], tensor.name))
    onnx.checker.check_model(graph.model, full_check=True)


def test_a_picture_of_one_colour(oracle):
    """Nothing divides by a deviation or a norm of zero."""
    network = oracle.network("test_v2", 64)
    for shade in (0, 255):
        pictures = np.full((1, 64, 64, 3), shade, np.uint8)
        close(answers(build(network), pictures), oracle.answers(network, pictures))
