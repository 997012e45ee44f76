"""What only Keras' models can do: `fit`, `evaluate`, `predict`, `.keras` files, compiled calls."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hf_models import config_of, model_of

from convnext import hf
from convnext.errors import ArgumentError
from convnext.hf.losses import classification_loss
from peers import as_numpy, pictures

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="modules of PyTorch are no Keras models")


# JAX takes as long to compile a step of training as the blocks are many.
TWO_STAGES = {"num_stages": 2, "depths": [1, 1], "hidden_sizes": [8, 12], "num_labels": 2}


def batch(count=4, classes=2):
    """Noise that is brighter in the second class."""
    labels = np.arange(count) % classes
    return pictures(count, 3, 32, 32) + labels[:, None, None, None].astype(np.float32), labels


def test_fit_learns():
    model = model_of("ConvNextV2", "ForImageClassification", **TWO_STAGES)
    images, labels = batch()
    model.compile(keras.optimizers.Adam(3e-3), metrics=["sparse_categorical_accuracy"])
    history = model.fit(images, labels, epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2
    assert (
        model.evaluate(images, labels, verbose=0, return_dict=True)["sparse_categorical_accuracy"]
        == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["among", "own loss"])
def test_every_way_to_give_labels_has_the_same_loss(way):
    model = model_of("ConvNextV2", "ForImageClassification", **TWO_STAGES)
    images, labels = batch()
    wanted = float(model(images, labels=labels).loss)
    loss = None
    if way == "own loss":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    given = {"pixel_values": images, "labels": labels} if way == "among" else images
    model.compile("sgd", loss=loss, run_eagerly=True)
    found = model.test_on_batch(given, None if way == "among" else labels)
    np.testing.assert_allclose(np.ravel(found)[0], wanted, rtol=1e-4)


@pytest.mark.parametrize(("label", "is_number"), [(1, True), (-100, True), (2, False), (-1, False)])
def test_in_a_compiled_step_the_loss_of_what_is_no_class_is_no_number(label, is_number):
    config = config_of("ConvNext", num_labels=2)
    logits, labels = np.ones((2, 2), np.float32), np.array([0, label], np.int32)

    def loss(logits, labels):
        return classification_loss(config, logits, labels)

    if BACKEND == "jax":
        import jax

        compiled = jax.jit(loss)
    else:
        import tensorflow as tf

        compiled = tf.function(loss)
    assert bool(np.isfinite(as_numpy(compiled(logits, labels)))) == is_number


def test_predict_gives_answers():
    model = model_of("ConvNext", "ForImageClassification", **TWO_STAGES)
    images, _ = batch()
    out = model.predict(images, batch_size=2, verbose=0)
    assert out.logits.shape == (4, 2)
    np.testing.assert_allclose(out.logits, as_numpy(model(images).logits), atol=1e-4)


@pytest.mark.slow
def test_compiled_calls_give_answers():
    model = model_of("ConvNext", "Model")
    images = keras.ops.convert_to_tensor(batch()[0])
    if BACKEND == "jax":
        import jax

        compiled = jax.jit(lambda x: model(x))
    else:
        import tensorflow as tf

        compiled = tf.function(lambda x: model(x))
    wanted = as_numpy(model(images).pooler_output)
    np.testing.assert_allclose(as_numpy(compiled(images).pooler_output), wanted, atol=1e-4)


def test_a_keras_file_brings_the_model_back(tmp_path):
    model = model_of("ConvNextV2", "Backbone", **TWO_STAGES, out_features=["stage1", "stage2"])
    model.save(tmp_path / "backbone.keras")
    again = keras.models.load_model(tmp_path / "backbone.keras")
    images = batch()[0]
    for ours, theirs in zip(again(images).feature_maps, model(images).feature_maps, strict=True):
        np.testing.assert_array_equal(as_numpy(ours), as_numpy(theirs))


def test_initial_values_follow_the_configuration():
    config = config_of("ConvNext", initializer_range=0.5, hidden_sizes=[32, 32, 32, 32])
    values = hf.ConvNextModel(config).parameter_values()
    kernel = values["encoder.stages.0.layers.0.pwconv1.weight"].read()
    assert 0.45 < kernel.std() < 0.55
    assert values["encoder.stages.0.layers.0.layer_scale_parameter"].read()[0] == np.float32(1e-6)


def test_training_without_labels_says_so():
    model = model_of("ConvNext", "ForImageClassification", num_labels=2)
    model.compile("sgd")
    with pytest.raises(ArgumentError, match="no labels"):
        model.compute_loss(y_pred={"logits": np.zeros((4, 2), np.float32)})
    with pytest.raises(ArgumentError, match="sample_weight"):
        model.compute_loss(y=np.zeros(4), y_pred={}, sample_weight=np.ones(4))
