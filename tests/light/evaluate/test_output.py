"""Files of a report: JSON, Markdown, and plots where matplotlib is."""

import sys

import pytest

from convnext.evaluate.datasets import open_dataset
from convnext.evaluate.markdown import markdown
from convnext.evaluate.output import write_reports
from convnext.evaluate.report import build_report, read_report
from convnext.evaluate.run import evaluate


@pytest.fixture
def report(folder, classes, subject):
    data = open_dataset(folder, classes)
    return build_report(subject, data, evaluate(subject.engine, subject.preprocess, data), 32)


def test_files(report, tmp_path):
    pytest.importorskip("matplotlib")
    files, problem = write_reports(report, tmp_path / "a" / "b")
    assert [file.name for file in files] == [
        "report.json",
        "report.md",
        "reliability.png",
        "confusion.png",
    ]
    assert problem is None
    assert read_report(files[0]) == report
    assert files[1].read_text("utf-8") == markdown(report)
    assert {file.name for file in (tmp_path / "a" / "b").iterdir()} == {f.name for f in files}


def test_without_matplotlib_the_report_is_there(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    files, problem = write_reports(report, tmp_path)
    assert [file.name for file in files] == ["report.json", "report.md"]
    assert "pip install 'convnext[plots]'" in problem
