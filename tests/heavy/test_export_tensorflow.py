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
from exported import TOLERANCE, model_of

import convnext
from contracts import by_litert, exported
from convnext import create_convnext_v1
from convnext.architecture import VARIANTS
from convnext.errors import ArgumentError, ExportError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.weights.canonical import canonical_variables
from convnext.weights.load import load_weights
from peers import random_weights, relative_error

if keras.backend.backend() != "tensorflow":
    pytest.skip("this is about what TensorFlow writes", allow_module_level=True)

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


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


@pytest.mark.parametrize("name", [pytest.param("test_v1", marks=pytest.mark.slow), "test_v2"])
def test_a_saved_model_answers_for_any_number_of_pictures(name, saved):
    report, path, model, batch = saved(name)
    assert report.judge == "the Keras model"
    expected = model.predict_on_batch(batch)
    loaded = tf.saved_model.load(str(path))
    for part in (batch, batch[:1]):
        found = loaded.signatures["serving_default"](images=tf.constant(part))
        assert list(found) == ["logits"]
        assert relative_error(found["logits"].numpy(), expected[: len(part)]) < TOLERANCE
    for call in (loaded, loaded.serve):
        assert relative_error(call(tf.constant(batch)).numpy(), expected) < TOLERANCE
    assert len(loaded.trainable_variables) == len(model.trainable_variables)


def _own_gradients(graphs):
    """Names of operators whose gradient or compiled function only this package knows."""
    nodes = [node for graph in graphs for node in graph]
    return [node.name for node in nodes if {"_gradient_op_type", "_XlaMustCompile"} & {*node.attr}]


def test_only_training_has_gradients_of_our_own(saved, tmp_path):
    _, path, model, batch = saved("test_v2")

    def nodes(call):
        definition = (
            tf.function(call).get_concrete_function(tf.constant(batch)).graph.as_graph_def()
        )
        return [definition.node, *(each.node_def for each in definition.library.function)]

    assert _own_gradients(nodes(lambda x: model(x, training=True)))
    assert not _own_gradients(nodes(lambda x: model(x, training=False)))
    model.export(tmp_path / "by_keras", verbose=False)
    for folder in (path, tmp_path / "by_keras"):
        content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        [definition] = [meta.graph_def for meta in content.meta_graphs]
        functions = [each.node_def for each in definition.library.function]
        assert functions
        assert not _own_gradients([definition.node, *functions])
    call = "import sys, tensorflow as tf; m = tf.saved_model.load(sys.argv[1]); print(float("
    call += (
        "tf.reduce_sum(m.serve(tf.ones((2, 32, 32, 3)))))); assert 'convnext' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", call, tmp_path / "by_keras"], capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = model.predict_on_batch(np.ones((2, 32, 32, 3), "float32")).sum()
    assert float(done.stdout) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_litert_of_v1_atto_at_full_size_from_pixels(photos, tmp_path):
    model, pictures = model_of("convnext_atto", 1000, 224), photos(224)[:2]
    path = tmp_path / "a.tflite"
    expected = model.predict_on_batch(normalise(pictures, Preprocess()))
    exported(model, path, pictures, expected, with_preprocessing=True, pictures=pictures)


def test_an_archive_is_plain_read_back_and_holds_what_was_asked_for(photos, tmp_path):
    """Pixels, probabilities, pictures of any size, and a fixed number of them."""
    model, pictures = model_of("test_v1", side=128), photos(128)
    powers = np.exp(model.predict_on_batch(normalise(pictures, Preprocess())))
    options = {"with_preprocessing": True, "softmax": True, "batch": 4, "resolution": "any"}
    path = tmp_path / "a.tar.gz"
    convnext.export(model, path, **options)
    assert list(tmp_path.iterdir()) == [path]
    with tarfile.open(path) as archive:
        assert {"./saved_model.pb", "./variables/variables.index"} <= set(archive.getnames())
        archive.extractall(tmp_path / "model", filter="data")
    again = create_convnext_v1("test", 10, (64, 64, 3))
    assert load_weights(again, path).found.layout == "convnext"
    for name, variable in canonical_variables(again).items():
        theirs = canonical_variables(model)[name]
        np.testing.assert_array_equal(np.asarray(theirs), np.asarray(variable))
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
    losses = []
    for _ in range(6):
        with tf.GradientTape() as tape:
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, call(batch))
            loss = tf.reduce_mean(each)
        for variable, gradient in zip(variables, tape.gradient(loss, variables)):
            variable.assign(variable - 0.05 * gradient)
        losses.append(float(loss))
    changed = sum(bool((v.numpy() != b).any()) for v, b in zip(variables, before))
    return {"losses": losses, "changed": changed, "variables": len(before)}


