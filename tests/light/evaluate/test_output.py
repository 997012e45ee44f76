"""Files of a report: JSON, Markdown, and plots if matplotlib is installed."""

import errno
import sys

import pytest

from convnext.data.datasets import open_dataset
from convnext.errors import ArgumentError, ConvNeXtError
from convnext.evaluate import output
from convnext.evaluate.markdown import markdown
from convnext.evaluate.output import check_folder, write_reports
from convnext.evaluate.report import build_report, read_report
from convnext.evaluate.run import evaluate


@pytest.fixture
def report(animals, classes, subject):
    data = open_dataset(animals, classes)
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


def test_on_a_disk_that_is_full_no_part_is_left(report, tmp_path, full_disk):
    with (
        full_disk(),
        pytest.raises(ConvNeXtError, match=r"report\.json cannot be written: .*--resume"),
    ):
        write_reports(report, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_no_part_of_a_plot_is_left(report, tmp_path, monkeypatch):
    def full(_, path):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output, "draw_reliability", full)
    with pytest.raises(ConvNeXtError, match=r"reliability\.png cannot be written: No space left"):
        write_reports(report, tmp_path)
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {
        "report.json",
        "report.md",
    }


def test_a_folder_that_cannot_be_is_refused_and_none_is_made(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "x" / "y"):
        with pytest.raises(
            ArgumentError, match=r"file is not a writable folder\. Give another --out"
        ):
            check_folder(folder)
    check_folder(tmp_path / "new" / "one")
    assert not (tmp_path / "new").exists()
