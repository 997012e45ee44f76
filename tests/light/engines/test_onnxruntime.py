"""What the ONNX Runtime engine does around its graph; the graph has tests of its own."""

import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from contracts import EngineContract, noise  # noqa: E402
from convnext.engines import onnxruntime as module  # noqa: E402
from convnext.engines import open_engine  # noqa: E402
from convnext.errors import ArgumentError, UnknownNameError  # noqa: E402


class TestContract(EngineContract):
    name = "onnxruntime"
    refused = ("bfloat16", "float16")


def opened(model, **options):
    return TestContract().open(model, **options)


def test_outputs_equal_those_of_openvino(weights_file):
    pytest.importorskip("convnext.graphs.untracked_openvino")
    theirs = open_engine(weights_file, "openvino", size=32, precision="float32")
    ours = opened(weights_file).predict(noise(6))
    np.testing.assert_allclose(ours, theirs.predict(noise(6)), atol=1e-5 * np.abs(ours).max())


def test_a_device_that_it_has_not(weights_file, monkeypatch):
    with pytest.raises(UnknownNameError, match="Allowed: auto, cpu, cuda"):
        opened(weights_file, device="tpu")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ArgumentError, match="Install onnxruntime-gpu"):
        opened(weights_file, device="cuda")


def test_int8_needs_a_calibration_and_a_cpu(weights_file, monkeypatch):
    with pytest.raises(ArgumentError, match=r"int8 needs a calibration.*convnext quantize"):
        opened(weights_file, precision="int8")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(ArgumentError, match='int8 on device="cpu" only'):
        opened(weights_file, precision="int8", device="cuda")


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
