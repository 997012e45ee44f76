import math
import sys
from dataclasses import replace

import pytest
from PIL import Image

from convnext.architecture import VARIANTS
from convnext.bench.chart import draw_chart
from convnext.bench.contenders import Contender
from convnext.bench.material import Model
from convnext.bench.race import Result
from convnext.bench.results import rows_of
from convnext.errors import MissingDependencyError
from convnext.images.recipe import Preprocess


@pytest.fixture
def row(machine):
    model = Model("cats $cost$", VARIANTS["test_v1"], 2, Preprocess(size=64))
    result = Result(Contender("openvino", "auto"), 2, "float32", turns=[[0.5]])
    [row] = rows_of(model, [result], None, 2, machine)
    return replace(row, decibels=120.0)


def drawn(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.format, picture.size


def test_a_panel_for_each_race(row, tmp_path):
    pytest.importorskip("matplotlib")
    one, three = tmp_path / "one.png", tmp_path / "three.png"
    draw_chart([row, replace(row, contender="timm", decibels=math.inf)], one)
    batches = [replace(row, batch=batch) for batch in (1, 4, 16)]
    draw_chart([*batches, replace(row, decibels=-math.inf)], three)
    form, (width, height) = drawn(one)
    assert form == "PNG"
    assert drawn(three) == ("PNG", (2 * width, 2 * height))


def test_a_chart_without_finite_results_is_drawn(row, tmp_path):
    pytest.importorskip("matplotlib")
    failed = replace(row, pictures_per_s=None, decibels=None)
    for rows in ([], [failed], [replace(row, decibels=math.inf)]):
        draw_chart(rows, tmp_path / "x.png")
        assert drawn(tmp_path / "x.png")[0] == "PNG"


def test_without_matplotlib(row, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"convnext\[plots\]"):
        draw_chart([row], tmp_path / "x.png")


def test_intervals_are_in_the_labels_and_as_bars(row, tmp_path, monkeypatch):
    axes = pytest.importorskip("matplotlib.axes").Axes
    labels, bars = [], []
    annotate, plot = axes.annotate, axes.plot

    def noted(self, text, *args, **options):
        labels.append(text)
        return annotate(self, text, *args, **options)

    def drawn_line(self, x, *args, **options):
        if isinstance(x, list):
            bars.append(x)
        return plot(self, x, *args, **options)

    monkeypatch.setattr(axes, "annotate", noted)
    monkeypatch.setattr(axes, "plot", drawn_line)
    facts = {"contender": "timm", "ratio": 2.0, "ratio_low": 1.6, "ratio_high": 2.5}
    slower = replace(row, **facts, pictures_per_s=2.0, rounds=9)
    draw_chart([row, slower], tmp_path / "x.png")
    assert labels == ["openvino float32", "timm float32\n2.000 [1.600, 2.500]"]
    assert bars == [[1.6, 2.5]]
