"""Trained weights, whose layer scale reaches 10, against activations that an unrelated graph gave.

Of the real network only the stem and two stages are there; the rest is zeros.
"""

import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.engines import open_engine, quantize
from convnext.graphs.network import Network
from convnext.weights.canonical import parameter_shapes
from convnext.weights.layouts import to_foreign
from convnext.weights.load import read_weights

NANO = VARIANTS["convnext_nano"]


@pytest.fixture(scope="module")
def weights(shared_data, tmp_path_factory):
    """A whole Nano in timm's layout."""
    with np.load(next((shared_data / "trained-nano-prefix").glob("*timm_names.npz"))) as file:
        trained = dict(file)
    shapes = parameter_shapes(NANO, num_classes=0)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    whole = to_foreign(zeros, "timm", NANO)
    path = tmp_path_factory.mktemp("weights") / "nano.npz"
    np.savez(path, **{name: trained.get(name, array) for name, array in whole.items()})
    assert trained.keys() <= whole.keys()
    with read_weights(path) as weights:
        yield weights


@pytest.fixture(scope="module")
def reference(shared_data):
    with np.load(next((shared_data / "trained-nano-prefix").glob("reference*.npz"))) as file:
        return {
            name: np.ascontiguousarray(file[name].transpose(0, 2, 3, 1))
            for name in ("normalised_nchw", "stage0", "stage1")
        }


def features(weights, reference, engine, precision):
    opened = open_engine(
        weights, engine, precision=precision, input="float32", outputs=("stage_0", "stage_1")
    )
    results = opened.predict_all(reference["normalised_nchw"])
    return {"stage0": results["stage_0"], "stage1": results["stage_1"]}


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_features_in_float32_equal_the_reference(weights, reference, engine):
    pytest.importorskip(engine)
    for name, values in features(weights, reference, engine, "float32").items():
        error = np.abs(values - reference[name]).max()
        assert error < 1e-4 * np.abs(reference[name]).max()


def test_in_bfloat16_the_noise_is_far_below_the_signal(weights, reference):
    openvino = pytest.importorskip("convnext.graphs.untracked_openvino")
    if "BF16" not in openvino.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in bfloat16")
    for name, values in features(weights, reference, "openvino", "bfloat16").items():
        assert decibels(values, reference[name]) > 35


@pytest.mark.slow
def test_in_int8_the_noise_is_far_below_the_signal(weights, reference, shared_data):
    """Calibrated with other photographs. The rest is in float32, to see what rounding does."""
    core = pytest.importorskip("convnext.graphs.untracked_openvino").core
    from convnext.graphs.openvino import build
    from convnext.int8.openvino import rounded

    calibration = quantize(weights, shared_data / "photos" / "imagenet")
    outputs, network = ("stage_0", "stage_1"), Network.of_weights(weights)
    model = build(network, outputs, input="float32", product=rounded(calibration))
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    results = core().compile_model(model, "CPU", settings)(reference["normalised_nchw"])
    for index, name in enumerate(("stage0", "stage1")):
        assert decibels(results[index], reference[name]) > 35


def decibels(values, reference):
    return 10 * np.log10(np.square(reference).mean() / np.square(values - reference).mean())
