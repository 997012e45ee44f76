"""From a file to a file of another runtime, which is run and compared: what needs no framework."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("convnext.graphs.untracked_openvino")

import convnext  # noqa: E402
from contracts import RUN, by_onnxruntime, exported  # noqa: E402
from convnext.architecture import ARCHITECTURES  # noqa: E402
from convnext.atomic import is_temporary, remove_temporaries  # noqa: E402
from convnext.engines import open_engine  # noqa: E402
from convnext.errors import (  # noqa: E402
    ArgumentError,
    ArgumentTypeError,
    ExportError,
    MissingDependencyError,
    UnknownNameError,
    WeightsUnavailableError,
)
from convnext.exports import exporting, formats, onnx_files, process, spec, verify  # noqa: E402
from convnext.graphs.onnx.graph import OPERATORS  # noqa: E402
from convnext.images.recipe import Preprocess  # noqa: E402
from convnext.images.transform import normalise  # noqa: E402
from convnext.weights.info import WeightsInfo  # noqa: E402
from convnext.weights.load import read_weights  # noqa: E402
from convnext.weights.random_weights import random_weights  # noqa: E402
from convnext.weights.save import save_weights  # noqa: E402

SIDE = 48
LIGHT_NAMES = ("a.onnx", "a.xml", "a.safetensors")


FILES = {"onnx": "a.onnx", "openvino": "a.xml"}


@pytest.fixture
def pixels():
    return np.random.default_rng(3).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def logits_of(weights, pixels, **options):
    engine = open_engine(weights, "onnxruntime", precision="float32", **options)
    return engine.predict(pixels)


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_a_graph_answers_as_the_engine_does(format, name, files, pixels, tmp_path):
    expected = logits_of(files[name], pixels)
    batch = normalise(pixels, Preprocess(size=SIDE))
    report = exported(files[name], tmp_path / FILES[format], batch, expected)
    assert (report.format, report.precision) == (format, "float32")
    assert report.verdict.agreement.max_difference < 1e-4
    assert report.verdict.agreement.pictures == 4
    written = {path.name for path in tmp_path.iterdir()}
    assert written == ({"a.onnx"} if format == "onnx" else {"a.xml", "a.bin"})
    assert report.nbytes == sum(path.stat().st_size for path in tmp_path.iterdir())


@pytest.mark.parametrize("format", FILES)
def test_pixels_in_probabilities_out_and_a_fixed_number(format, weights, pixels, tmp_path):
    path = tmp_path / FILES[format]
    run = RUN[path.suffix]
    report = convnext.export(weights, path, batch=3, with_preprocessing=True, softmax=True)
    assert report.verdict.agreement.pictures == 4  # the second batch is filled up
    found = run(path, pixels)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    powers = np.exp(logits_of(weights, pixels))
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), atol=1e-4)
    with pytest.raises(Exception, match=r"(?i)shape|dimension"):
        run(path, pixels[:2])


@pytest.mark.parametrize("format", FILES)
def test_other_outputs_and_resolutions(format, weights, tmp_path):
    path = tmp_path / FILES[format]
    run = RUN[path.suffix]
    convnext.export(weights, path, output="embedding", resolution=64)
    batch = np.random.default_rng(1).standard_normal((1, 64, 64, 3), np.float32)
    engine = open_engine(
        weights, size=64, outputs="embedding", input="float32", precision="float32"
    )
    np.testing.assert_allclose(run(path, batch), engine.predict(batch), atol=1e-4)
    convnext.export(weights, path, output="stage_1", resolution="any", overwrite=True)
    assert run(path, batch[:, :40]).shape == (1, 5, 8, 16)
    convnext.export(weights, path, output="tokens", resolution="any", overwrite=True)
    assert run(path, batch[:, :40]).shape == (1, 1, 2, 32)


@pytest.mark.parametrize("format", FILES)
def test_half_precision_is_smaller_and_close(format, files, tmp_path):
    filename = FILES[format]
    for name, path in files.items():
        full = convnext.export(path, tmp_path / f"{name}-{filename}")
        half = convnext.export(path, tmp_path / f"{name}-half-{filename}", precision="float16")
        assert half.nbytes < full.nbytes
        assert half.verdict.agreement.max_difference < half.verdict.allowed
        assert half.verdict.agreement.max_difference > full.verdict.agreement.max_difference


def test_an_onnx_file_keeps_its_promises(weights, tmp_path):
    path = tmp_path / "a.onnx"
    convnext.export(weights, path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert operators <= OPERATORS
    assert "LayerNormalization" in operators
    assert all(opset.domain == "" and opset.version >= 17 for opset in model.opset_import)
    [taken], [given] = model.graph.input, model.graph.output
    dims = taken.type.tensor_type.shape.dim
    assert dims[0].dim_param == given.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [dim.dim_value for dim in dims[1:]] == [SIDE, SIDE, 3]
    facts = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert facts["convnext.licence"] == "MIT"
    assert facts["convnext.preprocess"]["size"] == SIDE


def test_weights_of_more_than_a_protocol_buffer_lie_beside(weights, pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "LARGEST", 1000)
    path = tmp_path / "a.onnx"
    report = convnext.export(weights, path, with_preprocessing=True)
    assert {each.name for each in tmp_path.iterdir()} == {"a.onnx", "a.onnx.data"}
    assert path.stat().st_size < report.nbytes / 2
    moved = tmp_path / "moved"
    moved.mkdir()
    for each in ("a.onnx", "a.onnx.data"):
        (tmp_path / each).rename(moved / each)
    expected = logits_of(weights, pixels)
    np.testing.assert_allclose(by_onnxruntime(moved / "a.onnx", pixels), expected, atol=1e-4)


@pytest.mark.parametrize(("name", "beside"), [("a.xml", "a.bin"), ("a.onnx", "a.onnx.data")])
def test_an_existing_file_beside_the_target_is_kept(name, beside, weights, tmp_path):
    (tmp_path / beside).write_bytes(b"precious")
    with pytest.raises(ArgumentError, match=rf"{beside} exists already\. Allow overwrite"):
        convnext.export(weights, tmp_path / name)
    assert (tmp_path / beside).read_bytes() == b"precious"


def test_the_weights_themselves_are_never_replaced_by_what_lies_beside(weights, tmp_path):
    source = tmp_path / "a.bin"
    source.write_bytes(weights.read_bytes())
    with pytest.raises(ArgumentError, match=r"a\.bin holds the weights.*another target"):
        convnext.export(source, tmp_path / "a.xml", overwrite=True)
    assert source.read_bytes() == weights.read_bytes()


def test_openvino_in_eight_bits_from_pictures(weights, pictures, tmp_path):
    path = tmp_path / "a.xml"
    report = convnext.export(
        weights, path, precision="int8", calibration=pictures, pictures=pictures
    )
    assert report.verdict.allowed is None
    assert report.verdict.agreement.decibels > 10
    assert report.pictures == "9 pictures"
    assert "<const" not in path.read_text()
    assert 'type="FakeQuantize"' in path.read_text()


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_safetensors(precision, weights, tmp_path):
    path = tmp_path / "a.safetensors"
    report = convnext.export(weights, path, precision=precision, resolution=64)
    assert report.verdict.good
    with read_weights(path) as read:
        assert str(read.tensors["head.kernel"].dtype) == precision
        assert read.info.preprocess.size == 64
        assert read.info.licence == "MIT"


def test_the_report_reads_well(weights, tmp_path):
    report = convnext.export(weights, tmp_path / "a.onnx")
    first, second, third = str(report).splitlines()
    assert first.startswith(f"{tmp_path / 'a.onnx'}: onnx, float32, 0.")
    assert "Run in ONNX Runtime" in second
    assert "4 generated pictures" in second
    assert "compared with the engine openvino in float32" in second
    assert "(allowed " in second
    assert third == "Licence of the weights: MIT."


def test_progress_reports_each_step(weights, tmp_path):
    steps = []
    convnext.export(weights, tmp_path / "a.onnx", on_progress=steps.append)
    assert steps == ["reading the weights", "running the model", "writing onnx", "running the file"]


def test_weights_without_a_classifier_give_what_is_nearest(written, tmp_path):
    bare = written(tmp_path / "bare.safetensors", num_classes=0)
    convnext.export(bare, tmp_path / "a.onnx")
    [given] = onnx.load(tmp_path / "a.onnx").graph.output
    assert given.name == "embedding"
    with pytest.raises(ArgumentError, match="It can give: embedding"):
        convnext.export(bare, tmp_path / "b.onnx", output="logits")
    with pytest.raises(ArgumentError, match="softmax is for the output logits"):
        convnext.export(bare, tmp_path / "b.onnx", softmax=True)


def test_a_process_of_its_own_is_told_everything(pixels, tmp_path, monkeypatch):
    """Shapes do not tell the epsilon and the activation of test_convnext, nor what its head is."""
    arrays = random_weights(ARCHITECTURES["test_convnext"], num_classes=3)
    info = WeightsInfo(preprocess=Preprocess(size=SIDE), task="clip")
    path = tmp_path / "unusual.safetensors"
    save_weights(arrays, path, architecture="test_convnext", info=info)
    in_tensorflow = {
        **formats.FORMATS,
        "onnx": replace(formats.FORMATS["onnx"], in_tensorflow=True),
    }
    monkeypatch.setattr(formats, "FORMATS", in_tensorflow)
    monkeypatch.setattr(spec, "FORMATS", in_tensorflow)
    monkeypatch.setattr(process, "_run", lambda folder, _: process.main([str(folder)]))
    convnext.export(path, tmp_path / "a.onnx", with_preprocessing=True)
    answers = by_onnxruntime(tmp_path / "a.onnx", pixels)
    vectors = logits_of(path, pixels)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(answers, unit, rtol=0, atol=1e-5)


def spoilt(monkeypatch, change):
    """Has every artefact answer a little differently."""
    run = process._produce_here

    def produce(*arguments):
        runtime, answers = run(*arguments)
        return runtime, change(answers)

    monkeypatch.setattr(process, "_produce_here", produce)


@pytest.mark.parametrize(
    "change",
    [
        lambda answers: answers + 1e-3 * np.abs(answers).max(),
        lambda answers: np.full_like(answers, np.nan),
        lambda answers: answers[:, :-1],
        lambda answers: answers[::-1],
    ],
)
@pytest.mark.parametrize("name", LIGHT_NAMES)
def test_a_file_that_answers_otherwise_is_not_kept(change, name, weights, tmp_path, monkeypatch):
    spoilt(monkeypatch, change)
    path = tmp_path / name
    path.write_bytes(b"precious")
    with pytest.raises(ExportError, match="Nothing was kept"):
        convnext.export(weights, path, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_eight_bits_that_lose_too_much_are_not_kept(weights, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "DECIBELS", 100.0)
    with pytest.raises(ExportError, match=r"noise is .* Other precisions of openvino: float32"):
        convnext.export(weights, tmp_path / "a.xml", precision="int8", calibration=pictures)


@pytest.fixture
def full_disk():
    """Takes no more than 4 kB of a file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("name", LIGHT_NAMES)