def answers(call, training):
    each = [call(batch), call(batch, training=False), *(training(batch) for _ in range(2))]
    return {"answers": [found.numpy().tolist() for found in each]}

"""

KERAS_3 = """
import keras

module = tf.saved_model.load(path)
loaded = answers(module, lambda images: module(images, training=True))

named = keras.layers.TFSMLayer(path, call_endpoint="serving_default")
layer = keras.layers.TFSMLayer(
    path, call_endpoint="serve", call_training_endpoint="serve_training"
)
tfsm = answers(layer, lambda images: layer(images, training=True))
tfsm["answers"].insert(0, named(batch)["logits"].numpy().tolist())
inputs = keras.Input(batch.shape[1:])
model = keras.Model(inputs, keras.layers.Dense(3)(layer(inputs)))
assert model(batch).shape[-1] == 3
tfsm |= trained(layer.trainable_variables, lambda images: layer(images, training=True))
found = {"tf.saved_model.load": loaded, "TFSMLayer": tfsm}
"""

# With TF_USE_LEGACY_KERAS, `tf.keras` is Keras 2, and `keras` is Keras 3 all the same.
HUB = """
try:
    import pkg_resources
except ImportError:  # which tensorflow_hub 0.16 wants one function of, and setuptools 82 dropped
    from packaging.version import parse
    sys.modules["pkg_resources"] = types.SimpleNamespace(parse_version=parse)
import tensorflow_hub as hub

