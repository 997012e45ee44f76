"""The report as Markdown, with any characters in names."""

import pytest

from convnext.data.datasets import open_dataset
from convnext.evaluate.markdown import markdown, summary_rows, table
from convnext.evaluate.report import build_report
from convnext.evaluate.run import evaluate


@pytest.fixture
def report(animals, classes, subject):
    data = open_dataset(animals, classes)
    measured = evaluate(subject.engine, subject.preprocess, data, 16)
    report = build_report(subject, data, measured, 16)
    return report | {"session": report["session"] | {"pictures_per_second": 1234.5}}


def test_summary(report):
    report["results"]["top1"] = {"count": 1, "percent": 82.0, "low": 81.66, "high": 82.33}
    report["published"]["top1_difference"] = {"points": -0.066, "low": -0.406, "high": 0.264}
    rows = summary_rows(report)
    assert rows[0] == ("top-1", "82.000 %", "81.66 to 82.33", "82.066 %", "-0.066 (-0.41 to +0.26)")
    assert [row[0] for row in rows[1:]] == ["top-5", "log-loss", "calibration error", "pictures/s"]
    assert rows[-1][1] == "1,234.5"
    report["results"] |= {"top1": None, "top5": None, "log_loss": None, "ece": None}
    report["published"] = None
    assert {cell for row in summary_rows(report)[:4] for cell in row[1:]} == {"-"}


def test_page(report):
    page = markdown(report)
    assert page.startswith("# a model\n\n69 pictures of 7 classes from `")
    assert "**1 pictures could not be read; they are listed below.**" in page
    assert "Note: a note" in page
    assert "| engine | mock, float32, batches of 16 |" in page
    assert f"sha256 {'0' * 64} |" in page
    assert "## Worst classes\n\n| class | name | wnid | pictures | top-1 | top-5 |" in page
    assert page.rstrip().splitlines()[-1].startswith("| bee/13.png | ")


def test_no_name_breaks_a_table(report):
    report["bad_pictures"] = [{"id": "a|b\n\udcff.png", "error": "x\r\ny | z"}]
    page = markdown(report)
    assert page.splitlines()[-1] == "| a\\|b \\udcff.png | x y \\| z |"
    page.encode()


def test_no_path_and_no_note_breaks_the_page(report):
    report["data"]["path"] = "nu\udcff|m"
    report["notes"] = ["read \udcff.png\n# not a title"]
    page = markdown(report)
    page.encode()
    assert "from `nu\\udcff|m`;" in page
    assert "Note: read \\udcff.png # not a title" in page


def test_table():
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"
