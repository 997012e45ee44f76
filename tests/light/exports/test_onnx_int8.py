"""ONNX files in int8, from pictures and from a calibration file; what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("convnext.graphs.untracked_openvino")

import convnext  # noqa: E402
from contracts import by_onnxruntime, noise  # noqa: E402
from convnext.architecture import ARCHITECTURES  # noqa: E402
from convnext.cli.main import main  # noqa: E402
from convnext.engines import open_engine, quantize  # noqa: E402
from convnext.errors import ArgumentError, WeightsFileError  # noqa: E402
from convnext.images.generated import generated_pictures  # noqa: E402
from convnext.weights.canonical import parameter_shapes  # noqa: E402
from convnext.weights.random_weights import random_weights  # noqa: E402
from convnext.weights.save import save_weights  # noqa: E402

SIDE = 32
DEEP = replace(
    ARCHITECTURES["test_v2"], name="deep", size="deep", depths=(1, 1, 1, 9), dims=(16, 32, 64, 128)
)


def seen():
    """Pictures to calibrate, of which some are compared on by default."""
    return generated_pictures(12, SIDE)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A network that is mostly blocks, as real ones are, and its calibration file."""
    folder = tmp_path_factory.mktemp("deep")
    weights = random_weights(DEEP, num_classes=10)
    assert weights.keys() == parameter_shapes(DEEP, 10).keys()
    save_weights(weights, folder / "deep.safetensors", architecture=DEEP)
    quantize(folder / "deep.safetensors", seen(), size=SIDE).save(folder / "int8.safetensors")
    return folder / "deep.safetensors", folder / "int8.safetensors"


def test_the_file_is_a_third_and_its_weights_are_integers(deep, tmp_path):
    weights, calibration = deep
    full = convnext.export(weights, tmp_path / "full.onnx", resolution=SIDE)
    path = tmp_path / "a.onnx"
    report = convnext.export(
        weights, path, resolution=SIDE, precision="int8", calibration=calibration, pictures=seen()
    )
    assert report.verdict.allowed is None
    assert report.verdict.agreement.decibels > 15
    assert report.nbytes < 0.35 * full.nbytes
    constants = {each.name: each.data_type for each in onnx.load(path).graph.initializer}
    nodes = {node.name: node for node in onnx.load(path).graph.node}
    for stage, depth in enumerate(DEEP.depths):
        for block in range(depth):
            for layer in ("pwconv1", "pwconv2"):
                node = nodes[f"stage_{stage}_block_{block}.{layer}"]
                if (stage, block) == (0, 0):
                    assert node.op_type == "Conv"
                    continue
                kernel = nodes[node.input[1]]
                assert (node.op_type, kernel.op_type) == ("Gemm", "DequantizeLinear")
                assert constants[kernel.input[0]] == onnx.TensorProto.INT8
                assert nodes[node.input[0]].op_type == "DequantizeLinear"


def test_pictures_and_their_calibration_file_give_the_same(deep, tmp_path):
    weights, calibration = deep
    options = {"resolution": SIDE, "precision": "int8", "with_preprocessing": True}
    answers = []
    for given in (seen(), quantize(weights, seen(), size=SIDE), calibration):
        path = tmp_path / f"{len(answers)}.onnx"
        report = convnext.export(weights, path, calibration=given, **options)
        answers.append(by_onnxruntime(path, noise(3)))
        assert report.pictures == ("12 pictures" if len(answers) == 1 else "4 generated pictures")
    np.testing.assert_array_equal(answers[1], answers[0])
    np.testing.assert_array_equal(answers[2], answers[0])
    engine = open_engine(
        weights, "onnxruntime", precision="int8", calibration=calibration, size=SIDE, threads=1
    )
    difference = np.abs(engine.predict(noise(3)) - answers[0]).max()
    assert difference < 1e-3 * np.abs(answers[0]).max()


def test_the_command(deep, tmp_path, capsys):
    weights, calibration = deep
    options = ["--format", "onnx", "--precision", "int8", "--resolution", str(SIDE)]
    out = ["--out", str(tmp_path / "a.onnx")]
    command = ["export", "--model", str(weights), *out, *options]
    assert main([*command, "--calibration", str(calibration)]) == 0
    assert "onnx, int8" in capsys.readouterr().out
    assert main([*command, "--overwrite"]) == 2
    assert "int8 needs calibration=" in capsys.readouterr().err


def test_calibrations_that_do_not_fit(deep, files, tmp_path):
    weights, calibration = deep
    path = tmp_path / "a.onnx"
    with pytest.raises(ArgumentError, match="of other weights"):
        convnext.export(files["test_v2"], path, precision="int8", calibration=calibration)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(calibration.read_bytes()[:-100])
    with pytest.raises(WeightsFileError, match=r"cut\.safetensors"):
        convnext.export(weights, path, precision="int8", calibration=cut)
    with pytest.raises(WeightsFileError, match="is not a calibration"):
        convnext.export(weights, path, precision="int8", calibration=weights)
    assert list(tmp_path.iterdir()) == [cut]


def test_litert_takes_pictures_alone(deep, tmp_path):
    weights, calibration = deep
    with pytest.raises(ArgumentError, match=r"Give it pictures.*onnx, openvino"):
        convnext.export(
            weights, tmp_path / "a.tflite", precision="int8", calibration=str(calibration)
        )


def test_segmentation(upernet, tmp_path):
    """The head stays in float32."""
    pixels = noise(4, 64)
    report = convnext.export(upernet, tmp_path / "a.onnx", precision="int8", calibration=pixels)
    assert report.verdict.good
    nodes = onnx.load(tmp_path / "a.onnx").graph.node
    integer = [node for node in nodes if node.op_type == "QuantizeLinear"]
    assert len(integer) == len([n for n in nodes if n.op_type == "Gemm"]) > 0
