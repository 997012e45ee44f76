import numpy as np
import pytest

from convnext import VARIANTS
from convnext.weights.canonical import parameter_shapes
from convnext.weights.random_weights import random_weights


@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_every_parameter_is_there_and_matters(name):
    weights = random_weights(VARIANTS[name], num_classes=7)
    shapes = parameter_shapes(VARIANTS[name], 7)
    assert {key: value.shape for key, value in weights.items()} == shapes
    for key, values in weights.items():
        assert values.dtype == np.float32
        assert np.abs(values).mean() > 0.01, key


def test_a_linear_layer_keeps_the_size_of_what_passes():
    kernel = random_weights(VARIANTS["convnext_atto"])["stage_3_block_0.pwconv1.kernel"]
    passed = np.random.default_rng(1).standard_normal((50, kernel.shape[0])) @ kernel
    assert passed.std() == pytest.approx(1, abs=0.1)


def test_seeds():
    first, same, other = (random_weights(VARIANTS["test_v1"], seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["head.kernel"], same["head.kernel"])
    assert (first["head.kernel"] != other["head.kernel"]).any()
