"""WD taggers: timm's file and config.json with selected_tags.csv; white squares, blue first."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from convnext.architecture import VARIANTS
from convnext.classifier import Classifier
from convnext.classifier.results import sigmoid
from convnext.engines import open_engine
from convnext.errors import ImageError, WeightsFileError
from convnext.images import transform
from convnext.images.recipe import Preprocess
from convnext.images.transform import padded, pixels
from convnext.weights.beside import companions
from convnext.weights.load import read_weights
from convnext.weights.random_weights import random_weights
from convnext.weights.save import convert, save_weights

SIZE = 32
TAGS = "tag_id,name,category,count\n1,general,9,5\n2,1girl,0,4\n3,some_one,4,3\n"
CONFIG = {
    "architecture": "convnext_atto",
    "num_classes": 3,
    "model_args": {},
    "pretrained_cfg": {
        "input_size": [3, SIZE, SIZE],
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


@pytest.fixture
def weights():
    return random_weights(VARIANTS["convnext_atto"], num_classes=3)


@pytest.fixture
def tagger(tmp_path, weights):
    folder = tmp_path / "tagger"
    folder.mkdir()
    save_weights(weights, folder / "model.safetensors", layout="timm")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "selected_tags.csv").write_text(TAGS)
    return folder


def test_tags_thresholds_and_recipe_are_read(tagger):
    with read_weights(tagger) as read:
        info = read.info
    assert info.labels == ("general", "1girl", "some_one")
    assert info.thresholds == (0.5, 0.35, 0.85)
    half = (0.5, 0.5, 0.5)
    assert info.preprocess == Preprocess(SIZE, 1.0, "pad", "bicubic", half, half)


def test_the_answers_are_those_of_the_authors_steps(tagger, weights, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 45, 3), np.uint8))
    square = Image.new("RGB", (45, 45), (255, 255, 255))
    square.paste(picture, (0, 12))
    array = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
    array = (array / 255 - 0.5) / 0.5
    save_weights(weights, tmp_path / "plain.safetensors")
    plain = {"input": "float32", "precision": "float32", "size": SIZE}
    with read_weights(tmp_path / "plain.safetensors") as read:
        logits = open_engine(read, **plain).predict(array[None, ..., ::-1])
    classifier = Classifier(tagger, precision="float32", thresholds=0)
    found = {score.label: score.probability for score in classifier(picture).classes}
    wanted = dict(zip(("general", "1girl", "some_one"), sigmoid(logits[0]), strict=True))
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_converted_file_takes_red_first_wherever_it_lies(tagger, weights):
    convert(tagger, tagger / "new.safetensors", progress=False)
    for file in ("model", "new"):
        with read_weights(tagger / f"{file}.safetensors") as read:
            kernel = read.tensors["stem_conv.kernel"].read()
            np.testing.assert_array_equal(kernel, weights["stem_conv.kernel"][:, :, ::-1])
            assert read.info.thresholds == (0.5, 0.35, 0.85)
    (tagger / "selected_tags.csv").unlink()
    with read_weights(tagger / "model.safetensors") as read:
        kernel = read.tensors["stem_conv.kernel"].read()
    np.testing.assert_array_equal(kernel, weights["stem_conv.kernel"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no columns name and category"),
        (TAGS + "4,more,0,1\n", "4 labels for a head"),
    ],
)
def test_tags_of_another_model_are_refused(tagger, text, message):
    (tagger / "selected_tags.csv").write_text(text)
    with pytest.raises(WeightsFileError, match=message), read_weights(tagger):
        pass


def test_tags_are_downloaded_for_classifiers_of_other_classes_than_imagenets(tagger):
    config = tagger / "config.json"
    assert companions(config) == ("selected_tags.csv",)
    for count in (0, 1000, 21841):
        config.write_text(json.dumps(CONFIG | {"num_classes": count}))
        assert companions(config) == ()


def test_a_picture_becomes_a_square_with_white_at_both_sides(monkeypatch):
    picture = Image.new("RGB", (2, 5), "black")
    square = np.asarray(padded(picture))
    assert square.shape == (5, 5, 3)
    assert (square[:, 1:3] == 0).all()
    assert (np.delete(square, [1, 2], axis=1) == 255).all()
    recipe = Preprocess(5, 1.0, "pad")
    np.testing.assert_array_equal(pixels(picture, recipe), square)
    monkeypatch.setattr(transform, "MOST_PADDED", 24)
    with pytest.raises(ImageError, match="as a square more than 24"):
        padded(picture)


def test_a_heat_map_covers_the_padding_too(tagger):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8))
    explanation = Classifier(tagger).explain(picture, "1girl")
    assert explanation.region == (0, -32, 128, 96)
    explanation.draw()
