"""Whole runs of multi-label models: they learn, resume to the bit, and their models can be used."""

from __future__ import annotations

import json
import os
import signal

import keras
import numpy as np
import pytest
import torch
import two_objects

from convnext.data.multi_label import open_multi_label
from convnext.errors import ArgumentError
from convnext.evaluate.multi_label import measure
from convnext.session import Session
from convnext.train import load_recipe, train
from convnext.train.augment.mixing import Mixer, Mixing, Mixture
from convnext.train.losses import BinaryCrossEntropy
from convnext.train.multi_label import label_weights
from convnext.train.recipe import Recipe
from convnext.train.run.run_states import RunStates
from convnext.train.sections import MOST_WEIGHT, LabelSettings
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights

TINY = [
    "model.variant=test_v2",
    "model.resolution=32",
    "model.crop_fraction=1.0",
    "model.drop_path=0",
    "augment.color_jitter=0",
    "optimizer.layer_decay=1",
    "optimizer.warmup_epochs=0",
    "run.batch_size=8",
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return two_objects.write(tmp_path_factory.mktemp("data") / "two", {"train": 48, "val": 8}, 32)


def _train(table, out, *changes, **options):
    options = {"workers": 0, "progress": False, "say": lambda _: None} | options
    return train("multi_label", table, out, changes=[*TINY, *changes], **options)


@pytest.mark.parametrize("weights", [None, (0.5, 1, 4)])
def test_the_loss_and_its_gradient_are_pytorchs(weights):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (5, 3)).astype(np.float32)
    logits[0] = (-90, 0, 90)
    targets = rng.random((5, 3)).astype(np.float32)
    targets[1:3] = targets[1:3] > 0.5
    wanted_logits = torch.tensor(logits, requires_grad=True)
    given = None if weights is None else torch.tensor(weights)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        wanted_logits, torch.tensor(targets), pos_weight=given
    )
    wanted.backward()
    ours = BinaryCrossEntropy(None if weights is None else np.array(weights))
    value, slope = _value_and_gradient(lambda x: ours(targets, x), logits)
    np.testing.assert_allclose(value, wanted.item(), rtol=1e-6)
    np.testing.assert_allclose(slope, wanted_logits.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.upstream
@pytest.mark.parametrize("weights", [None, (0.5, 1, 4)])
def test_for_one_class_a_picture_it_is_timms_with_its_smoothing(weights):
    from timm.loss import BinaryCrossEntropy as Timms

    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (6, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 0, 2])
    theirs = Timms(smoothing=0.2, pos_weight=weights)
    wanted_logits = torch.tensor(logits, requires_grad=True)
    wanted = theirs(wanted_logits, torch.tensor(labels))
    wanted.backward()
    mixer = Mixer(Mixing(smoothing=0.2), 3)
    for given in (labels, np.eye(3, dtype=bool)[labels]):
        _, targets = mixer(np.zeros((6, 2, 2, 3), np.float32), given, rng)
        ours = BinaryCrossEntropy(None if weights is None else np.array(weights))
        value, slope = _value_and_gradient(lambda x: ours(targets, x), logits)  # noqa: B023
        np.testing.assert_allclose(value, wanted.item(), rtol=1e-6)
        np.testing.assert_allclose(slope, wanted_logits.grad, rtol=1e-5, atol=1e-8)


def test_labels_are_mixed_as_the_pictures_are():
    mixer = Mixer(Mixing(mixup=1.0), 3)
    has = np.array([[1, 1, 0], [0, 1, 0]], bool)
    pictures = np.zeros((2, 2, 2, 3), np.float32)
    pictures[0] = 1
    mixed, targets = mixer.apply(pictures, has, Mixture(0.75))
    np.testing.assert_allclose(mixed[:, 0, 0, 0], [0.75, 0.25])
    np.testing.assert_allclose(targets, [[0.75, 1, 0], [0.25, 1, 0]])


def _value_and_gradient(function, values):
    backend = keras.backend.backend()
    if backend == "torch":
        given = torch.tensor(values, device="cpu", requires_grad=True)
        found = function(given)
        found.backward()
        return found.item(), given.grad
    if backend == "jax":
        import jax

        return jax.value_and_grad(function)(values)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        given = tf.constant(values)
        tape.watch(given)
        found = function(given)
    return found.numpy(), tape.gradient(found, given).numpy()