frozen = tf.keras.Sequential([hub.KerasLayer(path, trainable=False)])
layer = hub.KerasLayer(path, trainable=True)
hubs = answers(layer, lambda images: layer(images, training=True))
hubs["answers"].insert(0, frozen(batch).numpy().tolist())
assert not frozen.trainable_variables
model = tf.keras.Sequential([layer, tf.keras.layers.Dense(10)])
model(batch)
before = [v.numpy() for v in model.trainable_variables]
model.compile(
    tf.keras.optimizers.SGD(0.05), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
)
losses = model.fit(batch, labels, epochs=6, batch_size=len(batch), verbose=0).history["loss"]
changed = sum(bool((v.numpy() != b).any()) for v, b in zip(model.trainable_variables, before))
hubs |= {"losses": losses, "changed": changed - 2, "variables": len(before) - 2}  # but Dense's
found["tensorflow_hub"] = hubs
"""

LAST = """
assert not any(name.partition(".")[0] == "convnext" for name in sys.modules)
print(json.dumps(found))
"""

HUB_NEEDS = ("tensorflow_hub", "tf_keras")


@pytest.mark.slow
def test_a_fresh_process_runs_and_trains_it_without_this_package(trainable):
    has_hub = all(map(importlib.util.find_spec, HUB_NEEDS))
    program = FRESH + KERAS_3 + (HUB if has_hub else "") + LAST
    path, folder, expected, variables = trainable
    files = map(str, (path, folder / "batch.npy", folder / "labels.npy"))
    done = subprocess.run(
        [sys.executable, "-c", program, *files],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **({"TF_USE_LEGACY_KERAS": "1"} if has_hub else {})},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    readers = json.loads(done.stdout.splitlines()[-1])
    assert len(readers) == 2 + has_hub
    for found in readers.values():
        *plain, first, second = map(np.array, found["answers"])
        for values in plain:
            assert relative_error(values, expected) < TOLERANCE
        assert relative_error(first, expected) > 1e-3  # drop path, in training mode
        assert relative_error(second, first) > 1e-3  # and each time another one
        if "losses" in found:
            assert found["variables"] == found["changed"] == variables
            assert min(found["losses"][-2:]) < 0.9 * found["losses"][0]
    assert sum("losses" in found for found in readers.values()) == 1 + has_hub


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
    for precision, tolerance in (("float32", TOLERANCE), ("float16", 1e-2), ("int8", 0.05)):
        path = tmp_path / f"{precision}.tflite"
        calibration = pictures[:2] if precision == "int8" else None
        options = {"precision": precision, "calibration": calibration, "pictures": pictures}
        report = exported(model, path, batch, expected, tolerance, **options)
        assert "LiteRT" in report.runtime
        sizes[precision] = report.nbytes
    assert report.verdict.agreement.decibels > 30
    assert sizes["int8"] < sizes["float32"] > sizes["float16"]

    from convnext.int8.litert import round_linear_layers

    part = keras.Model(model.input, model.get_layer("stage_1").output)
    with pytest.raises(ExportError, match="11 linear layers, but the model has 4"):
        round_linear_layers((tmp_path / "float32.tflite").read_bytes(), part)


@pytest.mark.slow
def test_litert_in_eight_bits_from_pixels(photos, tmp_path):
    model, pictures = model_of("test_v1", classifier_activation="softmax"), photos(64)
    expected = model.predict_on_batch(normalise(pictures, Preprocess()))
    path = tmp_path / "a.tflite"
    options = {"with_preprocessing": True, "batch": 2, "precision": "int8"}
    report = convnext.export(model, path, calibration=pictures[2:], **options)
    assert report.verdict.agreement.decibels > 30
    assert relative_error(by_litert(path, pictures[:2]), expected[:2]) < 0.05
    assert rounded_layers(path) == 2 * (sum(VARIANTS["test_v1"].depths) - 1)
    with pytest.raises(ArgumentError, match="litert has no pictures of any size"):
        convnext.export(model, tmp_path / "b.tflite", resolution="any")


def rounded_layers(path):
    """How many linear layers of a file have kernels in eight bits; nothing else may have."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    details = litert.Interpreter(model_path=str(path)).get_tensor_details()
    whole = [tensor for tensor in details if tensor["dtype"] == np.int8]
    for tensor in whole:
        outputs, inputs = tensor["shape"]
        assert outputs in (4 * inputs, inputs / 4)
        assert len(tensor["quantization_parameters"]["scales"]) == outputs
    return len(whole)


def test_preparing_for_int8_shrinks_large_channels_and_keeps_outputs(photos):
    """Great channels are made smaller where they come from, and the answers stay what they were."""
    from convnext.int8.litert import prepare

    model, batch = model_of("test_v2"), normalise(photos(64), Preprocess())
    block = model.get_layer("stage_2_block_1")
    for part in (block.norm.gamma, block.norm.beta, block.grn.gamma):
        part.assign(part.numpy() * np.where(np.arange(part.shape[0]) == 3, 64, 1))
    ranges = np.abs(block.norm.gamma.numpy())
    expected = model.predict_on_batch(batch)
    prepare(model, [batch[:3], batch[3:]])
    answers = keras.Model(model.input, model.output)(batch).numpy()
    assert 0 < relative_error(answers, expected) < 0.02
    found = np.abs(block.norm.gamma.numpy())
    assert found.max() / np.median(found) < 0.3 * ranges.max() / np.median(ranges)


