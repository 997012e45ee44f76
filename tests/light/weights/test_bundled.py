"""The weights that come with the package: what they are, and how good they are."""

import json
import re
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from convnext import Classifier
from convnext.cli.main import main
from convnext.weights.bundled import BUNDLED, bundled_path
from convnext.weights.load import read_weights

ROOT = Path(__file__).parents[3]
PHOTOS = sorted((ROOT / "examples" / "photos").glob("*.*g"))
DEMO = run_path(str(ROOT / "examples" / "demo.py"))
CLASSES = ("airplane", "automobile", "bird", "cat", "deer")
CLASSES += ("dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def classifier():
    return Classifier(BUNDLED)


def test_the_file_is_small_and_says_what_it_is():
    assert bundled_path().stat().st_size <= 8e6
    with read_weights(BUNDLED) as weights:
        info = weights.info
        assert {tensor.dtype for tensor in weights.tensors.values()} == {np.dtype(np.float16)}
        assert weights.variant.name == "convnextv2_atto"
    assert (info.name, info.licence, info.labels) == (BUNDLED, "Apache-2.0", CLASSES)
    assert info.strides == (2, 1, 2, 2)
    assert info.preprocess.size == 32


def test_a_cat_is_a_cat_and_a_picture_of_no_known_class_leaves_the_model_unsure(classifier):
    first = {path.name: DEMO["mean_probabilities"](classifier, path)[0] for path in PHOTOS}
    label, probability = first.pop("chelsea.png")
    assert label == "cat"
    assert probability > DEMO["UNSURE"] + 0.1
    assert set(first) == {"astronaut.png", "coffee.png", "rocket.jpg"}
    for _, doubtful in first.values():
        assert doubtful < DEMO["UNSURE"] - 0.1


def test_the_demo_without_a_network(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert DEMO["main"]() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("No network: the bundled model answers")
    for kind in ("automobile", "deer", "ship"):
        assert any(line.startswith(f"{kind}.jpg") and kind in line[16:] for line in lines)
    assert (tmp_path / "demo.png").exists()


def test_the_demo_takes_a_published_checkpoint_from_the_cache(
    monkeypatch, tmp_path, capsys, named_weights
):
    monkeypatch.chdir(tmp_path)
    known = DEMO["main"].__globals__
    monkeypatch.setitem(known, "cached", lambda _: named_weights)
    monkeypatch.setitem(known, "Classifier", lambda _: Classifier(named_weights))
    assert DEMO["main"]() == 0
    out = capsys.readouterr().out
    assert "Using convnext_atto.d2_in1k (Apache-2.0)" in out
    assert "astronaut.png" in out
    assert "Not sure" not in out


@pytest.mark.slow
def test_its_accuracy_is_the_one_that_is_stated(shared_data, tmp_path):
    card = (ROOT / "docs" / "bundled.md").read_text()
    [stated] = re.findall(r"([\d.]+) % of CIFAR-10's 10,000 test pictures", card)
    data = str(shared_data / "cifar10" / "test.zip")
    assert (
        main(
            [
                "evaluate",
                "--model",
                BUNDLED,
                "--data",
                data,
                "--batch",
                "100",
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    results = json.loads((tmp_path / "report.json").read_text())["results"]
    assert results["top1"]["percent"] == pytest.approx(float(stated), abs=0.02)
