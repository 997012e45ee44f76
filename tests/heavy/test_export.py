"""What leaves Keras answers as Keras did, in every format that this backend's process can write.

SavedModel and LiteRT on TensorFlow are in `test_export_tensorflow.py`; here they are asked for from
a process whose Keras is on another backend.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import keras
import numpy as np
import pytest
from exported import TOLERANCE, model_of

import convnext
from contracts import RUN, exported
from convnext import VARIANTS, create_convnext_v2
from convnext.architecture import Geometry
from convnext.engines import open_engine
from convnext.errors import ArgumentError, ExportError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.nn.model import build_model
from convnext.weights.load import read_weights
from peers import fill, random_weights, randomise, relative_error

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("convnext.graphs.untracked_openvino")


NAMES = ("a.onnx", "a.xml", "a.keras")


def run(path, batch):
    return RUN[path.suffix](path, batch)


@pytest.mark.torch_alone
def test_the_vector_of_a_model_whose_norm_stands_before_the_pooling(photos, tmp_path):
    architecture = replace(VARIANTS["test_v1"], head="norm_pool")
    model = randomise(build_model(architecture, input_shape=(64, 64, 3), num_classes=5))
    pictures = photos(64)
    batch = normalise(pictures, Preprocess())
    tapped = keras.Model(model.input, model.get_layer("head_pool").output)
    expected = tapped.predict_on_batch(batch)
    for name in NAMES:
        options = {"output": "embedding", "pictures": pictures}
        report = exported(model, tmp_path / name, batch, expected, **options)
        assert report.judge == "the Keras model"


@pytest.mark.torch_alone
@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_a_model_and_its_files(name, photos, tmp_path):
    model, pictures = model_of(name), photos(64)
    batch = normalise(pictures, Preprocess())
    expected = model.predict_on_batch(batch)
    for filename in NAMES:
        report = exported(model, tmp_path / filename, batch, expected, pictures=pictures)
        assert (report.judge, report.pictures) == ("the Keras model", "4 pictures")


@pytest.mark.slow
@pytest.mark.torch_alone
@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
def test_atto_at_full_size(name, photos, tmp_path):
    model, pictures = model_of(name, 1000, 224), photos(224)
    batch = normalise(pictures, Preprocess())
    expected = model.predict_on_batch(batch)
    for filename in NAMES:
        exported(model, tmp_path / filename, batch, expected, pictures=pictures)


@pytest.mark.torch_alone
def test_preprocessing_and_softmax_of_a_model_are_exported(photos, tmp_path):
    options = {"classifier_activation": "softmax", "include_preprocessing": True}
    model, pictures = model_of("test_v2", **options), photos(64)
    expected = model.predict_on_batch(pictures.astype(np.float32))
    for filename in NAMES:
        batch = pictures.astype(np.float32) if filename == "a.keras" else pictures
        exported(model, tmp_path / filename, batch, expected)
    bare = convnext.export(
        model, tmp_path / "b.onnx", softmax=False, with_preprocessing=False, pictures=pictures
    )
    assert bare.judge == "the Keras model"
    logits = run(tmp_path / "b.onnx", normalise(pictures, Preprocess()))
    powers = np.exp(logits)
    assert relative_error(powers / powers.sum(1, keepdims=True), expected) < TOLERANCE


@pytest.mark.torch_alone
def test_other_outputs_and_sizes_of_a_model(photos, tmp_path):
    model = model_of("test_v1")
    outputs = {each: model.get_layer(each).output for each in ("head_norm", "stage_1", "stage_3")}
    outputs["embedding"] = outputs.pop("head_norm")
    outputs["tokens"] = model.get_layer("head_norm")(outputs.pop("stage_3"))
    for output, tensor in outputs.items():
        tapped = keras.Model(model.input, tensor)
        batch = normalise(photos(64), Preprocess())
        expected = tapped.predict_on_batch(batch)
        for filename in NAMES:
            path = tmp_path / f"{output}-{filename}"
            report = exported(model, path, batch, expected, output=output)
            assert report.judge == "the Keras model"
    report = convnext.export(model, tmp_path / "other.onnx", resolution=96)
    assert report.judge.startswith("the engine ")
    assert run(tmp_path / "other.onnx", np.zeros((1, 96, 96, 3), np.float32)).size == 10


CHOSEN = (2, 2, 2, 2)  # not those that follow from 32 pixels


def strided(side=32):
    model = build_model(
        VARIANTS["test_v2"],
        input_shape=(side, side, 3),
        geometry=Geometry(CHOSEN),
        num_classes=10,
        classifier_activation=None,
    )
    fill(model, random_weights(VARIANTS["test_v2"], 10))
    return model


def test_weights_keep_strides_that_do_not_follow_from_the_size(photos, tmp_path):
    model, path = strided(), tmp_path / "a.safetensors"
    convnext.export(model, path)
    expected = model.predict_on_batch(normalise(photos(32), Preprocess()))
    found = open_engine(path, "onnxruntime", precision="float32").predict(photos(32))
    assert relative_error(found, expected) < TOLERANCE


@pytest.mark.torch_first
@pytest.mark.parametrize("filename", ["a.safetensors", "a.onnx"])
def test_pictures_that_are_not_square(filename, tmp_path):
    model = create_convnext_v2("test", 10, (48, 64, 3))
    assert convnext.export(model, tmp_path / filename, random=True).verdict.good


@pytest.mark.torch_first
@pytest.mark.parametrize("side", [32, None])
def test_a_resolution_that_a_model_has_leaves_its_strides(side, tmp_path):
    report = convnext.export(strided(side), tmp_path / "a.onnx", resolution=32)
    assert report.judge == "the Keras model"
    assert report.verdict.good


@pytest.mark.torch_first
def test_strides_that_follow_from_the_size_follow_from_another(tmp_path):
    report = convnext.export(
        model_of("test_v2", side=32), tmp_path / "a.safetensors", resolution=64
    )
    assert report.judge.startswith("the engine ")
    with read_weights(tmp_path / "a.safetensors") as weights:
        assert weights.info.strides is None


@pytest.mark.torch_first
def test_a_model_of_other_strides_is_compared_with_an_engine(tmp_path):
    """At 96 pixels, the size of the comparison, where a network of any size has others."""
    model = model_of("test_v2", side=96)
    report = convnext.export(model, tmp_path / "a.onnx", resolution="any")
    assert report.judge.startswith("the engine ")


@pytest.mark.torch_alone
def test_a_keras_file_can_be_trained_on(tmp_path):
    model = model_of("test_v1", drop_path_rate=0.4)
    convnext.export(model, tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    assert again.get_layer("stage_3_block_0").drop_path_rate == pytest.approx(0.4)
    assert len(again.trainable_variables) == len(model.trainable_variables)
    convnext.export(model, tmp_path / "b.keras", drop_path_rate=0.0)
    assert keras.saving.load_model(tmp_path / "b.keras").get_layer(
        "stage_3_block_0"
    ).drop_path_rate == pytest.approx(0.0)


@pytest.mark.torch_first
@pytest.mark.parametrize(
    "filename", ["a.onnx", pytest.param("a.keras", marks=pytest.mark.torch_alone)]
)
def test_a_model_that_was_never_trained_is_refused(filename, tmp_path):
    model = create_convnext_v2("test", 10, (32, 32, 3))
    with pytest.raises(ArgumentError, match=r"has its initial weights.*--random"):
        convnext.export(model, tmp_path / filename)
    assert list(tmp_path.iterdir()) == []
    assert convnext.export(model, tmp_path / filename, random=True).verdict.good


@pytest.mark.torch_first
def test_models_that_cannot_be_exported(tmp_path):
    other = model_of("test_v1", classifier_activation="sigmoid")
    with pytest.raises(ArgumentError, match="ends in the activation 'sigmoid'"):
        convnext.export(other, tmp_path / "a.onnx")
    inputs = keras.Input((8,))
    with pytest.raises(convnext.ConvNeXtError):
        convnext.export(keras.Model(inputs, keras.layers.Dense(2)(inputs)), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch_alone
def test_a_model_that_computes_in_half_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = model_of("test_v2", side=32)
    for filename in NAMES:
        report = convnext.export(model, tmp_path / filename)
        assert report.judge.startswith("the engine ")
    assert run(tmp_path / "a.keras", np.zeros((1, 32, 32, 3), np.float32)).dtype == np.float32


needs_other_process = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow" or importlib.util.find_spec("tensorflow") is None,
    reason="this is about TensorFlow where Keras runs on another backend",
)


@needs_other_process
@pytest.mark.slow
def test_from_another_backend_tensorflow_writes_in_a_process_of_its_own(photos, tmp_path):
    model, steps = model_of("test_v2", drop_path_rate=0.2), []
    report = convnext.export(
        model, tmp_path / "a.tar.gz", pictures=photos(64), on_progress=steps.append
    )
    assert report.verdict.good
    assert report.judge == "the Keras model"
    assert report.runtime.startswith("TensorFlow 2")
    assert "starting TensorFlow" in steps
    assert steps[-2:] == ["writing saved_model", "running the file"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@needs_other_process
@pytest.mark.torch_alone
def test_an_error_of_the_exporting_process_is_raised(tmp_path, monkeypatch):
    from convnext.exports import process

    monkeypatch.setattr(process, "_describe", lambda folder, *_: (folder / "spec.json").touch())
    with pytest.raises(ExportError, match="JSONDecodeError"):
        convnext.export(model_of("test_v1"), tmp_path / "model", format="saved_model")
    assert list(tmp_path.iterdir()) == []
