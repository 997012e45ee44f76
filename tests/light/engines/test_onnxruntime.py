"""What the ONNX Runtime engine does around its graph; the graph has tests of its own."""

import threading

import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from convnext.engines import onnxruntime as module  # noqa: E402
from convnext.engines import open_engine  # noqa: E402
from convnext.errors import ArgumentError, UnknownNameError  # noqa: E402


def opened(weights_file, **options):
    return open_engine(weights_file, "onnxruntime", **{"size": 32, "threads": 1} | options)


def pictures(count, side=32):
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize("streams", [None, 2])
@pytest.mark.parametrize("count", [0, 1, 4, 9, 33])
def test_a_batch_is_its_pictures(weights_file, count, streams):
    engine = opened(weights_file, streams=streams, outputs=("embedding", "logits"))
    batch = pictures(count)
    results = engine.predict_all(batch)
    assert [results[name].shape for name in engine.outputs] == [(count, 32), (count, 10)]
    for picture, logits in zip(batch, results["logits"], strict=True):
        alone = engine.predict_all(picture[None])["logits"][0]
        np.testing.assert_allclose(alone, logits, atol=1e-4)


def test_outputs_equal_those_of_openvino(weights_file):
    pytest.importorskip("convnext.graphs.untracked_openvino")
    theirs = open_engine(weights_file, "openvino", size=32, precision="float32")
    ours = opened(weights_file).predict(pictures(6))
    np.testing.assert_allclose(ours, theirs.predict(pictures(6)), atol=1e-5 * np.abs(ours).max())


def test_eight_callers_get_what_one_gets(weights_file):
    engine = opened(weights_file, threads=2)
    expected = engine.predict(pictures(5))
    results = []
    callers = [
        threading.Thread(target=lambda: results.append(engine.predict(pictures(5))))
        for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 8
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_any_size(weights_file):
    engine = opened(weights_file, size=None, any_size=True, outputs="stage_3")
    assert engine.predict(pictures(5, 64)).shape == (5, 2, 2, 32)
    assert engine.predict(pictures(1, 97)).shape == (1, 3, 3, 32)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "int8"])
def test_a_precision_that_it_has_not(weights_file, precision):
    with pytest.raises(ArgumentError, match=f"does not compute in {precision}.*float32"):
        opened(weights_file, precision=precision)


def test_a_device_that_it_has_not(weights_file, monkeypatch):
    with pytest.raises(UnknownNameError, match="Allowed: auto, cpu, cuda"):
        opened(weights_file, device="tpu")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ArgumentError, match="Install onnxruntime-gpu"):
        opened(weights_file, device="cuda")


def test_a_provider_that_does_not_start(weights_file, monkeypatch):
    """ONNX Runtime falls back to the CPU and goes on; we do not."""
    monkeypatch.setattr(module, "PROVIDERS", {"cuda": "CPUExecutionProvider"})
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda _: [])
    with pytest.raises(ArgumentError, match="could not start on 'cuda'"):
        opened(weights_file, device="cuda")


@pytest.mark.parametrize(("threads", "streams", "each"), [(None, None, 3), (None, 2, 1), (1, 4, 1)])
def test_threads_are_shared_among_streams(weights_file, monkeypatch, threads, streams, each):
    monkeypatch.setattr(module, "available_processors", lambda: 3)
    engine = opened(weights_file, threads=threads, streams=streams)
    assert engine._session.get_session_options().intra_op_num_threads == each
