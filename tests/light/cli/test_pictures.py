"""Common parts of commands that run a model on pictures."""

import argparse
import subprocess
import sys

import pytest

from convnext.cli import pictures
from convnext.cli.pictures import Unreadable, check_target, show_progress, unseen
from convnext.errors import ArgumentError, ConvNeXtError


def test_pictures_that_are_held_are_left_out():
    found = unseen(["a.png", "b.png", "https://example.com/c.png"], {"b.png": None})
    assert [name for name, _ in found] == ["a.png", "https://example.com/c.png"]


def test_a_progress_bar_does_not_change_its_items():
    args = argparse.Namespace(paths=["a.png"])
    assert list(show_progress(iter("abc"), args)) == ["a", "b", "c"]


def test_bad_pictures_are_counted_and_listed(capsys, monkeypatch):
    monkeypatch.setattr(pictures, "LISTED", 2)
    bad = Unreadable()
    assert bad.report() == 0
    bad.add("a.png", "a.png is empty")
    bad.add("x.zip/b.png", "The given picture is torn")
    bad.add("c.png", "c.png is empty")
    assert bad.report() == 1
    assert capsys.readouterr().err == (
        "convnext: 3 pictures could not be read:\n"
        "  a.png is empty\n"
        "  x.zip/b.png: The given picture is torn\n"
        "  and 1 more\n"
    )


def test_an_output_is_refused_before_any_work(tmp_path):
    path = tmp_path / "out"
    check_target(path, overwrite=False)
    path.touch()
    check_target(path, overwrite=True)
    check_target(path, overwrite=False, resume=True)
    with pytest.raises(ArgumentError, match="exists already"):
        check_target(path, overwrite=False)


def test_names_that_no_file_can_have(tmp_path):
    long = "n" * 300
    with pytest.raises(ConvNeXtError, match="cannot be written: File name too long"):
        check_target(tmp_path / long, overwrite=False)
    assert list(show_progress("a", argparse.Namespace(paths=[long]))) == ["a"]


@pytest.mark.parametrize("licence", ["MIT", "CC-BY-NC-4.0"])
def test_the_licence_of_the_weights_is_printed_once(licence, write_weights, tmp_path):
    path = write_weights(tmp_path / "w.safetensors", 0, licence=licence)
    script = "import sys; from convnext.cli.main import main; sys.exit(main())"
    process = subprocess.run(
        [sys.executable, "-c", script, "predict", "x.png", "--model", str(path)],
        capture_output=True,
        text=True,
    )
    terms, error = process.stderr.splitlines()
    assert terms == f"Licence of the weights: {licence}."
    assert "has no classifier" in error
