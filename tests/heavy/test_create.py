"""The two plain doors: the examples people write, and what happens when they write them wrong."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest

import convnext
from convnext_v1 import create_convnext_v1
from convnext_v2 import create_convnext_v2

pytestmark = pytest.mark.torch_first


def test_example_1_a_base_model_and_its_summary(capsys):
    model = create_convnext_v1(variant="base", num_classes=1000)
    model.summary()
    assert "88,591,464" in capsys.readouterr().out
    assert (model.input_shape, model.output_shape) == ((None, 224, 224, 3), (None, 1000))


def test_example_2_cifar_sized_pictures():
    model = create_convnext_v2(variant="tiny", num_classes=10, input_shape=(32, 32, 3))
    assert model.output_shape == (None, 10)
    assert model.get_layer("stage_3").output.shape == (None, 4, 4, 768)


def test_example_3_counting_parameters():
    model = create_convnext_v2(variant="pico", num_classes=100, input_shape=(96, 96, 3))
    assert model.count_params() == 8_604_580


def test_example_4_feature_maps():
    model = create_convnext_v1(variant="large", include_top=False, input_shape=(256, 256, 3))
    assert model.output_shape == (None, 8, 8, 1536)


def test_example_5_training_on_named_losses():
    model = create_convnext_v2(variant="atto", num_classes=10, input_shape=(48, 48, 3))
    model.compile(optimizer="adamw", loss="categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    images = rng.random((16, 48, 48, 3), dtype=np.float32)
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 16)]
    kinds = [(images, labels)]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        kinds.append((tf.constant(images), tf.constant(labels)))
    for x, y in kinds:
        history = model.fit(x, y, epochs=3, verbose=0).history
        assert len(history["accuracy"]) == 3
        assert np.isfinite(history["loss"]).all()


def test_v1_and_v2_have_the_same_arguments():
    first, second = (
        inspect.signature(f).parameters for f in (create_convnext_v1, create_convnext_v2)
    )
    assert list(first) == list(second)
    different = {name for name in first if first[name].default != second[name].default}
    assert different == {"layer_scale_init_value"}
    assert convnext.create_convnext_v1 is create_convnext_v1
    assert convnext.create_convnext_v2 is create_convnext_v2


@pytest.mark.parametrize("given", ["tiny", "TINY", "convnext_tiny"])
def test_a_variant_by_size_or_by_name(given):
    assert create_convnext_v1(given, 10, (32, 32, 3)).name == "convnext_tiny"


WRONG = [
    ({"variant": "tinny"}, ValueError, "'tinny'. Did you mean 'tiny'.*xlarge"),
    ({"variant": "huge"}, ValueError, "V1 variant.*pico, pico_ols"),
    ({"variant": 3}, TypeError, "int: 3"),
    ({"variant": None}, TypeError, "NoneType"),
    ({"num_classes": 0}, ValueError, "at least 1, not 0"),
    ({"num_classes": -5}, ValueError, "at least 1, not -5"),
    ({"num_classes": 2.5}, TypeError, "float: 2.5"),
    ({"num_classes": "10"}, TypeError, "str: '10'"),
    ({"num_classes": True}, TypeError, "bool"),
    ({"input_shape": (7, 7, 3)}, ValueError, "7x7.*at least 8"),
    ({"input_shape": (224, 4, 3)}, ValueError, "224x4.*at least 8"),
    ({"input_shape": (0, 0, 3)}, ValueError, "at least 1"),
    ({"input_shape": (224, 224)}, TypeError, r"\(height, width, channels\)"),
    ({"input_shape": 224}, TypeError, r"\(224, 224, 3\), not 224"),
    ({"input_shape": (224, 224, None)}, TypeError, "channels.*NoneType"),
    ({"input_shape": (224.0, 224, 3)}, TypeError, "float: 224.0"),
    ({"input_shape": (None, 16, 3)}, ValueError, "at least 32"),
    ({"pooling": "mean", "include_top": False}, ValueError, "'mean'.*avg, max, avgmax"),
    ({"drop_path_rate": 1.0}, ValueError, "below 1"),
    ({"drop_path_rate": -0.1}, ValueError, "at least 0"),
    ({"drop_path_rate": "0.1"}, TypeError, "str: '0.1'"),
    ({"layer_scale_init_value": -1.0}, ValueError, "layer_scale_init_value"),
    ({"head_init_scale": float("nan")}, ValueError, "nan"),
    ({"classifier_activation": "softmx"}, ValueError, "softmx.*None for logits"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), WRONG, ids=lambda value: str(value))
def test_wrong_arguments_are_explained(arguments, kind, message):
    with pytest.raises(kind, match=message) as caught:
        create_convnext_v1(**{"variant": "test", **arguments})
    assert isinstance(caught.value, convnext.ConvNeXtError)
