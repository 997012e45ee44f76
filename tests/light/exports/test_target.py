"""A result is complete or not there."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from convnext.atomic import is_temporary
from convnext.errors import ArgumentError, ExportError
from convnext.exports.target import check_target, written


def write_both(target):
    with written(target) as temporary:
        temporary.write_text("graph")
        temporary.with_name("a.bin").write_text("weights")
        assert [is_temporary(path.name) for path in target.parent.glob(".*")] == [True]
        assert not target.exists()


def test_files_take_their_places_together(tmp_path):
    write_both(tmp_path / "a.xml")
    assert {path.name for path in tmp_path.iterdir()} == {"a.xml", "a.bin"}


def fail(target, error):
    with written(target) as temporary:
        temporary.write_text("half of it")
        raise error


@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt()])
def test_after_an_error_what_was_there_is_untouched(error, tmp_path):
    target = tmp_path / "a.onnx"
    target.write_text("old")
    with pytest.raises(type(error)):
        fail(target, error)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_a_folder(tmp_path):
    target = tmp_path / "model"
    for content in ("old", "new"):
        with written(target) as temporary:
            temporary.mkdir()
            (temporary / "saved_model.pb").write_text(content)
    assert (target / "saved_model.pb").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_no_folder_makes_room_for_a_file_beside_the_target(tmp_path):
    (tmp_path / "a.bin").mkdir()
    (tmp_path / "a.bin" / "photo.jpg").touch()
    with pytest.raises(ExportError, match="Is a directory"):
        write_both(tmp_path / "a.xml")
    assert (tmp_path / "a.bin" / "photo.jpg").exists()


def test_a_full_disk_is_an_export_error(tmp_path):
    said = r"a\.onnx cannot be written: No space left on device\. Nothing was kept"
    with pytest.raises(ExportError, match=said):
        fail(tmp_path / "a.onnx", OSError(errno.ENOSPC, "no space"))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_when_files_are_flushed_is_an_export_error(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ExportError, match=r"a\.xml cannot be written: No space left on device\."):
        write_both(tmp_path / "a.xml")
    assert list(tmp_path.iterdir()) == []


def test_targets_that_cannot_be_are_refused_before_any_work(tmp_path, monkeypatch):
    def check(path, **options):
        check_target(Path(path), **{"overwrite": False, "may_be_folder": False} | options)

    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").touch()
    with pytest.raises(ArgumentError, match=r"does not exist\. Create it first"):
        check(tmp_path / "nowhere" / "a.onnx")
    with pytest.raises(ArgumentError, match=r"does not exist\. Create it first"):
        check(tmp_path / "file" / "a.onnx")
    for nameless in (".", "..", "/"):
        with pytest.raises(ArgumentError, match="has no file name"):
            check(nameless, overwrite=True, may_be_folder=True)
    with pytest.raises(ArgumentError, match="Allow overwrite=True"):
        check(tmp_path / "file")
    check(tmp_path / "file", overwrite=True)
    with pytest.raises(ArgumentError, match=r"is a folder\. Name a file"):
        check(tmp_path / "full", overwrite=True)
    with pytest.raises(ArgumentError, match="a folder of other files"):
        check(tmp_path / "full", overwrite=True, may_be_folder=True)
    with pytest.raises(ArgumentError, match=r"file exists already\. Allow overwrite=True"):
        check(tmp_path / "a.xml", beside=tmp_path / "file")
    check(tmp_path / "a.xml", beside=tmp_path / "file", overwrite=True)
    with pytest.raises(ArgumentError, match=r"is a folder\. Name another target"):
        check(tmp_path / "a.xml", beside=tmp_path / "full", overwrite=True)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ArgumentError, match="is not writable"):
        check(tmp_path / "a.onnx")
