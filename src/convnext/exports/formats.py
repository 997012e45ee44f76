"""The formats that a model can be exported to, as a table: what each is called, needs and offers.

It knows what is installed and nothing of how a format is written.
"""

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
    "batch", "preprocessing", "softmax", "output", "any size", "drop path", "output stride"
]

HALF = 1e-2
FULL = 1e-4
DECIBELS = 10.0
"""How much stronger than its noise the signal of eight-bit answers is at least."""


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: What it is called on the command line.
        about: What it is, in a few words.
        suffixes: What its files may end in; "" for a folder.
        precisions: What it can be written in, the default first, and how far its answers may then
            be from the model's, as a share of the largest answer; None for eight bits, whose noise
            is measured.
        modules: What must be installed to write and to run it, by the extra that brings it.
        options: What can be chosen besides precision and resolution.
        writer: The module of this room that writes and runs it.
        pixels: What it takes where it normalises pictures itself.
        in_tensorflow: Whether it is written by Keras on TensorFlow, in a process of its own if need
            be.
        runtime: The engine of ours that runs such files too, and so is no judge of them.
        second_suffix: What a file of weights ends in that may lie beside; "" for none.
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
        """The file that may be written beside `target`, of the same stem."""
        return target.with_suffix(self.second_suffix) if self.second_suffix else None

    def check_installed(self) -> None:
        """Refuse where something is missing.

        Raises:
            MissingDependencyError: Says how to install it.
        """
        for module, extra in self.modules.items():
            if importlib.util.find_spec(module) is None:
                raise MissingDependencyError(f"{module}, which {self.name} needs,", extra)

    def check_precision(self, precision: str) -> None:
        """Refuse a precision that the format has not."""
        if precision not in self.precisions:
            raise UnknownNameError(f"precision of {self.name}", precision, self.precisions)

    def check_option(self, option: Option, given: str) -> None:
        """Refuse an option that the format has not."""
        if option in self.options:
            return
        able = ", ".join(other.name for other in FORMATS.values() if option in other.options)
        raise ArgumentError(f"{self.name} has no {given}. Formats that have: {able}.")

    def check_path(self, path: Path) -> None:
        """Refuse a name that does not fit the format."""
        allowed = [suffix for suffix in self.suffixes if suffix]
        if any(path.name.lower().endswith(suffix) for suffix in allowed):
            return
        if "" in self.suffixes and not _known_suffix(path):
            return
        folder = ", or a folder" if "" in self.suffixes else ""
        raise ArgumentError(
            f"{path.name} is no name for {self.name}. Name something that ends in "
            f"{' or '.join(allowed)}{folder}."
        )


_GRAPH: frozenset[Option] = frozenset(
    ("batch", "preprocessing", "softmax", "output", "any size", "output stride")
)
_HALVES = MappingProxyType({"float32": FULL, "float16": HALF})
_EIGHT = MappingProxyType({"float32": FULL, "float16": HALF, "int8": None})
_TENSORFLOW = MappingProxyType({"tensorflow": "tensorflow", "keras": "tensorflow"})

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        row.name: row
        for row in (
            Format(
                "saved_model",
                "TensorFlow SavedModel, as TF-Hub has them: to run, and to train on",
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
                _HALVES,
                MappingProxyType({"onnx": "onnxruntime", "onnxruntime": "onnxruntime"}),
                _GRAPH,
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
                _GRAPH,
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
                "weights alone, with their recipe; what this package reads everywhere",
                (".safetensors",),
                MappingProxyType({"float32": FULL, "float16": HALF, "bfloat16": 5 * HALF}),
                MappingProxyType({}),
                frozenset(("any size",)),
                "convnext.exports.safetensors_files",
            ),
        )
    }
)
"""Every format by its name."""


def choose_format(name: str | None, path: Path) -> Format:
    """The format that was asked for, or else the one whose suffix the path has.

    Raises:
        UnknownNameError: There is no such format.
        ArgumentError: The path does not fit it, or says nothing where it has to.
    """
    if name is None:
        found = _known_suffix(path)
        if found is None:
            raise ArgumentError(
                f"What {path.name} ends in says no format. Give format= (--format): "
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
