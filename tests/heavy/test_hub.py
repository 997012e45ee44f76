"""Modules of the TF-Hub collection as Keras models, and archives in the structure it published."""

from __future__ import annotations

import tarfile
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from exported import TOLERANCE

from convnext import create_convnext_v1, hub, load_weights
from convnext.architecture import VARIANTS
from convnext.cli.main import main
from convnext.errors import ArgumentTypeError, UnknownNameError, WeightsMismatchError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.weights.canonical import canonical_variables
from convnext.weights.save import save_weights
from peers import pictures, random_weights, relative_error

TENSORFLOW = keras.backend.backend() == "tensorflow"


def weights_in(folder, name, num_classes=1000):
    path = folder / f"{name}.safetensors"
    save_weights(random_weights(VARIANTS[name], num_classes), path)
    return path


@pytest.mark.torch_alone
def test_a_classifier_gives_logits_and_its_feature_extractor_what_they_come_from(tmp_path):
    path = weights_in(tmp_path, "convnextv2_atto")
    classifier = hub.load("convnextv2_atto_1k_224", weights=path)
    extractor = hub.load("convnextv2_atto_1k_224_fe", trainable=True, weights=path)
    assert classifier.input_shape == extractor.input_shape == (None, 224, 224, 3)
    assert (classifier.output_shape, extractor.output_shape) == ((None, 1000), (None, 320))
    assert classifier.name == "convnextv2_atto_1k_224"
    assert not classifier.trainable_variables
    assert len(extractor.trainable_variables) == len(extractor.variables) > 100
    batch = pictures(2, 224, 224, 3)
    logits, vectors = classifier.predict_on_batch(batch), extractor.predict_on_batch(batch)
    assert logits.min() < 0  # no softmax
    tapped = keras.Model(classifier.input, classifier.get_layer("head_norm").output)
    np.testing.assert_allclose(vectors, tapped.predict_on_batch(batch), atol=1e-4)
    kernel, bias = (np.asarray(v) for v in classifier.get_layer("head").weights)
    assert relative_error(vectors @ kernel + bias, logits) < TOLERANCE


@pytest.mark.torch_alone
def test_a_handle_and_another_resolution(tmp_path):
    path = weights_in(tmp_path, "convnext_tiny")
    model = hub.load("https://tfhub.dev/sayakpaul/convnext_tiny_1k_224_fe/1", weights=path)
    assert (model.input_shape, model.output_shape) == ((None, 224, 224, 3), (None, 768))


@pytest.mark.torch_alone
def test_bad_input(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean"):
        hub.load("convnext_tiny_1k_256")
    with pytest.raises(ArgumentTypeError, match="trainable must be True or False"):
        hub.load("convnext_tiny_1k_224", trainable="yes")
    with pytest.raises(WeightsMismatchError):
        hub.load("convnext_base_1k_224", weights=weights_in(tmp_path, "convnextv2_atto"))


def assign(layer, name, values):
    for part in ("kernel", "bias") if hasattr(layer, "kernel") else ("gamma", "beta"):
        variable = getattr(layer, part)
        variable.assign(values[f"{name}.{part}"].reshape(variable.shape))


def assign_published(entries, stages, values):
    for stage, (entry, blocks) in enumerate(zip(entries, stages, strict=True)):
        prefix = f"downsample_{stage}" if stage else "stem"
        for layer in entry.layers:
            assign(layer, f"{prefix}_{'conv' if hasattr(layer, 'kernel') else 'norm'}", values)
        for j, block in enumerate(blocks.layers):
            name = f"stage_{stage}_block_{j}"
            assign(block.depthwise, f"{name}.dwconv", values)
            assign(block.norm, f"{name}.norm", values)
            assign(block.expand, f"{name}.pwconv1", values)
            assign(block.project, f"{name}.pwconv2", values)
            block.gamma.assign(values[f"{name}.layer_scale.gamma"])


def write_published(folder, values, batch):
    """Modules as the collection has them, which Keras 2 wrote, and their answers.

    That is: nested stem and downsamplings, stages of subclassed blocks, and layer scale as a
    variable of the block's own.
    """
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    dims, depths = (8, 16, 24, 32), (1, 1, 2, 1)

    class Block(tf_keras.Model):
        def __init__(self, dim, name):
            super().__init__(name=name)
            self.depthwise = layers.Conv2D(dim, 7, padding="same", groups=dim)
            self.norm = norm()
            self.expand = layers.Dense(4 * dim)
            self.act = layers.Activation("gelu")
            self.project = layers.Dense(dim)
            self.gamma = tf.Variable(tf.ones((dim,)), name="gamma")

        def call(self, x):
            y = self.act(self.expand(self.norm(self.depthwise(x))))
            return x + self.gamma * self.project(y)

    def norm():
        return layers.LayerNormalization(epsilon=1e-6)

    entries = [tf_keras.Sequential([layers.Conv2D(dims[0], 4, strides=4), norm()], name="stem")]
    for stage in (1, 2, 3):
        entry = [norm(), layers.Conv2D(dims[stage], 2, strides=2)]
        entries.append(tf_keras.Sequential(entry, name=f"downsampling_block_{stage - 1}"))
    stages = [
        tf_keras.Sequential(
            [Block(dim, f"convnext_block_{stage}_{j}") for j in range(depth)],
            name=f"convnext_stage_{stage}",
        )
        for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True))
    ]
    inputs = x = tf_keras.Input((128, 128, 3))
    for entry, stage in zip(entries, stages, strict=True):
        x = stage(entry(x))
    last = norm()
    vector = last(tf.reduce_mean(x, (1, 2)))
    model = tf_keras.Model(inputs, layers.Dense(10, name="classification_head")(vector))

    assign_published(entries, stages, values)
    assign(last, "head_norm", values)
    assign(model.get_layer("classification_head"), "head", values)
    answers = {}
    for name, each in {"module": model, "module_fe": tf_keras.Model(inputs, vector)}.items():
        each.save(str(folder / name))
        answers[name] = each(batch).numpy()
    return answers


@pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow writes and reads these")
@pytest.mark.filterwarnings("ignore")  # those of Keras 2
def test_archives_as_the_collection_has_them(tmp_path):
    """A SavedModel that Keras 2 wrote gives our model its weights, and so its answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("tf_keras")
    weights, batch = random_weights(VARIANTS["test_v1"], 10), pictures(2, 128, 128, 3)
    published = write_published(tmp_path, weights, batch)
    archive = tmp_path / "module.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / "module", ".")
    classifier, extractor = (
        {"classifier_activation": None},
        {"include_top": False, "pooling": "avg"},
    )
    for source, answers, options in (
        (archive, "module", classifier),
        (tmp_path / "module_fe", "module_fe", extractor),
    ):
        model = create_convnext_v1("test", 10, (128, 128, 3), **options)
        assert load_weights(model, source).found.layout == "tf_hub"
        for name, variable in canonical_variables(model).items():
            np.testing.assert_array_equal(np.asarray(variable), weights[name], err_msg=name)
        assert relative_error(model.predict_on_batch(batch), published[answers]) < TOLERANCE


@pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow writes these")
@pytest.mark.slow
def test_modules_are_published_with_their_pages(photos, tmp_path, monkeypatch, capsys):
    """From a cached checkpoint; what is there already is kept, and what is not cached left out."""
    import tensorflow as tf

    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    module = hub.get_module("convnextv2_atto_1k_224")
    source = module.row.sources[0]
    place = tmp_path / "cache" / module.checkpoint / source.layout / source.filename
    place.parent.mkdir(parents=True)
    weights = random_weights(VARIANTS["convnextv2_atto"], 1000)
    save_weights(weights, place, layout=source.layout)
    folder = tmp_path / "collection"
    names = ("convnextv2_atto_1k_224_fe", "convnext_tiny_1k_224")
    command = ("hub-publish", str(folder), "--only", *names, "--publisher", "me")
    assert main([*command, "--asset-url", "https://example.org/"]) == 1
    out, err = capsys.readouterr()
    assert out.count("compared with") == 1
    assert out.count("CC-BY-NC-4.0 (credit the authors; no commercial use)") == 1
    assert out.splitlines()[-1] == f"1 of 2 modules are in {folder}."
    assert err == "convnext_tiny_1k_224: left out. convnext_tiny.fb_in1k is not in the cache\n"
    written = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert written == {
        "convnextv2_atto_1k_224_fe.tar.gz",
        "docs/me/models/convnextv2_atto_1k_224_fe/1.md",
        "docs/me/collections/convnext/1.md",
    }
    page = (folder / "docs/me/models/convnextv2_atto_1k_224_fe/1.md").read_text()
    assert "<!-- asset-path: https://example.org/convnextv2_atto_1k_224_fe.tar.gz -->" in page
    collection = (folder / "docs/me/collections/convnext/1.md").read_text()
    assert "convnext_tiny_1k_224" not in collection

    with tarfile.open(folder / "convnextv2_atto_1k_224_fe.tar.gz") as archive:
        archive.extractall(tmp_path / "module", filter="data")
    batch = normalise(photos(224)[:2], Preprocess())
    extractor = hub.load("convnextv2_atto_1k_224_fe", weights=place)
    found = tf.saved_model.load(str(tmp_path / "module"))(batch).numpy()
    assert relative_error(found, extractor.predict_on_batch(batch)) < TOLERANCE

    times = {path: path.stat().st_mtime_ns for path in Path(folder).glob("*.tar.gz")}
    assert main(list(command)) == 1
    assert capsys.readouterr().out.count("exists already") == 1
    assert times == {path: path.stat().st_mtime_ns for path in Path(folder).glob("*.tar.gz")}
