"""The classifier on an engine that answers by colour; on real ones: `tests/heavy`."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import convnext
from convnext.classifier import Classifier, ClassScore
from convnext.classifier.explain import grad_cam, linear, normed, pooled
from convnext.engines.mock import MockEngine
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    ImageError,
    MissingDependencyError,
    UnknownNameError,
    WeightsError,
    WeightsFileError,
)
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named
from convnext.weights.load import read_weights

CLASSES, STEP = 10, 25
HEAD = ("head_norm.gamma", "head_norm.beta", "head.kernel", "head.bias")

pytestmark = pytest.mark.usefixtures("mock_engine")


def test_importing_it_waits_for_no_framework():
    program = "import sys, convnext.classifier; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "convnext.classifier" in loaded
    assert not {"keras", "torch", "tensorflow", "jax"} & set(loaded)


@pytest.fixture
def classifier(named_weights):
    return Classifier(named_weights)


def grey(shade):
    return np.full((16, 16, 3), shade, np.uint8)


def test_classifier_is_a_public_name():
    assert convnext.Classifier is Classifier


def test_a_single_picture(classifier):
    prediction = classifier(grey(3 * STEP), top=3)
    assert [score.index for score in prediction.classes] == [3, 2, 4]
    assert prediction.best == ClassScore("shade 3, nuance 3", 3, prediction.best.probability)
    assert prediction.best.probability == pytest.approx(1, abs=1e-4)
    assert prediction.id == "#0"
    assert len(classifier(grey(0)).classes) == 5
    assert len(classifier(grey(0), top=99).classes) == CLASSES


def test_a_picture_may_be_a_path_bytes_a_file_object_or_an_image(classifier, tmp_path):
    picture = Image.fromarray(grey(2 * STEP))
    path = tmp_path / "two.png"
    picture.save(path)
    for given in (picture, path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert classifier(given).best.index == 2
    assert classifier(path).id == path.as_posix()
    assert classifier(Named("mine", picture)).id == "mine"


def test_a_picture_that_cannot_be_read(classifier, tmp_path):
    for given in (b"no picture", tmp_path, "absent.png", Named("x", ImageError("torn"))):
        for ask in (classifier, classifier.embed, classifier.features, classifier.explain):
            with pytest.raises(ImageError):
                ask(given)


def test_several_are_not_one(classifier):
    for given in ([grey(0)], (grey(0),), (grey(shade) for shade in (0, 1))):
        with pytest.raises(ArgumentTypeError, match="use stream, embed_stream or run"):
            classifier(given)


def test_many_pictures_in_order_with_the_bad_ones(classifier, pictures, mock_engine):
    found = list(classifier.stream(pictures, top=1, batch_size=4))
    names = [prediction.id.rpartition("/")[2] for prediction in found]
    assert names == [f"shade-{n}.png" for n in (1, 2, 3, 4)] + ["shade-4b.png"] + [
        f"shade-{n}.png" for n in (5, 6, 7, 8, 9)
    ]
    assert [p.best.index for p in found if p.error is None] == list(range(1, 10))
    assert isinstance(found[4].error, ImageError)
    assert found[4].classes == ()
    assert mock_engine.engines[0].batch_sizes == [4, 3, 2]


def test_a_batch_without_any_good_picture_does_not_reach_the_engine(classifier, mock_engine):
    found = list(classifier.stream([b"no", b"neither", grey(0)], batch_size=2))
    assert [p.error is None for p in found] == [False, False, True]
    assert mock_engine.engines[0].batch_sizes == [1]


def test_many_pictures_from_an_archive(classifier, pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(pictures.iterdir()):
            archive.write(path, path.name)
    found = list(classifier.stream(tmp_path / "all.zip", top=1))
    assert [p.best.index for p in found if p.error is None] == list(range(1, 10))


def test_an_endless_stream_is_read_only_as_far_as_needed(classifier):
    read = itertools.count()

    def endless():
        while True:
            yield grey(STEP * (next(read) % CLASSES))

    found = itertools.islice(classifier.stream(endless(), top=1, batch_size=4), 10)
    assert [prediction.best.index for prediction in found] == list(range(10))
    assert next(read) < 40


def test_mistakes_are_found_before_the_first_picture(classifier):
    for arguments in ({"top": 0}, {"top": "5"}, {"batch_size": 0}):
        with pytest.raises(ArgumentError):
            classifier.stream([], **arguments)
    with pytest.raises(ArgumentError, match="no output"):
        classifier.run([], ["probabilities"])


def test_embeddings_and_features(classifier):
    vector = classifier.embed(grey(50))
    assert (vector.shape, vector.dtype, vector[0]) == ((32,), np.float32, 50)
    maps = classifier.features(grey(50))
    assert [m.shape[-1] for m in maps] == [8, 16, 24, 32]
    first, second = classifier.embed_stream([grey(7), b"no picture"])
    assert (first.vector[0], first.error) == (7, None)
    assert second.vector is None
    assert isinstance(second.error, ImageError)


def test_any_outputs_at_once(classifier):
    [answer] = classifier.run([grey(50)], ("embedding", "stage_2"))
    assert set(answer.outputs) == {"embedding", "stage_2"}
    assert answer.outputs["embedding"].shape == (32,)


def test_engines_are_opened_once_and_when_needed(classifier, mock_engine):
    assert mock_engine.engines == []
    asked = [threading.Thread(target=classifier, args=(grey(0),)) for _ in range(8)]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()
    classifier.embed(grey(0))
    classifier.embed(grey(0))
    assert [options.outputs for options in mock_engine.options] == [("logits",), ("embedding",)]


def test_the_engine_gets_what_was_asked_for(named_weights, mock_engine):
    recipe = Preprocess(48, mode="squash", std=(0.1, 0.2, 0.3))
    classifier = Classifier(
        named_weights,
        "other",
        precision="bfloat16",
        device="gpu",
        threads=3,
        size=64,
        preprocess=recipe,
    )
    classifier(grey(0))
    [network], [options] = mock_engine.networks, mock_engine.options
    assert network.preprocess == classifier.preprocess == replace(recipe, size=64)
    assert network.sides == (64, 64)
    assert (options.precision, options.device, options.threads, options.input) == (
        "bfloat16",
        "gpu",
        3,
        "uint8",
    )


def test_the_recipe_of_the_weights(classifier, weights_file):
    assert classifier.preprocess == Preprocess(32, mean=(0.5, 0.5, 0.5))
    assert Classifier(weights_file).preprocess == Preprocess()


def test_explain_joins_the_map_and_the_weights(classifier, named_weights):
    explanation = classifier.explain(Named("five", grey(5 * STEP)), target="nuance 7")
    assert (explanation.id, explanation.target.index) == ("five", 7)
    scores = {score.index: score for score in classifier(grey(5 * STEP), top=10).classes}
    assert explanation.target == scores[7]
    with read_weights(named_weights) as weights:
        gamma, beta, kernel, bias = (weights.tensors[name].read() for name in HEAD)
    [answer] = classifier.run([grey(5 * STEP)], ("stage_3",))
    head = [pooled, normed("layer", 1e-6, gamma, beta), linear(kernel[:, [7]], bias[[7]])]
    expected = grad_cam(answer.outputs["stage_3"], head)
    np.testing.assert_array_equal(explanation.heat, expected)
    assert explanation.heat.max() > 0
    assert explanation.region == pytest.approx((1, 1, 15, 15), abs=1)
    assert explanation.picture.size == (16, 16)


def test_explain_takes_the_best_class_by_default(classifier):
    assert classifier.explain(grey(4 * STEP)).target == classifier(grey(4 * STEP)).best
    with pytest.raises(ArgumentError, match="No class is called"):
        classifier.explain(grey(0), "nobody")


def test_the_repr_names_model_licence_classes_and_engine(
    classifier, weights_file, headless_weights
):
    start = "<Classifier shades, MIT, 10 classes, 32x32 px, engine "
    assert repr(classifier) == f"{start}auto, not open>"
    classifier(grey(0))
    assert repr(classifier) == f"{start}mock float32>"
    assert repr(Classifier(weights_file)).startswith(f"<Classifier {weights_file}, licence ")
    assert "no classifier" in repr(Classifier(headless_weights))


class TestLabels:
    def test_classes_without_names_have_numbers(self, weights_file):
        classifier = Classifier(weights_file)
        assert not classifier.has_names
        assert classifier(grey(3 * STEP)).best.label == "class 3"

    def test_given(self, named_weights, tmp_path):
        names = [f"n{number}" for number in range(CLASSES)]
        path = tmp_path / "names.txt"
        path.write_text("\n".join(names))
        for labels in (names, path, str(path), Labels(tuple(names))):
            classifier = Classifier(named_weights, labels=labels)
            assert classifier.has_names
            assert classifier(grey(3 * STEP)).best.label == "n3"

    def test_too_few(self, named_weights):
        with pytest.raises(ArgumentError, match="has 10 classes, but 2 names"):
            Classifier(named_weights, labels=["a", "b"])

    def test_a_file_must_not_make_its_reader_open_another(self, tmp_path, write_weights):
        secret = tmp_path / "secret.txt"
        secret.write_text("\n".join("secrets"))
        path = write_weights(tmp_path / "hostile.safetensors", 7, labels=str(secret))
        with pytest.raises(UnknownNameError, match="Unknown set of classes"):
            Classifier(path)


class TestWeightsWithoutAClassifier:
    def test_cannot_predict_and_says_what_can(self, headless_weights):
        classifier = Classifier(headless_weights)
        for ask in (classifier, classifier.stream, classifier.explain):
            with pytest.raises(ArgumentError, match=r"has no classifier.*embeddings"):
                ask(grey(0))

    def test_can_embed(self, headless_weights):
        assert Classifier(headless_weights).embed(grey(9))[0] == 9

    def test_weights_without_a_norm_give_feature_maps_only(self, tmp_path, write_weights):
        path = write_weights(tmp_path / "bare.safetensors", 0, head="none")
        with pytest.raises(ArgumentError, match="It can give: stage_0"):
            Classifier(path).embed(grey(9))
        assert len(Classifier(path).features(grey(9))) == 4


def test_an_answer_that_is_no_number_is_an_error(named_weights, monkeypatch):
    classifier = Classifier(named_weights)
    monkeypatch.setattr(
        MockEngine, "run", lambda _, batch: [np.full((len(batch), CLASSES), np.nan)]
    )
    with pytest.raises(WeightsError, match="damaged"):
        classifier(grey(0))


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        (7, {}, ArgumentTypeError, "not int"),
        ("convnext_tyni", {}, ArgumentError, "neither a file on this machine nor"),
        (None, {"size": "224"}, ArgumentTypeError, "not '224'"),
        (None, {"size": 4}, ArgumentError, "too small"),
        (None, {"preprocess": 7}, ArgumentTypeError, "not int"),
        (None, {"labels": "imagenet-2k"}, ArgumentError, "neither a file"),
    ],
)
def test_wrong_arguments(named_weights, model, options, error, words):
    with pytest.raises(error, match=words):
        Classifier(model or named_weights, **options)


def test_wrong_files_and_runtimes(tmp_path, named_weights):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsFileError):
        Classifier(tmp_path / "x.safetensors")
    with pytest.raises(ArgumentError, match="Unknown engine"):
        Classifier(named_weights, "keras")(grey(0))


def test_a_runtime_that_is_not_installed(named_weights, monkeypatch):
    from convnext.engines import opening

    absent = opening.Runtime(lambda: False, ("torch",), lambda *_: MockEngine())
    monkeypatch.setattr(opening, "ENGINES", {"mock": absent})
    classifier = Classifier(named_weights)
    with pytest.raises(MissingDependencyError, match="pip install"):
        classifier(grey(0))
