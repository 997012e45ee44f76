"""The code of a contender's process, run here; `test_race.py` starts real processes."""

import io
import json
import os
import sys
import time

import numpy as np
import pytest

from convnext.bench import serve
from convnext.bench.runners import Runner
from convnext.errors import ArgumentError


class Counted:
    """A slow runner that counts its inputs."""

    def __init__(self, seconds=0.0, error=None):
        self.batches = []
        self.seconds, self.error = seconds, error
        self.runner = Runner(lambda pixels: pixels, self.run, "float32")

    def run(self, batch):
        if self.error:
            raise self.error
        self.batches.append(len(batch))
        time.sleep(self.seconds)
        return batch.mean((1, 2)).astype(np.float64)


@pytest.fixture
def talk(material, monkeypatch, capfd):
    """Send lines to the server, and return its replies."""

    def talk(counted, *lines, batch=4):
        monkeypatch.setattr(serve, "_opener", lambda _name: lambda *_: counted.runner)
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        options = {"name": "x", "precision": "auto", "batch": batch, "threads": 1, "processors": 1}
        stdout = os.dup(1)
        try:
            code = serve.main([str(material.folder), json.dumps(options)])
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        return code, [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return talk


def test_readiness_is_reported_after_warming_up(talk):
    counted = Counted()
    code, [report] = talk(counted)
    assert code == 0
    assert report["precision"] == "float32"
    assert report["first_call_s"] > 0
    assert counted.batches == [4, 4, 4], "the first call and two more"


def test_a_turn_is_as_many_calls_as_fit(talk):
    counted = Counted(seconds=0.01)
    _, [_, turn] = talk(counted, "turn 0.2")
    assert 1 < len(turn["seconds"]) < 20
    assert all(seconds >= 0.01 for seconds in turn["seconds"])
    assert len(counted.batches) == 3 + 1 + len(turn["seconds"]), "one call warms the caches"


def test_a_slow_model_is_called_once_a_turn(talk):
    counted = Counted(seconds=0.05)
    _, [_, first, second] = talk(counted, "turn 0.06", "turn 0.06")
    assert [len(turn["seconds"]) for turn in (first, second)] == [1, 1]
    assert len(counted.batches) == 3 + 2 + 1, "the second turn goes without warming up"


def test_outputs_of_all_pictures_in_order_in_whole_batches(talk, material, tmp_path):
    counted = Counted()
    _, [_, answer] = talk(counted, f"outputs {tmp_path}/a b.npy")
    assert answer == {"pictures": 6}
    assert counted.batches[3:] == [4, 4]
    logits = np.load(tmp_path / "a b.npy")
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, material.pictures.mean((1, 2)), rtol=1e-6)


def test_peak_memory(talk):
    _, [_, answer] = talk(Counted(), "peak")
    assert 10 < answer["peak_mib"] < 100_000


def test_peak_memory_is_linux_s_own_account(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n")
    assert serve.peak_memory(tmp_path) == 2 * 2**20


def test_peak_memory_elsewhere(tmp_path):
    assert serve.peak_memory(tmp_path) > 10 * 2**20


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ArgumentError("It cannot."), "It cannot."),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (MemoryError(), "MemoryError"),
        (ValueError("x" * 9999), f"ValueError: {'x' * 400}"),
    ],
)
def test_an_error_is_reported_as_json(talk, error, said):
    code, answers = talk(Counted(error=error))
    assert code == 1
    assert answers == [{"error": said}]
