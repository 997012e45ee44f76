from __future__ import annotations

import csv
import json
import sys

import pytest

from convnext.errors import MissingDependencyError
from convnext.train.run.metrics import Journal

TRAIN = {"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 0.1}
VALIDATION = {"kind": "validation", "step": 2, "epoch": 1.0, "loss": 1.0, "accuracy": 0.5}


def test_records_come_back_and_a_line_cut_short_is_left_out(tmp_path):
    journal = Journal(tmp_path)
    assert journal.records() == []
    journal.write(TRAIN)
    journal.write(VALIDATION)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    assert journal.records() == [TRAIN, VALIDATION]


def test_metrics_after_the_run_state_are_removed(tmp_path):
    journal = Journal(tmp_path)
    journal.write(TRAIN)
    journal.write(VALIDATION)
    journal.forget_after(1)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == TRAIN


def test_a_table_and_curves_are_made(tmp_path):
    journal = Journal(tmp_path)
    journal.write(TRAIN)
    journal.write({**VALIDATION, "average_accuracy": 0.6, "average_loss": 0.9})
    journal.summarise("a run")
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows] == ["2.0", "1.0"]
    assert rows[0]["accuracy"] == ""
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))


def test_tensorboard_gets_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboardX")
    journal = Journal(tmp_path, tensorboard=True)
    journal.write(TRAIN)
    journal.close()
    [file] = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in file.read_bytes()
    assert b"train/learning_rate" in file.read_bytes()


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingDependencyError, match=r"convnext\[tensorboard\]"):
        Journal(tmp_path, tensorboard=True)


def test_other_hosts_read_and_do_not_write(tmp_path):
    Journal(tmp_path).write({"kind": "train", "step": 3, "loss": 1.0})
    other = Journal(tmp_path, tensorboard=True, writes=False)
    other.write({"kind": "train", "step": 4})
    other.forget_after(0)
    other.summarise()
    other.close()
    assert [record["step"] for record in other.records()] == [3]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
