"""A session opens its weights once and closes the file."""

from __future__ import annotations

import gc
import hashlib
import shutil
import tempfile

import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.cli.main import main
from convnext.engines import opening, quantizing
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    UnknownNameError,
    WeightsFileError,
)
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess
from convnext.int8.calibration import Calibration
from convnext.serve.loading import load
from convnext.serve.settings import ModelSpec, Settings
from convnext.session import Session
from convnext.weights.canonical import parameter_shapes
from convnext.weights.load import read_weights
from convnext.weights.save import convert, save_weights

pytestmark = pytest.mark.usefixtures("mock_engine")

BATCH = np.zeros((2, 32, 32, 3), np.uint8)


@pytest.fixture
def session(named_weights):
    return Session.open(named_weights)


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_command_opens_and_recognises_its_weights_once(
    command, counted, named_weights, pictures, tmp_path
):
    options = ["--out", str(tmp_path / "heat.png")] if command == "explain" else []
    picture = str(pictures / "shade-3.png")
    assert main([command, picture, "--model", str(named_weights), *options]) == 0
    assert counted == {"open_weights": 1, "recognise": 1}


def test_a_session_opens_its_weights_once(counted, session, mock_engine):
    for _ in range(2):
        session.run(BATCH, ("logits",))
        session.run(BATCH, ("logits", "stage_3"))
        assert (session.digest, session.labels, session.head) is not None
    assert counted == {"open_weights": 1, "recognise": 1}
    assert [options.outputs for options in mock_engine.options] == [
        ("logits",),
        ("logits", "stage_3"),
    ]


def test_a_session_has_the_facts_of_its_model(session, named_weights):
    assert (session.info.name, session.variant.name, session.num_classes) == (
        "shades",
        "test_v2",
        10,
    )
    assert session.preprocess == Preprocess(32, mean=(0.5, 0.5, 0.5)) == session.info.preprocess
    assert session.strides == session.network.strides
    assert session.has_names
    assert session.labels.names[3] == "shade 3, nuance 3"
    assert session.source == str(named_weights)
    assert session.digest == hashlib.sha256(named_weights.read_bytes()).hexdigest()


def test_a_recipe_and_a_size_of_ones_own(named_weights):
    recipe = Preprocess(48, mode="squash")
    session = Session.open(named_weights, preprocess=recipe, size=64)
    assert session.network.preprocess == Preprocess(64, mode="squash")
    assert session.network.sides == (64, 64)
    assert session.info.preprocess == Preprocess(32, mean=(0.5, 0.5, 0.5))
    assert Session.open(named_weights, any_size=True).network.sides is None


def test_weights_that_are_open_already(named_weights):
    with read_weights(named_weights) as weights:
        session = Session.open(weights, labels=Labels(tuple("abcdefghij")))
        assert session.run(BATCH, ("logits",))["logits"].shape == (2, 10)
        assert session.labels.names[0] == "a"


def test_labels_are_looked_at_when_they_are_asked_for(named_weights, weights_file):
    session = Session.open(named_weights, labels="nobody's")
    with pytest.raises(ArgumentError, match="neither a file"):
        _ = session.labels
    session = Session.open(weights_file)
    assert not session.has_names
    assert session.labels.names[9] == "class 9"


def test_a_calibration_is_found_once_and_for_int8_only(named_weights, mock_engine, monkeypatch):
    calibrated = []

    def calibrate(network, pictures):
        calibrated.append((network.preprocess.size, pictures))
        return Calibration({}, 9)

    monkeypatch.setattr(quantizing, "quantize_network", calibrate)
    int8 = {"precision": "int8", "calibration": "photos"}
    session = Session.open(named_weights, size=64, **int8)
    assert calibrated == []
    for outputs in (("logits",), ("embedding",)):
        session.engine(*outputs)
    assert calibrated == [(64, "photos")]
    assert [options.calibration for options in mock_engine.options] == [session.calibration] * 2
    float_only = opening.Runtime(lambda: True, (), opening.ENGINES["mock"].open)
    monkeypatch.setitem(opening.ENGINES, "float", float_only)
    Session.open(named_weights, engine="float", **int8).engine("logits")
    assert len(calibrated) == 1
    with pytest.raises(ArgumentError, match="for precision='int8', not 'auto'"):
        Session.open(named_weights, calibration="photos")


def test_a_closed_session_keeps_its_engines_and_opens_no_others(session):
    with session:
        session.engine("logits")
    assert session.run(BATCH, ("logits",))["logits"].shape == (2, 10)
    for ask in (lambda: session.engine("embedding"), lambda: session.head):
        with pytest.raises(ArgumentError, match="is closed"):
            ask()
    session.close()


