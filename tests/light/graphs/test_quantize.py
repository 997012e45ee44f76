"""A rounded graph agrees with the graph it was made of, and is rounded where it should be."""

import numpy as np
import pytest

untracked = pytest.importorskip("convnext.graphs.untracked_openvino")

from convnext.errors import ArgumentError  # noqa: E402
from convnext.graphs.agreement import agreement  # noqa: E402
from convnext.graphs.openvino import build  # noqa: E402
from convnext.graphs.quantize import calibrate, rounded  # noqa: E402

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def compiled(model):
    return untracked.core().compile_model(model, "CPU", SETTINGS)


def layers(network):
    """How many are rounded: two in each block but the first."""
    return 2 * (sum(network.variant.depths) - 1)


@pytest.mark.parametrize("variant", ["test_v1", "test_v2", "custom"])
def test_agreement(oracle, variant):
    network = oracle.network(variant, 64)
    pictures = oracle.pictures(network, 24)
    calibration = calibrate(network, pictures[:12])
    assert len(calibration.layers) == layers(network)
    assert min(levels.decibels for levels in calibration.layers.values()) > 30
    ours = compiled(build(network, product=rounded(calibration)))(pictures)[0]
    exact = oracle.answers(network, pictures)["logits"]
    found = agreement(ours, exact.astype(np.float32))
    assert found.decibels > 20
    assert found.max_difference > 1e-4, "nothing was rounded"


def test_linear_layers_run_in_eight_bits(oracle):
    network = oracle.network("test_v2", 64)
    calibration = calibrate(network, oracle.pictures(network, 4))
    running = compiled(build(network, product=rounded(calibration), batch=1)).get_runtime_model()
    kinds = {
        node.get_rt_info()["originalLayersNames"].astype(str): (
            node.get_rt_info()["runtimePrecision"].astype(str)
        )
        for node in running.get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    }
    linear = {names: kind for names, kind in kinds.items() if ".pwconv" in names}
    rounded_ones = {name for name, kind in linear.items() if kind in ("i8", "u8")}
    assert len(rounded_ones) == layers(network)
    assert not any("stage_0_block_0." in name for name in rounded_ones)


def test_weights_without_a_classifier(oracle):
    network = oracle.network("test_v1", 32, num_classes=0)
    calibration = calibrate(network, oracle.pictures(network, 3))
    model = build(network, ("stage_3",), product=rounded(calibration))
    assert compiled(model)(oracle.pictures(network, 2))[0].shape[0] == 2


def test_any_size(oracle):
    network = oracle.network("test_v1", any_size=True)
    calibration = calibrate(network, oracle.pictures(network, 3, 40))
    model = build(network, product=rounded(calibration))
    assert compiled(model)(oracle.pictures(network, 2, 77))[0].shape == (2, 7)


def test_it_says_what_it_does(oracle):
    network = oracle.network("test_v1", 32)
    said = []
    calibrate(network, oracle.pictures(network, 2), on_progress=said.append)
    assert said[:2] == ["picture 1", "picture 2"]
    assert len(said) == 2 + layers(network)


def test_the_same_pictures_give_the_same_rounding(oracle):
    network = oracle.network("test_v1", 32)
    one, two = (calibrate(network, oracle.pictures(network, 3)) for _ in range(2))
    for name, levels in one.layers.items():
        np.testing.assert_array_equal(levels.step, two.layers[name].step)


def test_no_pictures(oracle):
    network = oracle.network("test_v1", 32)
    with pytest.raises(ArgumentError, match="needs pictures"):
        calibrate(network, oracle.pictures(network, 1)[:0])
