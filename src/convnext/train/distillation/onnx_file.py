"""An ONNX file of any network as a teacher, on OpenVINO or ONNX Runtime.

A file states neither the normalisation of its pictures nor its classes, unless this package wrote
it; the recipe's section `distill` does. Layout and size are its input's, where that fixes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.engines.opening import ENGINES
from convnext.errors import (
    ArgumentError,
    ConvNeXtError,
    MissingDependencyError,
    UnknownNameError,
    listed,
)
from convnext.processors import available_processors

__all__ = ["CHANNELS", "OnnxFile", "open_onnx"]

Array = NDArray[np.float32]
Shape = tuple[int | None, ...]
PIECE = 32  # pictures that a stream computes at once; faster than 4 or 128
MOST_STREAMS = 4
ERRORS_ONLY = 3
CHANNELS = 3


class OnnxFile(NamedTuple):
    """An opened ONNX file.

    Attributes:
        run: Computes the output for normalised pictures `[n, size, size, 3]`.
        size: Side of the pictures.
        width: Numbers in an answer.
        metadata: Texts in the file.
        about: The runtime and its precision.
    """

    run: Callable[[Array], Array]
    size: int
    width: int
    metadata: dict[str, str]
    about: str


class _Port(NamedTuple):
    """An input or output of a file; None for an axis of any length."""

    name: str
    shape: Shape
    floats: bool


class _OpenVINO:
    """A file on OpenVINO."""

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        from convnext.graphs.untracked_openvino import core, ov

        self._model = core().read_model(path)
        able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        types = {"float32": ov.Type.f32} | ({"bfloat16": ov.Type.bf16} if "BF16" in able else {})
        kind = ("bfloat16" if "BF16" in able else "float32") if precision == "auto" else precision
        if kind not in types:
            raise UnknownNameError("distill.precision of an ONNX file here", kind, types)
        self._streams = min(threads, MOST_STREAMS)
        self._options = {
            "INFERENCE_PRECISION_HINT": types[kind],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": str(self._streams),
            "PERFORMANCE_HINT": "THROUGHPUT",
            "ENABLE_CPU_PINNING": False,
        }
        self.about = f"OpenVINO, {kind}"
        self.inputs = [_openvino_port(port, ov.Type.f32) for port in self._model.inputs]
        self.outputs = [_openvino_port(port, ov.Type.f32) for port in self._model.outputs]
        facts = self._model.get_rt_info()
        stated = facts["framework"] if "framework" in facts else {}  # noqa: SIM401  (no dict)
        self.metadata = {name: str(value.value) for name, value in stated.items()}

    def compile(self, given: str, output: str, shape: Sequence[int]) -> _Compute:
        """Compile the file for pieces of a shape; returns a function from pieces to outputs."""
        from convnext.graphs.untracked_openvino import core

        self._model.reshape({given: list(shape)})
        compiled = core().compile_model(self._model, "CPU", self._options)
        port = compiled.output(output)
        requests = [compiled.create_infer_request() for _ in range(self._streams + 1)]

        def compute(pieces: Sequence[Array]) -> list[Array]:
            running: deque[Any] = deque()
            found: list[Array] = []

            def collect() -> None:
                request = running.popleft()
                request.wait()
                found.append(np.array(request.get_tensor(port).data, np.float32))

            for number, piece in enumerate(pieces):
                if len(running) == len(requests):
                    collect()
                running.append(requests[number % len(requests)])
                running[-1].start_async({given: piece}, share_inputs=True)
            while running:
                collect()
            return found

        return compute


def _openvino_port(port: Any, floats: Any) -> _Port:
    axes = port.partial_shape
    shape = (
        ()
        if axes.rank.is_dynamic
        else tuple(None if axis.is_dynamic else axis.get_length() for axis in axes)
    )
    return _Port(port.any_name, shape, port.element_type == floats)


class _OnnxRuntime:
    """A file on ONNX Runtime."""

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        import onnxruntime as ort

        if precision not in ("auto", "float32"):
            raise UnknownNameError(
                "distill.precision of an ONNX file on ONNX Runtime", precision, ("float32",)
            )
        settings = ort.SessionOptions()
        settings.log_severity_level = ERRORS_ONLY
        settings.intra_op_num_threads = threads
        self._session = ort.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        self.about = "ONNX Runtime, float32"
        self.inputs = [_onnx_port(port) for port in self._session.get_inputs()]
        self.outputs = [_onnx_port(port) for port in self._session.get_outputs()]
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def compile(self, given: str, output: str, shape: Sequence[int]) -> _Compute:
        """Return a function from pieces to outputs."""
        del shape

        def compute(pieces: Sequence[Array]) -> list[Array]:
            return [self._session.run([output], {given: piece})[0] for piece in pieces]

        return compute


def _onnx_port(port: Any) -> _Port:
    shape = tuple(axis if isinstance(axis, int) else None for axis in port.shape)
    return _Port(port.name, shape, port.type == "tensor(float)")


_Compute = Callable[[Sequence[Array]], list[Array]]
RUNTIMES: dict[str, type[_OpenVINO | _OnnxRuntime]] = {
    "openvino": _OpenVINO,
    "onnxruntime": _OnnxRuntime,
}


def open_onnx(
    path: Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    layout: str | None = None,
    size: int | None = None,
    output: str = "",
) -> OnnxFile:
    """Open an ONNX file.

    Args:
        path: The file.
        engine: `"openvino"`, `"onnxruntime"`, or `"auto"` for the first that is installed.
        precision: `"auto"` is bfloat16 where the processor computes in it, on OpenVINO.
        threads: Number of threads; None for all processors.
        layout: `"nchw"` or `"nhwc"`, of files that do not tell.
        size: Side of the pictures, of files that do not tell.
        output: Name of the output; empty if there is one alone.

    Raises:
        ArgumentError: The file cannot be read, or more has to be known of it.
        MissingDependencyError: No runtime is installed.
    """
    if engine not in ("auto", *RUNTIMES):
        raise UnknownNameError("distill.engine of an ONNX file", engine, ("auto", *RUNTIMES))
    names = [name for name in RUNTIMES if engine in ("auto", name) and ENGINES[name].installed()]
    if not names:
        raise MissingDependencyError("An engine to run an ONNX file", *RUNTIMES)
    if not path.is_file():
        raise ArgumentError(f"There is no file {path}. Name the teacher's file.")
    with _reading(path):
        opened = RUNTIMES[names[0]](path, precision, threads or available_processors())
    pictures, answers = _ports(path, opened.inputs, opened.outputs, output)
    channels_first = _channels_first(path, pictures.shape, layout)
    side = _side(path, pictures.shape, size, channels_first)
    piece = pictures.shape[0] or PIECE
    sides = (CHANNELS, side, side) if channels_first else (side, side, CHANNELS)
    with _reading(path):
        compute = opened.compile(pictures.name, answers.name, (piece, *sides))
        probe = compute([np.zeros((piece, *sides), np.float32)])[0]
    if probe.ndim != 2 or len(probe) != piece:
        raise ArgumentError(
            f"The output {answers.name} of {path} has the shape {probe.shape} for {piece} "
            "pictures. A teacher gives a row of numbers for each; name another output with "
            "distill.output."
        )

    def run(batch: Array) -> Array:
        if channels_first:
            batch = np.transpose(batch, (0, 3, 1, 2))
        padded = -len(batch) % piece
        if padded:
            batch = np.concatenate([batch, np.zeros((padded, *batch.shape[1:]), np.float32)])
        batch = np.ascontiguousarray(batch)
        parts = compute([batch[at : at + piece] for at in range(0, len(batch), piece)])
        return np.concatenate(parts)[: len(batch) - padded]

    return OnnxFile(run, side, probe.shape[1], opened.metadata, opened.about)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn every error of the runtimes, which have no class in common, into an `ArgumentError`."""
    try:
        yield
    except ConvNeXtError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ArgumentError(
            f"{path} is no ONNX file that can be computed here ({lines[-1]}). Check that it is "
            "whole, or export it again."
        ) from error


