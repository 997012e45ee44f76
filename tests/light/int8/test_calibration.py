"""Calibration files: round trip, damage and mismatched weights."""

import re
from dataclasses import replace

import numpy as np
import pytest

from convnext.errors import ArgumentError, WeightsFileError
from convnext.graphs.agreement import Agreement
from convnext.graphs.fold import Linear
from convnext.int8 import calibration as calibration_file
from convnext.int8.calibration import Calibration, names_calibration
from convnext.int8.levels import InputStatistics, find_levels
from convnext.weights.files import LazyTensor, write_weights

RNG = np.random.default_rng(0)


def linear():
    kernel = RNG.standard_normal((24, 10), np.float32)
    return Linear(kernel, RNG.standard_normal(10, np.float32))


def calibration():
    layer = linear()
    rows = RNG.standard_normal((500, 24), np.float32)
    levels = find_levels(InputStatistics(rows.min(axis=0), rows.max(axis=0), rows), layer)
    return layer, Calibration({"a": levels}, 3, Agreement(3, 0.5, 0.1, 30.0, 1.0))


def test_its_file(tmp_path):
    layer, made = calibration()
    made.save(tmp_path / "c.safetensors")
    read = Calibration.load(tmp_path / "c.safetensors")
    assert (read.pictures, read.agreement) == (made.pictures, made.agreement)
    ours, theirs = made.levels("a", layer), read.levels("a", layer)
    for part in ("low", "step", "correction", "kernel", "decibels"):
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))


def test_a_calibration_of_other_weights_is_refused():
    layer, made = calibration()
    with pytest.raises(ArgumentError, match="of other weights: b differs"):
        made.levels("b", layer)
    with pytest.raises(ArgumentError, match=r"of other weights.*convnext quantize"):
        made.levels("a", linear())


def test_the_name_of_its_file(tmp_path):
    _, made = calibration()
    with pytest.raises(ArgumentError, match=r"must end in \.safetensors.*c\.bin"):
        made.save(tmp_path / "c.bin")
    made.save(tmp_path / "C.SAFETENSORS")
    assert names_calibration(tmp_path / "C.SAFETENSORS")
    assert not names_calibration(tmp_path)


def test_levels_of_another_length():
    layer, made = calibration()
    short = replace(made.layers["a"], low=np.zeros(3, np.float32), step=np.ones(3, np.float32))
    with pytest.raises(ArgumentError, match="of other weights: a differs"):
        replace(made, layers={"a": short}).levels("a", layer)


def test_another_file(tmp_path):
    write_weights(tmp_path / "w.safetensors", {"a": LazyTensor.from_array(np.ones(3))})
    with pytest.raises(WeightsFileError, match=r"is not a calibration.*convnext quantize"):
        Calibration.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda about: {**about, "calibration": "{"},
        lambda about: {**about, "calibration": "[]"},
        lambda about: {**about, "calibration": about["calibration"].replace('"a"', '"b"')},
        lambda about: {**about, "calibration": about["calibration"].replace("kernel", "colonel")},
        lambda about: {
            **about,
            "calibration": re.sub("kernel.: [0-9]+", 'kernel": Infinity', about["calibration"]),
        },
        lambda about: {**about, "calibration": "[" * 100_000},
    ],
)
def test_a_damaged_file(tmp_path, monkeypatch, damage):
    write = calibration_file.write_weights

    def damaging(path, tensors, about, **options):
        write(path, tensors, damage(about), **options)

    monkeypatch.setattr(calibration_file, "write_weights", damaging)
    calibration()[1].save(tmp_path / "c.safetensors")
    with pytest.raises(WeightsFileError, match="damaged"):
        Calibration.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        {"low": np.zeros(23, np.float32)},
        {"low": np.zeros((24, 1), np.float32)},
        {"low": np.zeros(24, np.float64)},
        {"step": np.zeros(24, np.float32)},
        {"step": np.full(24, np.nan, np.float32)},
        {"correction": np.full(10, np.inf, np.float32)},
    ],
)
def test_numbers_that_round_nothing(tmp_path, damage):
    _, made = calibration()
    replace(made, layers={"a": replace(made.layers["a"], **damage)}).save(
        tmp_path / "c.safetensors"
    )
    with pytest.raises(WeightsFileError, match=r"damaged \(a must have"):
        Calibration.load(tmp_path / "c.safetensors")
