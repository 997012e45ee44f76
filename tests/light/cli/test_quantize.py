"""The command, from pictures to a calibration, and its use in other commands."""

import json

import numpy as np
import pytest

pytest.importorskip("convnext.graphs.untracked_openvino")

from convnext.cli.main import main
from convnext.int8.calibration import Calibration


def quantize(weights, pictures, out, *options):
    return main(["quantize", str(pictures), "--model", str(weights), "--out", str(out), *options])


@pytest.fixture
def calibration(named_weights, pictures, tmp_path):
    out = tmp_path / "int8.safetensors"
    assert quantize(named_weights, pictures, out) == 0
    return out


def test_quantizing_prints_the_agreement_with_float32(named_weights, pictures, tmp_path, capsys):
    calibration = tmp_path / "int8.safetensors"
    assert quantize(named_weights, pictures, calibration) == 0
    out, err = capsys.readouterr()
    assert "linear layers, from 9 pictures." in out
    assert "Against float32 on these pictures: the same largest output for " in out
    assert "Layers with the largest errors: stage_" in out
    assert err.splitlines()[-1] == f"Written to {calibration}."
    assert Calibration.load(calibration).pictures == 9


def test_predict_uses_a_calibration_file(calibration, named_weights, pictures, capsys):
    def probabilities(*options):
        capsys.readouterr()
        picture = str(pictures / "shade-3.png")
        assert main(["predict", picture, "--model", str(named_weights), "--json", *options]) == 0
        return [each["probability"] for each in json.loads(capsys.readouterr().out)[0]["classes"]]

    exact = probabilities("--precision", "float32")
    rounded = probabilities("--precision", "int8", "--calibration", str(calibration))
    assert rounded != exact
    np.testing.assert_allclose(rounded, exact, atol=0.05)


def test_int8_without_it(named_weights, pictures, capsys):
    picture = str(pictures / "shade-3.png")
    assert main(["predict", picture, "--model", str(named_weights), "--precision", "int8"]) == 2
    assert "int8 needs a calibration" in capsys.readouterr().err


def test_a_file_that_is_there(calibration, named_weights, pictures, capsys):
    assert quantize(named_weights, pictures, calibration) == 2
    assert "Give --overwrite" in capsys.readouterr().err
    assert quantize(named_weights, pictures, calibration, "--overwrite") == 0


def test_a_name_that_no_reader_would_know(named_weights, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("convnext.engines.quantize", lambda *_, **__: pytest.fail("it calibrated"))
    assert quantize(named_weights, pictures, tmp_path / "int8.st") == 2
    assert "must end in .safetensors" in capsys.readouterr().err


def test_a_size_that_no_picture_has(named_weights, pictures, tmp_path, capsys):
    assert quantize(named_weights, pictures, tmp_path / "x.safetensors", "--size", "0") == 2
    assert "--size must be 1 or more; got 0" in capsys.readouterr().err


def test_calibration_without_readable_pictures_is_refused(named_weights, tmp_path, capsys):
    (tmp_path / "torn.png").write_bytes(b"no picture")
    out = tmp_path / "int8.safetensors"
    assert quantize(named_weights, tmp_path, out) == 2
    assert "No picture can be read" in capsys.readouterr().err
    assert not out.exists()
