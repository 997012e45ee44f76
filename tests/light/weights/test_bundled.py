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
PHOTOS = ROOT / "examples" / "photos"
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


def test_a_cat_is_a_cat_and_what_is_none_of_its_classes_leaves_the_demo_unsure(classifier):
    demo = run_path(str(ROOT / "examples" / "demo.py"))
    first = {
        path.name: demo["mean_probabilities"](classifier, path)[0] for path in PHOTOS.iterdir()
    }
    label, probability = first.pop("chelsea.png")
    assert label == "cat"
    assert probability > demo["UNSURE"] + 0.1
    assert set(first) == {"astronaut.png", "coffee.png", "rocket.jpg"}
    for _, doubtful in first.values():
        assert doubtful < demo["UNSURE"] - 0.1


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
