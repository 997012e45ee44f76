from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convnext.atomic import write_text
from convnext.errors import TrainingError
from convnext.train.run.run_states import RunState, RunStates, disk_errors

ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "count": np.array(7, np.int64),
    "seed": np.array([1, 2**32 - 1], np.uint32),
    "nothing": np.zeros((0, 3), np.float32),
}


def test_a_run_state_is_read_as_it_was_written(tmp_path):
    states = RunStates(tmp_path / "here")
    assert states.latest() is None
    states.write(RunState(3, ARRAYS, {"best": 0.5}))
    back = states.latest()
    assert back.step == 3
    assert back.facts == {"best": 0.5}
    assert back.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert back.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(back.arrays[name], array)


def test_only_the_last_ones_stay(tmp_path):
    states = RunStates(tmp_path, keep=2)
    for step in (5, 10, 20):
        states.write(RunState(step, {"a": np.zeros(1)}, {}))
    assert sorted(place.name for place in tmp_path.iterdir()) == [
        "step-000000010",
        "step-000000020",
    ]


def test_damaged_later_run_states_are_removed_by_the_next_write(tmp_path):
    states = RunStates(tmp_path, keep=2)
    for step in (10, 100, 200):
        last = states.write(RunState(step, ARRAYS, {}))
    for damaged in (last, last.with_name("step-000000100")):
        (damaged / "progress.json").write_text("{")
    states.write(RunState(20, ARRAYS, {}))
    assert [place.name for place in tmp_path.iterdir()] == ["step-000000020"]
    assert states.latest().step == 20


def test_run_states_that_cannot_be_read_are_an_error(tmp_path):
    states = RunStates(tmp_path)
    (states.write(RunState(1, ARRAYS, {})) / "progress.json").write_text("{")
    with pytest.raises(TrainingError, match="None of the 1 run states"):
        states.latest()


@pytest.mark.parametrize("damage", ["truncate", "remove", "facts", "zeros"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage, caplog):
    states = RunStates(tmp_path)
    states.write(RunState(1, ARRAYS, {}))
    last = states.write(RunState(2, ARRAYS, {}))
    if damage == "truncate":
        os.truncate(last / "state.safetensors", 60)
    elif damage == "zeros":
        with (last / "state.safetensors").open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\0\1\0\0")
    elif damage == "remove":
        (last / "state.safetensors").unlink()
    else:
        (last / "progress.json").write_text("{")
    assert states.latest().step == 1
    assert "is skipped" in caplog.text


def test_a_temporary_folder_is_no_checkpoint_and_is_swept_away(tmp_path):
    temporary = tmp_path / ".0a1b2c3d.step-000000009.part"
    temporary.mkdir()
    (temporary / "state.safetensors").write_bytes(b"half")
    states = RunStates(tmp_path)
    assert states.latest() is None
    states.write(RunState(1, ARRAYS, {}))
    assert [place.name for place in tmp_path.iterdir()] == ["step-000000001"]


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    states = RunStates(tmp_path)
    states.write(RunState(1, ARRAYS, {}))

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    message = r"No space left.*Free space, then resume with --resume"
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1))
        with pytest.raises(TrainingError, match=message):
            states.write(RunState(2, ARRAYS, {}))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match=message):
        states.write(RunState(2, ARRAYS, {}))
    assert [place.name for place in tmp_path.iterdir()] == ["step-000000001"]
    monkeypatch.setattr(Path, "write_text", full)
    with (
        pytest.raises(TrainingError, match="No space left"),
        disk_errors(tmp_path / "table.csv"),
    ):
        write_text(tmp_path / "table.csv", "a")
    assert not (tmp_path / "table.csv").exists()
