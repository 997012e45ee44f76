"""Runs that store their teacher's answers, and runs by stored answers."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest

from colours import write_colours
from convnext.cli.main import main
from convnext.errors import ArgumentError
from convnext.train import train
from convnext.train.run.run_states import RunStates

pytestmark = pytest.mark.torch_first

CHANGES = [
    *("model.variant=test_v2", "run.precision=float32", "run.batch_size=16", "run.epochs=2"),
    *("run.log_every=1", "run.validate_every=1", "optimizer.warmup_epochs=0"),
    *("optimizer.learning_rate=0.02", "optimizer.ema=0.5", "mixing.probability=1"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("colours"), train=48, val=16)


@pytest.fixture(scope="module")
def teacher(pictures, tmp_path_factory):
    """A run that learnt both classes."""
    folder = tmp_path_factory.mktemp("runs") / "taught"
    assert _train(pictures, folder, None, "run.epochs=5", "mixing.probability=0").accuracy == 1
    return folder


def _train(pictures, out, teacher, *changes, **options):
    options = {"workers": 0, "progress": False, "say": lambda _: None} | options
    return train("cifar10", pictures, out, changes=[*CHANGES, *changes], teacher=teacher, **options)


def _records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timed = ("pictures_per_second", "waiting", "teacher")
    return [{k: v for k, v in json.loads(x).items() if k not in timed} for x in lines]


def test_a_run_by_stored_answers_equals_the_one_that_stored_them_to_the_bit(
    pictures, teacher, tmp_path
):
    changes, said = ("mixing.cutmix=1", "mixing.mixup=0.8"), []
    stored = tmp_path / "red.answers"
    first = _train(pictures, tmp_path / "first", teacher, *changes, store_answers=stored)
    again = _train(pictures, tmp_path / "again", stored, *changes, say=said.append)
    assert said[1] == f"The teacher is taught (answers to 6 steps in {stored})."
    one, other = (RunStates(run.folder / "checkpoints").latest() for run in (first, again))
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], err_msg=name)
    assert _records(first.folder) == _records(again.folder)


@pytest.mark.torch_alone
def test_a_run_that_stores_answers_can_be_interrupted(pictures, teacher, tmp_path):
    stored, whole = tmp_path / "part.answers", tmp_path / "whole.answers"
    first = _train(pictures, tmp_path / "whole", teacher, store_answers=whole)

    def interrupt(line):
        if line.startswith("epoch 1:"):
            os.kill(os.getpid(), signal.SIGINT)

    run = tmp_path / "part"
    assert not _train(pictures, run, teacher, store_answers=stored, say=interrupt).finished
    stored.write_bytes(stored.read_bytes()[:-7])
    with pytest.raises(ArgumentError, match="of the 6 steps of this run"):
        _train(pictures, run, stored, resume=True)
    with pytest.raises(ArgumentError, match="in float16"):  # as its answers would be others
        _train(pictures, run, teacher, resume=True)
    assert _train(pictures, run, teacher, store_answers=stored, resume=True).finished
    assert stored.read_bytes() == whole.read_bytes()
    assert _records(run) == _records(first.folder)


@pytest.mark.torch_alone
def test_embeddings_are_stored_as_well(pictures, teacher, tmp_path):
    changes, stored = ("distill.loss=features", "distill.hard=0.5"), tmp_path / "x.answers"
    first = _train(pictures, tmp_path / "first", teacher, *changes, store_answers=stored)
    again = _train(pictures, tmp_path / "again", stored, *changes)
    assert _records(first.folder) == _records(again.folder)
    with pytest.raises(ArgumentError, match="answers is 'logits' here and 'embeddings' there"):
        _train(pictures, tmp_path / "logits", stored)


@pytest.mark.torch_alone
def test_a_model_learns_from_logits_that_predict_stored(pictures, teacher, tmp_path):
    stored = tmp_path / "plain.npz"
    options = ["--logits", "--out", str(stored), "--model", str(teacher / "model")]
    assert main(["predict", str(pictures), *options]) == 0  # train/ and val/ of the data
    changes, said = ("distill.hard=0", "run.epochs=5", "mixing.mixup=0.2"), []
    with pytest.raises(ArgumentError, match=r"Set distill\.fixed=true"):
        _train(pictures, tmp_path / "run", stored, *changes)
    fixed = (*changes, "distill.fixed=true")
    result = _train(pictures, tmp_path / "run", stored, *fixed, say=said.append)
    assert said[1] == f"The teacher is taught (answers to plain pictures in {stored})."
    assert result.accuracy == 1


@pytest.mark.torch_alone
def test_answers_are_stored_from_the_command_line(pictures, teacher, tmp_path, capfd):
    stored = tmp_path / "x.answers"
    changes = [item for change in CHANGES for item in ("--set", change)]
    command = ["train", "cifar10", "--data", str(pictures), "--workers", "0", *changes]
    first = [*command, "--teacher", str(teacher), "--store-answers", str(stored)]
    assert main([*first, "--out", str(tmp_path / "first")]) == 0
    again = [*command, "--teacher", str(stored), "--out"]
    assert main([*again, str(tmp_path / "again")]) == 0
    assert f"answers to 6 steps in {stored}" in capfd.readouterr().out
    assert main([*again, str(tmp_path / "other"), "--set", "run.seed=1"]) == 2
    assert "run.seed is 1 here and 0 there" in capfd.readouterr().err