def test_a_full_disk_is_said_and_leaves_nothing(name, weights, tmp_path):
    with pytest.raises(convnext.ConvNeXtError, match=r"(?i)written|write"):
        convnext.export(weights, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys, convnext

def kill(step):
    if step == "running the file":
        os.kill(os.getpid(), signal.SIGKILL)

convnext.export(sys.argv[1], sys.argv[2], on_progress=kill)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is killed there")
@pytest.mark.parametrize(
    "name", [LIGHT_NAMES[0], *(pytest.param(n, marks=pytest.mark.slow) for n in LIGHT_NAMES[1:])]
)
def test_a_killed_export_leaves_only_what_the_cleaner_knows(name, weights, tmp_path):
    command = [sys.executable, "-c", KILLED, weights, tmp_path / name]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert is_temporary(left.name)
    assert (left / name).is_file()
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(weights, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_files, "opened", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convnext.export(weights, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


BAD = {
    "an unknown checkpoint": (
        {"model": "convnext_tinny"},
        ArgumentError,
        "neither a file on this machine nor a published checkpoint.*Did you mean",
    ),
    "a variant without weights": (
        {"model": "convnextv2_small"},
        ArgumentError,
        r"No weights were ever published.*--random",
    ),
    "another kind of thing": ({"model": 3}, ArgumentTypeError, "not int"),
    "too small a resolution": ({"resolution": 7}, ArgumentError, "7x7 is too small"),
    "a resolution that is none": ({"resolution": 2.5}, ArgumentTypeError, "not 2.5"),
    "a batch of none": ({"batch": 0}, ArgumentError, "not 0"),
    "an unknown precision": ({"precision": "int4"}, UnknownNameError, "precision of onnx"),
    "an unknown output": ({"output": "stage_4"}, ArgumentError, "output is one of logits"),
    "an unknown format": ({"format": "caffe"}, UnknownNameError, "Unknown format"),
    "int8 without pictures": (
        {"path": "a.xml", "precision": "int8"},
        ArgumentError,
        "int8 needs calibration=",
    ),
    "pictures for no int8": (
        {"calibration": "."},
        ArgumentError,
        "precision='int8', not 'float32'",
    ),
    "drop path where nothing is trained": (
        {"drop_path_rate": 0.1},
        ArgumentError,
        "onnx has no drop path",
    ),
    "a preprocessing that is none": (
        {"with_preprocessing": "yes"},
        ArgumentTypeError,
        "True, False or None",
    ),
    "softmax of features": (
        {"softmax": True, "output": "embedding"},
        ArgumentError,
        "softmax is for the output logits",
    ),
    "softmax of weights": (
        {"path": "a.safetensors", "softmax": True},
        ArgumentError,
        "safetensors has no softmax",
    ),
    "a batch of weights": (
        {"path": "a.safetensors", "batch": 2},
        ArgumentError,
        "no fixed number of pictures",
    ),
    "no such folder": ({"path": "nowhere/a.onnx"}, ArgumentError, "Create it first"),
    "pictures that are none": ({"pictures": "."}, ArgumentError, "No picture can be read"),
    "random weights of a file": ({"random": True}, UnknownNameError, "to draw random weights for"),
}


@pytest.mark.parametrize(("change", "error", "reason"), BAD.values(), ids=BAD)
def test_bad_input(change, error, reason, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"model": weights, "path": "a.onnx"} | change
    with pytest.raises(error, match=reason):
        convnext.export(options.pop("model"), options.pop("path"), **options)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsUnavailableError, match="offline mode"):
        convnext.export("convnext_tiny.fb_in1k", tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_weights_that_are_not_finite(tmp_path):
    from convnext.weights.random_weights import random_weights
    from convnext.weights.save import save_weights

    weights = random_weights(convnext.VARIANTS["test_v1"], 10)
    weights["stage_1_block_0.pwconv1.kernel"][0, 0] = np.nan
    save_weights(weights, tmp_path / "bad.safetensors")
    with pytest.raises(convnext.ConvNeXtError, match="not finite"):
        convnext.export(tmp_path / "bad.safetensors", tmp_path / "a.onnx", resolution=32)


def test_random_weights_on_request(tmp_path):
    report = convnext.export("test_v1", tmp_path / "a.onnx", resolution=32, random=True)
    assert report.verdict.good
    assert report.notice is None


def test_exporting_without_any_engine_is_refused(weights, tmp_path, monkeypatch):
    nothing = {n: replace(r, installed=lambda: False) for n, r in verify.ENGINES.items()}
    monkeypatch.setattr(verify, "ENGINES", nothing)
    with pytest.raises(ArgumentError, match="No engine is installed"):
        convnext.export(weights, tmp_path / "a.onnx")


def test_the_judge_is_another_runtime_where_there_is_one(monkeypatch):
    assert verify._judge(formats.FORMATS["onnx"]) == "openvino"
    assert verify._judge(formats.FORMATS["openvino"]) == "onnxruntime"
    assert verify._judge(formats.FORMATS["saved_model"]) == "openvino"
    alone = {
        n: replace(r, installed=lambda n=n: n == "openvino") for n, r in verify.ENGINES.items()
    }
    monkeypatch.setattr(verify, "ENGINES", alone)
    assert verify._judge(formats.FORMATS["openvino"]) == "openvino"


def test_a_missing_runtime_of_the_format_is_an_error(weights, tmp_path, monkeypatch):
    def missing(_):
        raise MissingDependencyError("x", "onnxruntime")

    monkeypatch.setattr(formats.Format, "check_installed", missing)
    with pytest.raises(MissingDependencyError, match=r"convnext\[onnxruntime\]"):
        exporting.export(weights, tmp_path / "a.onnx")


def test_four_channels_are_compared_on_numbers(tmp_path):
    from convnext.weights.canonical import parameter_shapes
    from convnext.weights.save import save_weights

    rng = np.random.default_rng(0)
    shapes = parameter_shapes(convnext.VARIANTS["test_v1"], 5, channels=4)
    weights = {name: rng.standard_normal(s, np.float32) / 4 for name, s in shapes.items()}
    save_weights(weights, tmp_path / "four.safetensors")
    options = {"resolution": 32}
    report = convnext.export(tmp_path / "four.safetensors", tmp_path / "a.onnx", **options)
    assert report.pictures == "4 inputs of random numbers"
    with pytest.raises(ArgumentError, match="takes 4 channels"):
        convnext.export(
            tmp_path / "four.safetensors", tmp_path / "b.onnx", with_preprocessing=True, **options
        )
    with pytest.raises(ArgumentError, match="takes 4 channels"):
        convnext.export(tmp_path / "four.safetensors", tmp_path / "b.onnx", pictures=".", **options)
