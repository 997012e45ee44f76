"""The table of export formats: suffixes, precisions, options and required packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from convnext.errors import ArgumentError, MissingDependencyError, UnknownNameError

__all__ = ["FORMATS", "Format", "Option", "choose_format"]

Option = Literal[
    "batch",
    "preprocessing",
    "softmax",
    "output",
    "any size",
    "drop path",
    "output stride",
    "calibration file",
]

HALF = 1e-2
FULL = 1e-4
DECIBELS = 10.0
"""Smallest allowed signal-to-noise ratio of int8 outputs."""


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        name: Its name on the command line.
        about: A short description.
        suffixes: Suffixes of its files; "" for a folder.
        precisions: Its precisions, the default first, with the allowed difference from the model's
            outputs as a share of the largest output; None for int8, whose noise is measured.
        modules: Packages needed to write and run it, with the extra that installs each.
        options: Its options besides precision and resolution.
        writer: The module that writes and runs it, a `Writer`.
        pixels: Type of pixels, if the file normalises pictures itself.
        in_tensorflow: Whether Keras on TensorFlow writes it, if needed in a separate process.
        runtime: The engine on the same runtime, to compare with another one if possible.
        second_suffix: Suffix of a file of weights that may be written beside it; "" for none.
    """

    name: str
    about: str
    suffixes: tuple[str, ...]
    precisions: Mapping[str, float | None]
    modules: Mapping[str, str]
    options: frozenset[Option]
    writer: str
    pixels: Literal["uint8", "float32"] = "float32"
    in_tensorflow: bool = False
    runtime: str = ""
    second_suffix: str = ""

    def beside(self, target: Path) -> Path | None:
        """The file of weights that may be written beside `target`."""
        return target.with_suffix(self.second_suffix) if self.second_suffix else None

    def check_installed(self) -> None:
        """Check that the packages it needs are installed.

        Raises:
            MissingDependencyError: One is not installed.
        """
        for module, extra in self.modules.items():
            if importlib.util.find_spec(module) is None:
                raise MissingDependencyError(f"{module}, which {self.name} needs,", extra)

    def check_precision(self, precision: str) -> None:
        """Refuse a precision that the format does not have."""
        if precision not in self.precisions:
            raise UnknownNameError(f"precision of {self.name}", precision, self.precisions)

    def check_option(self, option: Option, given: str) -> None:
        """Refuse an option that the format does not have."""
        if option in self.options:
            return
        able = ", ".join(other.name for other in FORMATS.values() if option in other.options)
        raise ArgumentError(f"{self.name} has no {given}. Formats that have: {able}.")

    def check_path(self, path: Path) -> None:
        """Refuse a path whose suffix does not fit the format."""
        allowed = [suffix for suffix in self.suffixes if suffix]
        if any(path.name.lower().endswith(suffix) for suffix in allowed):
            return
        if "" in self.suffixes and not _known_suffix(path):
            return
        folder = ", or a folder" if "" in self.suffixes else ""
        raise ArgumentError(
            f"{path.name} has no suffix of {self.name}. Choose a path that ends in "
            f"{' or '.join(allowed)}{folder}."
        )


_GRAPH: frozenset[Option] = frozenset(
    ("batch", "preprocessing", "softmax", "output", "any size", "output stride")
)
_EIGHT = MappingProxyType({"float32": FULL, "float16": HALF, "int8": None})
_TENSORFLOW = MappingProxyType({"tensorflow": "tensorflow", "keras": "tensorflow"})

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        row.name: row
        for row in (
            Format(
                "saved_model",
                "TensorFlow SavedModel as on TF-Hub: to run and to train",
                ("", ".tar.gz", ".tgz"),
                MappingProxyType({"float32": FULL}),
                _TENSORFLOW,
                _GRAPH | {"drop path"},
                "convnext.exports.saved_model",
                in_tensorflow=True,
                runtime="keras",
            ),
            Format(
                "onnx",
                "ONNX, operators of the standard set only",
                (".onnx",),
                _EIGHT,
                MappingProxyType({"onnx": "onnxruntime", "onnxruntime": "onnxruntime"}),
                _GRAPH | {"calibration file"},
                "convnext.exports.onnx_files",
                pixels="uint8",
                runtime="onnxruntime",
                second_suffix=".onnx.data",
            ),
            Format(
                "openvino",
                "OpenVINO's .xml and .bin",
                (".xml",),
                _EIGHT,
                MappingProxyType({"openvino": "openvino"}),
                _GRAPH | {"calibration file"},
                "convnext.exports.openvino_files",
                pixels="uint8",
                runtime="openvino",
                second_suffix=".bin",
            ),
            Format(
                "litert",
                "LiteRT (TensorFlow Lite), for phones and small devices",
                (".tflite",),
                _EIGHT,
                MappingProxyType({"tensorflow": "litert", "keras": "litert"}),
                _GRAPH - {"any size"},
                "convnext.exports.litert",
                pixels="uint8",
                in_tensorflow=True,
                runtime="keras",
            ),
            Format(
                "keras",
                "a whole Keras model, opened where this package is installed",
                (".keras",),
                MappingProxyType({"float32": FULL}),
                MappingProxyType({"keras": "jax"}),
                (_GRAPH - {"batch"}) | {"drop path"},
                "convnext.exports.keras_files",
                runtime="keras",
            ),
            Format(
                "safetensors",
                "weights with their preprocessing, for this package",
                (".safetensors",),
                MappingProxyType({"float32": FULL, "float16": HALF, "bfloat16": 5 * HALF}),
                MappingProxyType({}),
                frozenset(("any size",)),
                "convnext.exports.safetensors_files",
            ),
        )
    }
)
"""All formats by name."""


def choose_format(name: str | None, path: Path) -> Format:
    """Find a format by its name, or by default by the suffix of the path.

    Raises:
        UnknownNameError: There is no such format.
        ArgumentError: The suffix does not fit the format, or is that of no format.
    """
    if name is None:
        found = _known_suffix(path)
        if found is None:
            raise ArgumentError(
                f"The suffix of {path.name} is of no format. Choose one with format= (--format): "
                f"{', '.join(FORMATS)}."
            )
        return found
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    FORMATS[name].check_path(path)
    return FORMATS[name]


def _known_suffix(path: Path) -> Format | None:
    for row in FORMATS.values():
        if any(suffix and path.name.lower().endswith(suffix) for suffix in row.suffixes):
            return row
    return None
