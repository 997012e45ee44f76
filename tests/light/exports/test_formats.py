"""The table of formats, and which one a name or a path means."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from convnext.errors import ArgumentError, MissingDependencyError, UnknownNameError
from convnext.exports.formats import FORMATS, choose_format


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.onnx", "onnx"),
        ("A.ONNX", "onnx"),
        ("a.xml", "openvino"),
        ("a.tflite", "litert"),
        ("a.keras", "keras"),
        ("a.b.safetensors", "safetensors"),
        ("a.tar.gz", "saved_model"),
        ("a.tgz", "saved_model"),
    ],
)
def test_the_suffix_of_a_path_chooses_the_format(path, name):
    assert choose_format(None, Path(path)).name == name
    assert choose_format(name, Path(path)).name == name


def test_formats_name_the_file_beside_their_own():
    assert FORMATS["openvino"].beside(Path("a.b.xml")) == Path("a.b.bin")
    assert FORMATS["onnx"].beside(Path("a.onnx")) == Path("a.onnx.data")
    assert FORMATS["keras"].beside(Path("a.keras")) is None


def test_a_folder_needs_its_format_to_be_named():
    with pytest.raises(ArgumentError, match=r"is of no format.*saved_model, onnx"):
        choose_format(None, Path("folder"))
    assert choose_format("saved_model", Path("folder")).name == "saved_model"


def test_a_path_that_does_not_fit_the_format():
    with pytest.raises(ArgumentError, match=r"no suffix of onnx.*\.onnx"):
        choose_format("onnx", Path("a.xml"))
    with pytest.raises(ArgumentError, match=r"\.tar\.gz or \.tgz, or a folder"):
        choose_format("saved_model", Path("a.onnx"))


def test_an_unknown_format_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'onnx'"):
        choose_format("onx", Path("a.onnx"))


def test_every_writer_exists_and_every_default_is_float32():
    for row in FORMATS.values():
        assert importlib.util.find_spec(row.writer) is not None
        assert next(iter(row.precisions)) == "float32"
        assert row.precisions["float32"] == 1e-4
        assert row.suffixes


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    found = importlib.util.find_spec
    hidden = {"tensorflow", "onnxruntime"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in hidden else found(name)
    )
    with pytest.raises(MissingDependencyError, match=r"convnext\[tensorflow\]"):
        FORMATS["saved_model"].check_installed()
    with pytest.raises(MissingDependencyError, match=r"convnext\[litert\]"):
        FORMATS["litert"].check_installed()
    with pytest.raises(MissingDependencyError, match=r"convnext\[onnxruntime\]"):
        FORMATS["onnx"].check_installed()
    FORMATS["safetensors"].check_installed()


def test_options_that_a_format_lacks_name_those_that_have_them():
    with pytest.raises(ArgumentError, match="Formats that have: saved_model, keras"):
        FORMATS["onnx"].check_option("drop path", "drop path")
    with pytest.raises(UnknownNameError, match=r"precision of keras.*float32"):
        FORMATS["keras"].check_precision("int8")
