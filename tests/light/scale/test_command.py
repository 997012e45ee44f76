"""`--out FOLDER/` and `--engine-runner` of the commands, on an engine that answers by colour."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.cli.main import main
from convnext.engines import quantizing
from convnext.engines.mock import MockEngine
from convnext.errors import ConvNeXtError
from convnext.int8.calibration import Calibration
from convnext.scale import judging
from convnext.weights.canonical import parameter_shapes
from convnext.weights.catalog import get_checkpoint
from convnext.weights.save import save_weights

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("mock_engine")


@pytest.fixture
def run(named_weights):
    def run(command, *arguments):
        return main([command, "--model", str(named_weights), *map(str, arguments)])

    return run


@pytest.mark.parametrize(
    "out", [["out/"], ["out.parquet"], ["out", "--engine-runner", "local"], ["file://HERE/out"]]
)
def test_predict_into_a_folder(run, folder, rows, capsys, out, here):
    out = [text.replace("HERE", str(here)) for text in out]
    assert run("predict", folder, "--out", *out, "--top", 2, "--vectors") == 1
    said = capsys.readouterr()
    where = here / ("out.parquet" if "parquet" in out[0] else "out")
    assert said.out.startswith(f"30 rows in 1 files in {where}, ")
    assert "Licence of the weights: MIT." in said.err
    assert "convnext: 1 picture could not be read:\n" in said.err
    assert f"{folder}/17.png" in said.err
    found = rows(where)
    assert found[2]["top_indices"][0] == 2
    assert len(found[2]["embedding"]) == 32


def test_embed_into_a_folder(run, folder, rows):
    assert run("embed", folder, "--out", "out/", "--shard-size", 7) == 1
    found = rows("out")
    assert [name for name in found[0] if name != "truth"] == ["path", "embedding", "error"]
    assert len(found) == 30


def test_columns_of_tables(run, make, here, rows):
    images = [make.encoded(25 * n) for n in range(3)]
    make.table(here / "x.parquet", {"a": images, "b": images, "id": ["x", "y", "z"]})
    assert run("predict", "x.parquet", "--out", "out/") == 2
    options = ["--image-column", "b", "--path-column", "id", "--label-column", "id"]
    assert run("predict", "x.parquet", "--out", "out/", *options) == 0
    assert [(row["path"], row["truth"], row["index"]) for row in rows("out")] == [
        ("x", "x", 0),
        ("y", "y", 1),
        ("z", "z", 2),
    ]


def test_an_interrupted_run_says_how_to_go_on(run, folder, files, capsys, monkeypatch):
    run("predict", folder, "--out", "whole/", "--shard-size", 8)
    computed = MockEngine.run

    def interrupted(engine, batch):
        if len(engine.batch_sizes) == 2:
            raise KeyboardInterrupt
        return computed(engine, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MockEngine, "run", interrupted)
        assert run("predict", folder, "--out", "out/", "--shard-size", 8) == 130
    assert "to continue out/, give --resume" in capsys.readouterr().err
    assert run("predict", folder, "--out", "out/", "--shard-size", 8, "--resume") == 1
    assert files("out") == files("whole")


def test_evaluations_by_workers_are_calibrated_once(here, make, monkeypatch, mock_engine):
    """With the preprocessing of the checkpoint of which the weights are a copy."""
    checkpoint = get_checkpoint("convnext_atto")
    copy = here / "copy.safetensors"
    shapes = parameter_shapes(VARIANTS[checkpoint.variant], 1000)
    save_weights({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, copy)
    made, given = [], []

    def calibrate(network, pictures, *_):
        made.append((network.preprocess, pictures))
        return Calibration({}, 9)

    def evaluate(subject, *_, **__):
        given.append(subject.calibration)
        raise ConvNeXtError("enough")

    monkeypatch.setattr(quantizing, "quantize_network", calibrate)
    monkeypatch.setattr(judging, "evaluate_dataset", evaluate)
    (here / "data/n01440764").mkdir(parents=True)
    (here / "data/n01440764/1.png").write_bytes(make.encoded(25))
    command = ["evaluate", "--model", "convnext_atto", "--weights", str(copy), "--data", "data"]
    command += ["--calibration", "photos", "--engine-runner", "ray"]
    assert main([*command, "--precision", "int8"]) == 2
    assert made == [(checkpoint.preprocess, "photos")]
    assert given == [mock_engine.options[-1].calibration]
    assert main(command) == 2
    assert len(made) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "--engine-runner", "local"], "give its --out"),
        (["predict", "--out", "out/", "--json"], "leave out --json"),
        (["predict", "--vectors"], "--vectors needs a folder"),
        (["predict", "--out", "out/", "--num-workers", "2"], "--num-workers needs --engine"),
        (["embed", "--out", "out/", "--address", "auto"], "--address needs --engine-runner ray"),
        (["embed", "--out", "out/", "--gpus-per-worker", "1"], "--gpus-per-worker needs"),
        (["embed", "--out", "out/", "--shard-size", "0"], "shard_size must be 1 or more"),
        (["predict", "--out", "out/", "--engine", "kears"], "Unknown engine"),
        (
            ["predict", "--out", "o/", "--engine-runner", "ray", "--address", "x"],
            "'x' is no address",
        ),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(run, folder, here, capsys, arguments, words):
    command, *options = arguments
    assert run(command, folder, *options) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in here.iterdir()] == ["p"]
