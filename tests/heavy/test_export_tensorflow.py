"""SavedModels and LiteRT files: run by their own runtimes, and trained on, without this package."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest
from PIL import Image

import convnext
from convnext import create_convnext_v1, create_convnext_v2
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise, pixels
from convnext.variants import VARIANTS
from convnext.weights.canonical import canonical_variables
from convnext.weights.load import load_weights
from peers import fill, random_weights, relative_error

if keras.backend.backend() != "tensorflow":
    pytest.skip("this is about what TensorFlow writes", allow_module_level=True)

import tensorflow as tf

CREATE = {"v1": create_convnext_v1, "v2": create_convnext_v2}
TOLERANCE = 1e-4  # of the largest value
PHOTOS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


@pytest.fixture(scope="module")
def photos(shared_data):
    """Real photographs as pixels of any size."""

    def read(side):
        recipe = Preprocess(size=side)
        images = [Image.open(shared_data / "photos" / name).convert("RGB") for name in PHOTOS]
        return np.stack([pixels(image, recipe) for image in images])

    return read


def model_of(name, num_classes=10, side=64, **options):
    variant = VARIANTS[name]
    options = {"classifier_activation": None} | options
    model = CREATE[variant.family](variant.size, num_classes, (side, side, 3), **options)
    fill(model, random_weights(variant, num_classes))
    return model


def served(path, batch):
    return tf.saved_model.load(str(path)).signatures["serving_default"](images=batch)


def interpreted(path, batch):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_path=str(path))
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], batch)
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory, photos):
    """Exports a model with drop path once; a report, its path, the model and pictures for it."""
    cached = {}

    def export(name):
        if name not in cached:
            path = tmp_path_factory.mktemp("saved") / "model"
            model, pictures = model_of(name, side=32, drop_path_rate=0.5), photos(32)
            report = convnext.export(model, path, format="saved_model", pictures=pictures)
            cached[name] = report, path, model, normalise(pictures, Preprocess())
        return cached[name]

    return export


@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_a_saved_model_answers_for_any_number_of_pictures(name, saved):
    report, path, model, batch = saved(name)
    assert report.judge == "the Keras model"
    expected = model.predict_on_batch(batch)
    for part in (batch, batch[:1]):
        found = served(path, tf.constant(part))
        assert list(found) == ["logits"]
        assert relative_error(found["logits"].numpy(), expected[: len(part)]) < TOLERANCE
    loaded = tf.saved_model.load(str(path))
    for call in (loaded, loaded.serve):
        assert relative_error(call(tf.constant(batch)).numpy(), expected) < TOLERANCE
    assert len(loaded.trainable_variables) == len(model.trainable_variables)


def test_litert_of_v1_atto_at_full_size(photos, tmp_path):
    model, pictures = model_of("convnext_atto", 1000, 224), photos(224)[:2]
    path = tmp_path / "a.tflite"
    convnext.export(model, path, pictures=pictures)
    batch = normalise(pictures, Preprocess())
    assert relative_error(interpreted(path, batch), model.predict_on_batch(batch)) < TOLERANCE


def test_an_archive_of_v2_atto_at_full_size_which_is_plain_and_read_back(photos, tmp_path):
    model = model_of("convnextv2_atto", 1000, 224, drop_path_rate=0.3)
    path = tmp_path / "a.tar.gz"
    report = convnext.export(model, path, pictures=photos(224)[:2])
    assert (report.judge, report.pictures) == ("the Keras model", "2 pictures")
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert {"./saved_model.pb", "./variables/variables.index"} <= set(names)
    assert list(tmp_path.iterdir()) == [path]
    again = create_convnext_v2("atto")
    assert load_weights(again, path).found.layout == "convnext"
    for name, variable in canonical_variables(again).items():
        theirs = canonical_variables(model)[name]
        np.testing.assert_array_equal(np.asarray(theirs), np.asarray(variable))


def test_pixels_probabilities_any_size_and_a_fixed_number(photos, tmp_path):
    model, pictures = model_of("test_v1", side=128), photos(128)
    powers = np.exp(model.predict_on_batch(normalise(pictures, Preprocess())))
    options = {"with_preprocessing": True, "softmax": True, "batch": 4, "resolution": "any"}
    convnext.export(model, tmp_path / "model", format="saved_model", **options)
    serve = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    found = serve(images=tf.constant(pictures, tf.float32))["logits"].numpy()
    assert relative_error(found, powers / powers.sum(1, keepdims=True)) < TOLERANCE
    assert serve(images=tf.zeros((4, 40, 72, 3)))["logits"].shape == (4, 10)


FRESH = """
import json, sys, types
path, pictures, labels = sys.argv[1:4]
import numpy as np
import tensorflow as tf

