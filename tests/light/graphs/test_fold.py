"""Each identity by itself: what is folded gives what was written, to the rounding of float32."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.errors import WeightsError
from convnext.graphs.fold import fold_block, fold_downsampling, fold_head, fold_stem

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def values(network, layer):
    names = [name for name in network.weights.tensors if name.rpartition(".")[0] == layer]
    return {name.rpartition(".")[2]: network.values(name).astype(np.float64) for name in names}


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((2, 6, 5, 8)) * 3 + 1


def test_a_norms_scale_and_shift_go_into_the_next_linear_layer(oracle, x):
    network = oracle.network("test_v1")
    before = values(network, "stage_0_block_0.norm")
    linear = values(network, "stage_0_block_0.pwconv1")
    written = (oracle.norm(x) * before["gamma"] + before["beta"]) @ linear["kernel"]
    first = fold_block(network, 0, 0).first
    folded = oracle.norm(x) @ first.kernel + first.bias
    np.testing.assert_allclose(folded, written + linear["bias"], **CLOSE)


def test_layer_scale_goes_into_the_second_linear_layer(oracle):
    network = oracle.network("test_v1")
    hidden = np.random.default_rng(2).standard_normal((3, 32))
    linear = values(network, "stage_0_block_0.pwconv2")
    written = hidden @ linear["kernel"] + linear["bias"]
    written = written * values(network, "stage_0_block_0.layer_scale")["gamma"]
    block = fold_block(network, 0, 0)
    assert block.grn is None
    np.testing.assert_allclose(hidden @ block.second.kernel + block.second.bias, written, **CLOSE)


def test_grns_shift_goes_into_the_second_linear_layer_and_its_skip_into_the_factor(oracle):
    network = oracle.network("test_v2")
    hidden = np.random.default_rng(3).standard_normal((2, 4, 3, 32))
    parameters = values(network, "stage_0_block_0.grn")
    linear = values(network, "stage_0_block_0.pwconv2")
    written = oracle.grn(hidden, **parameters) @ linear["kernel"] + linear["bias"]
    block = fold_block(network, 0, 0)
    length = np.sqrt((hidden**2).sum((1, 2), keepdims=True))
    factor = 1 + block.grn * length / (length.mean(-1, keepdims=True) + 1e-6)
    folded = (hidden * factor) @ block.second.kernel + block.second.bias
    np.testing.assert_allclose(folded, written, **CLOSE)


def test_layer_scale_behind_grn_scales_its_shift_too(oracle):
    network = oracle.network("test_v2", layer_scale=True)
    linear = values(network, "stage_0_block_0.pwconv2")
    shift = values(network, "stage_0_block_0.grn")["beta"]
    factor = values(network, "stage_0_block_0.layer_scale")["gamma"]
    second = fold_block(network, 0, 0).second
    written = (shift @ linear["kernel"] + linear["bias"]) * factor
    np.testing.assert_allclose(second.bias, written, **CLOSE)


@pytest.mark.parametrize("stride", [2, 1])
def test_a_downsamplings_norm(oracle, x, stride):
    """With the published stride it goes into the convolution; where that pads, it must not."""
    network = oracle.network("test_v1", strides=(4, stride, 2, 2))
    before = values(network, "downsample_1_norm")
    layer = values(network, "downsample_1_conv")
    normed = oracle.norm(x) * before["gamma"] + before["beta"]
    written = oracle.convolve(normed, layer["kernel"], layer["bias"], stride, stride == 1)
    down = fold_downsampling(network, 1)
    inside = oracle.norm(x)
    if down.norm is not None:
        inside = inside * down.norm.scale + down.norm.shift
    folded = oracle.convolve(inside, down.conv.kernel, down.conv.bias, stride, down.pads)
    assert (down.norm is None, down.pads, down.stride) == (stride == 2, stride == 1, stride)
    np.testing.assert_allclose(folded, written, **CLOSE)


@pytest.mark.parametrize("stride", [4, 2, 1])
def test_pixels_are_normalised_by_the_stem_at_every_border(oracle, stride):
    network = oracle.network("test_v1", 24, strides=(stride, 2, 2, 2))
    pixels = oracle.pictures(network).astype(np.float64)
    recipe = network.preprocess
    layer = values(network, "stem_conv")
    normalised = (pixels * recipe.rescale - recipe.mean) / recipe.std
    written = oracle.convolve(normalised, layer["kernel"], layer["bias"], stride, stride != 4)
    stem = fold_stem(network, from_pixels=True)
    folded = oracle.convolve(
        pixels - stem.subtract, stem.conv.kernel, stem.conv.bias, stem.stride, stem.pads
    )
    np.testing.assert_allclose(oracle.norm(folded), oracle.norm(written), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(folded.mean(-1), 0, atol=1e-5)


def test_a_stem_for_normalised_pictures_subtracts_nothing(oracle):
    stem = fold_stem(oracle.network("test_v1"), from_pixels=False)
    assert stem.subtract is None
    kernel = values(oracle.network("test_v1"), "stem_conv")["kernel"]
    np.testing.assert_allclose(stem.conv.kernel, kernel - kernel.mean(-1, keepdims=True), **CLOSE)


def test_the_heads_norm_goes_into_the_classifier_and_stays_for_the_embedding(oracle):
    network = oracle.network("test_v2")
    pooled = np.random.default_rng(4).standard_normal((5, 32))
    before, layer = values(network, "head_norm"), values(network, "head")
    embedding = oracle.norm(pooled) * before["gamma"] + before["beta"]
    head = fold_head(network)
    again = oracle.norm(pooled) * head.embedding.scale + head.embedding.shift
    np.testing.assert_allclose(again, embedding, **CLOSE)
    logits = oracle.norm(pooled) @ head.classifier.kernel + head.classifier.bias
    np.testing.assert_allclose(logits, embedding @ layer["kernel"] + layer["bias"], **CLOSE)


def test_without_a_classifier_there_is_an_embedding(oracle):
    head = fold_head(oracle.network("test_v2", num_classes=0))
    assert head.classifier is None
    assert head.embedding.scale.shape == (32,)


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
    folded = fold_block(oracle.network("test_v1", edit=edit), 0, 0).first.bias
    np.testing.assert_allclose(folded, np.float32(1e-3), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "fold"),
    [
        ("stem_conv.bias", lambda n: fold_stem(n, from_pixels=True)),
        ("downsample_2_norm.beta", lambda n: fold_downsampling(n, 2)),
        ("stage_2_block_1.dwconv.bias", lambda n: fold_block(n, 2, 1)),
        ("head.bias", fold_head),
    ],
)
def test_weights_that_are_no_numbers_are_refused_by_name(oracle, name, fold, bad):
    network = oracle.network("test_v2")
    broken = network.values(name).copy()
    broken[-1] = bad
    with pytest.raises(WeightsError, match=f"weights in a test: {name}: some values are not"):
        fold(oracle.network("test_v2", edit={name: broken}))


def test_what_float32_cannot_hold_once_folded_is_refused(oracle):
    edit = {
        "stage_0_block_0.norm.gamma": np.full(8, 1e30, np.float32),
        "stage_0_block_0.pwconv1.kernel": np.full((8, 32), 1e30, np.float32),
    }
    with pytest.raises(WeightsError, match=r"stage_0_block_0\.pwconv1, folded"):
        fold_block(oracle.network("test_v1", edit=edit), 0, 0)
