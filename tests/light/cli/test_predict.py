"""The command with an engine that classifies by colour; rows are in `test_rows.py`."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.classifier import Classifier
from convnext.cli import embed, explain, predict
from convnext.cli import pictures as shared
from convnext.cli.main import build_parser, main
from convnext.engines.mock import MockEngine
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.search import open_vectors
from convnext.weights.catalog import get_checkpoint
from convnext.weights.info import WeightsInfo

pytestmark = pytest.mark.usefixtures("mock_engine")


@pytest.fixture
def run(named_weights):
    def run(*arguments):
        return main(["predict", "--model", str(named_weights), *map(str, arguments)])

    return run


def rows_of(path):
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            return list(csv.DictReader(stream))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_table_by_default(run, pictures, capsys):
    assert run(pictures / "shade-3.png", "--top", 2) == 0
    out, err = capsys.readouterr()
    assert out == (
        f"{pictures}/shade-3.png\n 100.0%  shade 3, nuance 3\n   0.0%  shade 2, nuance 2\n"
    )
    assert err == "Licence of the weights: MIT.\n"


def test_bad_pictures_are_listed_at_the_end(run, pictures, capsys):
    assert run(pictures, "absent.png", "--top", 1) == 1
    out, err = capsys.readouterr()
    assert out.count("shade-") == 9
    assert "convnext: 2 pictures could not be read:\n" in err
    *_, first, second = err.splitlines()
    assert first.startswith(f"  {pictures}/shade-4b.png is not a picture in a supported format")
    assert second.startswith("  absent.png cannot be read")


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_to_standard_output_or_to_a_file(run, form, pictures, tmp_path, capsys):
    assert run(pictures, f"--{form}") == 1
    streamed = capsys.readouterr().out
    out = tmp_path / f"out.{form}"
    assert run(pictures, "--out", out, "--batch", 2) == 1  # the name says the format
    assert capsys.readouterr().out == ""
    assert out.read_text() == streamed
    assert run(pictures, "--out", tmp_path / "x", f"--{form}") == 1
    assert (tmp_path / "x").read_text() == streamed


def test_json_is_json(run, pictures, capsys):
    run(pictures, "--json", "--top", 1)
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 10
    assert rows[2]["classes"][0]["label"] == "shade 3, nuance 3"
    assert "is not a picture" in rows[4]["error"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_interrupted_run_goes_on(run, form, pictures, tmp_path, capsys, monkeypatch):
    whole, out = tmp_path / f"whole.{form}", tmp_path / f"out.{form}"
    run(pictures, "--out", whole)
    computed = MockEngine.run

    def interrupted(engine, batch):
        if len(engine.batch_sizes) == 3:
            raise KeyboardInterrupt
        return computed(engine, batch)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(MockEngine, "run", interrupted)
        assert run(pictures, "--out", out, "--batch", 2) == 130
    err = capsys.readouterr().err
    assert "convnext: 1 picture could not be read:" in err
    assert f"convnext: to continue {out}, give --resume\n" in err
    assert err.endswith("convnext: interrupted\n")
    assert len(rows_of(out)) == 6
    out.write_bytes(out.read_bytes()[:-7])  # as if it had been killed while writing
    assert run(pictures, "--out", out, "--resume") == 1
    assert out.read_bytes() == whole.read_bytes()
    assert "shade-4b.png is not a picture" in capsys.readouterr().err, (
        "held errors are listed again"
    )


def test_resuming_computes_only_missing_pictures(run, pictures, tmp_path, mock_engine):
    out = tmp_path / "out.jsonl"
    run(pictures / "shade-1.png", pictures / "shade-2.png", "--out", out)
    assert run(pictures, "--out", out, "--resume") == 1
    assert [engine.batch_sizes for engine in mock_engine.engines] == [[2], [7]]
    assert len(rows_of(out)) == 10


def test_resuming_with_other_columns_is_refused(run, pictures, tmp_path, capsys):
    out = tmp_path / "out.csv"
    run(pictures, "--out", out, "--top", 2)
    before = out.read_bytes()
    assert run(pictures, "--out", out, "--top", 3, "--resume") == 2
    assert "other options" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_a_file_is_replaced_only_with_overwrite(run, pictures, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    assert run(pictures, "--out", out) == 2
    assert "Give --overwrite" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run(pictures, "--out", out, "--overwrite") == 1
    assert len(rows_of(out)) == 10


def test_a_pattern_that_matches_nothing_empties_no_file(run, tmp_path):
    out = tmp_path / "out.txt"
    out.write_text("precious")
    assert run(tmp_path / "*.png", "--out", out, "--overwrite") == 1
    assert out.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume"], "give its --out"),
        (["--resume", "--out", "x.json"], "cannot continue a JSON array"),
        (["--resume", "--out", "x.txt"], "cannot continue a table"),
        (["--out", "absent/x.csv"], "Create it first"),
        (["--out", "."], "is a folder"),
        (["--top", "0"], "top must be 1 or more"),
        (["--batch", "0"], "batch_size and workers must be 1 or more"),
        (["--labels", "nowhere.txt"], "neither a file with the names"),
        (["--engine", "kears"], "Unknown engine"),
        (["--logits"], "ends in .npz or .parquet"),
        (["--logits", "--out", "x.csv"], "ends in .npz or .parquet"),
        (["--logits", "--out", "x/"], "ends in .npz or .parquet"),
        (["--logits", "--out", "x.npz", "--resume"], "--resume does not go with --logits"),
        (["--logits", "--out", "x.npz", "--vectors"], "--vectors does not go with --logits"),
        (["--logits", "--out", "x.npz", "--csv"], "leave out --csv"),
        (["--logits", "--out", "absent/x.npz"], "Create it first"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    run, arguments, words, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(pictures, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err.splitlines()[-1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_logits_are_stored_with_what_a_student_needs(
    run, kind, named_weights, pictures, tmp_path, capsys
):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"teacher.{kind}"
    assert run(pictures, "--logits", "--out", out, "--batch", 4) == 1  # one cannot be read
    stored = open_vectors(out, "logits")
    [piece] = stored.pieces()
    names = [f"{pictures}/shade-{number}.png" for number in range(1, 10)]
    assert [str(name) for name in piece.names] == names
    answers = Classifier(named_weights).run(names, ("logits",))
    np.testing.assert_array_equal(piece.vectors, [a.outputs["logits"] for a in answers])
    info = WeightsInfo.from_metadata(json.loads(stored.facts["annotations"]))
    assert info.name == stored.facts["model"] == "shades"
    assert len(info.labels) == stored.width
    assert info.labels[0] == "shade 0, nuance 0"
    assert info.preprocess == Preprocess(size=32, mean=(0.5, 0.5, 0.5))
    assert "shade-4b.png is not a picture" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="embedding"):
        open_vectors(out)


def test_logits_have_the_given_names_and_preprocessing(run, pictures, tmp_path):
    run(pictures, "--logits", "--out", tmp_path / "x.npz")
    width = open_vectors(tmp_path / "x.npz", "logits").width
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name {number}\n" for number in range(width)))
    options = ["--labels", names, "--mean-std", "half", "--out", tmp_path / "y.npz"]
    assert run(pictures / "shade-1.png", "--logits", *options) == 0
    stored = open_vectors(tmp_path / "y.npz", "logits")
    info = WeightsInfo.from_metadata(json.loads(stored.facts["annotations"]))
    assert info.labels[-1] == f"name {width - 1}"
    assert info.preprocess.std == (0.5, 0.5, 0.5)


def test_weights_without_classes_have_no_logits_to_store(pictures, clip_folder, tmp_path, capsys):
    out = tmp_path / "x.npz"
    model = str(clip_folder / "open_clip_model.safetensors")
    arguments = [str(pictures), "--model", model, "--mean-std", "clip", "--logits"]
    assert main(["predict", *arguments, "--out", str(out)]) == 2
    assert "has no classes" in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_is_one_line(run, pictures, capsys):
    assert run(pictures, "--out", "/dev/full", "--csv", "--overwrite") == 2
    assert "convnext: /dev/full cannot be written: No space left on device." in (
        capsys.readouterr().err
    )


def test_classes_without_names(pictures, weights_file, tmp_path, capsys):
    arguments = ["predict", str(pictures / "shade-3.png"), "--model", str(weights_file)]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "class 3" in out
    assert "the classes have no names. Give --labels FILE" in err
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"))
    assert main([*arguments, "--labels", str(tmp_path / "names.txt")]) == 0
    out, err = capsys.readouterr()
    assert "100.0%  d\n" in out
    assert err == ""


def test_a_name_of_any_bytes(run, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    Image.fromarray(np.full((8, 8, 3), 50, np.uint8)).save(tmp_path / name)
    (tmp_path / os.fsdecode(b"bad\xe9.png")).touch()
    out = tmp_path / "out.jsonl"
    assert run(tmp_path, "--out", out) == 1
    bad, good = rows_of(out)
    assert good["id"] == f"{tmp_path}/caf\\udce9.png"
    assert f"{tmp_path}/bad\\udce9.png is empty" in capsys.readouterr().err
    assert "bad" in bad["id"]
    assert run(tmp_path, "--out", out, "--resume") == 1
    assert len(rows_of(out)) == 2


def test_progress_is_for_terminals(run, pictures, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
    run(pictures / "shade-1.png", "--jsonl")
    assert "pictures" not in capsys.readouterr().err, "it was over in a moment"


def test_the_default_model_is_small_and_free_for_any_use():
    checkpoint = get_checkpoint(shared.DEFAULT_MODEL)
    assert checkpoint.name == shared.DEFAULT_MODEL
    assert checkpoint.licence == "Apache-2.0"
    assert round(checkpoint.parameters / 1e6) == 16
    assert round(checkpoint.timm_top1, 1) == 82.3


@pytest.mark.parametrize("command", ["predict", "embed", "explain"])
def test_help_teaches_by_examples(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    out = capsys.readouterr().out
    assert f"examples:\n  convnext {command} " in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_examples_can_be_understood():
    parser = build_parser()
    for command in (predict, embed, explain):
        lines = [line for line in command.EXAMPLES.splitlines() if line.startswith("  convnext")]
        assert len(lines) >= 4
        for line in lines:
            text = re.split("  | > ", line.strip())[0]
            assert parser.parse_args(shlex.split(text)[1:]).run is command.run
