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
