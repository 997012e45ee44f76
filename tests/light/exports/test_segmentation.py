"""Files of segmentation models that need no framework, run by their own runtimes.

The other formats: `tests/heavy/test_export_segmentation.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from convnext.engines import open_engine
from convnext.errors import ArgumentError, ExportError
from convnext.exports import export, verify
from convnext.graphs.agreement import Agreement
from convnext.images.generated import generated_pictures

ort = pytest.importorskip("onnxruntime")
ov = pytest.importorskip("openvino")

SIDE = 64  # of the models in ../conftest.py


def by_onnxruntime(path, batch):
    return ort.InferenceSession(str(path)).run(None, {"pictures": batch})[0]


def by_openvino(path, batch):
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().compile_model(str(path), "CPU", hint)([batch])[0]


@pytest.mark.parametrize("head", ["upernet", "light"])
@pytest.mark.parametrize(("name", "run"), [("a.onnx", by_onnxruntime), ("a.xml", by_openvino)])
def test_the_file_gives_the_scores_of_each_pixel(head, name, run, request, tmp_path):
    weights = request.getfixturevalue(head)
    report = export(weights, tmp_path / name, with_preprocessing=True)
    assert "4 generated pictures" in report.pictures
    pixels = generated_pictures(2, SIDE)
    judge = "onnxruntime" if name.endswith("xml") else "openvino"
    engine = open_engine(weights, judge, precision="float32", outputs="segmentation")
    expected = engine.predict(pixels)
    found = run(tmp_path / name, pixels)
    assert found.shape == (2, SIDE, SIDE, 5)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_scores_of_the_first_map_are_an_output(upernet, tmp_path):
    export(upernet, tmp_path / "a.onnx", output="scores")
    pictures = np.zeros((1, SIDE, SIDE, 3), np.float32)
    assert by_onnxruntime(tmp_path / "a.onnx", pictures).shape == (1, 16, 16, 5)


@pytest.mark.parametrize("head", ["upernet", "light"])
def test_pictures_of_any_size_in_onnx(head, request, tmp_path):
    weights = request.getfixturevalue(head)
    export(weights, tmp_path / "a.onnx", resolution="any")
    pictures = np.zeros((1, 96, 64, 3), np.float32)
    assert by_onnxruntime(tmp_path / "a.onnx", pictures).shape == (1, 96, 64, 5)


def test_what_is_for_classifiers_is_refused(upernet, tmp_path):
    with pytest.raises(ArgumentError, match="softmax is for the output logits"):
        export(upernet, tmp_path / "a.onnx", softmax=True)
    with pytest.raises(ArgumentError, match="no output 'logits'"):
        export(upernet, tmp_path / "a.onnx", output="logits")


def test_the_strongest_output_is_that_of_each_pixel(upernet, monkeypatch, tmp_path):
    compared = []

    def agreement(ours, theirs):
        compared.append((ours.shape, theirs.shape))
        return Agreement(1, 1.0, 1.0, 1.0, 0.5)

    monkeypatch.setattr(verify, "agreement", agreement)
    monkeypatch.setattr(verify, "MOST_PIXELS", 1000)
    with pytest.raises(ExportError, match="the same for 50%"):
        export(upernet, tmp_path / "a.onnx")
    pixels = 4 * SIDE**2
    assert compared == [2 * ((-(-pixels // 17), 5),)]
    assert not (tmp_path / "a.onnx").exists()
