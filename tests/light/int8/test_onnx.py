"""An int8 ONNX graph agrees with float32 and OpenVINO's int8, and runs as products of integers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
untracked = pytest.importorskip("convnext.graphs.untracked_openvino")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from convnext.engines.base import EngineOptions  # noqa: E402
from convnext.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from convnext.engines.openvino import OpenVINOEngine  # noqa: E402
from convnext.graphs import openvino  # noqa: E402
from convnext.graphs.agreement import agreement  # noqa: E402
from convnext.graphs.fold import Folded, Linear  # noqa: E402
from convnext.graphs.onnx.build import build  # noqa: E402
from convnext.graphs.onnx.graph import OPERATORS  # noqa: E402
from convnext.int8.calibration import Calibration  # noqa: E402
from convnext.int8.levels import InputStatistics, find_levels  # noqa: E402
from convnext.int8.onnx import rounded  # noqa: E402
from convnext.int8.openvino import calibrate  # noqa: E402
from convnext.int8.openvino import rounded as openvino_rounded  # noqa: E402
from convnext.steps import Linear as LinearStep  # noqa: E402


def pictures(count, side, other_side=None):
    shape = (count, side, other_side or side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def whole(graph):
    """The model with its weights inside."""
    for tensor in graph.model.graph.initializer:
        if tensor.name in graph.weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(graph.weights[tensor.name], tensor.name))
    return graph.model


def session(model, **settings):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for name, value in settings.items():
        setattr(options, name, value)
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def answers(graph, batch):
    return session(whole(graph)).run(None, {"pictures": batch})


def compiled(model):
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return untracked.core().compile_model(model, "CPU", settings)


def layers(network):
    """The number of rounded layers: two in each block but the first."""
    return 2 * (sum(network.variant.depths) - 1)


@pytest.mark.parametrize("variant", ["test_v1", "test_v2", "custom"])
def test_agreement(network_of, variant):
    network, shown = network_of(variant, 64), pictures(24, 64)
    calibration = calibrate(network, shown[:12])
    [ours] = answers(build(network, rounding=rounded(calibration)), shown)
    [exact] = answers(build(network), shown)
    found = agreement(ours, exact)
    assert found.decibels > 20
    assert found.max_difference > 1e-4, "nothing was rounded"


@pytest.mark.parametrize("variant", ["test_v1", "test_v2", "custom"])
@pytest.mark.parametrize("any_size", [False, True])
def test_it_rounds_as_the_graph_of_openvino(network_of, variant, any_size):
    """Also pictures of a size that was not calibrated, where both differ from float32."""
    network = network_of(variant, 64, any_size=any_size)
    calibration = calibrate(network, pictures(4, 64))
    outputs = ("logits", "stage_1", "stage_3")
    graph = build(network, outputs, rounding=rounded(calibration))
    theirs = compiled(openvino.build(network, outputs, product=openvino_rounded(calibration)))
    for batch in (pictures(1, 64), pictures(3, 72, 40) if any_size else pictures(3, 64)):
        for got, expected in zip(answers(graph, batch), theirs(batch).values(), strict=True):
            assert got.shape == expected.shape
            assert np.abs(got - expected).max() < 0.02 * np.abs(expected).max()


def test_the_engine_agrees_with_that_of_openvino(network_of):
    network, shown = network_of("test_v2", 64), pictures(9, 64)
    calibration = calibrate(network, shown)
    options = EngineOptions(precision="int8", calibration=calibration, threads=1)
    ours = OnnxRuntimeEngine(network, options)
    assert ours.precision == "int8"
    exact = OpenVINOEngine(network, EngineOptions(precision="float32", threads=1)).predict(shown)
    found = agreement(ours.predict(shown), exact)
    theirs = agreement(OpenVINOEngine(network, options).predict(shown), exact)
    assert found.decibels > theirs.decibels - 1


def test_operators_are_standard_and_mean_what_onnx_says(network_of):
    """ONNX's own evaluator, operator by operator, gives what the fused graph gives."""
    network, shown = network_of("test_v2", 32), pictures(2, 32)
    model = whole(build(network, rounding=rounded(calibrate(network, shown))))
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    assert {opset.domain for opset in model.opset_import} == {""}
    [literal] = ReferenceEvaluator(model).run(None, {"pictures": shown})
    [fused] = session(model).run(None, {"pictures": shown})
    assert agreement(fused, literal).decibels > 40


@pytest.mark.parametrize("variant", ["test_v1", "test_v2"])
def test_onnx_runtime_computes_products_of_integers(network_of, variant, tmp_path):
    network = network_of(variant, 64)
    model = whole(build(network, rounding=rounded(calibrate(network, pictures(2, 64)))))
    constants = {each.name: each for each in model.graph.initializer}
    kernels = [each for each in constants.values() if each.data_type == onnx.TensorProto.INT8]
    assert sum(len(each.dims) == 2 for each in kernels) == layers(network)
    path = tmp_path / "run.onnx"
    session(model, optimized_model_filepath=str(path))
    found = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert found["QGemm"] == found["QuantizeLinear"] == layers(network)
    assert found["DequantizeLinear"] == 0


@pytest.mark.parametrize("bias", [3.0, 0.0])
def test_a_kernel_of_nothing_keeps_its_bias(bias):
    """Of another output the kernel is so small that the bias in its steps exceeds 32 bits."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((24, 4), np.float32)
    kernel[:, 1] = 0
    kernel[:, 2] *= 1e-12
    linear = Linear(kernel, np.full(4, bias, np.float32))
    rows = rng.standard_normal((500, 24), np.float32)
    levels = find_levels(InputStatistics(rows.min(axis=0), rows.max(axis=0), rows), linear)
    name = "stage_1_block_0.pwconv2"
    node = Folded(LinearStep(name, 24, 4), linear)
    found = rounded(Calibration({name: levels}, 1))(node)
    assert found is not None
    whole_numbers = levels.round_inputs(rows)
    ours = (whole_numbers @ found.kernel.astype(np.float64) + found.bias) * found.steps
    exact = rows @ kernel + linear.bias
    np.testing.assert_allclose(ours, exact, atol=0.2)
    np.testing.assert_allclose(ours[:, 1:3], exact[:, 1:3], atol=1e-6)
