"""The command with an engine that classifies by colour; the files are in `test_vectors.py`."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from convnext.cli.main import main
from convnext.engines.mock import MockEngine

pytestmark = pytest.mark.usefixtures("mock_engine")


@pytest.fixture
def run(named_weights):
    def run(*arguments):
        return main(["embed", "--model", str(named_weights), *map(str, arguments)])

    return run


def read(path):
    """The ids and vectors of a file."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        good = [row for row in rows if "embedding" in row]
        vectors = np.array([row["embedding"] for row in good], np.float32)
        return [row["id"] for row in good], vectors
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return list(arrays["ids"]), arrays["embeddings"]
    table = pytest.importorskip("pyarrow.parquet").read_table(path)
    return table["id"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32)


@pytest.mark.parametrize("suffix", ["npz", "parquet", "jsonl"])
def test_good_pictures_become_vectors_and_bad_ones_are_listed(
    run, suffix, pictures, tmp_path, capsys
):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"out.{suffix}"
    assert run(pictures, "--out", out, "--batch", 4) == 1
    ids, vectors = read(out)
    assert ids == [f"{pictures}/shade-{number}.png" for number in range(1, 10)]
    assert vectors.shape == (9, 32)
    np.testing.assert_array_equal(vectors[:, 0], 25 * np.arange(1, 10))
    err = capsys.readouterr().err
    assert err.startswith("Licence of the weights: MIT.\nconvnext: 1 picture could not be read:")


def test_lines_hold_the_same_bits(run, pictures, tmp_path, monkeypatch):
    expected = np.random.default_rng(0).standard_normal((1, 32)).astype(np.float32)
    monkeypatch.setattr(MockEngine, "run", lambda *_: [expected])
    assert run(pictures / "shade-1.png", "--out", tmp_path / "out.jsonl") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.jsonl")[1], expected)


def test_json_lines_are_resumed(run, pictures, tmp_path, mock_engine, capsys):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run(pictures, "--out", whole)
    out.write_bytes(whole.read_bytes()[:-9])
    assert run(pictures, "--out", out, "--resume") == 1
    assert out.read_bytes() == whole.read_bytes()
    assert mock_engine.engines[-1].batch_sizes == [1]
    assert capsys.readouterr().err.count("shade-4b.png is not a picture") == 2


def test_rows_of_predict_are_refused(run, pictures, tmp_path, named_weights, capsys):
    out = tmp_path / "out.jsonl"
    main(["predict", "--model", str(named_weights), str(pictures), "--out", str(out)])
    before = out.read_bytes()
    assert run(pictures, "--out", out, "--resume") == 2
    assert "not written by this command with this model" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x.csv"], "Allowed: .npz, .parquet, .jsonl"),
        (["--out", "x.npz", "--resume"], "Use a .jsonl file"),
        (["--out", "absent/x.npz"], "Create it first"),
        (["--out", "x.npz", "--engine", "kears"], "Unknown engine"),
        (["--out", "x.jsonl", "--batch", "0"], "must be 1 or more"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    run, arguments, words, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(pictures, *arguments) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["pictures"]


def test_unavailable_weights_are_an_error(pictures, tmp_path, monkeypatch, capsys):
    """A download error is an OSError as well, but not one of writing the file."""
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "x.npz"
    assert main(["embed", str(pictures), "--model", "convnext_nano", "--out", str(out)]) == 2
    assert "Could not get the weights" in capsys.readouterr().err


def test_without_pyarrow(run, pictures, tmp_path, monkeypatch, capsys, mock_engine):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(pictures, "--out", tmp_path / "x.parquet") == 2
    assert "pip install 'convnext[parquet]'" in capsys.readouterr().err
    assert mock_engine.engines == [], "it is noticed before any work"