batch, labels = np.load(pictures), np.load(labels)


def trained(variables, call):
    before = [variable.numpy() for variable in variables]
    optimizer, losses = tf.keras.optimizers.SGD(0.05), []
    for _ in range(8):
        with tf.GradientTape() as tape:
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, call(batch))
            loss = tf.reduce_mean(each)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        losses.append(float(loss))
    changed = sum(bool((v.numpy() != b).any()) for v, b in zip(variables, before))
    return {"losses": losses, "changed": changed, "variables": len(before)}


def answers(call, training):
    each = [call(batch), call(batch, training=False), *(training(batch) for _ in range(2))]
    return {"answers": [found.numpy().tolist() for found in each]}

"""

KERAS_3 = """
module = tf.saved_model.load(path)
loaded = answers(module, lambda images: module(images, training=True))
loaded |= trained(list(module.trainable_variables), lambda images: module(images, training=True))

named = tf.keras.layers.TFSMLayer(path, call_endpoint="serving_default")
layer = tf.keras.layers.TFSMLayer(
    path, call_endpoint="serve", call_training_endpoint="serve_training"
)
tfsm = answers(layer, lambda images: layer(images, training=True))
tfsm["answers"].insert(0, named(batch)["logits"].numpy().tolist())
inputs = tf.keras.Input(batch.shape[1:])
model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(layer(inputs)))
assert model(batch).shape[-1] == 3
tfsm |= trained(layer.trainable_variables, lambda images: layer(images, training=True))
found = {"tf.saved_model.load": loaded, "TFSMLayer": tfsm}
"""

HUB = """
try:
    import pkg_resources
except ImportError:  # which tensorflow_hub 0.16 wants one function of, and setuptools 82 dropped
    from packaging.version import parse
    sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=parse)
import tensorflow_hub as hub

frozen = tf.keras.Sequential([hub.KerasLayer(path, trainable=False)])
layer = hub.KerasLayer(path, trainable=True)
found = answers(layer, lambda images: layer(images, training=True))
found["answers"].insert(0, frozen(batch).numpy().tolist())
assert not frozen.trainable_variables
model = tf.keras.Sequential([layer, tf.keras.layers.Dense(10)])
model(batch)
before = [v.numpy() for v in model.trainable_variables]
model.compile(
    tf.keras.optimizers.SGD(0.05), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
)
losses = model.fit(batch, labels, epochs=8, batch_size=len(batch), verbose=0).history["loss"]
changed = sum(bool((v.numpy() != b).any()) for v, b in zip(model.trainable_variables, before))
found |= {"losses": losses, "changed": changed - 2, "variables": len(before) - 2}  # but Dense's
found = {"tensorflow_hub": found}
"""

LAST = """
assert not any(name.partition(".")[0] == "convnext" for name in sys.modules)
print(json.dumps(found))
"""

READERS = {"Keras 3": (KERAS_3, {}), "tensorflow_hub": (HUB, {"TF_USE_LEGACY_KERAS": "1"})}


@pytest.mark.parametrize("reader", READERS)
def test_a_fresh_process_runs_and_trains_it_without_this_package(reader, trainable):
    needed = ("tensorflow_hub", "tf_keras")
    if reader == "tensorflow_hub" and not all(map(importlib.util.find_spec, needed)):
        pytest.skip("tensorflow_hub and tf_keras are not installed")
    path, folder, expected, variables = trainable
    program, settings = READERS[reader]
    files = map(str, (path, folder / "batch.npy", folder / "labels.npy"))
    done = subprocess.run(
        [sys.executable, "-c", FRESH + program + LAST, *files],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for found in json.loads(done.stdout.splitlines()[-1]).values():
        *plain, first, second = map(np.array, found["answers"])
        for values in plain:
            assert relative_error(values, expected) < TOLERANCE
        assert relative_error(first, expected) > 1e-3  # drop path, in training mode
        assert relative_error(second, first) > 1e-3  # and each time another one
        assert found["variables"] == found["changed"] == variables
        assert min(found["losses"][-2:]) < 0.9 * found["losses"][0]


@pytest.fixture(scope="module")
def trainable(tmp_path_factory, saved):
    """A SavedModel, a folder with pictures and labels, and the model's answers to them."""
    folder = tmp_path_factory.mktemp("fresh")
    _, path, model, _ = saved("test_v2")
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((8, 32, 32, 3), np.float32)
    np.save(folder / "batch.npy", batch)
    np.save(folder / "labels.npy", rng.integers(0, 10, 8))
    return path, folder, model.predict_on_batch(batch), len(model.trainable_variables)


