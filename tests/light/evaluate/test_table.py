"""The collection's table, with reports on the whole validation set."""

import json

import pytest

from convnext.errors import ArgumentError
from convnext.evaluate.table import COLLECTION, collection_table, read_reports
from convnext.weights.catalog import get_checkpoint


def stored(checkpoint, percent, *, whole=True, date="2026-01-01T00:00:00+00:00"):
    return {
        "convnext_report": 1,
        "model": {"checkpoint": checkpoint},
        "engine": {"name": "openvino", "precision": "float32"},
        "data": {"is_imagenet_validation": whole},
        "results": {"top1": {"percent": percent}},
        "session": {"date": date},
    }


def cells(text, name):
    [line] = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_without_reports_ours_is_empty():
    text = collection_table([])
    assert len(text.splitlines()) == 2 + 15
    assert cells(text, "convnext_tiny_1k_224") == ["82.100", "81.312", "-", "-", "-"]
    assert cells(text, "convnext_base_21k_224") == ["-"] * 5


def test_the_newest_whole_report_counts():
    name = "convnext_tiny.fb_in1k"
    text = collection_table(
        [
            stored(name, 82.066, date="2026-02-01T00:00:00+00:00"),
            stored(name, 1.0),
            stored(name, 2.0, whole=False, date="2026-03-01T00:00:00+00:00"),
            stored(None, 3.0),
        ]
    )
    assert cells(text, "convnext_tiny_1k_224")[2:] == ["82.066", "-0.034", "openvino, float32"]
    assert cells(text, "convnext_small_1k_224")[2] == "-"


def test_every_row_is_a_published_checkpoint():
    rows = [get_checkpoint(name) for name in COLLECTION]
    assert len({row.name for row in rows}) == 15
    for row, port in zip(rows, COLLECTION.values(), strict=True):
        assert (row.top1 is None) == (port is None)
        if port is not None:
            assert -0.01 < row.top1 - port < 0.81  # what the port lost, as its authors say


def test_reports_are_found_and_others_named(tmp_path):
    for place, text in (("a", json.dumps(stored("x", 1))), ("b/c", "{}"), ("d", "oops")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "report.json").write_text(text)
    reports, problems = read_reports(tmp_path)
    assert len(reports) == 1
    assert len(problems) == 2
    with pytest.raises(ArgumentError, match="is not a folder"):
        read_reports(tmp_path / "missing")
