"""The engine on OpenVINO: the fastest on a CPU, and on Intel's GPUs.

For one caller, who waits for each answer, all threads work on a picture (`streams=None`). For many
pictures or callers, as many streams as there are processors do more in all: each works on its own.
Shapes are fixed where they can be, which is worth 5 to 15 %: a graph for one picture and one for
four, the second made when the first larger batch comes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convnext.engines.base import Array, Engine, EngineOptions, InputSpec
from convnext.engines.cache import GraphCache, graphs_folder
from convnext.engines.pieces import pieces
from convnext.errors import ArgumentError, UnknownNameError
from convnext.graphs.levels import Calibration
from convnext.graphs.network import Network
from convnext.graphs.openvino import Product, build, product
from convnext.graphs.quantize import rounded
from convnext.graphs.untracked_openvino import core, ov
from convnext.processors import available_processors

__all__ = ["OpenVINOEngine"]

# Ours, and OpenVINO's name of what a device must be capable of.
PRECISIONS: Mapping[str, tuple[ov.Type, str]] = {
    "float32": (ov.Type.f32, "FP32"),
    "bfloat16": (ov.Type.bf16, "BF16"),
    "float16": (ov.Type.f16, "FP16"),
}
INT8 = "INT8"
ANY = 0  # pictures: a graph that takes any number
# Devices whose compiled graphs are kept. A CPU compiles faster than it reads: docs/engines.md.
KEPT = ("GPU", "NPU")


class OpenVINOEngine(Engine):
    """Runs a network on OpenVINO.

    Args:
        network: What to run; its weights are read here and not needed afterwards.
        options: How. `precision="auto"` is bfloat16 where the device computes it natively and
            float32 elsewhere; `device` is OpenVINO's name, `"CPU"` by default.

    Raises:
        ArgumentError: The device has not the precision, or int8 has no calibration.
    """

    def __init__(self, network: Network, options: EngineOptions) -> None:
        self._core = core()
        self._device = _device(self._core, options.device)
        self.name = "openvino"
        self.precision = _precision(self._core, self._device, options.precision)
        self.outputs = options.outputs
        self.input = InputSpec.of(network, options.input)
        self._streams = options.streams or 1
        rest = self.precision
        if rest == "int8":  # blocks are rounded; the rest is as fast as it can be
            rest = _precision(self._core, self._device, "auto")
        self._properties = _properties(self._device, rest, options)
        self._fixed = network.sides is not None
        linear = _product(self.precision, options.calibration)
        self._model = build(network, options.outputs, input=options.input, product=linear)
        self._compiled: dict[int, ov.CompiledModel] = {}
        self._idle: dict[int, deque[ov.InferRequest]] = {}
        self._compiling = threading.Lock()
        self._request(1)  # so that the first answer does not wait, and what is wrong shows now

    def run(self, batch: Array) -> Sequence[Array]:
        """Each output for a batch: its pieces in turn, as many at a time as there are streams."""
        running: deque[tuple[slice, ov.InferRequest]] = deque()
        results: list[Array] = []
        try:
            for part in pieces(len(batch), ones=self._fixed):
                if len(running) > self._streams:  # one waits, so that no stream does
                    self._collect(running, results, len(batch))
                request = self._request(part.stop - part.start)
                running.append((part, request))
                request.start_async([batch[part]], share_inputs=True)
            while running:
                self._collect(running, results, len(batch))
        finally:
            for _, request in running:  # after an error: they read from the batch
                request.wait()
        return results

    def _collect(
        self, running: deque[tuple[slice, Any]], results: list[Array], pictures: int
    ) -> None:
        """Wait for the oldest request and put its outputs where they belong."""
        part, request = running[0]
        request.wait()
        tensors = [tensor.data for tensor in request.output_tensors]
        if not results:
            results.extend(np.empty((pictures, *data.shape[1:]), np.float32) for data in tensors)
        for result, data in zip(results, tensors, strict=True):
            result[part] = data
        running.popleft()
        self._idle[self._kind(part.stop - part.start)].append(request)

    def _kind(self, pictures: int) -> int:
        return pictures if self._fixed else ANY

    def _request(self, pictures: int) -> ov.InferRequest:
        """One that nobody uses, for so many pictures; callers each have their own."""
        kind = self._kind(pictures)
        with self._compiling:
            if kind not in self._compiled:
                self._compiled[kind] = self._compile(kind)
                self._idle[kind] = deque()
                if len(self._compiled) == 2 or not self._fixed:
                    del self._model
        try:
            return self._idle[kind].pop()
        except IndexError:
            return self._compiled[kind].create_infer_request()

    def _compile(self, pictures: int) -> ov.CompiledModel:
        model = self._model.clone()
        if pictures != ANY:
            model.reshape([pictures, *self.input.shape])
        if not self._device.startswith(KEPT):
            return self._core.compile_model(model, self._device, self._properties)
        described = (
            sorted(self._properties.items()),
            self._core.get_property(self._device, "FULL_DEVICE_NAME"),
            ov.get_version(),
        )
        return GraphCache(graphs_folder()).compiled(
            _digest(model, repr(described)),
            lambda: self._core.compile_model(model, self._device, self._properties),
            lambda compiled: compiled.export_model().getvalue(),
            lambda content: self._core.import_model(content, self._device, self._properties),
        )


def _device(core: ov.Core, wanted: str) -> str:
    if wanted == "auto":
        return "CPU"
    available = core.available_devices
    if wanted.upper().split(".")[0] not in {name.split(".")[0] for name in available}:
        raise UnknownNameError("device of OpenVINO on this machine", wanted, available)
    return wanted.upper()


def _precision(core: ov.Core, device: str, wanted: str) -> str:
    able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    allowed = [name for name, (_, capability) in PRECISIONS.items() if capability in able]
    if INT8 in able:
        allowed.append("int8")
    if wanted == "auto":
        return "bfloat16" if "bfloat16" in allowed else "float32"
    if wanted not in allowed:
        name = core.get_property(device, "FULL_DEVICE_NAME")
        raise ArgumentError(
            f"The OpenVINO engine does not compute in {wanted} on {device} ({name}). It can in: "
            f"{', '.join(allowed)}; 'auto' chooses."
        )
    return wanted


def _product(precision: str, calibration: Calibration | None) -> Product:
    if precision != "int8":
        return product
    if calibration is None:
        raise ArgumentError(
            "int8 needs a calibration: give calibration= a folder of pictures such as the model "
            "will see, or the file that `convnext quantize MODEL PICTURES` makes of them."
        )
    return rounded(calibration)


def _properties(device: str, precision: str, options: EngineOptions) -> dict[str, Any]:
    """OpenVINO's settings; the precision always, because OpenVINO would choose by itself."""
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision][0],
        "PERFORMANCE_HINT": "THROUGHPUT" if options.streams else "LATENCY",
        "NUM_STREAMS": str(options.streams or 1),
    }
    if device.startswith("CPU"):
        properties["INFERENCE_NUM_THREADS"] = options.threads or available_processors()
    elif options.threads is not None:
        raise ArgumentError(f"Threads can be set for the CPU only, not for {device}.")
    return properties


def _digest(model: ov.Model, described: str) -> str:
    """Of all that the graph computes, its numbers included, and of what it is compiled for."""
    digest = hashlib.sha256(described.encode())
    place: dict[str, int] = {}  # names are made up anew for each graph
    for node in model.get_ordered_ops():
        place[node.get_friendly_name()] = len(place)
        sources = [place[value.get_node().get_friendly_name()] for value in node.input_values()]
        digest.update(repr((node.get_type_name(), node.get_attributes(), sources)).encode())
        if node.get_type_name() == "Constant":
            digest.update(np.ascontiguousarray(node.data).data)
    return digest.hexdigest()
