"""The door of keras.applications, held against keras.applications itself."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest

from convnext import applications
from convnext.architecture import VARIANTS
from peers import as_numpy, fill, pictures, random_weights, relative_error

pytestmark = pytest.mark.torch_first

SIZES = ["Tiny", "Small", "Base", "Large", "XLarge"]
V2 = [name for name in applications.__all__ if name.startswith("ConvNeXtV2")]

OURS = applications.ConvNeXtTiny
THEIRS = keras.applications.ConvNeXtTiny


@pytest.mark.parametrize("size", SIZES)
def test_signatures_are_upstreams(size):
    ours, theirs = (
        inspect.signature(getattr(module, f"ConvNeXt{size}")).parameters.values()
        for module in (applications, keras.applications)
    )
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


def test_v2_functions_have_the_same_signature_and_every_size():
    assert len(V2) == 9
    expected = [p.name for p in inspect.signature(OURS).parameters.values()]
    for name in V2:
        function = getattr(applications, name)
        assert [p.name for p in inspect.signature(function).parameters.values()] == expected
        assert function.__name__ == name
        assert name in function.__doc__


def test_everything_public_upstream_is_public_here():
    upstream = {name for name in dir(keras.applications.convnext) if not name.startswith("_")}
    assert upstream <= set(applications.__all__)


SHAPES = [
    {},
    {"classes": 10},
    {"include_top": False},
    {"include_top": False, "pooling": "avg"},
    {"include_top": False, "pooling": "max"},
    {"include_top": False, "pooling": "none of these"},
    {"include_top": False, "input_shape": (123, 123, 3)},
    {"include_top": False, "input_shape": (None, None, 1)},
    {"include_top": False, "input_shape": (32, 32, 3)},
    {"input_shape": (64, 96, 3), "include_preprocessing": False},
]


@pytest.mark.parametrize("arguments", SHAPES, ids=str)
def test_shapes_are_upstreams(arguments):
    ours, theirs = OURS(weights=None, **arguments), THEIRS(weights=None, **arguments)
    assert ours.input_shape == theirs.input_shape
    assert ours.output_shape == theirs.output_shape
    assert ours.count_params() == theirs.count_params()
    assert ours.name == theirs.name


@pytest.mark.parametrize("weights_of", ["the map", "avg", "max"])
def test_a_model_without_top_ends_in_a_norm_as_upstream(weights_of):
    variant = VARIANTS["convnext_tiny"]
    pooling = None if weights_of == "the map" else weights_of
    arguments = {"include_top": False, "pooling": pooling, "input_shape": (64, 64, 3)}
    ours, theirs = OURS(weights=None, **arguments), THEIRS(weights=None, **arguments)
    weights = random_weights(variant, num_classes=0)
    fill(ours, weights)
    for variable, array in zip(theirs.weights, weights.values(), strict=True):
        # Both hold the same parameters in the order data flows through them.
        variable.assign(array if variable.shape == array.shape else array.swapaxes(2, 3))
    images = 255 * np.abs(pictures(1, 64, 64, 3))
    assert relative_error(ours.predict_on_batch(images), theirs.predict_on_batch(images)) < 1e-4


REFUSED = [
    {"weights": "no such file"},
    {"weights": "imagenet", "classes": 10},
    {"weights": "imagenet", "input_shape": (225, 225, 3)},
    {"weights": "imagenet", "include_top": False, "input_shape": (224, 224, 1)},
    {"weights": "imagenet", "classifier_activation": "sigmoid"},
    {"weights": None, "input_shape": (31, 64, 3)},
    {"weights": None, "input_shape": (224, 224)},
    {"weights": None, "input_shape": (None, None, 3)},
    {"weights": None, "classifier_activation": "no such activation"},
]


@pytest.mark.parametrize("arguments", REFUSED, ids=str)
def test_arguments_that_upstream_refuses_raise_a_value_error(arguments):
    for build in (OURS, THEIRS):
        with pytest.raises(ValueError, match=r"\w"):
            build(**arguments)


def test_a_tensor_of_another_model_as_input():
    pixels = keras.Input((200, 200, 4))
    tensor = keras.layers.Conv2D(3, 2, strides=2)(pixels)
    model = OURS(weights=None, include_top=False, input_tensor=tensor)
    assert model.input is pixels
    assert model.output_shape == (None, 3, 3, 768)
    assert model.predict_on_batch(pictures(1, 200, 200, 4)).shape == (1, 3, 3, 768)


def test_an_array_as_input_tensor_is_explained():
    with pytest.raises(TypeError, match=r"keras\.Input.*ndarray"):
        OURS(weights=None, input_tensor=np.zeros((1, 224, 224, 3)))


@pytest.mark.parametrize("channels", [1, 4])
def test_every_number_of_channels_is_normalised(channels):
    arguments = {"weights": None, "include_top": False, "input_shape": (32, 32, channels)}
    model = applications.ConvNeXtV2Atto(**arguments)
    normalised = keras.Model(model.input, model.get_layer("normalization").output)
    levels = as_numpy(normalised(np.stack([np.full((32, 32, channels), v) for v in (0, 255)])))
    assert levels.min() < -1.9
    assert levels.max() > 2.2


def test_channels_first_gives_the_same_answer():
    arguments = {"weights": None, "include_top": False}
    last = applications.ConvNeXtV2Atto(input_shape=(64, 96, 3), **arguments)
    keras.config.set_image_data_format("channels_first")
    first = applications.ConvNeXtV2Atto(input_shape=(3, 64, 96), **arguments)
    assert first.output_shape == (None, 320, 2, 3)
    first.set_weights(last.get_weights())
    images = pictures(1, 64, 96, 3)
    np.testing.assert_allclose(
        first.predict_on_batch(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        last.predict_on_batch(images),
        atol=1e-5,
    )


def test_any_name_is_only_a_name():
    assert OURS(weights=None, classes=3, name="my_convnext_large").name == "my_convnext_large"


def test_the_last_layer_is_the_classifier():
    assert OURS(weights=None, classes=3).layers[-1].activation.__name__ == "softmax"


def test_serialization_keeps_every_weight():
    model = applications.ConvNeXtV2Atto(weights=None, classes=3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert len(again.weights) == len(model.weights)


def test_preprocess_input_returns_its_argument():
    pixels = pictures(1, 2, 2, 3)
    assert applications.preprocess_input(pixels) is pixels


def test_decode_predictions_names_the_best_classes():
    scores = np.zeros((2, 1000), "float32")
    scores[0, [281, 386]] = 0.3, 0.7
    scores[1, 0] = 1
    first, second = applications.decode_predictions(scores, top=2)
    assert [(wnid, round(float(score), 3)) for wnid, _, score in first] == [
        ("n02504458", 0.7),
        ("n02123045", 0.3),
    ]
    assert second[0][0] == "n01440764"
    assert "tench" in second[0][1]
    with pytest.raises(ValueError, match=r"\(pictures, 1000\), not \(2, 10\)"):
        applications.decode_predictions(np.zeros((2, 10)))
