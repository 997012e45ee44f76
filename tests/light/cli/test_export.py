"""The command, from a name or a file to a verified export."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("convnext.graphs.untracked_openvino")

from convnext.architecture import VARIANTS  # noqa: E402
from convnext.cli import export as command  # noqa: E402
from convnext.cli.main import build_parser, main  # noqa: E402
from convnext.images.recipe import Preprocess  # noqa: E402
from convnext.weights.info import WeightsInfo  # noqa: E402
from convnext.weights.random_weights import random_weights  # noqa: E402
from convnext.weights.save import save_weights  # noqa: E402


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    info = WeightsInfo(name="mine", licence="MIT", preprocess=Preprocess(size=32))
    save_weights(random_weights(VARIANTS["test_v2"], 10), path, info=info)
    return path


def export(model, out, *options):
    return main(["export", "--model", str(model), "--out", str(out), *map(str, options)])


def test_the_report_names_the_file_and_the_largest_difference(weights, tmp_path, capsys):
    out = tmp_path / "a.onnx"
    assert export(weights, out) == 0
    printed, err = capsys.readouterr()
    assert printed.startswith(f"{out}: onnx, float32, ")
    assert "the largest difference is" in printed
    assert printed.endswith("Licence of the weights: MIT.\n")
    assert err == ""
    onnx.checker.check_model(str(out))


def test_every_option_arrives(weights, pictures, tmp_path, capsys):
    out = tmp_path / "a.graph.onnx"
    options = ("--resolution", "64", "--batch", 2, "--precision", "float16", "--softmax")
    more = ("--with-preprocessing", "--pictures", pictures, "--format", "onnx")
    assert export(weights, out, *options, *more) == 0
    assert "on 9 pictures and compared" in capsys.readouterr().out
    [taken] = onnx.load(out).graph.input
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in taken.type.tensor_type.shape.dim] == [2, 64, 64, 3]
    assert any(node.op_type == "Softmax" for node in onnx.load(out).graph.node)
    assert export(weights, out, "--resolution", "any", "--overwrite", "--output", "stage_2") == 0
    assert onnx.load(out).graph.output[0].name == "stage_2"


def test_int8_with_a_calibration(weights, pictures, tmp_path, capsys):
    options = ("--precision", "int8", "--calibration", pictures)
    assert export(weights, tmp_path / "a.xml", *options) == 0
    out = capsys.readouterr().out
    assert "dB below the signal" in out
    assert "on 9 pictures" in out


def test_random_weights(tmp_path, capsys):
    out = tmp_path / "a.onnx"
    assert export("test_v2", out) == 2
    assert "--random" in capsys.readouterr().err
    assert not out.exists()
    assert export("test_v2", out, "--random", "--resolution", 32) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "int9"), "Unknown precision of onnx: 'int9'"),
        (("--resolution", "4"), "4x4 is too small"),
        (("--format", "onx"), "Did you mean 'onnx'?"),
        (("--output", "logit"), "output is one of logits"),
        (("--drop-path", "0.1"), "onnx has no drop path"),
    ],
)
def test_bad_options(options, message, weights, tmp_path, capsys):
    assert export(weights, tmp_path / "a.onnx", *options) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there(weights, tmp_path, capsys):
    out = tmp_path / "a.onnx"
    out.write_bytes(b"precious")
    assert export(weights, out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"


def arguments(*given):
    return build_parser().parse_args(["export", "--model", *given, "--out", "a.onnx"])


def test_a_modules_name_says_output_and_resolution():
    found = command._model(arguments("convnextv2_tiny_21k_1k_384_FE"))
    assert found == {
        "model": "convnextv2_tiny.fcmae_ft_in22k_in1k_384",
        "resolution": 384,
        "output": "embedding",
    }
    found = command._model(arguments("convnext_tiny_1k_224", "--resolution", "288"))
    assert found == {"model": "convnext_tiny.fb_in1k", "resolution": 288, "output": None}
    found = command._model(arguments("convnext_tiny"))
    assert found == {"model": "convnext_tiny", "resolution": None, "output": None}


def test_a_feature_extractor_has_no_logits(tmp_path, capsys):
    assert export("convnext_tiny_1k_224_fe", tmp_path / "a.onnx", "--output", "logits") == 2
    assert "name convnext_tiny.fb_in1k" in capsys.readouterr().err


def test_hub_publish_needs_checkpoints_and_tensorflow(tmp_path, capsys, monkeypatch):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "collection"
    names = ("convnext_tiny_1k_224", "convnextv2_huge_21k_1k_512_fe")
    assert main(["hub-publish", str(folder), "--only", *names]) == 1
    out, err = capsys.readouterr()
    assert out == f"0 of 2 modules are in {folder}.\n"
    assert "convnext_tiny_1k_224: left out. convnext_tiny.fb_in1k is not in the cache" in err
    assert list(folder.iterdir()) == []
    assert main(["hub-publish", str(folder), "--only", "convnext_tiny_1k_225"]) == 2
    assert "Did you mean 'convnext_tiny_1k_224'" in capsys.readouterr().err
    assert main(["hub-publish", str(folder), "--publisher", "a/b"]) == 2
    assert "publisher's name" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["hub-publish", str(tmp_path / "file")]) == 2
    assert "cannot be created" in capsys.readouterr().err


def test_graphs_are_exported_without_any_framework(weights, tmp_path):
    program = (
        "import sys; from convnext.cli.main import main\n"
        f"code = main(['export', {str(weights)!r}, '--out', {str(tmp_path / 'a.onnx')!r}])\n"
        "print(code, *{'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    message = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert message.splitlines()[-1] == "0"


def test_an_output_stride(weights, tmp_path, capsys):
    out = tmp_path / "a.onnx"
    options = ("--resolution", 64, "--output", "stage_3")
    assert export(weights, out, *options, "--output-stride", 8) == 0
    dims = [dim.dim_value for dim in onnx.load(out).graph.output[0].type.tensor_type.shape.dim]
    assert dims[1:3] == [8, 8]
    assert export(weights, tmp_path / "a.safetensors", "--output-stride", 8) == 2
    assert "safetensors has no output stride" in capsys.readouterr().err