@pytest.mark.parametrize("end", ["closed", "forgotten"])
def test_its_temporary_files_go_with_it(end, named_weights, tmp_path, monkeypatch):
    path = tmp_path / "w.h5"
    convert(named_weights, path, to_layout="kecam", progress=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    session = Session.open(path)
    assert list((tmp_path / "temporary").iterdir())
    if end == "closed":
        session.close()
    else:
        del session
        gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_file_that_was_replaced_is_read_as_it_was(named_weights, weights_file, tmp_path):
    path = shutil.copy(named_weights, tmp_path / "w.safetensors")
    session = Session.open(path)
    shutil.copy(weights_file, tmp_path / "new").replace(path)
    with read_weights(named_weights) as weights:
        gamma = weights.tensors["head_norm.gamma"].read()
    np.testing.assert_array_equal(session.head["head_norm.gamma"], gamma)
    path.unlink()
    session.engine("embedding")


def test_a_file_that_was_written_over_is_read_no_more(named_weights, tmp_path):
    path = shutil.copy(named_weights, tmp_path / "w.safetensors")
    session = Session.open(path)
    session.engine("logits")
    path.write_bytes(path.read_bytes()[:-4])
    for ask in (lambda: session.engine("embedding"), lambda: session.head):
        with pytest.raises(WeightsFileError, match="was overwritten since it was opened"):
            ask()
    session.run(BATCH, ("logits",))


def test_weights_for_other_channels_take_no_pictures(tmp_path):
    shapes = parameter_shapes(VARIANTS["test_v1"], 10, channels=4)
    save_weights(
        {name: np.ones(shape, np.float32) for name, shape in shapes.items()}, tmp_path / "w.npz"
    )
    session = Session.open(tmp_path / "w.npz")
    with pytest.raises(ArgumentError, match="takes 4 channels, but pictures have 3"):
        session.engine("logits")


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        (7, {}, ArgumentTypeError, "not int"),
        (None, {"size": "224"}, ArgumentTypeError, "not '224'"),
        (None, {"preprocess": 7}, ArgumentTypeError, "not int"),
        (None, {"preprocess": "crop"}, UnknownNameError, "Unknown normalisation"),
        (None, {"precision": "int4"}, UnknownNameError, "Unknown precision"),
        (None, {"threads": 0}, ArgumentError, "threads must be 1 or more"),
    ],
)
def test_invalid_options_are_refused(named_weights, model, options, error, words):
    with pytest.raises(error, match=words):
        Session.open(model or named_weights, **options)


def test_a_tower_of_clips_has_vectors_and_no_classes(write_weights, tmp_path):
    path = write_weights(tmp_path / "tower.safetensors", 12, task="clip")
    session = Session.open(path)
    assert (session.num_classes, session.vector_width) == (0, 12)
    assert Session.open(write_weights(tmp_path / "plain.safetensors", 12)).vector_width == 32
    settings = Settings((ModelSpec("m", "m"),))
    served = load(ModelSpec("m", str(path)), settings, None)
    assert list(served.engines) == [("embedding",)]


# ---- segmentation models


def test_a_segmentation_model_gives_scores_and_has_no_vectors(segmentation_weights):
    session = Session.open(segmentation_weights)
    assert (session.num_classes, session.vector_width, session.has_names) == (3, 0, True)
    assert session.labels.names == ("sky", "tree", "road")
    assert session.info.task == "segmentation"
    assert session.network.segmentation.kind == "upernet"
    assert session.network.outputs[-2:] == ("scores", "segmentation")
    assert session.preprocess.mode == "squash"
    session.check_task(segmentation=True)


def test_a_segmentation_model_keeps_its_strides_for_small_pictures(segmentation_weights):
    assert Session.open(segmentation_weights, size=32).strides == (4, 2, 2, 2)
    with pytest.raises(ArgumentError, match=r"16x16 are too small .* at least 32 pixels"):
        Session.open(segmentation_weights, size=16)


def test_each_kind_of_model_is_refused_where_the_other_is_wanted(
    segmentation_weights, named_weights
):
    with pytest.raises(ArgumentError, match=r"segmentation model of 3 classes .*Segmenter"):
        Session.open(segmentation_weights).check_task(segmentation=False)
    with pytest.raises(ArgumentError, match="no segmentation model but a classifier of 10 classes"):
        Session.open(named_weights).check_task(segmentation=True)


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "{pictures}", "--model", "{model}"],
        ["predict", "{pictures}", "--model", "{model}", "--out", "{out}"],
        ["embed", "{pictures}", "--model", "{model}", "--out", "{out}"],
        ["explain", "{picture}", "--model", "{model}", "--out", "{out}.png"],
        ["bench", "--model", "{model}"],
    ],
    ids=lambda command: command[0],
)
def test_commands_for_classifiers_name_the_one_for_segmentation(
    command, segmentation_weights, pictures, tmp_path, capsys
):
    places = {
        "model": segmentation_weights,
        "pictures": pictures,
        "picture": pictures / "shade-3.png",
        "out": tmp_path / "out.jsonl",
    }
    assert main([argument.format(**places) for argument in command]) == 2
    assert "(`convnext segment`)" in capsys.readouterr().err


def test_embeddings_of_a_segmentation_model_are_refused(segmentation_weights):
    with pytest.raises(ArgumentError, match="has no output 'embedding'"):
        Session.open(segmentation_weights).engine("embedding")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("bundled", "bundled has no text tower"),
        ("nope", "'nope' is neither a file on this machine nor a published checkpoint"),
    ],
)
def test_class_names_need_a_model_with_a_text_tower(model, words, pictures, capsys):
    line = ["predict", str(pictures), "--model", model, "--classes", "cat,dog"]
    assert main(line) == 2
    assert words in capsys.readouterr().err
