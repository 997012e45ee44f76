"""The command with an engine that classifies by colour; drawing: `tests/light/classifier`."""

from __future__ import annotations

import pytest
from PIL import Image

from convnext.cli import explain
from convnext.cli.main import main

pytestmark = pytest.mark.usefixtures("mock_engine")


@pytest.fixture
def run(named_weights):
    def run(*arguments):
        return main(["explain", "--model", str(named_weights), *map(str, arguments)])

    return run


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_single_picture(run, suffix, pictures, tmp_path, capsys):
    out = tmp_path / f"heat.{suffix}"
    assert run(pictures / "shade-3.png", "--out", out) == 0
    with Image.open(out) as drawn:
        assert drawn.width == 2 * 448 + 8
    output = capsys.readouterr()
    assert output.out == f"{out}  {pictures}/shade-3.png  100.0% shade 3, nuance 3\n"
    assert output.err == "Licence of the weights: MIT.\n"


def test_a_class_of_ones_own(run, pictures, tmp_path, capsys):
    out = tmp_path / "heat.png"
    assert run(pictures / "shade-3.png", "--out", out, "--target", "nuance 5") == 0
    assert "0.0% shade 5" in capsys.readouterr().out
    assert run(pictures, "--out", tmp_path / "x.png", "--target", "nuance 55") == 2
    assert "Did you mean 'nuance 5'" in capsys.readouterr().err


def test_each_of_many_pictures(run, pictures, tmp_path, capsys):
    assert run(pictures, "--out", tmp_path / "heat.png") == 1
    drawn = sorted(path.name for path in tmp_path.glob("heat*"))
    assert drawn == [f"heat-{number:04}.png" for number in range(1, 10)]
    out, err = capsys.readouterr()
    assert out.splitlines()[8].startswith(f"{tmp_path}/heat-0009.png  {pictures}/shade-9.png")
    assert "convnext: 1 picture could not be read:" in err


def test_many_pictures_on_sheets(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(explain, "SHEET", 6)
    assert run(pictures, "--out", tmp_path / "heat.png", "--sheet") == 1
    assert sorted(path.name for path in tmp_path.glob("heat*")) == ["heat-2.png", "heat.png"]
    with Image.open(tmp_path / "heat.png") as sheet:
        assert sheet.width > 2 * 2 * explain.SHEET_SIDE
        assert sheet.height > 3 * explain.SHEET_SIDE
    with Image.open(tmp_path / "heat-2.png") as sheet:
        assert sheet.width < 2 * 2 * explain.SHEET_SIDE


def test_unreadable_pictures_alone_write_no_file(run, pictures, tmp_path):
    for arguments in ([], ["--sheet"]):
        assert run(pictures / "shade-4b.png", "--out", tmp_path / "heat.png", *arguments) == 1
    assert not list(tmp_path.glob("heat*"))


def test_files_are_replaced_only_with_overwrite(run, pictures, tmp_path, capsys):
    out = tmp_path / "heat.png"
    out.write_text("precious")
    assert run(pictures / "shade-1.png", "--out", out) == 2
    assert out.read_text() == "precious"
    assert "Give --overwrite" in capsys.readouterr().err
    assert run(pictures / "shade-1.png", "--out", out, "--overwrite") == 0
    with Image.open(out) as drawn:
        assert drawn.format == "PNG"
    (tmp_path / "many-0002.png").write_text("precious")
    assert run(pictures, "--out", tmp_path / "many.png") == 2
    assert (tmp_path / "many-0002.png").read_text() == "precious"


def test_another_kind_of_file(run, pictures, tmp_path, capsys):
    assert run(pictures, "--out", tmp_path / "heat.tiff") == 2
    assert "Allowed: .png, .jpg" in capsys.readouterr().err


def test_a_disk_that_is_full(run, pictures, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert run(pictures / "shade-1.png", "--out", tmp_path / "heat.png") == 2
    assert "heat.png cannot be written: No space left on device." in capsys.readouterr().err
    assert not list(tmp_path.glob("*heat*"))