def test_litert_in_every_precision(photos, tmp_path):
    model, pictures = model_of("test_v2"), photos(64)
    batch = normalise(pictures, Preprocess())
    expected = model.predict_on_batch(batch)
    sizes = {}
    for precision, tolerance in (("float32", TOLERANCE), ("float16", 1e-2), ("int8", 0.5)):
        path = tmp_path / f"{precision}.tflite"
        calibration = pictures if precision == "int8" else None
        report = convnext.export(
            model, path, precision=precision, calibration=calibration, pictures=pictures
        )
        assert "LiteRT" in report.runtime
        assert relative_error(interpreted(path, batch), expected) < tolerance
        assert relative_error(interpreted(path, batch[:1]), expected[:1]) < tolerance
        assert report.verdict.agreement.decibels > 10
        sizes[precision] = report.nbytes
    assert sizes["int8"] < sizes["float32"] > sizes["float16"]


def test_litert_from_pixels(photos, tmp_path):
    model, pictures = model_of("test_v1", classifier_activation="softmax"), photos(64)
    expected = model.predict_on_batch(normalise(pictures, Preprocess()))
    convnext.export(model, tmp_path / "a.tflite", with_preprocessing=True, batch=2)
    found = interpreted(tmp_path / "a.tflite", pictures[:2])
    assert relative_error(found, expected[:2]) < TOLERANCE
    with pytest.raises(ArgumentError, match="litert has no pictures of any size"):
        convnext.export(model, tmp_path / "b.tflite", resolution="any")


def test_preprocessing_with_another_mean_is_refused(tmp_path):
    from convnext.weights.info import WeightsInfo
    from convnext.weights.save import save_weights

    recipe = Preprocess(size=32, mean=(0.5, 0.5, 0.5))
    weights = random_weights(VARIANTS["test_v1"], 10)
    save_weights(weights, tmp_path / "a.safetensors", info=WeightsInfo(preprocess=recipe))
    with pytest.raises(ArgumentError, match="another mean and deviation"):
        convnext.export(tmp_path / "a.safetensors", tmp_path / "a.tflite", with_preprocessing=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_tf2onnx_converts_our_model_without_partitioned_calls(name, saved, tmp_path):
    """Grouped convolutions of Keras lie in a function for XLA, which tf2onnx cannot convert."""
    tf2onnx = pytest.importorskip("tf2onnx")
    ort = pytest.importorskip("onnxruntime")
    _, folder, model, batch = saved(name)
    signature = [tf.TensorSpec((None, 32, 32, 3), tf.float32, name="images")]
    ours = tf.function(lambda images: model(images, training=False), input_signature=signature)
    graph = ours.get_concrete_function().graph.as_graph_def()
    assert not [node.op for node in graph.node if "PartitionedCall" in node.op]
    assert not graph.library.function
    loaded = tf.saved_model.load(str(folder))
    call = tf.function(lambda images: loaded(images), input_signature=signature)
    path = str(tmp_path / "a.onnx")
    converted, _ = tf2onnx.convert.from_function(
        call, input_signature=signature, opset=17, output_path=path
    )
    assert not [node for node in converted.graph.node if "PartitionedCall" in node.op_type]
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {session.get_inputs()[0].name: batch})
    assert relative_error(found, model.predict_on_batch(batch)) < TOLERANCE
