"""The report has the results, data, engine and published numbers."""

import json
from pathlib import Path

import pytest

from convnext.data.classes import Classes
from convnext.data.datasets import Dataset, LabelledPicture, open_dataset
from convnext.errors import ArgumentError
from convnext.evaluate.accuracy import Judgement, Tally
from convnext.evaluate.report import build_report, read_report, settings
from convnext.evaluate.run import BadPicture, Measured, evaluate
from convnext.images.labels import labels_for


def reported(subject, data, right):
    """A report on pictures of which the first `right` are correct."""
    tally = Tally(len(data.competing or range(data.classes.count)))
    for position, (_, label) in enumerate(data.entries):
        hit = position < right
        other = (label + 1) % data.classes.count
        tally.add(label, Judgement(label if hit else other, 0 if hit else 7, -0.5, 0.6))
    return build_report(subject, data, Measured(tally.accuracy(), (), 2.0), 32)


@pytest.fixture
def imagenet():
    return Classes(1000, labels_for("imagenet-1k"), "imagenet-1k")


def validation(imagenet, pictures, **options):
    entries = tuple(LabelledPicture(f"{number}.png", number % 1000) for number in range(pictures))
    return Dataset(Path("val"), "class folders", imagenet, entries, **options)


def test_a_report_is_json_with_all_facts(animals, classes, subject):
    data = open_dataset(animals, classes)
    measured = evaluate(subject.engine, subject.preprocess, data, 16)
    report = build_report(subject, data, measured, 16)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["model"]["weights"]["sha256"] == "0" * 64
    assert report["preprocess"]["size"] == 8
    assert report["preprocess"]["exif_orientation"] == "not applied"
    assert report["engine"] == {"name": "mock", "precision": "float32", "batch": 16}
    assert report["data"]["pictures"] == 70
    assert report["data"]["classes"] == 7
    accuracy = measured.accuracy
    top1 = report["results"]["top1"]
    assert top1["count"] == accuracy.correct
    assert top1["percent"] == 100 * accuracy.correct / 69
    assert top1["low"] < top1["percent"] < top1["high"]
    assert report["results"]["bad_pictures"] == 1
    assert [bad["id"] for bad in report["bad_pictures"]] == ["bee/13.png"]
    assert [row["name"] for row in report["per_class"]][:3] == ["ant", "bee", "cat"]
    assert sum(row["pictures"] for row in report["per_class"]) == 69
    assert len(report["calibration"]) == 15
    assert {"date", "seconds", "pictures_per_second", "machine", "versions"} == set(
        report["session"]
    )
    assert {"convnext", "numpy", "pillow"} <= set(report["session"]["versions"])
    assert report["notes"][0] == "a note"


def test_published_beside_measured(subject, imagenet):
    report = reported(subject, validation(imagenet, 50_000), 41_000)
    assert report["data"]["is_imagenet_validation"]
    published = report["published"]
    assert (published["top1"], published["measured_by"]) == (82.066, "timm")
    assert (published["top5"], published["authors_top1"]) == (95.854, 82.1)
    difference = published["top1_difference"]
    assert difference["points"] == pytest.approx(82.0 - 82.066)
    top1 = report["results"]["top1"]
    assert difference["low"] == pytest.approx(top1["low"] - 82.066)
    assert difference["high"] == pytest.approx(top1["high"] - 82.066)
    assert difference["high"] - difference["low"] == pytest.approx(0.674, abs=1e-3)
    assert report["notes"] == ["a note"]


def test_a_bad_picture_makes_the_validation_set_incomplete(subject, imagenet):
    data = validation(imagenet, 50_000)
    bad = (BadPicture("7.png", "damaged"),)
    report = build_report(subject, data, Measured(Tally(1000).accuracy(), bad, 1.0), 32)
    assert not report["data"]["is_imagenet_validation"]


@pytest.mark.parametrize(
    ("pictures", "options"), [(49_000, {}), (50_000, {"competing": tuple(range(1000))})]
)
def test_other_pictures_than_published_are_noted(subject, imagenet, pictures, options):
    report = reported(subject, validation(imagenet, pictures, **options), 10)
    assert not report["data"]["is_imagenet_validation"]
    assert report["notes"][-1].startswith(
        "The published numbers were measured on all 50,000 pictures"
    )


def test_unpublished(subject, no_pictures):
    unpublished = type(subject)(**(vars(subject) | {"checkpoint": None}))
    report = reported(unpublished, no_pictures, 1)
    assert report["published"] is None
    assert report["notes"] == ["a note"]


def test_worst_classes(subject, no_pictures):
    worst = reported(subject, no_pictures, 2)["worst_classes"]
    assert [row["name"] for row in worst["rows"]] == ["ant", "cat"]
    assert [column["name"] for column in worst["columns"]] == ["ant", "cat", "dog"]
    assert worst["pictures"] == [[1, 0, 0], [0, 1, 1]]


def test_a_report_without_readable_pictures_has_no_accuracy(subject, no_pictures):
    bad = tuple(BadPicture(name, "damaged") for name, _ in no_pictures.entries)
    report = build_report(subject, no_pictures, Measured(Tally(7).accuracy(), bad, 0.0), 32)
    assert report["results"]["top1"] is None
    assert "top1_difference" not in report["published"]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_settings_differ_where_results_might(subject, no_pictures, imagenet):
    first = settings(subject, no_pictures, 32)
    assert first == settings(subject, no_pictures, 32)
    assert first != settings(subject, no_pictures, 16)
    assert first != settings(subject, validation(imagenet, 3), 32)


def test_reading(tmp_path, subject, no_pictures):
    path = tmp_path / "report.json"
    report = reported(subject, no_pictures, 1)
    path.write_text(json.dumps(report))
    assert read_report(path) == report
    for text in ("{", "[]", "{}", '{"convnext_report": 1}', '{"convnext_report": 99}', "[" * 9999):
        path.write_text(text)
        with pytest.raises(ArgumentError, match="report"):
            read_report(path)
