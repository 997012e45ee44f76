"""The command with a model whose scores are the pixels; results: `tests/light/segmenter`."""

from __future__ import annotations

import errno
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.cli import segment
from convnext.cli.main import main
from convnext.images.masks import read_mask
from convnext.segmenter import Segmenter

pytestmark = pytest.mark.usefixtures("mock_segmenter")


@pytest.fixture
def run(upernet):
    def run(*arguments):
        return main(["segment", "--model", str(upernet), *map(str, arguments)])

    return run


@pytest.fixture
def photos(tmp_path):
    """Two pictures, one of them in a folder, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a/one.png", "two.jpg"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / name)
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_a_folder(run, photos, upernet, tmp_path, capsys):
    out = tmp_path / "masks"
    assert run(photos, "--out", out) == 1
    assert files(out) == ["a/one.png", "two.png"]
    expected = Segmenter(upernet)(photos / "two.jpg").class_map
    np.testing.assert_array_equal(read_mask(out / "two.png"), expected)
    err = capsys.readouterr().err
    assert "1 picture could not be read" in err
    assert err.endswith(f"2 masks written to {out}.\n")


@pytest.mark.parametrize(
    ("form", "suffix"), [("overlay", ".jpg"), ("json", ".json"), ("rle", ".rle.json")]
)
def test_formats(run, photos, tmp_path, form, suffix):
    assert run(photos / "two.jpg", "--out", tmp_path / "out", "--format", form) == 0
    assert files(tmp_path / "out") == [f"two{suffix}"]
    if form == "json":
        record = json.loads((tmp_path / "out" / "two.json").read_text())
        assert sum(area["pixels"] for area in record["areas"]) == 40 * 50


def test_options_reach_the_model(run, photos, tmp_path, upernet):
    ways = ("--inference", "tiles", "--stride", 20, "--flip")
    assert run(photos / "two.jpg", "--out", tmp_path / "out", *ways) == 0
    segmenter = Segmenter(upernet, inference="tiles", stride=20, flip=True)
    expected = segmenter(photos / "two.jpg").class_map
    np.testing.assert_array_equal(read_mask(tmp_path / "out/two.png"), expected)


def test_resuming_computes_what_is_missing(run, photos, tmp_path, capsys, mock_segmenter):
    (photos / "bad.png").unlink()
    out = tmp_path / "masks"
    assert run(photos, "--out", out) == 0
    (out / "two.png").unlink()
    mock_segmenter.sizes.clear()
    assert run(photos, "--out", out) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(photos, "--out", out, "--resume") == 0
    assert mock_segmenter.sizes == [1]
    assert "1 mask written" in (err := capsys.readouterr().err)
    assert "; 1 were there already." in err
    assert run(photos, "--out", out, "--overwrite") == 0
    assert mock_segmenter.sizes == [1, 2]


def test_an_interrupted_run_keeps_whole_files(run, photos, tmp_path, monkeypatch, capsys):
    (photos / "bad.png").unlink()
    write = segment._write

    def interrupt(path, content, written):
        if written:
            raise KeyboardInterrupt
        write(path, content, written)

    with monkeypatch.context() as patched:
        patched.setattr(segment, "_write", interrupt)
        assert run(photos, "--out", tmp_path / "masks") == 130
    assert "give --resume" in capsys.readouterr().err
    assert files(tmp_path / "masks") == ["a/one.png"]
    assert run(photos, "--out", tmp_path / "masks", "--resume") == 0
    assert files(tmp_path / "masks") == ["a/one.png", "two.png"]


def test_a_full_disk(run, photos, tmp_path, monkeypatch, capsys):
    (photos / "bad.png").unlink()
    write_bytes = Path.write_bytes

    def full(path, data):
        if "two" in path.name:
            raise OSError(errno.ENOSPC, "full")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(photos, "--out", tmp_path / "masks") == 2
    err = capsys.readouterr().err
    assert "No space left on device. The 1 files before are kept; continue with --resume." in err
    assert files(tmp_path / "masks") == ["a/one.png"]


def test_an_archive_cannot_write_outside_of_the_folder(run, photos, tmp_path):
    data = (photos / "two.jpg").read_bytes()
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("a/one.jpg", data)
        members.writestr("../../two.jpg", data)
    run(archive, "--out", tmp_path / "out")
    assert set(files(tmp_path / "out")) <= {"a/one.png", "two.png"}
    assert "a/one.png" in files(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos", "photos.zip"]


def test_pictures_whose_files_would_be_the_same(run, photos, tmp_path, capsys):
    (photos / "two.png").write_bytes((photos / "a/one.png").read_bytes())
    assert run(photos / "two.jpg", photos / "two.png", "--out", tmp_path / "masks") == 1
    assert "rename one of them" in capsys.readouterr().err
    assert run(*2 * [photos / "two.jpg"], "--out", tmp_path / "again") == 0


@pytest.mark.parametrize(
    ("paths", "name", "expected"),
    [
        (["photos"], "photos/a/b.jpg", "a/b.jpg"),
        (["photos/"], "photos/a/b.jpg", "a/b.jpg"),
        (["photos/*.jpg"], "photos/b.jpg", "b.jpg"),
        (["p/**/*.jpg"], "p/a/b.jpg", "a/b.jpg"),
        (["a/x.jpg", "b/y.jpg"], "b/y.jpg", "b/y.jpg"),
        (["x.jpg"], "x.jpg", "x.jpg"),
        (["../x.jpg"], "../x.jpg", "x.jpg"),
        (["x.zip"], "x.zip/a/b.jpg", "a/b.jpg"),
        (["https://h.org/a/x.jpg"], "https://h.org/a/../x.jpg?y", "h.org/a/x.jpg"),
        (["x.jpg", "/y.jpg"], "/y.jpg", "y.jpg"),
    ],
)
def test_names_stay_relative(paths, name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert segment._relative(name, segment._root(paths)).as_posix() == expected


def test_a_classifier_is_refused(named_weights, photos, tmp_path, upernet, capsys):
    out = tmp_path / "out"
    assert main(["segment", str(photos), "--model", str(named_weights), "--out", str(out)]) == 2
    assert "convnext.Classifier" in capsys.readouterr().err
    assert main(["predict", str(photos), "--model", str(upernet)]) == 2
    assert "convnext.Segmenter" in capsys.readouterr().err
