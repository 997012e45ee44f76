"""Whole runs of segmentation: they learn, resume to the bit, and their models can be used."""

from __future__ import annotations

import json
import os
import signal

import keras
import numpy as np
import pytest
from PIL import Image

from convnext.cli.main import main
from convnext.errors import ArgumentError
from convnext.images.masks import write_mask
from convnext.images.palettes import palette
from convnext.session import Session
from convnext.train import train
from convnext.train.recipe import SegmentationRecipe, load_recipe
from convnext.train.run.learner import initialise
from convnext.train.run.run_states import RunStates
from convnext.train.segmentation.model import pixel_loss
from convnext.train.segmentation.training import segmentation_learner
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights
from convnext.weights.save import save_weights

CHANGES = [
    "model.variant=test_v2",
    "model.resolution=32",
    "run.batch_size=8",
    "run.epochs=6",
    "run.validate_every=3",
    "run.log_every=3",
    "augment.ratio=[0.8,1.2]",
    "optimizer.warmup_epochs=0",
    "optimizer.learning_rate=0.02",
]
CLASSES = ("ground", "red", "blue")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Red and blue boxes on dark noise, with a border of no class."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 6)):
        for kind in ("pictures", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 90, (40, 48, 3), dtype=np.uint8)
            mask = np.zeros((40, 48), np.uint8)
            for label, channel in ((1, 0), (2, 2)):
                top, left = rng.integers(0, 20, 2)
                box = np.s_[top : top + 18, left + 8 * label : left + 8 * label + 18]
                mask[box] = label
                pixels[box] = pixels[box] // 2
                pixels[(*box, channel)] += 150
            mask[:2] = 11
            Image.fromarray(pixels).save(folder / "pictures" / split / f"{number}.png")
            write_mask(folder / "masks" / split / f"{number}.png", mask, palette(3))
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder


def _train(scenes, out, *changes, recipe="segment_small_data", **options):
    options = {"workers": 0, "progress": False, "say": lambda _: None} | options
    return train(recipe, scenes, out, changes=["masks.ignore=11", *CHANGES, *changes], **options)


@pytest.fixture(scope="module")
def outcome(scenes, tmp_path_factory):
    said = []
    result = _train(scenes, tmp_path_factory.mktemp("runs") / "scenes", say=said.append)
    return result, said


def test_a_run_learns_and_leaves_a_model(outcome):
    result, said = outcome
    # All ground would have a mIoU of 0.24.
    assert result.finished
    assert result.best > 0.6
    assert "3 classes" in said[0]
    assert "validation mIoU" in said[1]
    assert (result.folder / "curves.png").exists()
    with Session.open(result.model / "model.safetensors", engine="keras") as session:
        assert session.network.segmentation.kind == "mlp"
        assert session.labels.names == CLASSES
        assert session.preprocess.mode == "squash"
        scores = session.run(np.zeros((2, 32, 32, 3), np.uint8), ("scores",))["scores"]
        assert scores.shape[-1] == 3


@pytest.mark.torch_first
def test_upernet_with_its_auxiliary_head_learns(scenes, tmp_path):
    upernet = ["head.width=16", "head.auxiliary=8", "masks.names=", "masks.reduce_zero_label=false"]
    result = _train(scenes, tmp_path / "run", *upernet, recipe="segment_upernet")
    losses = [
        record["loss"]
        for record in map(json.loads, (result.folder / "metrics.jsonl").read_text().splitlines())
        if record["kind"] == "train"
    ]
    assert losses[-1] < 0.7 * losses[0]
    config = json.loads((result.model / "config.json").read_text())
    assert config["architectures"] == ["UperNetForSemanticSegmentation"]
    with read_weights(result.model) as weights:
        assert weights.found.segmentation.auxiliary == 8
        assert weights.info.labels == CLASSES


@pytest.mark.torch_alone
@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_bit(scenes, tmp_path):
    changes = ("model.drop_path=0.2", "optimizer.ema=0.5")
    whole = _train(scenes, tmp_path / "whole", *changes)

    def say(line):
        if line.startswith("epoch 3:"):
            os.kill(os.getpid(), signal.SIGINT)

    parts = tmp_path / "parts"
    assert not _train(scenes, parts, *changes, say=say).finished
    # Other workers change nothing.
    assert _train(scenes, parts, *changes, resume=True, workers=1).finished
    one, other = (RunStates(p / "checkpoints").latest() for p in (whole.folder, parts))
    assert one.step == other.step == 18
    assert one.arrays.keys() == other.arrays.keys()
    assert any("moving_mean" in name for name in one.arrays)
    for name, value in one.arrays.items():
        np.testing.assert_array_equal(value, other.arrays[name], err_msg=name)
    records = [_numbers(p / "metrics.jsonl") for p in (whole.folder, parts)]
    assert records[0] == records[1]


def _numbers(path):
    """A run's records without their times."""
    timed = ("pictures_per_second", "waiting")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in timed} for record in records]


