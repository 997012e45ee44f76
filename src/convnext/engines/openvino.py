"""The OpenVINO engine, the fastest on a CPU; also for Intel GPUs.

For a fixed picture size there are two graphs, for one and for four pictures, as fixed shapes are 5
to 15 % faster; the second is compiled for the first larger batch. One picture is computed by all
threads. A larger batch is computed by several streams with four pictures each, which is 6 to 20 %
faster than all threads on the same four.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from convnext.engines.base import Array, Engine, EngineOptions, InputSpec
from convnext.engines.cache import GraphCache, graphs_folder
from convnext.engines.pieces import PIECE, pieces
from convnext.errors import ArgumentError, UnknownNameError
from convnext.graphs.network import Network
from convnext.graphs.openvino import Product, build, product
from convnext.graphs.untracked_openvino import core, ov
from convnext.int8.openvino import rounded
from convnext.processors import available_processors

__all__ = ["OpenVINOEngine"]

# OpenVINO's type of each precision, and the capability that a device needs for it.
PRECISIONS: Mapping[str, tuple[ov.Type, str]] = {
    "float32": (ov.Type.f32, "FP32"),
    "bfloat16": (ov.Type.bf16, "BF16"),
    "float16": (ov.Type.f16, "FP16"),
}
INT8 = "INT8"
ANY = 0  # key of the graph for any number of pictures
MOST_STREAMS = 4  # by default: only very large batches would keep more of them busy
# Devices whose compiled graphs are cached; a CPU compiles faster than it reads: docs/engines.md.
KEPT = ("GPU", "NPU")


class OpenVINOEngine(Engine):
    """Runs a network on OpenVINO.

    Args:
        network: The network; its weights are read here and not needed afterwards.
        options: Options; `precision="auto"` is bfloat16 if the device computes it natively, else
            float32; `device` is OpenVINO's name, `"CPU"` by default.

    Raises:
        ArgumentError: The device lacks the precision, or int8 has no calibration.
    """

    def __init__(self, network: Network, options: EngineOptions) -> None:
        self._core = core()
        self._device = _device(self._core, options.device)
        self.name = "openvino"
        self.precision = _precision(self._core, self._device, options.precision)
        self.outputs = options.outputs
        self.input = InputSpec.of(network, options.input)
        self._threads = options.threads or available_processors()
        self._streams = _streams(self._device, self._threads, options)
        rest = self.precision
        if rest == "int8":  # of the blocks; the rest has the fastest precision
            rest = _precision(self._core, self._device, "auto")
        self._properties = _properties(self._device, rest, self._threads, options)
        self._fixed = network.sides is not None
        linear: Product = product
        if self.precision == "int8":
            linear = rounded(options.required_calibration())
        self._model = build(network, options.outputs, input=options.input, product=linear)
        self._graphs: dict[int, _Graph] = {}
        self._compiling = threading.Lock()
        self._graph(1)  # the first call need not wait, and errors occur now

    def run(self, batch: Array) -> Sequence[Array]:
        """Compute each output for a batch, in pieces: as many at once as there are streams."""
        running: deque[_Running] = deque()
        results: list[Array] = []
        try:
            for part in pieces(len(batch), ones=self._fixed, streams=self._streams[PIECE]):
                graph = self._graph(part.stop - part.start)
                while len(running) > graph.streams:  # one more, so that no stream idles
                    _collect(running, results, len(batch))
                running.append(_Running(part, graph, graph.request()))
                running[-1].request.start_async([batch[part]], share_inputs=True)
            while running:
                _collect(running, results, len(batch))
        finally:
            for each in running:  # after an error, as they read from the batch
                each.request.wait()
        return results

    def _graph(self, pictures: int) -> _Graph:
        """Get the graph for a number of pictures, compiled on first use."""
        kind = pictures if self._fixed else ANY
        with self._compiling:
            if kind not in self._graphs:
                streams = self._streams[kind]
                self._graphs[kind] = _Graph(self._compile(kind, streams), streams)
                if len(self._graphs) == 2 or not self._fixed:
                    del self._model
            return self._graphs[kind]

    def _compile(self, pictures: int, streams: int) -> ov.CompiledModel:
        model = self._model.clone()
        if pictures != ANY:
            model.reshape([pictures, *self.input.shape])
        properties = {
            **self._properties,
            "PERFORMANCE_HINT": "THROUGHPUT" if streams > 1 else "LATENCY",
            "NUM_STREAMS": str(streams),
        }
        if not self._device.startswith(KEPT):
            return self._core.compile_model(model, self._device, properties)
        described = (
            sorted(properties.items()),
            self._core.get_property(self._device, "FULL_DEVICE_NAME"),
            ov.get_version(),
        )
        return GraphCache(graphs_folder()).compiled(
            _digest(model, repr(described)),
            lambda: self._core.compile_model(model, self._device, properties),
            _exported,
            lambda content: self._core.import_model(content, self._device, properties),
        )


def _exported(compiled: ov.CompiledModel) -> bytes:
    """A compiled graph's file."""
    stream = io.BytesIO()
    compiled.export_model(stream)
    return stream.getvalue()


