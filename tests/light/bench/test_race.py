import subprocess
import sys

import numpy as np
import pytest

from convnext.bench import process as module
from convnext.bench.contenders import Contender
from convnext.bench.race import logits_of, race
from convnext.errors import ConvNeXtError
from convnext.graphs.agreement import agreement

pytest.importorskip("openvino")

OPENVINO = Contender("openvino", "float32")
ONNX = Contender("onnxruntime", "float32")


@pytest.fixture
def started(monkeypatch):
    """All processes that a race has started."""
    processes = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            processes.append(self)

    monkeypatch.setattr(module.subprocess, "Popen", Recorded)
    return processes


def interpreter(path, monkeypatch, case):
    """Replace contenders by a shell script that first reads their options."""
    path.write_text(f'#!/bin/sh\ncase "$*" in {case} esac\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(path))


def test_a_race(material, started):
    pytest.importorskip("onnxruntime")
    steps = []
    first, second = race(material, [OPENVINO, ONNX], 4, 2, threads=1, on_step=steps.append)
    for result in (first, second):
        assert result.error is None
        assert result.precision == "float32"
        assert len(result.turns) == 2
        assert all(seconds > 0 for turn in result.turns for seconds in turn)
        assert result.load_s > 0
        assert result.first_call_s > 0
        assert 10 < result.peak_mib < 10_000
        assert result.logits.shape == (6, 1000)
    assert agreement(second.logits, first.logits).decibels > 80
    assert steps == [
        *("openvino float32 loads", "onnxruntime float32 loads"),
        *("round 1 of 2: openvino float32", "round 1 of 2: onnxruntime float32"),
        *("round 2 of 2: openvino float32", "round 2 of 2: onnxruntime float32"),
        *("openvino float32 answers", "onnxruntime float32 answers"),
    ]
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


def test_a_contender_that_fails_to_start_is_left_out_of_the_race(material, tmp_path, monkeypatch):
    killed = """*'"float16"'*) kill -9 $$;; *int8*) echo no luck >&2; exit 3;;"""
    interpreter(tmp_path / "python", monkeypatch, killed)
    pytest.importorskip("onnxruntime")
    contenders = [
        Contender("onnxruntime", "bfloat16"),  # does not support this precision
        Contender("openvino", "float16"),
        Contender("keras", "int8"),
        OPENVINO,
    ]
    refused, killed, ended, good = race(material, contenders, 1, 1)
    assert "does not compute in bfloat16" in refused.error
    assert killed.error == "It was killed, as the system does when memory runs out."
    assert ended.error == "Its process ended with code 3. Its last message: no luck"
    assert good.error is None
    assert len(good.turns) == 1
    assert [result.logits is None for result in (refused, killed, ended, good)] == [1, 1, 1, 0]


def test_a_contender_killed_in_a_round_is_left_out_afterwards(material, started):
    def kill_first(step):
        if step == "round 2 of 3: openvino float32":
            started[0].kill()

    [result] = race(material, [OPENVINO], 1, 3, on_step=kill_first)
    assert result.error.startswith("It was killed")
    assert len(result.turns) == 1


def test_a_peer_that_is_not_installed(material, monkeypatch):
    monkeypatch.setattr("convnext.bench.contenders.find_spec", lambda _: None)
    [result] = race(material, [Contender("timm", "float32")], 1, 1)
    assert result.error == "Not installed: timm, torch."


def test_an_interruption_ends_every_process(material, started):
    def interrupt(step):
        if step.startswith("round 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race(material, [OPENVINO], 1, 1, on_step=interrupt)
    assert [process.returncode for process in started] == [-9]


def test_threads_and_backend_are_in_the_environment(material, tmp_path, monkeypatch):
    seen = tmp_path / "seen"
    interpreter(
        tmp_path / "python",
        monkeypatch,
        f"*) echo $OMP_NUM_THREADS $TF_NUM_INTRAOP_THREADS $KERAS_BACKEND > {seen}; exit 1;;",
    )
    race(material, [Contender("keras.applications:jax", "float32")], 1, 1, threads=3)
    assert seen.read_text() == "3 3 jax\n"


def test_the_reference_is_our_engine_in_float32(material):
    from convnext.engines import open_engine

    engine = open_engine(material.weights, precision="float32")
    ours = engine.predict(material.pictures)
    np.testing.assert_allclose(logits_of(material), ours, atol=1e-5 * np.abs(ours).max())
    assert not list(material.folder.glob("logits*"))


def test_a_failing_reference_is_an_error(material):
    with pytest.raises(ConvNeXtError, match="The reference failed: Unknown engine"):
        logits_of(material, Contender("abacus", "float32"))