@pytest.mark.parametrize("name", [pytest.param("test_v1", marks=pytest.mark.slow), "test_v2"])
def test_inputs_of_linear_layers_are_recorded_during_calibration(name, photos):
    """Where a norm's gamma is 0, its layer is given beta; after that nothing is watched."""
    from convnext.int8.litert import _inputs_of

    model, batch = model_of(name), normalise(photos(64), Preprocess())
    block = model.get_layer("stage_2_block_1")
    block.norm.gamma.assign(np.zeros(24))
    expected = model.predict_on_batch(batch)
    side = model.get_layer("stage_2").output.shape[1]
    every = slice(None)
    with (
        _inputs_of(block.pwconv1, lambda _: every) as first,
        _inputs_of(block.pwconv2, lambda _: every) as second,
    ):
        np.testing.assert_allclose(model(batch), expected, rtol=1e-4, atol=1e-5)
    assert len(first) == len(second) == len(batch)
    for rows in first:
        beta = np.tile(block.norm.beta.numpy(), (side**2, 1))
        np.testing.assert_allclose(rows, beta, rtol=1e-6)
    hidden = block.pwconv1(first[0].reshape(1, side, side, -1))
    hidden = (hidden if block.grn is None else block.grn(hidden)).numpy()
    np.testing.assert_allclose(second[0], hidden.reshape(side**2, -1), rtol=1e-5, atol=1e-6)
    model(batch)
    assert len(first) == len(batch)


def test_the_bias_corrects_the_mean_error_of_rounding():
    from convnext.int8 import litert
    from convnext.int8.rounding import BALANCES, round_kernel

    rng = np.random.default_rng(0)
    rows = rng.gamma(1, 2, (500, 12)).astype(np.float32)  # on one side, as after GELU
    kernel, bias = rng.standard_normal((2, 12, 5)).astype(np.float32)
    linear = keras.layers.Dense(5)
    linear.build(rows.shape)
    linear.set_weights([kernel, bias[0]])
    factors = litert._balance(linear, rows, BALANCES)
    balanced, corrected = linear.get_weights()
    np.testing.assert_allclose(balanced, kernel * factors[:, None], rtol=1e-6)
    whole, steps = round_kernel(balanced, in_pairs=False)
    rounded = litert._round_inputs(rows / factors) @ (whole * steps)
    shift = (rows @ kernel + bias[0] - rounded).mean(axis=0)
    assert np.abs(shift).max() > 1e-3
    np.testing.assert_allclose(corrected, shift, atol=1e-5)


def test_preprocessing_with_another_mean_is_refused(tmp_path):
    from convnext.weights.info import WeightsInfo
    from convnext.weights.save import save_weights

    recipe = Preprocess(size=32, mean=(0.5, 0.5, 0.5))
    weights = random_weights(VARIANTS["test_v1"], 10)
    save_weights(weights, tmp_path / "a.safetensors", info=WeightsInfo(preprocess=recipe))
    with pytest.raises(ArgumentError, match="another mean and deviation"):
        convnext.export(tmp_path / "a.safetensors", tmp_path / "a.tflite", with_preprocessing=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_tf2onnx_converts_our_model_without_partitioned_calls(name, saved, tmp_path):
    """Grouped convolutions of Keras lie in a function for XLA, which tf2onnx cannot convert."""
    tf2onnx = pytest.importorskip("tf2onnx")
    ort = pytest.importorskip("onnxruntime")
    _, folder, model, batch = saved(name)
    signature = [tf.TensorSpec((None, 32, 32, 3), tf.float32, name="images")]
    call = tf.function(lambda images: model(images, training=False), input_signature=signature)
    if name == "test_v1":  # the file of one and the other in memory: both are models of ours
        loaded = tf.saved_model.load(str(folder))
        call = tf.function(lambda images: loaded(images), input_signature=signature)
    else:
        graph = call.get_concrete_function().graph.as_graph_def()
        assert not [node.op for node in graph.node if "PartitionedCall" in node.op]
        assert not graph.library.function
    path = str(tmp_path / "a.onnx")
    converted, _ = tf2onnx.convert.from_function(
        call, input_signature=signature, opset=17, output_path=path
    )
    assert not [node for node in converted.graph.node if "PartitionedCall" in node.op_type]
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {session.get_inputs()[0].name: batch})
    assert relative_error(found, model.predict_on_batch(batch)) < TOLERANCE
