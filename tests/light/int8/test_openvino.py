"""An int8 graph agrees with the original, and the right layers are rounded."""

import numpy as np
import pytest

untracked = pytest.importorskip("convnext.graphs.untracked_openvino")

from convnext.errors import ArgumentError  # noqa: E402
from convnext.graphs.agreement import agreement  # noqa: E402
from convnext.graphs.openvino import build  # noqa: E402
from convnext.int8.openvino import calibrate, rounded  # noqa: E402

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def compiled(model):
    return untracked.core().compile_model(model, "CPU", SETTINGS)


def pictures(count, side, other_side=None):
    shape = (count, side, other_side or side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def layers(network):
    """The number of rounded layers: two in each block but the first."""
    return 2 * (sum(network.variant.depths) - 1)


@pytest.mark.parametrize("variant", ["test_v1", "test_v2", "custom"])
def test_agreement(network_of, variant):
    network, shown = network_of(variant, 64), pictures(24, 64)
    calibration = calibrate(network, shown[:12])
    assert len(calibration.layers) == layers(network)
    assert min(levels.decibels for levels in calibration.layers.values()) > 30
    exact = compiled(build(network))(shown)[0]
    found = agreement(compiled(build(network, product=rounded(calibration)))(shown)[0], exact)
    assert found.decibels > 20
    assert found.max_difference > 1e-4, "nothing was rounded"


def test_linear_layers_run_in_eight_bits(network_of):
    network = network_of("test_v2", 64)
    calibration = calibrate(network, pictures(4, 64))
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


def test_weights_without_a_classifier(network_of):
    network = network_of("test_v1", 32, num_classes=0)
    calibration = calibrate(network, pictures(3, 32))
    model = build(network, ("stage_3",), product=rounded(calibration))
    assert compiled(model)(pictures(2, 32))[0].shape[0] == 2


def test_any_size(network_of):
    network = network_of("test_v1", any_size=True)
    calibration = calibrate(network, pictures(3, 40, 45))
    model = build(network, product=rounded(calibration))
    assert compiled(model)(pictures(2, 77, 82))[0].shape == (2, 7)


def test_calibration_reports_each_picture_and_layer(network_of):
    network = network_of("test_v1", 32)
    messages = []
    calibrate(network, pictures(2, 32), on_progress=messages.append)
    assert messages[:2] == ["picture 1", "picture 2"]
    assert len(messages) == 2 + layers(network)


def test_the_same_pictures_give_the_same_rounding(network_of):
    network = network_of("test_v1", 32)
    one, two = (calibrate(network, pictures(3, 32)) for _ in range(2))
    for name, levels in one.layers.items():
        np.testing.assert_array_equal(levels.step, two.layers[name].step)


def test_calibrating_without_pictures_is_refused(network_of):
    network = network_of("test_v1", 32)
    with pytest.raises(ArgumentError, match="needs pictures"):
        calibrate(network, pictures(1, 32)[:0])