class _Graph:
    """A compiled graph, and its idle requests."""

    def __init__(self, compiled: ov.CompiledModel, streams: int) -> None:
        self.compiled = compiled
        self.streams = streams
        self._idle: deque[ov.InferRequest] = deque()

    def request(self) -> ov.InferRequest:
        """Take an idle request, or create one."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.compiled.create_infer_request()

    def give_back(self, request: ov.InferRequest) -> None:
        self._idle.append(request)


class _Running(NamedTuple):
    """A part of a batch that is being computed."""

    part: slice
    graph: _Graph
    request: ov.InferRequest


def _collect(running: deque[_Running], results: list[Array], pictures: int) -> None:
    """Wait for the oldest request and copy its outputs to the results."""
    part, graph, request = running[0]
    request.wait()
    tensors = [tensor.data for tensor in request.output_tensors]
    if not results:
        results.extend(np.empty((pictures, *data.shape[1:]), np.float32) for data in tensors)
    for result, data in zip(results, tensors, strict=True):
        result[part] = data
    running.popleft()
    graph.give_back(request)


def _device(core: ov.Core, wanted: str) -> str:
    if wanted == "auto":
        return "CPU"
    available = core.available_devices
    families = {name.split(".")[0] for name in available}
    first = {f"{name}.0" for name in families - {"CPU"}}  # also valid for a single device
    if wanted.upper() not in {*available, *families, *first}:
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
            f"The OpenVINO engine does not compute in {wanted} on {device} ({name}). Allowed: "
            f"auto, {', '.join(allowed)}."
        )
    return wanted


def _streams(device: str, threads: int, options: EngineOptions) -> dict[int, int]:
    """Number of streams of each graph."""
    if options.streams:
        return dict.fromkeys((1, PIECE, ANY), options.streams)
    alone = device.startswith("CPU")
    return {1: 1, PIECE: min(threads, MOST_STREAMS) if alone else 1, ANY: 1}


def _properties(
    device: str, precision: str, threads: int, options: EngineOptions
) -> dict[str, Any]:
    """OpenVINO's settings, with the precision, as OpenVINO would choose another."""
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision][0]}
    if device.startswith("CPU"):
        properties["INFERENCE_NUM_THREADS"] = threads
        # With pinning, threads of several processes would share the first processors.
        properties["ENABLE_CPU_PINNING"] = threads >= (os.cpu_count() or 1)
    elif options.threads is not None:
        raise ArgumentError(f"threads is for the CPU only, not for {device}: leave it out.")
    return properties


def _digest(model: ov.Model, described: str) -> str:
    """Digest of a graph, its constants, and the description of its device and settings."""
    digest = hashlib.sha256(described.encode())
    number: dict[str, int] = {}  # instead of names, which differ each time
    for node in model.get_ordered_ops():
        number[node.get_friendly_name()] = len(number)
        sources = [number[value.get_node().get_friendly_name()] for value in node.input_values()]
        digest.update(repr((node.get_type_name(), node.get_attributes(), sources)).encode())
        if node.get_type_name() == "Constant":
            digest.update(np.ascontiguousarray(node.data).data)
    return digest.hexdigest()