def test_rare_labels_count_more_or_as_given():
    counts, names = np.array([1, 5, 0, 10]), ("a", "b", "c", "d")
    balanced = label_weights(LabelSettings(multi=True, balanced=True), counts, 10, names)
    np.testing.assert_allclose(balanced, [9, 1, 10, 1 / MOST_WEIGHT])
    given = LabelSettings(multi=True, weights=(1, 2, 3, 4))
    assert label_weights(given, counts, 10, names).tolist() == [1, 2, 3, 4]
    assert label_weights(LabelSettings(multi=True), counts, 10, names) is None
    with pytest.raises(ArgumentError, match=r"4 numbers, and the data 3 labels: a, b, c"):
        label_weights(given, counts[:3], 10, names[:3])


def test_a_run_leaves_a_model_with_labels_and_thresholds(table, tmp_path):
    result = _train(table, tmp_path / "run", "run.epochs=1", "labels.balanced=true")
    info = read_info(result.model)
    assert len(info.labels) == 12
    assert len(info.thresholds) == 12
    config = json.loads((result.model / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["thresholds"] == list(info.thresholds)
    with Session.open(result.model, precision="float32") as session:
        data = open_multi_label(table, classes=session.labels, split="val")
        measured = measure(session, data)
    score = result.validation["mean_average_precision"]
    assert measured.labelling.mean_average_precision == pytest.approx(score, abs=1e-6)
    assert measured.labelling.macro_f1 == pytest.approx(result.validation["macro_f1"], abs=1e-6)
    np.testing.assert_allclose(measured.best, info.thresholds, atol=1e-5)
    assert result.best == score


def read_info(model) -> WeightsInfo:
    with read_weights(model) as weights:
        return weights.info


@pytest.mark.torch_first
def test_an_interrupted_run_resumes_to_the_bit(table, tmp_path):
    changes = ("mixing.mixup=0.2", "mixing.cutmix=1", "mixing.smoothing=0.1", "run.epochs=2")
    whole = _train(table, tmp_path / "whole", *changes)

    def say(line):
        if line.startswith("epoch 1:"):
            os.kill(os.getpid(), signal.SIGINT)

    parts = tmp_path / "parts"
    assert not _train(table, parts, *changes, say=say).finished
    resumed = _train(table, parts, *changes, resume=True)
    assert resumed.finished
    one, other = (RunStates(p / "checkpoints").latest() for p in (whole.folder, parts))
    assert one.arrays.keys() == other.arrays.keys() >= {"thresholds"}
    for name, value in one.arrays.items():
        np.testing.assert_array_equal(value, other.arrays[name], err_msg=name)
    again = _train(table, parts, *changes, resume=True)  # nothing is left to do
    assert read_info(again.model).thresholds == read_info(whole.model).thresholds


def test_data_and_recipe_must_be_of_one_kind(table, tmp_path):
    single = [change for change in TINY if not change.startswith("optimizer.layer")]
    with pytest.raises(ArgumentError, match="multi-label recipe"):
        train("finetune_small_data", table, tmp_path / "a", changes=single, workers=0)
    single = tmp_path / "single.csv"
    single.write_text(f"path,label\n{table.parent}/train_0.png,a\n{table.parent}/train_1.png,b\n")
    with pytest.raises(ArgumentError, match="one class, or none"):
        _train(single, tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.balanced=true", "no effect with labels.multi"),
        ('data.class_weights="balanced"', "no effect with labels.multi"),
        ("labels.binary=true", "no effect with labels.multi"),
        ("labels.multi=false", None),
        ("labels.weights=[1,-1]", "at least 0"),
        ("labels.weights=1", "list"),
    ],
)
def test_settings_without_an_effect_are_refused(change, message):
    if message is None:
        assert not load_recipe("multi_label", [change]).labels.multi
        with pytest.raises(ArgumentError, match="no effect without"):
            Recipe(labels=LabelSettings(balanced=True))
        with pytest.raises(ArgumentError, match="Leave out one"):
            LabelSettings(multi=True, balanced=True, weights=(1.0,))
        return
    with pytest.raises((ArgumentError, TypeError), match=message):
        load_recipe("multi_label", [change])


@pytest.mark.slow
@pytest.mark.torch_first
def test_it_learns_to_tell_two_objects(tmp_path):
    """By the network for tests, as in docs/multi_label.md; guesses have an mAP of 0.12."""
    table = two_objects.write(tmp_path / "two", {"train": 800, "val": 200}, 32)
    changes = (
        "model.strides=[2,2,2,2]",
        "model.initial=fan_in",
        "augment.crop_scale=[0.8,1.0]",
        "optimizer.learning_rate=0.02",
        "optimizer.warmup_epochs=2",
        "run.batch_size=32",
        "run.epochs=15",
        "run.validate_every=15",
    )
    result = _train(table, tmp_path / "run", *changes)
    assert result.validation["mean_average_precision"] > 0.35
