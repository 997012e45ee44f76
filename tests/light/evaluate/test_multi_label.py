"""`evaluate` of a multi-label model: measures, thresholds, reports, and what is refused."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from convnext.architecture import VARIANTS
from convnext.classifier import Classifier
from convnext.classifier.results import sigmoid
from convnext.cli.main import main
from convnext.errors import ArgumentError
from convnext.evaluate.labelling import labelling
from convnext.evaluate.subject import open_subject
from convnext.images.recipe import Preprocess
from convnext.weights.info import WeightsInfo
from convnext.weights.random_weights import random_weights
from convnext.weights.save import convert, save_weights

LABELS = ("cat", "dog", "tree")
STORED = (0.45, 0.5, 0.55)


@pytest.fixture
def model(tmp_path):
    weights = random_weights(VARIANTS["test_v2"], num_classes=3)
    info = WeightsInfo("tags", labels=LABELS, preprocess=Preprocess(32), thresholds=STORED)
    save_weights(weights, tmp_path / "tags.safetensors", info=info)
    return tmp_path / "tags.safetensors"


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    rows = [["path", "labels"]]
    for number in range(9):
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), np.uint8)).save(
            tmp_path / f"{number}.png"
        )
        rows.append([f"{number}.png", "|".join(np.array(LABELS[:2])[rng.random(2) < 0.5])])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    rows.append(["bad.png", "cat"])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "labels.csv"


def _evaluate(model, table, *options):
    return main(["evaluate", "--model", str(model), "--data", str(table), *map(str, options)])


def test_a_report_has_what_is_measured_from_the_logits(model, table, tmp_path, capsys):
    assert _evaluate(model, table, "--out", tmp_path / "report", "--batch", 4) == 1
    report = json.loads((tmp_path / "report/report.json").read_text())
    with table.open() as file:
        rows = list(csv.DictReader(file))[:-1]
    paths = [table.parent / row["path"] for row in rows]
    logits = [
        answer.outputs["logits"]
        for answer in Classifier(model, precision="float32").run(paths, ("logits",))
    ]
    truth = np.array([[label in row["labels"].split("|") for label in LABELS] for row in rows])
    wanted = labelling(sigmoid(np.array(logits)), truth, STORED)
    results = report["results"]
    assert results["pictures"] == 9
    assert results["bad_pictures"] == 1
    assert results["mean_average_precision"] == pytest.approx(wanted.mean_average_precision)
    assert results["macro_f1"] == pytest.approx(wanted.macro_f1)
    assert results["micro_f1"] == pytest.approx(wanted.micro_f1)
    assert results["labels_without_a_picture"] == 1
    assert [row["threshold"] for row in report["per_class"]] == list(STORED)
    assert report["per_class"][2]["average_precision"] is None
    shown = capsys.readouterr().out
    assert f"{wanted.mean_average_precision:.2%}" in shown
    assert "bad.png" in shown
    assert "| tree | 0 | - |" in (tmp_path / "report/report.md").read_text()


def test_the_best_thresholds_are_written_and_can_be_stored(model, table, tmp_path):
    _evaluate(model, table, "--out", tmp_path / "report")
    best = tmp_path / "report/thresholds.csv"
    convert(model, tmp_path / "better.safetensors", thresholds=best, progress=False)
    for more in ([tmp_path / "better.safetensors"], [model, "--threshold", best]):
        out = tmp_path / f"again{len(more)}"
        _evaluate(more[0], table, "--out", out, *more[1:])
        report = json.loads((out / "report.json").read_text())
        assert all(row["threshold"] == row["best_threshold"] for row in report["per_class"])
    assert Classifier(tmp_path / "better.safetensors").labels.thresholds[2] == 0.5


def test_options_of_other_evaluations_are_refused(model, table, tmp_path, capsys):
    assert _evaluate(model, table, "--out", tmp_path / "a", "--subset", "data") == 2
    assert "without --subset" in capsys.readouterr().err
    assert _evaluate(model, tmp_path, "--out", tmp_path / "a") == 2
    assert "multi-label model is for a .csv" in capsys.readouterr().err
    assert _evaluate(model, table, "--out", tmp_path / "a", "--threshold", "1.5") == 2
    assert "from 0 to 1" in capsys.readouterr().err
    _evaluate(model, table, "--out", tmp_path / "a")
    assert _evaluate(model, table, "--out", tmp_path / "a") == 2
    assert "has a report" in capsys.readouterr().err


def test_a_model_of_one_class_a_picture_has_no_thresholds(table, tmp_path, capsys):
    weights = random_weights(VARIANTS["test_v2"], num_classes=3)
    save_weights(weights, tmp_path / "one.safetensors", info=WeightsInfo(labels=LABELS))
    (tmp_path / "data/cat").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "data/cat/a.png")
    code = _evaluate(tmp_path / "one.safetensors", tmp_path / "data", "--threshold", "0.5")
    assert code == 2
    assert "for multi-label models" in capsys.readouterr().err
    assert _evaluate(tmp_path / "one.safetensors", table) == 2


def test_probabilities_of_exclusive_classes_are_not_measured(model):
    with pytest.raises(ArgumentError, match="multi-label model"):
        open_subject(model)
