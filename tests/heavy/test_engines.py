"""The Keras engine gives what the model gives, from a file and from the model itself."""

from __future__ import annotations

from typing import ClassVar

import keras
import numpy as np
import pytest

from contracts import EngineContract
from convnext import create_convnext_v1, create_convnext_v2, save_weights
from convnext.engines import open_engine
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from peers import randomise

pytestmark = pytest.mark.torch_first


class TestContract(EngineContract):
    name = "keras"
    options: ClassVar = {}
    streams = (None,)
    refused = ("int8",)


V2 = pytest.param(create_convnext_v2, marks=pytest.mark.each_backend)


@pytest.fixture(scope="module", params=[create_convnext_v1, create_convnext_v2])
def model(request):
    model = request.param("test", 10, (64, 64, 3), classifier_activation=None)
    randomise(model)
    return model


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.mark.parametrize("model", [create_convnext_v1, V2], indirect=True)
def test_a_file_answers_as_the_model(model, pictures, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(model, path)
    expected = model.predict_on_batch(normalise(pictures, Preprocess()))
    engine = open_engine(path, "keras", size=64)
    np.testing.assert_allclose(engine.predict(pictures), expected, rtol=1e-5, atol=1e-5)
    given = open_engine(model, "keras", input="float32")
    again = given.predict(normalise(pictures, Preprocess()))
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-5)


def test_softmax_and_preprocessing_of_a_model_do_not_count_twice(pictures):
    plain = create_convnext_v2("test", 10, (64, 64, 3), classifier_activation=None)
    randomise(plain)
    dressed = create_convnext_v2("test", 10, (64, 64, 3), include_preprocessing=True)
    for name in [layer.name for layer in plain.layers if layer.weights]:
        dressed.get_layer(name).set_weights(plain.get_layer(name).get_weights())
    ours = open_engine(dressed, "keras").predict(pictures)
    np.testing.assert_allclose(ours, open_engine(plain, "keras").predict(pictures), rtol=1e-5)


def test_half_precision_leaves_the_policy_alone(model, pictures):
    exact = open_engine(model, "keras").predict(pictures)
    engine = open_engine(model, "keras", precision="bfloat16")
    assert engine.precision == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    half = engine.predict(pictures)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others cannot be told")
@pytest.mark.parametrize(("quota", "threads"), [(1, 1), (2, 2), (9, 3)])
def test_threads_are_those_of_the_quota_or_fewer(model, monkeypatch, quota, threads):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr("convnext.engines.keras.available_processors", lambda: quota)
    try:
        torch.set_num_threads(3)
        open_engine(model, "keras")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_unsupported_options_of_the_keras_engine_are_refused(model):
    with pytest.raises(ArgumentError, match="one batch at a time"):
        open_engine(model, "keras", streams=2)
    with pytest.raises(ArgumentError, match="its own input size"):
        open_engine(model, "keras", size=64)
