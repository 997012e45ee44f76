"""The ONNX Runtime engine, for any CPU and for CUDA.

Concurrent calls share the session's threads. With `streams`, as many pieces of a large batch are
computed at once, each with its share of the processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort

from convnext.engines.base import Array, Engine, EngineOptions, InputSpec
from convnext.engines.pieces import pieces
from convnext.errors import ArgumentError, UnknownNameError
from convnext.graphs.network import Network
from convnext.graphs.onnx.build import build
from convnext.int8.onnx import rounded
from convnext.processors import available_processors

__all__ = ["OnnxRuntimeEngine"]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
ERRORS_ONLY = 3


class OnnxRuntimeEngine(Engine):
    """Runs a network on ONNX Runtime, in float32, or on a CPU in int8.

    Args:
        network: The network; its weights are read here and not needed afterwards.
        options: Options; `device` is `"cpu"` or `"cuda"`, and `"auto"` the CPU.
    """

    def __init__(self, network: Network, options: EngineOptions) -> None:
        if options.precision not in ("auto", "float32", "int8"):
            raise ArgumentError(
                f"The ONNX Runtime engine does not compute in {options.precision}, for which ONNX "
                "Runtime has no convolutions on CPUs. Use float32 or int8, or the OpenVINO engine."
            )
        provider = _provider(options.device)
        self.name = "onnxruntime"
        self.precision = "int8" if options.precision == "int8" else "float32"
        rounding = None
        if self.precision == "int8":
            if provider != PROVIDERS["cpu"]:
                raise ArgumentError(
                    'The ONNX Runtime engine computes in int8 on device="cpu" only.'
                )
            rounding = rounded(options.required_calibration())
        self.outputs = options.outputs
        self.input = InputSpec.of(network, options.input)
        streams = options.streams or 1
        graph = build(network, options.outputs, input=options.input, rounding=rounding)
        settings = ort.SessionOptions()
        settings.log_severity_level = ERRORS_ONLY
        settings.intra_op_num_threads = max(
            1, (options.threads or available_processors()) // streams
        )
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
        settings.add_external_initializers(list(graph.weights), values)
        self._session = ort.InferenceSession(
            graph.model.SerializeToString(), settings, providers=[provider]
        )
        if provider not in self._session.get_providers():
            raise ArgumentError(
                f"ONNX Runtime could not start on {options.device!r}: its driver or libraries are "
                'missing. Use device="cpu", or install those that onnxruntime-gpu needs.'
            )
        self._streams = ThreadPoolExecutor(streams, "convnext-streams") if streams > 1 else None

    def run(self, batch: Array) -> Sequence[Array]:
        """Compute each output for a batch, in pieces."""
        parts = [batch[part] for part in pieces(len(batch))]
        run_all = map if self._streams is None else self._streams.map
        results = list(run_all(self._run_piece, parts))
        if len(results) == 1:
            return results[0]
        return [np.concatenate(pieces) for pieces in zip(*results, strict=True)]

    def _run_piece(self, piece: Array) -> list[Array]:
        answers: list[Array] = self._session.run(list(self.outputs), {"pictures": piece})
        return answers


def _provider(device: str) -> str:
    name = "cpu" if device == "auto" else device.lower()
    if name not in PROVIDERS:
        raise UnknownNameError("device of ONNX Runtime", device, ("auto", *PROVIDERS))
    provider = PROVIDERS[name]
    if provider not in ort.get_available_providers():
        raise ArgumentError(
            f"This ONNX Runtime cannot use {device!r}. Install onnxruntime-gpu in place of "
            "onnxruntime."
        )
    return provider
