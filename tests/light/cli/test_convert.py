"""The command, end to end, as `convnext.cli.main` calls it."""

import argparse

import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.cli import convert as command
from convnext.cli.main import main
from convnext.errors import ArgumentError
from convnext.weights.canonical import parameter_shapes
from convnext.weights.layouts import LAYOUTS
from convnext.weights.load import read_weights
from convnext.weights.save import save_weights


@pytest.fixture
def run():
    def run(*arguments):
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers())
        args = parser.parse_args(["convert", *map(str, arguments)])
        return args.run(args)

    return run


@pytest.fixture
def source(tmp_path):
    shapes = parameter_shapes(VARIANTS["test_v2"], 3)
    path = tmp_path / "in.safetensors"
    save_weights({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, path)
    return path


def test_a_file_is_converted_and_reported(run, source, tmp_path, capsys):
    target = tmp_path / "out.pth"
    assert run(source, target, "--to", "facebook", "--dtype", "float16") == 0
    out, err = capsys.readouterr()
    assert out == (
        f"{target}: test_v2 in the layout 'facebook', 70 tensors, 0.1 MB, read back and found the "
        "same.\n"
    )
    assert err == ""
    with read_weights(target) as read:
        assert read.layout == "facebook"
        assert read.tensors["head.kernel"].dtype == np.float16


def test_an_existing_file_is_replaced_only_with_overwrite(run, source, tmp_path):
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"precious")
    with pytest.raises(ArgumentError, match="Give --overwrite"):
        run(source, target)
    assert target.read_bytes() == b"precious"
    assert run(source, target, "--overwrite") == 0
    assert target.stat().st_size > 1000


def test_a_missing_folder_is_an_error_before_any_work(run, tmp_path):
    with pytest.raises(ArgumentError, match="Create it first"):
        run(tmp_path / "absent.pth", tmp_path / "absent" / "out.safetensors")


def test_the_layout_of_the_source_can_be_given(run, source, tmp_path):
    with pytest.raises(Exception, match="no ConvNeXt layout tried: timm"):
        run(source, tmp_path / "out.safetensors", "--from", "timm")


def test_the_help_knows_every_layout(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    listed = capsys.readouterr().out.partition("layouts:\n")[2].splitlines()
    names = [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "]
    assert names == list(LAYOUTS)
