"""Files and folders are written whole or not at all, whatever fails."""

from __future__ import annotations

import ast
import errno
import os
from pathlib import Path

import pytest

from convnext.atomic import (
    is_temporary,
    remove_temporaries,
    replaced,
    replaced_folder,
    replaced_in,
    temporary_name,
    write_text,
)


def test_a_written_file_replaces_the_old_one_only_at_the_end(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replaced(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert is_temporary(temporary.name)
    assert [(place.name, place.read_text()) for place in tmp_path.iterdir()] == [("a.txt", "new")]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_only_the_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with replaced(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert [(place.name, place.read_text()) for place in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_temporary_file_that_cannot_be_removed_hides_no_error(tmp_path, monkeypatch):
    def stuck(*_arguments, **_options):
        raise PermissionError("no")

    monkeypatch.setattr(Path, "unlink", stuck)
    with pytest.raises(ValueError, match="first"), replaced(tmp_path / "a.txt"):
        raise ValueError("first")


def test_a_temporary_file_that_was_never_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replaced(tmp_path / "a.txt"):
        pass


def folder_of(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.txt").write_text(text)
    return folder


def seen(tmp_path: Path) -> list[tuple[str, str]]:
    files = (place for place in tmp_path.rglob("*") if place.is_file())
    return sorted((str(place.relative_to(tmp_path)), place.read_text()) for place in files)


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = folder_of(tmp_path, "old")
    with replaced_folder(folder) as temporary:
        (temporary / "b.txt").write_text("new")
        assert [is_temporary(path.name) for path in tmp_path.iterdir() if path != folder] == [True]
        assert (folder / "a.txt").read_text() == "old"
    assert seen(tmp_path) == [("model/b.txt", "new")]
    assert [place.name for place in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_folder_that_was_interrupted_is_the_old_one(tmp_path, error):
    folder = folder_of(tmp_path, "old")

    def write() -> None:
        with replaced_folder(folder) as temporary:
            (temporary / "a.txt").write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert seen(tmp_path) == [("model/a.txt", "old")]
    assert [place.name for place in tmp_path.iterdir()] == ["model"]


def test_a_folder_whose_place_cannot_be_taken_is_the_old_one(tmp_path, monkeypatch):
    folder, rename = folder_of(tmp_path, "old"), Path.rename

    def write() -> None:
        with replaced_folder(folder) as temporary:
            (temporary / "a.txt").write_text("new")
            monkeypatch.setattr(Path, "rename", stuck)

    def stuck(self: Path, target: Path) -> Path:
        if target == folder and (self / "a.txt").read_text() == "new":
            raise PermissionError("no")
        return rename(self, target)

    with pytest.raises(PermissionError):
        write()
    assert seen(tmp_path) == [("model/a.txt", "old")]
    assert [place.name for place in tmp_path.iterdir()] == ["model"]


def test_only_temporaries_of_killed_processes_are_removed(tmp_path):
    left = tmp_path / temporary_name("model")
    left.mkdir()
    (left / "a.txt").touch()
    (tmp_path / temporary_name("a.txt")).touch()
    for name in (".a.part", "a.txt"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    remove_temporaries(tmp_path / "nowhere")
    assert sorted(place.name for place in tmp_path.iterdir()) == [".a.part", "a.txt"]


def test_temporary_files_have_unique_names_that_no_user_gives():
    assert len({temporary_name("a.txt") for _ in range(100)}) == 100
    for name in ("a.txt", ".a.part", "a.txt.part", ".download.part", "0a1b2c3d.a.part"):
        assert not is_temporary(name)


def test_a_text_is_written_whole_in_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "größer")
    assert (tmp_path / "a.txt").read_bytes() == "größer".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def write_three(folder: Path) -> None:
    with replaced_in(folder, last="a.xml") as temporary:
        (temporary / "a.xml").write_text("graph")
        (temporary / "b").mkdir()
        (temporary / "b" / "c.bin").write_text("weights")


def test_files_that_belong_together_come_together_the_named_one_last(tmp_path, monkeypatch):
    moved, replace = [], Path.replace

    def noted(self: Path, target: Path) -> Path:
        moved.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    write_three(tmp_path)
    assert moved == ["b", "a.xml"]
    assert seen(tmp_path) == [("a.xml", "graph"), ("b/c.bin", "weights")]


@pytest.mark.skipif(os.name == "nt", reason="folders are not flushed there")
def test_all_is_on_the_disk_before_anything_moves(tmp_path, monkeypatch):
    flushed, replace, fsync = set(), Path.replace, os.fsync

    def noted(descriptor: int) -> None:
        flushed.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def checked(self: Path, target: Path) -> Path:
        parts = self.parent.rglob("*") if self.parent != tmp_path else [self]
        assert {part.stat().st_ino for part in parts} <= flushed
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", checked)
    write_three(tmp_path)
    write_text(tmp_path / "a.txt", "new")
    assert tmp_path.stat().st_ino in flushed
    monkeypatch.setattr(Path, "replace", replace)
    flushed.clear()
    with replaced(tmp_path / "a.txt", durable=False) as temporary:
        temporary.write_text("again")
    assert not flushed


def test_a_disk_that_fills_up_while_files_are_flushed_changes_nothing(tmp_path, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.xml").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_three(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "a.xml", "new")
    assert seen(tmp_path) == [("a.xml", "old")]
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]


SOURCE = Path(__file__).parents[2] / "src" / "convnext"
APART = {
    ("weights/transfer.py", "replace"),  # a download that another process goes on with
    ("weights/transfer.py", "fsync"),
    ("train/segmentation/training.py", "rename"),  # inside a folder that is replaced whole
    ("data/files.py", "move"),  # in a store behind a URL
}


def renamings(tree: ast.AST) -> set[str]:
    """Names of functions called in a file that rename or flush files."""
    found = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        of_path = len(call.args) == 1 and not call.keywords  # texts and dataclasses take more
        of_os = getattr(getattr(call.func, "value", None), "id", "") in ("os", "shutil")
        if name in ("rename", "renames", "move", "fsync", "mkstemp", "mkdtemp", "link"):
            found.add(name)
        if name == "replace" and (of_path or of_os):
            found.add(name)
    return found


def test_only_atomic_moves_temporary_files_into_place():
    found = {
        (path.relative_to(SOURCE).as_posix(), name)
        for path in SOURCE.rglob("*.py")
        if path != SOURCE / "atomic.py"
        for name in renamings(ast.parse(path.read_text("utf-8")))
    }
    assert found == APART
