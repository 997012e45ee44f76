import csv
import math
import os

import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.bench.contenders import Contender
from convnext.bench.material import Model
from convnext.bench.race import Result
from convnext.bench.results import COLUMNS, KEY, check_csv, read_csv, rows_of, write_csv
from convnext.errors import ArgumentError, ConvNeXtError
from convnext.images.recipe import Preprocess

MODEL = Model("cats", VARIANTS["test_v1"], 2, Preprocess(size=64))
REFERENCE = np.array([[0, 2], [4, 0]], np.float32)


def result(name, turns, **facts):
    return Result(Contender(name, "auto"), 2, "float32", turns=turns, **facts)


@pytest.fixture
def rows(machine):
    """Results of an engine, of one with twice its time in every round, and of one that failed."""
    results = [
        result("openvino", [[1, 1, 4], [10.0]], peak_mib=100.04, logits=REFERENCE),
        result("timm", [[2.0], [20.0]], logits=REFERENCE + np.float32(0.5)),
        Result(Contender("keras", "int8"), 2, error="It cannot."),
    ]
    return rows_of(MODEL, results, REFERENCE, 3, machine)


def test_speed(rows):
    ours, theirs, failed = rows
    assert (ours.median_ms, ours.min_ms, ours.ratio) == (2500, 1000, 1)
    assert (theirs.median_ms, theirs.min_ms, theirs.ratio) == (11_000, 2000, 2)
    assert theirs.pictures_per_s == 0.18
    assert (ours.rounds, ours.calls, ours.peak_mib) == (2, 4, 100)
    assert (failed.median_ms, failed.ratio, failed.rounds) == (None, None, 0)


def test_the_ratio_has_an_interval_from_five_rounds_on(rows, machine):
    ours, theirs, failed = rows
    assert (theirs.ratio_low, theirs.ratio_high) == (None, None)
    assert theirs.relative.verdict == "too few rounds"
    assert (ours.relative, failed.relative) == (None, None)
    turns = [[1.0], [2.0], [4.0], [8.0], [16.0]]
    slower = [[1.25 * own, 9.0, 0.1] for [own] in turns[:4]] + [[18.0]]
    results = [result("openvino", turns), result("timm", slower)]
    first, second = rows_of(MODEL, results, None, 3, machine)
    assert (first.ratio_low, first.ratio_high) == (None, None)
    assert (second.ratio, second.ratio_low, second.ratio_high, second.rounds) == (
        1.25,
        1.125,
        1.25,
        5,
    )
    assert second.relative.verdict == "above 1"


def test_agreement(rows):
    ours, theirs, failed = rows
    assert (ours.max_difference, ours.decibels, ours.top1_agreement) == (0, math.inf, 1)
    assert (theirs.max_difference, theirs.mean_difference, theirs.pictures) == (0.5, 0.5, 2)
    assert failed.decibels is None


def test_facts(rows, machine):
    ours, _, failed = rows
    assert (ours.model, ours.side, ours.batch, ours.threads) == ("cats", 64, 2, 3)
    assert (ours.precision, failed.precision) == ("float32", "int8"), "what it was, or was to be"
    assert failed.error == "It cannot."
    assert (ours.processor, ours.flags) == (machine.processor, machine.flags)


def test_ratios_are_to_the_first_that_ran(machine):
    results = [
        Result(Contender("openvino", "int8"), 2, error="It cannot.", turns=[[9.0]]),
        result("keras", [[1.0]]),
        result("timm", [[3.0]]),
    ]
    assert [row.ratio for row in rows_of(MODEL, results, None, 3, machine)] == [None, 1, 3]


def test_a_failed_result_has_its_error_and_no_ratio(machine):
    [row] = rows_of(MODEL, [Result(Contender("x", "auto"), 1, error="No.")], None, 1, machine)
    assert (row.ratio, row.error) == (None, "No.")


def test_a_file(rows, tmp_path):
    path = tmp_path / "speed.csv"
    check_csv(path)
    write_csv(path, rows)
    check_csv(path)
    with path.open(newline="") as file:
        stored = list(csv.DictReader(file))
    assert tuple(stored[0]) == COLUMNS
    assert [row["contender"] for row in stored] == ["openvino", "timm", "keras"]
    assert stored[1]["ratio"] == "2.0"
    assert stored[2]["median_ms"] == ""
    assert (stored[0]["versions"], stored[0]["date"]) == (rows[0].versions, "2026-11-21")
    assert list(tmp_path.iterdir()) == [path]


def test_a_repeated_measurement_replaces_the_earlier_row(rows, machine, tmp_path):
    path = tmp_path / "speed.csv"
    write_csv(path, rows)
    write_csv(path, rows_of(MODEL, [result("timm", [[5.0]])], None, 3, machine))
    write_csv(path, rows_of(MODEL, [result("timm", [[7.0]])], None, 1, machine))
    found = {tuple(row[name] for name in KEY): row["median_ms"] for row in read_csv(path)}
    assert found == {
        ("cats", "64", "2", "openvino", "float32", "3"): "2500.0",
        ("cats", "64", "2", "keras", "int8", "3"): "",
        ("cats", "64", "2", "timm", "float32", "3"): "5000.0",
        ("cats", "64", "2", "timm", "float32", "1"): "7000.0",
    }


def test_a_file_from_before_there_were_intervals(rows, tmp_path):
    path = tmp_path / "speed.csv"
    write_csv(path, rows)
    older = [name for name in COLUMNS if name not in ("ratio_low", "ratio_high")]
    stored = read_csv(path)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, older, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(stored)
    assert read_csv(path) == stored
    write_csv(path, rows[:1])
    assert path.read_text().startswith(",".join(COLUMNS))


@pytest.mark.parametrize(
    "content",
    [b"name,age\nann,3\n", b"\xff\xfe\x00", b'"', ",".join(COLUMNS).encode() + b"\n1,2\n"],
)
def test_another_file_is_refused_and_left_alone(rows, content, tmp_path):
    path = tmp_path / "other.csv"
    path.write_bytes(content)
    for attempt in (check_csv, lambda path: write_csv(path, rows)):
        with pytest.raises(ArgumentError, match="Name another file"):
            attempt(path)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be(tmp_path):
    with pytest.raises(ArgumentError, match="is a folder"):
        check_csv(tmp_path)
    with pytest.raises(ArgumentError, match=r"does not exist\. Create it first"):
        check_csv(tmp_path / "absent" / "x.csv")


def test_a_file_that_cannot_be_written(rows, tmp_path, monkeypatch):
    path = tmp_path / "speed.csv"
    write_csv(path, rows[:1])
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(csv.DictWriter, "writerows", full)
    with pytest.raises(ConvNeXtError, match=r"speed\.csv cannot be written: No space left"):
        write_csv(path, rows)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