def test_the_loss_is_mmsegmentations():
    """Logits are enlarged to the mask, and the sum is divided by all pixels, as in CrossEntropy."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 4, 6, 5)).astype(np.float32)
    classes = rng.integers(-1, 5, (2, 16, 24)).astype(np.int16)
    logits = torch.nn.functional.interpolate(
        torch.tensor(scores.transpose(0, 3, 1, 2)), size=(16, 24), mode="bilinear"
    )
    target = torch.tensor(np.where(classes < 0, 255, classes).astype(np.int64))
    losses = torch.nn.functional.cross_entropy(logits, target, ignore_index=255, reduction="none")
    found = pixel_loss(keras.ops.convert_to_tensor(classes), keras.ops.convert_to_tensor(scores))
    assert float(found) == pytest.approx(float(losses.mean()), rel=1e-5)


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("segment_small_data", CHANGES, SegmentationRecipe)


@pytest.mark.torch_alone
def test_an_encoder_comes_from_any_weights(recipe, tmp_path):
    learner = segmentation_learner(recipe, 3)
    strides = recipe.model.actual_strides
    names = learner.weights()
    encoder = [name for name in names if not name.startswith(("segment_", "feature_"))]
    rng = np.random.default_rng(1)
    values = {name: rng.normal(size=names[name].shape).astype(np.float32) for name in encoder}
    head = {
        "head_norm.gamma": np.ones(32, np.float32),
        "head_norm.beta": np.zeros(32, np.float32),
        "head.kernel": np.zeros((32, 3), np.float32),
        "head.bias": np.zeros(3, np.float32),
    }
    same = WeightsInfo(labels=CLASSES)  # of pictures, not of pixels
    save_weights(values | head, tmp_path / "classifier.safetensors", info=same)
    save_weights(values, tmp_path / "encoder.pth", layout="facebook")
    for file in ("classifier.safetensors", "encoder.pth"):
        learner = segmentation_learner(recipe, 3)
        before = learner.weights()
        message = initialise(learner, tmp_path / file, CLASSES, strides)
        after = learner.weights()
        assert "NOT LOADED" in message
        for name, value in values.items():
            np.testing.assert_array_equal(after[name], value)
        for name in after.keys() - values.keys():
            np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.torch_alone
def test_a_head_is_kept_for_the_same_classes_alone(recipe, outcome):
    model = outcome[0].folder
    strides = recipe.model.actual_strides
    with read_weights(model / "model") as weights:
        kernel = weights.tensors["segment_classify.kernel"].read()
        fuse = weights.tensors["segment_fuse_conv.kernel"].read()
    for classes, same in ((CLASSES, True), (("a", "b", "c", "d"), False)):
        learner = segmentation_learner(recipe, len(classes))
        initialise(learner, model, classes, strides)
        found = learner.weights()
        np.testing.assert_array_equal(found["segment_fuse_conv.kernel"], fuse)
        assert (found["segment_classify.kernel"].shape == kernel.shape) == same
        assert not same or (found["segment_classify.kernel"] == kernel).all()


@pytest.mark.torch_alone
def test_evaluate_finds_out_that_a_model_segments(outcome, scenes, tmp_path, capsys):
    out = tmp_path / "report"
    model = str(outcome[0].model)
    command = ["evaluate", "--model", model, "--data", str(scenes), "--out", str(out)]
    assert main([*command, "--ignore", "11", "--engine", "keras"]) == 0
    report = json.loads((out / "report.json").read_text())
    # The same pictures, the same formula: what the run said of its last step.
    assert report["results"]["mean_iou"] == pytest.approx(
        outcome[0].validation["mean_iou"], abs=2e-3
    )
    assert report["results"]["accuracy"] == pytest.approx(
        outcome[0].validation["accuracy"], abs=2e-3
    )
    assert 0 < report["results"]["boundary_iou"] < 1
    assert {p.name for p in out.iterdir()} >= {"report.md", "worst.png", "confusion.png"}
    assert "mIoU" in capsys.readouterr().out
    assert main([*command, "--ignore", "11"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 2
    assert "has the numbers 11" in capsys.readouterr().err


@pytest.mark.torch_alone
def test_wrong_masks_are_named_before_a_run_begins(scenes, tmp_path):
    with pytest.raises(ArgumentError, match="has the numbers 11"):
        _train(scenes, tmp_path / "run", "masks.ignore=255")
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.upstream
@pytest.mark.torch_alone
def test_steps_are_torchvisions():
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as theirs

    from convnext.train.augment.pairs import Distortion, distorted, nearest

    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (30, 41, 3), dtype=np.uint8))
    mask = Image.fromarray(rng.integers(0, 9, (30, 41), dtype=np.uint8))
    contrast = distorted(picture, Distortion(contrast=1.3))
    brighter = theirs.adjust_brightness(picture, 1.3)  # its brightness multiplies
    np.testing.assert_allclose(np.asarray(contrast, int), np.asarray(brighter, int), atol=1)
    hue = distorted(picture, Distortion(hue=0.08))
    turned = theirs.adjust_hue(picture, 0.08)
    np.testing.assert_allclose(np.asarray(hue, int), np.asarray(turned, int), atol=6)
    resized = theirs.resize(mask, [46, 63], InterpolationMode.NEAREST_EXACT)
    ours = np.asarray(mask)[nearest(30, 46)][:, nearest(41, 63)]
    np.testing.assert_array_equal(ours, np.asarray(resized))
