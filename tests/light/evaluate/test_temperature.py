"""The temperature of a classifier: against a grid, and written into the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import special

from convnext.architecture import ARCHITECTURES
from convnext.cli.main import main
from convnext.data.datasets import open_dataset
from convnext.engines import open_engine
from convnext.engines.mock import MockEngine
from convnext.errors import ArgumentError
from convnext.evaluate.subject import Subject
from convnext.evaluate.temperature import (
    fit_temperature,
    measure_temperature,
    write_with_temperature,
)
from convnext.images.recipe import Preprocess
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights
from convnext.weights.random_weights import random_weights
from convnext.weights.save import save_weights


def drawn(sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `sharpness` times those that the labels are drawn from."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (4000, 5))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in chances])
    return logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_temperature_undoes_a_known_scale(sharpness):
    logits, labels = drawn(sharpness)
    assert fit_temperature(logits, labels) == pytest.approx(sharpness, rel=0.06)


def test_temperature_has_the_smallest_loss_of_a_grid():
    logits, labels = drawn(2.5)
    losses = {
        value: -special.log_softmax(logits / value, 1)[np.arange(len(labels)), labels].mean()
        for value in np.linspace(1.5, 3.5, 401)
    }
    best = min(losses, key=losses.__getitem__)
    assert fit_temperature(logits, labels) == pytest.approx(best, abs=0.005)


@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_temperature_of_extreme_logits(scale):
    assert fit_temperature(drawn(scale)[0], drawn(1.0)[1]) == pytest.approx(scale, rel=0.06)


def test_perfect_predictions_are_refused():
    with pytest.raises(ArgumentError, match="Every one of these 3 predictions is right"):
        fit_temperature(np.eye(3) * 5, [0, 1, 2])


def test_wrong_predictions_are_refused():
    with pytest.raises(ArgumentError, match="no better than guesses"):
        fit_temperature(np.eye(3) * 5, [1, 2, 0])


def test_unreadable_pictures_are_left_out(animals, classes, recipe):
    """Shade n is of class n // 10; of each class, two are taken for its neighbour."""
    shades = np.arange(256)
    answers = 9 * np.eye(7, dtype=np.float32)[(shades // 10 + (shades % 10 < 2)) % 7]
    engine = MockEngine(lambda batch: (answers[batch[:, 4, 4, 0]],), size=8)
    subject = Subject(engine, recipe, classes, None, {}, ())
    found = measure_temperature(subject, open_dataset(animals, classes), 16)
    assert found.bad == ("bee/13.png",)
    assert (found.before.pictures, found.before.correct, found.after.correct) == (69, 55, 55)
    assert found.after.ece < 0.001 < 0.19 < found.before.ece


@pytest.fixture
def model(tmp_path):
    """Weights of ten classes in half precision, and pictures in their class folders."""
    names = tuple(f"kind {number}" for number in range(10))
    info = WeightsInfo(
        name="small", licence="MIT", labels=names, preprocess=Preprocess(size=32, crop_fraction=1)
    )
    path = tmp_path / "small.safetensors"
    arrays = random_weights(ARCHITECTURES["test_v2"], 10)
    save_weights(arrays, path, info=info, dtype="float16")
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (40, 32, 32, 3), np.uint8)
    predictions = open_engine(path, "openvino", size=32).predict(pictures).argmax(1)
    for number, (pixels, prediction) in enumerate(zip(pictures, predictions, strict=True)):
        name = names[(prediction + (number % 5 == 0)) % 10]  # four of five are right
        file = tmp_path / "data" / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return path


def test_written_weights_are_divided_and_nothing_else_changes(model, tmp_path):
    write_with_temperature(model, 2.0, tmp_path / "new.safetensors")
    with read_weights(model) as old, read_weights(tmp_path / "new.safetensors") as new:
        assert new.info == old.info
        assert new.tensors.keys() == old.tensors.keys()
        for name, tensor in old.tensors.items():
            factor = 2 if name in ("head.kernel", "head.bias") else 1
            np.testing.assert_array_equal(tensor.read(), new.tensors[name].read() * factor)
            assert new.tensors[name].dtype == tensor.dtype


def test_multi_label_models_are_refused(tmp_path):
    info = WeightsInfo(labels=("a", "b"), thresholds=(0.3, 0.6))
    path = tmp_path / "labels.safetensors"
    save_weights(random_weights(ARCHITECTURES["test_v2"], 2), path, info=info)
    with pytest.raises(ArgumentError, match="is a multi-label model"):
        write_with_temperature(path, 2.0, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_command_writes_weights_whose_temperature_is_one(model, tmp_path, capsys):
    """Half precision rounds the classifier, so not exactly one."""
    data, first, again = (
        tmp_path / "data",
        tmp_path / "first.safetensors",
        tmp_path / "x.safetensors",
    )
    for source, out in ((model, first), (first, again)):
        assert (
            main(["temperature", "--model", str(source), "--data", str(data), "--out", str(out)])
            == 0
        )
    before, after = [
        float(line.split()[1].rstrip(","))
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("Temperature")
    ]
    assert abs(before - 1) > 0.05
    assert after == pytest.approx(1, abs=0.01)


def test_command_refuses_what_it_cannot_do(model, tmp_path, capsys):
    out = str(tmp_path / "out.safetensors")
    for arguments, message in (
        (["--model", str(model), "--data", str(tmp_path / "none"), "--out", out], "does not exist"),
        (["--model", str(model), "--data", str(tmp_path / "data"), "--out", str(model)], "exists"),
        (["--model", "convnext_tiny.dinov3_lvd1689m", "--data", str(tmp_path), "--out", out], ""),
    ):
        assert main(["temperature", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not Path(out).exists()
