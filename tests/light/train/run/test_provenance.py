from __future__ import annotations

import json
from dataclasses import replace

import pytest

from convnext.errors import ArgumentError
from convnext.train.recipe import load_recipe
from convnext.train.run.provenance import RunRecord, locked, open_record

RECORD = RunRecord(load_recipe("cifar10"), ("cat", "dog"), ("a", "b"), "torch", "weights.pth")


def test_a_run_says_how_it_began(tmp_path):
    folder = tmp_path / "new" / "run"
    open_record(folder, RECORD, resume=False)
    facts = json.loads((folder / "run.json").read_text())
    assert facts["backend"] == "torch"
    assert facts["seed"] == 0
    assert facts["labels"] == ["cat", "dog"]
    assert facts["init"] == "weights.pth"
    assert {"python", "convnext", "numpy"} <= facts["versions"].keys()
    assert load_recipe(folder / "recipe.toml") == RECORD.recipe
    open_record(folder, RECORD, resume=True)


def begun(folder):
    """A run with its first run state."""
    open_record(folder, RECORD, resume=False)
    (folder / "checkpoints" / "step-000000001").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("left", ["checkpoints/step-000000001", "model"])
def test_a_run_is_not_begun_twice_nor_among_other_files(tmp_path, left):
    open_record(tmp_path / "run", RECORD, resume=False)
    (tmp_path / "run" / left).mkdir(parents=True)
    with pytest.raises(ArgumentError, match="--resume"):
        open_record(tmp_path / "run", RECORD, resume=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="other files"):
        open_record(tmp_path / "other", RECORD, resume=True)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(RECORD, recipe=load_recipe("cifar10", ["run.epochs=3"])), "run.epochs is 3"),
        (replace(RECORD, labels=("cat", "cow")), "other data"),
        (replace(RECORD, fingerprints=("a", "c")), "other data"),
        (replace(RECORD, backend="jax"), "KERAS_BACKEND=torch"),
    ],
)
def test_a_run_goes_on_only_as_it_began(tmp_path, other, said):
    run = begun(tmp_path / "run")
    with pytest.raises(ArgumentError, match=said):
        open_record(run, other, resume=True)


@pytest.mark.parametrize("there", [("recipe.toml",), ("recipe.toml", "run.json", "metrics.jsonl")])
@pytest.mark.parametrize("resume", [False, True])
def test_without_a_run_state_a_run_starts_again(tmp_path, there, resume):
    open_record(tmp_path / "run", RECORD, resume=False)
    (tmp_path / "run" / "metrics.jsonl").touch()
    for file in (tmp_path / "run").iterdir():
        if file.name not in there:
            file.unlink()
    mended = replace(RECORD, recipe=load_recipe("cifar10", ["run.epochs=3"]))
    open_record(tmp_path / "run", mended, resume=resume)
    assert load_recipe(tmp_path / "run" / "recipe.toml").run.epochs == 3
    assert (tmp_path / "run" / "run.json").exists()


def test_without_a_run_state_the_initial_weights_must_be_the_same(tmp_path):
    open_record(tmp_path / "run", RECORD, resume=False)
    for init in (None, "other.pth"):
        with pytest.raises(ArgumentError, match=r"--init weights.pth, and has no run state"):
            open_record(tmp_path / "run", replace(RECORD, init=init), resume=True)
    open_record(tmp_path / "run", replace(RECORD, init=None), resume=False)


def test_with_a_run_state_the_initial_weights_may_be_left_out(tmp_path):
    open_record(begun(tmp_path / "run"), replace(RECORD, init=None), resume=True)


def test_classes_of_any_spelling(tmp_path):
    record = replace(RECORD, labels=("caf\udce9", "Hündin"))
    for _ in range(2):
        open_record(tmp_path / "run", record, resume=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["labels"] == [*record.labels]


def test_settings_that_change_no_result_may_differ_on_resuming(tmp_path):
    run = begun(tmp_path / "run")
    recipe = load_recipe("cifar10", ["run.keep=9", "run.checkpoint_minutes=1"])
    open_record(run, replace(RECORD, recipe=recipe), resume=True)


def test_a_broken_run_is_named(tmp_path):
    open_record(tmp_path / "run", RECORD, resume=False)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ArgumentError, match="cannot be resumed"):
        open_record(tmp_path / "run", RECORD, resume=True)


def test_one_process_at_a_time(tmp_path):
    with (
        locked(tmp_path / "run"),
        pytest.raises(ArgumentError, match="Another process"),
        locked(tmp_path / "run"),
    ):
        pass
    with locked(tmp_path / "run"):
        pass
