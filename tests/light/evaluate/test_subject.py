"""Opening a model with the metadata of its weights or of the catalogue."""

import hashlib

import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.engines import opening, quantizing
from convnext.engines.mock import MockEngine
from convnext.errors import ArgumentError, WeightsMismatchError
from convnext.evaluate.subject import open_subject
from convnext.images.recipe import Preprocess
from convnext.int8.calibration import Calibration
from convnext.weights.canonical import parameter_shapes
from convnext.weights.catalog import get_checkpoint
from convnext.weights.info import WeightsInfo
from convnext.weights.save import save_weights


@pytest.fixture
def opened(monkeypatch):
    """The calls to open an engine: preprocessing and options."""
    calls = []

    def open_mock(network, options):
        calls.append((network.preprocess, options))
        return MockEngine()

    runtime = opening.Runtime(lambda: True, (), open_mock, int8=True)
    monkeypatch.setattr(opening, "ENGINES", {"first": runtime, "mock": runtime})
    return calls


@pytest.fixture
def save(tmp_path):
    def save(variant="test_v1", classes=3, info=None):
        path = tmp_path / "w.safetensors"
        shapes = parameter_shapes(VARIANTS[variant], classes)
        values = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
        save_weights(values, path, info=info or WeightsInfo())
        return path

    return save


def test_facts_come_from_the_weights_file(save, opened):
    recipe = Preprocess(size=64, mode="squash")
    path = save(info=WeightsInfo("mine", "me", "MIT", ("a", "b", "c"), recipe))
    subject = open_subject(path, "mock")
    assert subject.preprocess == recipe
    assert subject.classes.labels.names == ("a", "b", "c")
    assert (subject.checkpoint, subject.notes) == (None, ())
    assert subject.facts == {
        "name": "mine",
        "checkpoint": None,
        "architecture": "test_v1",
        "weights": {
            "file": "w.safetensors",
            "layout": "convnext",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        "origin": "me",
        "licence": "MIT",
        "classes": 3,
        "class_names": "the weights file",
    }
    assert [(preprocess, options.precision) for preprocess, options in opened] == [
        (recipe, "float32")
    ]


@pytest.mark.usefixtures("opened")
def test_a_file_that_says_nothing(save, tmp_path):
    subject = open_subject(save())
    assert subject.classes.labels is None
    assert subject.preprocess == Preprocess()
    assert "assumed are 224 pixels after a crop of 0.875" in subject.notes[0]
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    subject = open_subject(save(), labels=tmp_path / "names.txt")
    assert subject.classes.name(2) == "z"
    assert subject.facts["class_names"] == "the file names.txt"
    with pytest.raises(ArgumentError, match="has 3 classes, but 1,000 names"):
        open_subject(save(), labels="imagenet-1k")


@pytest.mark.usefixtures("opened")
def test_a_thousand_classes_are_taken_for_those_of_imagenet(save):
    subject = open_subject(save(classes=1000))
    assert subject.classes.wnid(0) == "n01440764"
    assert "as there are 1,000, imagenet-1k is assumed" in subject.notes[0]


def test_a_copy_of_a_published_checkpoint(save, opened):
    checkpoint = get_checkpoint("convnext_atto")
    copy = save("convnext_atto", 1000)
    subject = open_subject("convnext_atto", weights=copy)
    assert subject.checkpoint == checkpoint
    assert subject.facts["checkpoint"] == "convnext_atto.d2_in1k"
    assert subject.facts["licence"] == "Apache-2.0"
    assert (subject.preprocess, subject.notes) == (checkpoint.preprocess, ())
    assert opened[0][0] == checkpoint.preprocess
    with pytest.raises(
        WeightsMismatchError, match=r"not a copy of convnext_femto\.d1_in1k: it is conv"
    ):
        open_subject("convnext_femto", weights=copy)
    with pytest.raises(ArgumentError, match="Unknown checkpoint"):
        open_subject(str(copy), weights=copy)


def test_a_name_is_looked_up_in_the_cache(save, opened, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / "convnext_atto.d2_in1k" / "timm" / "model.safetensors"
    place.parent.mkdir(parents=True)
    save("convnext_atto", 1000).rename(place)
    subject = open_subject("timm/convnext_atto.d2_in1k")
    assert subject.checkpoint.name == "convnext_atto.d2_in1k"
    assert subject.facts["weights"]["file"] == "model.safetensors"
    assert len(opened) == 1


@pytest.mark.usefixtures("opened")
def test_without_classifier_there_is_nothing_to_evaluate(save):
    with pytest.raises(ArgumentError, match="has no classifier"):
        open_subject(save(classes=0))


@pytest.mark.usefixtures("opened")
def test_int8_is_calibrated_once_for_all_workers(save, monkeypatch, counted):
    calibration = Calibration({}, 9)
    monkeypatch.setattr(quantizing, "quantize_network", lambda *_: calibration)
    path = save()
    counted.clear()
    subject = open_subject(path, precision="int8", calibration="photos")
    assert subject.calibration is calibration
    assert counted == {"open_weights": 1, "recognise": 1}
    with pytest.raises(ArgumentError, match="for precision='int8', not 'float32'"):
        open_subject(path, calibration="photos")


@pytest.mark.usefixtures("opened")
def test_an_unknown_set_of_classes_is_an_error(save):
    with pytest.raises(ArgumentError, match="Unknown set of classes"):
        open_subject(save(classes=1000, info=WeightsInfo(labels="imagenet-2k")))
