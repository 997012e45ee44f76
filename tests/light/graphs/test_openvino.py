"""The graph answers as the architecture is written, whatever its form."""

import numpy as np
import pytest

untracked = pytest.importorskip("convnext.graphs.untracked_openvino")

from convnext.architecture import Geometry  # noqa: E402
from convnext.errors import ArgumentError  # noqa: E402
from convnext.graphs.openvino import build, product  # noqa: E402


def answers(model, pictures):
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = untracked.core().compile_model(model, "CPU", settings)
    results = compiled(pictures)
    return {port.get_any_name(): np.array(results[port]) for port in compiled.outputs}


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


@pytest.mark.parametrize("dilations", [(1, 1, 1, 2), (1, 1, 2, 4), (2, 1, 3, 1)])
def test_dilated_convolutions(oracle, dilations):
    strides = (4, *(2 if dilation == 1 else 1 for dilation in dilations[1:]))
    network = oracle.network("test_v2", 48, geometry=Geometry(strides, dilations))
    pictures = oracle.pictures(network)
    close(answers(build(network, network.outputs), pictures), oracle.answers(network, pictures))


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
    model = build(oracle.network(), batch=3)
    assert model.input(0).shape == untracked.ov.Shape([3, 32, 32, 3])
    assert model.input(0).get_any_name() == "pictures"


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


def test_linear_layers_pass_through_one_function(oracle):
    seen = []

    def watched(x, linear, name):
        seen.append((name, linear.kernel.shape))
        return product(x, linear, name)

    build(oracle.network("test_v2"), product=watched)
    assert seen[:2] == [
        ("stage_0_block_0.pwconv1", (8, 32)),
        ("stage_0_block_0.pwconv2", (32, 8)),
    ]
    assert len(seen) == 2 * 5


def test_a_picture_of_one_colour(oracle):
    """Nothing divides by a deviation or a norm of zero."""
    network = oracle.network("test_v2", 64)
    for shade in (0, 255):
        pictures = np.full((1, 64, 64, 3), shade, np.uint8)
        close(answers(build(network), pictures), oracle.answers(network, pictures))
