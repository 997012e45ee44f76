"""Teachers: their view of the pictures, and their classes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from convnext.errors import ArgumentError, TrainingError
from convnext.images.labels import Labels, labels_for
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.train.distillation.teacher import View, columns_of, open_teacher
from convnext.train.recipe import load_recipe
from convnext.train.sections import Distill
from convnext.train.team.base import Alone
from onnx_files import TO_CLASSES, write_means

STATED = ("distill.mean=[0,0,0]", "distill.std=[1,1,1]", "distill.precision=float32")
CLASSES = ("blue", "red")


def _recipe(*changes):
    return load_recipe("cifar10", ["model.resolution=8", "distill.loss=kd", *changes])


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("rescale", [1 / 255, 1 / 127.5])
def test_the_view_has_the_teachers_normalisation(pixels, rescale):
    model = Preprocess(size=8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    teacher = Preprocess(size=8, mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.25), rescale=rescale)
    seen = View(model, teacher)(normalise(pixels, model))
    np.testing.assert_allclose(seen, normalise(pixels, teacher), atol=1e-5)


@pytest.mark.parametrize("size", [4, 6, 20])
def test_the_view_has_the_teachers_size(pixels, size):
    model = Preprocess(size=8)
    seen = View(model, replace(model, size=size))(normalise(pixels, model))
    for number, picture in enumerate(normalise(pixels, model)):
        for channel in range(3):
            plane = Image.fromarray(picture[..., channel])
            resized = plane.resize((size, size), Image.Resampling.BILINEAR)
            np.testing.assert_allclose(seen[number, ..., channel], resized, atol=1e-5)


def test_classes_are_matched_by_name():
    theirs = Labels(("red", "green", "blue"))
    assert columns_of(theirs, ("red", "green", "blue"), "t") is None
    assert columns_of(theirs, CLASSES, "t").tolist() == [2, 0]
    wnids = ("n01443537", "n01440764")
    assert columns_of(labels_for("imagenet-1k"), wnids, "t").tolist() == [1, 0]


def test_classes_that_do_not_match_are_refused():
    with pytest.raises(
        ArgumentError, match=r"does not know 1 of the 2 classes: green\..*red, blue"
    ):
        columns_of(Labels(("red", "blue")), ("green", "red"), "t")
    with pytest.raises(ArgumentError, match="several classes of the name red"):
        columns_of(Labels(("red", "red", "blue")), ("red", "blue"), "t")


def test_a_foreign_file_answers_the_runs_classes(tmp_path, pixels):
    path = write_means(tmp_path / "a.onnx")
    names = tmp_path / "names.txt"
    names.write_text("red\nblue\n")
    recipe = _recipe(*STATED, f"distill.classes={names}")
    teacher = open_teacher(path, recipe, CLASSES)
    assert teacher.width == 2
    found = teacher.of_pictures(normalise(pixels, recipe.model.preprocess))
    expected = (pixels / 255).mean(axis=(1, 2)) @ TO_CLASSES[:, ::-1]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    same = open_teacher(path, _recipe(*STATED, "distill.classes=same"), CLASSES)
    np.testing.assert_array_equal(
        same.of_pictures(normalise(pixels, recipe.model.preprocess)), found[:, ::-1]
    )


def test_what_a_foreign_file_does_not_tell_is_asked_for(tmp_path):
    path = write_means(tmp_path / "a.onnx")
    with pytest.raises(ArgumentError, match=r"normalised. Set distill\.mean"):
        open_teacher(path, _recipe(), CLASSES)
    with pytest.raises(ArgumentError, match=r"its 2 classes. Set distill\.classes.*blue, red"):
        open_teacher(path, _recipe(*STATED), CLASSES)
    with pytest.raises(ArgumentError, match="has 2 classes, and the run 3"):
        open_teacher(path, _recipe(*STATED, "distill.classes=same"), (*CLASSES, "green"))


def test_a_file_of_this_package_tells_everything(tmp_path, pixels):
    preprocess = Preprocess(size=8, mean=(0, 0, 0), std=(1, 1, 1))
    metadata = {
        "convnext.labels": json.dumps(["red", "blue"]),
        "convnext.preprocess": json.dumps(asdict(preprocess)),
    }
    path = write_means(tmp_path / "a.onnx", metadata=metadata)
    recipe = _recipe("distill.precision=float32")
    found = open_teacher(path, recipe, CLASSES).of_pictures(
        normalise(pixels, recipe.model.preprocess)
    )
    expected = (pixels / 255).mean(axis=(1, 2)) @ TO_CLASSES[:, ::-1]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_normalisation_that_the_file_contradicts_is_refused():
    with pytest.raises(ArgumentError, match=r"file says that .*0\.4914.* Leave them out"):
        open_teacher("bundled", _recipe(*STATED), ("truck", "airplane"))


def test_keras_answers_no_team_of_jax():
    class Shared(Alone):
        shares_models = True

    recipe = _recipe("distill.engine=keras")
    with pytest.raises(ArgumentError, match=r"set distill\.engine"):
        open_teacher("bundled", recipe, ("truck", "airplane"), Shared())


def test_the_bundled_model_teaches():
    recipe = load_recipe("cifar10", ["distill.loss=kd"])
    labels = ("truck", "airplane")
    teacher = open_teacher("bundled", recipe, labels)
    pictures = np.zeros((3, 32, 32, 3), np.float32)
    assert teacher.of_pictures(pictures).shape == (3, 2)
    features = load_recipe("cifar10", ["distill.loss=features"])
    teacher = open_teacher("bundled", features, labels)
    assert teacher.of_pictures(pictures).shape == (3, teacher.width) == (3, 320)


def test_answers_that_are_not_finite_end_the_run(tmp_path):
    matrix = TO_CLASSES.copy()
    matrix[0, 0] = np.nan
    path = write_means(tmp_path / "a.onnx", matrix=matrix)
    teacher = open_teacher(path, _recipe(*STATED, "distill.classes=same"), CLASSES)
    with pytest.raises(TrainingError, match=r"not finite. Set distill\.precision"):
        teacher.of_pictures(np.zeros((2, 8, 8, 3), np.float32))


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "features", "temperature": 3.0},
        {"loss": "kd", "between": 2.0},
        {"loss": "dist", "distance": "smooth_l1"},
        {"hard": 1.0},
        {"mean": (0.0, 0.0, 0.0)},
    ],
)
def test_settings_without_effect_are_refused(settings):
    with pytest.raises(ArgumentError):
        Distill(**settings)
