"""The form of the ONNX graph that is for others to read: standard operators, and half precision."""

import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from convnext.errors import WeightsError  # noqa: E402
from convnext.graphs.onnx.build import build  # noqa: E402
from convnext.graphs.onnx.graph import OPERATORS  # noqa: E402


def whole(graph):
    """The model with its weights inside."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in model.graph.initializer:
        if tensor.name in graph.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(graph.weights[tensor.name], tensor.name))
    return model


def answers(model, pictures):
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pictures": pictures}), strict=True))


def close(ours, expected, tolerance=2e-5):
    for name, values in ours.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(
            values, expected[name], rtol=0, atol=tolerance * scale, err_msg=name
        )


def permutation(node):
    return next(list(a.ints) for a in node.attribute if a.name == "perm")


def cancelling(model):
    """Pairs of transpositions, with nothing but casts between them, that undo each other."""
    source = {output: node for node in model.graph.node for output in node.output}
    pairs = []
    for node in model.graph.node:
        before = source.get(node.input[0])
        while before is not None and before.op_type == "Cast":
            before = source.get(before.input[0])
        if node.op_type == "Transpose" and before is not None and before.op_type == "Transpose":
            first, second = permutation(before), permutation(node)
            if [first[axis] for axis in second] == [0, 1, 2, 3]:
                pairs.append((before.name, node.name))
    return pairs


@pytest.mark.parametrize("side", [8, 32, 64, 77])
def test_every_output_of_every_variant(oracle, side):
    for variant in oracle.variants:
        network = oracle.network(variant, side)
        pictures = oracle.pictures(network)
        model = whole(build(network, network.outputs, layer_norm=True))
        close(answers(model, pictures), oracle.answers(network, pictures))


def test_every_output_of_every_variant_in_int8(oracle):
    pytest.importorskip("convnext.graphs.untracked_openvino")
    from convnext.int8.onnx import rounded
    from convnext.int8.openvino import calibrate

    for variant in oracle.variants:
        network = oracle.network(variant, 32)
        pictures = oracle.pictures(network)
        rounding = rounded(calibrate(network, pictures))
        model = whole(build(network, network.outputs, rounding=rounding))
        onnx.checker.check_model(model, full_check=True)
        expected = oracle.answers(network, pictures)
        close(answers(model, pictures), expected, 0.1)
        assert cancelling(model) == []


def test_any_size_and_any_number(oracle):
    network = oracle.network("test_v2", any_size=True)
    model = whole(build(network, ("logits", "stage_1"), layer_norm=True))
    for count, side in ((1, 32), (3, 45)):
        pictures = oracle.pictures(network, count, side)
        close(answers(model, pictures), oracle.answers(network, pictures))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("input", ["uint8", "float32"])
@pytest.mark.parametrize("side", [16, 64])
def test_norms_are_native_operators_are_standard_and_nothing_is_turned_twice(
    oracle, side, input, precision
):
    for variant in ("test_v1", "test_v2", "custom"):
        network = oracle.network(variant, side)
        graph = build(
            network,
            network.outputs,
            input=input,
            layer_norm=True,
            softmax=True,
            precision=precision,
        )
        model = whole(graph)
        onnx.checker.check_model(model, full_check=True)
        assert {node.op_type for node in model.graph.node} <= OPERATORS
        assert {(opset.domain, opset.version >= 17) for opset in model.opset_import} == {("", True)}
        norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
        depths = network.variant.depths
        assert len(norms) == 1 + 3 + sum(depths) + 2  # stem, downsamplings, blocks, tokens, head
        for node in norms:
            assert {a.name: a.i for a in node.attribute}["axis"] == -1
        assert cancelling(model) == []
        assert not {"Sqrt", "Div"} & {n.op_type for n in model.graph.node} - grn_alone(variant)


def grn_alone(variant):
    """Operators of plain norms that GRN has too."""
    return {"Div"} if variant != "test_v1" else set()


def test_a_pair_that_cancels_would_be_found(oracle):
    model = whole(build(oracle.network(), layer_norm=True))
    before = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    after = next(node for node in model.graph.node if before.output[0] in node.input)
    after.input[0] = before.input[0]
    assert cancelling(model) != []


def test_constants_added_or_multiplied_have_one_dimension(oracle):
    """Or belongs to GRN: fusions of ONNX Runtime have taken other shapes wrongly."""
    model = whole(build(oracle.network("test_v1", 64), layer_norm=True))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Add", "Mul"):
            assert all(len(shapes.get(name, ())) <= 1 for name in node.input)


def test_half_precision_is_close_in_onnx_runtime(oracle):
    for variant in oracle.variants:
        network = oracle.network(variant, 32)
        pictures = oracle.pictures(network)
        graph = build(network, network.outputs, precision="float16")
        halves = [a for a in graph.weights.values() if a.dtype == np.float16]
        assert len(halves) > len(graph.weights) / 2
        close(answers(whole(graph), pictures), oracle.answers(network, pictures), 1e-2)


def test_grn_in_half_precision_with_activations_of_a_thousand(oracle):
    """Executed literally, operator by operator in float16: the sum of squares would be infinite."""
    names = [f"stage_{s}_block_{b}" for s, depth in enumerate((1, 1, 2, 1)) for b in range(depth)]
    plain = oracle.network("test_v2", 32)
    edit = {}
    for name in names:
        edit[f"{name}.pwconv1.kernel"] = plain.values(f"{name}.pwconv1.kernel") * 1000
        edit[f"{name}.pwconv2.kernel"] = plain.values(f"{name}.pwconv2.kernel") / 1000
    network = oracle.network("test_v2", 32, edit=edit)
    pictures = oracle.pictures(network, 1)
    expected = oracle.answers(network, pictures)
    model = whole(build(network, precision="float16"))
    [logits] = ReferenceEvaluator(model).run(None, {"pictures": pictures})
    assert np.isfinite(logits).all()
    close({"logits": logits}, expected, 2e-2)
    close(answers(model, pictures), expected, 2e-2)


def test_a_weight_beyond_half_precision_is_refused(oracle):
    edit = {"head_norm.gamma": np.full(32, 1e5, np.float32)}
    build(oracle.network("test_v1", edit=edit), precision="float16")  # the head stays float32
    edit = {"stem_norm.gamma": np.full(8, 1e5, np.float32)}
    with pytest.raises(WeightsError, match="too large for float16"):
        build(oracle.network("test_v1", edit=edit), precision="float16")
