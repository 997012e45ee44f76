"""Each identity by itself: what is folded gives what was written, to the rounding of float32."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.architecture import Aside, Geometry, Norm, Residual
from convnext.errors import WeightsError
from convnext.graphs.fold import folded, pixel_mean, steps_to

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def values(network, layer):
    names = [name for name in network.weights.tensors if name.rpartition(".")[0] == layer]
    return {name.rpartition(".")[2]: network.values(name).astype(np.float64) for name in names}


def nodes(network, **options):
    """Every folded step by its name."""
    found = {}

    def collect(these):
        for node in these:
            found[getattr(node.step, "name", type(node.step).__name__)] = node
            collect(node.branch)

    collect(folded(network, network.steps, **options))
    return found


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((2, 6, 5, 8)) * 3 + 1


def test_a_norms_scale_and_shift_go_into_the_next_linear_layer(oracle, x):
    network = oracle.network("test_v1")
    before = values(network, "stage_0_block_0.norm")
    linear = values(network, "stage_0_block_0.pwconv1")
    written = (oracle.norm(x) * before["gamma"] + before["beta"]) @ linear["kernel"]
    node = nodes(network)["stage_0_block_0.pwconv1"]
    assert isinstance(node.behind, Norm)
    left = oracle.norm(x) @ node.linear.kernel + node.linear.bias
    np.testing.assert_allclose(left, written + linear["bias"], **CLOSE)


def test_layer_scale_goes_into_the_second_linear_layer(oracle):
    network = oracle.network("test_v1")
    hidden = np.random.default_rng(2).standard_normal((3, 32))
    linear = values(network, "stage_0_block_0.pwconv2")
    written = hidden @ linear["kernel"] + linear["bias"]
    written = written * values(network, "stage_0_block_0.layer_scale")["gamma"]
    found = nodes(network)
    assert not any("grn" in name or "layer_scale" in name for name in found)
    second = found["stage_0_block_0.pwconv2"].linear
    np.testing.assert_allclose(hidden @ second.kernel + second.bias, written, **CLOSE)


def test_grns_shift_goes_into_the_second_linear_layer_and_its_skip_into_the_factor(oracle):
    network = oracle.network("test_v2")
    hidden = np.random.default_rng(3).standard_normal((2, 4, 3, 32))
    parameters = values(network, "stage_0_block_0.grn")
    linear = values(network, "stage_0_block_0.pwconv2")
    written = oracle.grn(hidden, **parameters) @ linear["kernel"] + linear["bias"]
    found = nodes(network)
    length = np.sqrt((hidden**2).sum((1, 2), keepdims=True))
    gamma = found["stage_0_block_0.grn"].gamma
    factor = 1 + gamma * length / (length.mean(-1, keepdims=True) + 1e-6)
    second = found["stage_0_block_0.pwconv2"].linear
    np.testing.assert_allclose((hidden * factor) @ second.kernel + second.bias, written, **CLOSE)


def test_layer_scale_behind_grn_scales_the_shift_of_grn(oracle):
    network = oracle.network("test_v2", traits={"layer_scale": True})
    linear = values(network, "stage_0_block_0.pwconv2")
    shift = values(network, "stage_0_block_0.grn")["beta"]
    factor = values(network, "stage_0_block_0.layer_scale")["gamma"]
    second = nodes(network)["stage_0_block_0.pwconv2"].linear
    written = (shift @ linear["kernel"] + linear["bias"]) * factor
    np.testing.assert_allclose(second.bias, written, **CLOSE)


@pytest.mark.parametrize("stride", [2, 1])
def test_a_downsamplings_norm(oracle, x, stride):
    """With the published stride it goes into the convolution; where that pads, it must not."""
    network = oracle.network("test_v1", geometry=Geometry((4, stride, 2, 2)))
    before = values(network, "downsample_1_norm")
    layer = values(network, "downsample_1_conv")
    pads = "same" if stride == 1 else "none"
    normed = oracle.norm(x) * before["gamma"] + before["beta"]
    written = oracle.convolve(normed, layer["kernel"], layer["bias"], stride, pads)
    found = nodes(network)
    affine, conv = found["downsample_1_norm"].affine, found["downsample_1_conv"]
    inside = oracle.norm(x)
    if affine is not None:
        inside = inside * affine.scale + affine.shift
    left = oracle.convolve(inside, conv.linear.kernel, conv.linear.bias, stride, conv.step.pads)
    assert (affine is None, conv.step.pads, conv.step.stride) == (stride == 2, pads, stride)
    np.testing.assert_allclose(left, written, **CLOSE)


@pytest.mark.parametrize("stride", [4, 2, 1])
def test_pixels_are_normalised_by_the_stem_at_every_border(oracle, stride):
    network = oracle.network("test_v1", 24, geometry=Geometry((stride, 2, 2, 2)))
    pixels = oracle.pictures(network).astype(np.float64)
    recipe = network.preprocess
    layer = values(network, "stem_conv")
    normalised = (pixels * recipe.rescale - recipe.mean) / recipe.std
    pads = "none" if stride == 4 else "same"
    written = oracle.convolve(normalised, layer["kernel"], layer["bias"], stride, pads)
    found = nodes(network, from_pixels=True)
    stem = found["stem_conv"]
    shifted = pixels - pixel_mean(network)
    left = oracle.convolve(shifted, stem.linear.kernel, stem.linear.bias, stride, stem.step.pads)
    assert found["stem_norm"].centred
    np.testing.assert_allclose(oracle.norm(left), oracle.norm(written), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(left.mean(-1), 0, atol=1e-5)


def test_a_stem_for_normalised_pictures_is_centred_and_nothing_else(oracle):
    stem = nodes(oracle.network("test_v1"))["stem_conv"].linear
    kernel = values(oracle.network("test_v1"), "stem_conv")["kernel"]
    np.testing.assert_allclose(stem.kernel, kernel - kernel.mean(-1, keepdims=True), **CLOSE)


@pytest.mark.parametrize("name", ["rms", "simple"])
def test_a_convolution_before_a_norm_that_subtracts_no_mean_is_not_centred(oracle, name):
    found = nodes(oracle.network(name))
    assert not found["stem_norm"].centred
    kernel = values(oracle.network(name), "stem_conv")["kernel"]
    np.testing.assert_array_equal(found["stem_conv"].linear.kernel, kernel.astype(np.float32))


@pytest.mark.parametrize("name", ["test_v2", "norm_pool"])
def test_the_heads_norm_goes_into_the_classifier_and_stays_for_the_embedding(oracle, name):
    network = oracle.network(name)
    normed = np.random.default_rng(4).standard_normal((5, 32))  # pooled, in one order or the other
    norm = "map_norm" if name == "norm_pool" else "head_norm"
    before, layer = values(network, norm), values(network, "head")
    embedding = normed * before["gamma"] + before["beta"]
    found = nodes(network)
    tap, head = found["embedding"], found["head"]
    assert found[norm].affine is None
    again = normed * tap.affine.scale + tap.affine.shift
    np.testing.assert_allclose(again, embedding, **CLOSE)
    logits = normed @ head.linear.kernel + head.linear.bias
    np.testing.assert_allclose(logits, embedding @ layer["kernel"] + layer["bias"], **CLOSE)


def test_without_a_classifier_the_norm_keeps_its_scale(oracle):
    found = nodes(oracle.network("test_v2", num_classes=0))
    assert "head" not in found
    assert found["head_norm"].affine.scale.shape == (32,)
    assert found["embedding"].affine is None


def test_steps_that_no_output_needs_are_left_out(oracle):
    network = oracle.network("test_v1")
    steps = steps_to(network.steps, ("stage_1",))
    blocks = [step.name for step in steps if isinstance(step, Residual)]
    assert blocks == ["stage_0_block_0", "stage_1_block_0"]
    aside = [isinstance(step, Aside) for step in network.steps]
    assert aside.count(True) == 1
    kept = [step for step in network.steps if not isinstance(step, Aside)]
    assert steps_to(network.steps, ("logits",)) == kept


@given(st.floats(-1e4, 1e4), st.floats(0.01, 1e3))
def test_sums_do_not_lose_digits_to_the_size_of_a_shift(oracle, shift, scale):
    """In float32 the sum of these products would be off by more than a rounding."""
    kernel = np.full((8, 32), np.float32(scale))
    kernel[::2] *= -1
    edit = {
        "stage_0_block_0.norm.beta": np.full(8, np.float32(shift)),
        "stage_0_block_0.pwconv1.kernel": kernel,
        "stage_0_block_0.pwconv1.bias": np.full(32, np.float32(1e-3)),
    }
    found = nodes(oracle.network("test_v1", edit=edit))
    bias = found["stage_0_block_0.pwconv1"].linear.bias
    np.testing.assert_allclose(bias, np.float32(1e-3), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "name",
    ["stem_conv.bias", "downsample_2_norm.beta", "stage_2_block_1.dwconv.bias", "head.bias"],
)
def test_weights_that_are_no_numbers_are_refused_by_name(oracle, name, bad):
    network = oracle.network("test_v2")
    broken = network.values(name).copy()
    broken[-1] = bad
    with pytest.raises(WeightsError, match=f"weights in a test: {name}: some values are not"):
        nodes(oracle.network("test_v2", edit={name: broken}))


def test_folded_values_beyond_float32_are_refused(oracle):
    edit = {
        "stage_0_block_0.norm.gamma": np.full(8, 1e30, np.float32),
        "stage_0_block_0.pwconv1.kernel": np.full((8, 32), 1e30, np.float32),
    }
    with pytest.raises(WeightsError, match=r"stage_0_block_0\.pwconv1, folded"):
        nodes(oracle.network("test_v1", edit=edit))