def _ports(
    path: Path, inputs: Sequence[_Port], outputs: Sequence[_Port], output: str
) -> tuple[_Port, _Port]:
    """The input of pictures, and the output of answers."""
    if len(inputs) != 1 or not inputs[0].floats:
        raise ArgumentError(
            f"{path} has the inputs {listed([port.name for port in inputs])}. A teacher has one, "
            "of float32 pictures: export it again, without its preprocessing of pixels."
        )
    names = [port.name for port in outputs]
    if output and output not in names:
        raise UnknownNameError(f"output of {path}", output, names)
    if not output and len(outputs) > 1:
        raise ArgumentError(
            f"{path} has several outputs. Name the one to learn with distill.output: "
            f"{listed(names)}."
        )
    return inputs[0], outputs[names.index(output) if output else 0]


def _channels_first(path: Path, shape: Shape, layout: str | None) -> bool:
    """Whether the axes are those of NCHW."""
    if len(shape) != 4:
        raise ArgumentError(
            f"The input of {path} has {len(shape)} axes. Pictures have four: a batch of colours, "
            "rows and columns in any order. Export it again."
        )
    first, last = (axis in (None, CHANNELS) for axis in (shape[1], shape[3]))
    possible = [name for name, fits in (("nchw", first), ("nhwc", last)) if fits]
    if shape[1] == CHANNELS and shape[3] is None:
        possible = ["nchw"]
    if shape[3] == CHANNELS and shape[1] is None:
        possible = ["nhwc"]
    if not possible:
        raise ArgumentError(
            f"The input of {path} has the shape {_written(shape)}, without an axis of three "
            "colours. A teacher sees the pictures of the run, which are red, green and blue."
        )
    if layout is None and len(possible) > 1:
        raise ArgumentError(
            f"{path} does not tell which axis has the colours: set distill.layout to nchw or nhwc."
        )
    if layout is not None and layout not in possible:
        raise ArgumentError(
            f"distill.layout is {layout}, and the input of {path} has the shape {_written(shape)}."
        )
    return (layout or possible[0]) == "nchw"


def _side(path: Path, shape: Shape, size: int | None, channels_first: bool) -> int:
    """Side of the pictures, of the file or of the recipe."""
    height, width = shape[2:4] if channels_first else shape[1:3]
    stated = {axis for axis in (height, width) if axis is not None}
    if len(stated | ({size} - {None})) > 1:
        raise ArgumentError(
            f"The input of {path} has the shape {_written(shape)}, and distill.size is {size}. "
            "A teacher's pictures are squares of its own size."
        )
    found = next(iter(stated), size)
    if found is None:
        raise ArgumentError(
            f"{path} takes pictures of any size. Set distill.size to the side of those that it "
            "was trained with."
        )
    return found


def _written(shape: Shape) -> str:
    return str(["any" if axis is None else axis for axis in shape]).replace("'", "")
