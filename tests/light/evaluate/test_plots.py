"""Plots show the numbers of the report, with any characters in names."""

import numpy as np
import pytest
from PIL import Image

from convnext.data.datasets import open_dataset
from convnext.evaluate.plots import draw_confusion, draw_reliability
from convnext.evaluate.report import build_report
from convnext.evaluate.run import evaluate

pytest.importorskip("matplotlib")


@pytest.fixture
def report(animals, classes, subject):
    data = open_dataset(animals, classes)
    return build_report(subject, data, evaluate(subject.engine, subject.preprocess, data), 32)


@pytest.fixture
def empty(report):
    """An evaluation without pictures."""
    for bin in report["calibration"]:
        bin.update(pictures=0, accuracy=None, confidence=None)
    report["results"]["ece"] = None
    report["worst_classes"] = {"rows": [], "columns": [], "pictures": []}
    return report


def blue_extent(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    blue = np.abs(pixels - (0x2F, 0x6D, 0xB3)).sum(-1) < 9
    return blue.any(0).sum(), blue.any(1).sum()


def test_bars_are_as_high_as_the_bin_is_accurate(empty, tmp_path):
    empty["calibration"][7].update(pictures=8, accuracy=1.0, confidence=0.5)
    draw_reliability(empty, tmp_path / "full.png")
    empty["calibration"][7].update(accuracy=0.5)
    draw_reliability(empty, tmp_path / "half.png")
    (width, full), (same_width, half) = map(blue_extent, sorted(tmp_path.glob("*.png")))
    assert width == same_width
    assert half == pytest.approx(full / 2, abs=6)


def test_the_same_report_draws_the_same_file(report, tmp_path):
    for name in ("a", "b"):
        draw_confusion(report, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_odd_names(report, tmp_path):
    report["model"]["name"] = "odd $x_{$ name \udc80 名"
    report["worst_classes"]["rows"][0]["name"] = "$_{" * 99
    report["worst_classes"]["columns"][0]["name"] = "\\frac{"
    check_both_draw(report, tmp_path)


def test_plots_without_pictures_are_drawn(empty, tmp_path):
    check_both_draw(empty, tmp_path)


def check_both_draw(report, folder):
    for draw in (draw_reliability, draw_confusion):
        draw(report, folder / "x.png")
        with Image.open(folder / "x.png") as image:
            assert image.width > 300
