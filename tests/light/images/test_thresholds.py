"""Thresholds of labels: one number, one for each, or a file; and all that is wrong with them."""

from __future__ import annotations

import math

import pytest

from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.images.labels import Labels
from convnext.images.thresholds import checked_thresholds, with_thresholds, write_thresholds

PETS = Labels(("cat", "dog, hound"))


def test_one_number_is_for_all_labels_and_a_list_for_each():
    assert with_thresholds(PETS, 0).thresholds == (0.0, 0.0)
    assert with_thresholds(PETS, [0.25, 1]).thresholds == (0.25, 1.0)
    assert with_thresholds(PETS, 0.5).names == PETS.names


def test_a_file_is_read_as_it_was_written_whatever_the_order_of_its_rows(tmp_path):
    path = tmp_path / "thresholds.csv"
    write_thresholds(path, with_thresholds(PETS, (0.1, 1 / 3)))
    assert with_thresholds(PETS, path).thresholds == (0.1, 1 / 3)
    turned = Labels(PETS.names[::-1])
    assert with_thresholds(turned, str(path)).thresholds == (1 / 3, 0.1)


@pytest.mark.parametrize("wrong", [-0.1, 1.01, math.nan, math.inf, True, "0.5", None])
def test_a_threshold_is_a_probability(wrong):
    with pytest.raises(ArgumentError, match="from 0 to 1"):
        checked_thresholds([0.5, wrong])


def test_thresholds_are_a_list():
    with pytest.raises(ArgumentTypeError, match="list of numbers"):
        checked_thresholds("0.5")


def test_as_many_thresholds_as_labels():
    with pytest.raises(ArgumentError, match="3 thresholds for 2 labels"):
        with_thresholds(PETS, [0.1, 0.2, 0.3])


FILES = {
    "label,threshold\ncat,0.5\n": "no row of: 'dog, hound'",
    'label,threshold\ncat,0.5\n"dog, hound",0.5\ncow,0.5\n': "labels that the model lacks: 'cow'",
    'label,threshold\ncat,0.5\ncat,0.5\n"dog, hound",0.5\n': "twice",
    'label,threshold\ncat,2\n"dog, hound",0.5\n': "from 0 to 1",
    'label,threshold\ncat,much\n"dog, hound",0.5\n': "cannot be read",
    "label,threshold\ncat\n": "cannot be read",
    "cat,0.5\n": "first line is not label,threshold",
    "": "first line",
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_of_other_labels_or_numbers_is_refused(tmp_path, text):
    path = tmp_path / "thresholds.csv"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=FILES[text]):
        with_thresholds(PETS, path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="cannot be read"):
        with_thresholds(PETS, tmp_path / "none.csv")
