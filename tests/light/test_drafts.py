"""Complete or not there, whatever goes wrong meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from convnext.drafts import draft_name, forget_drafts, is_draft, replaced, replaced_folder


def test_what_was_written_takes_the_files_place_at_the_end_alone(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replaced(target) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
        assert is_draft(draft.name)
    assert [(place.name, place.read_text()) for place in tmp_path.iterdir()] == [("a.txt", "new")]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_was_interrupted_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with replaced(target) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert [(place.name, place.read_text()) for place in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_draft_that_cannot_be_removed_hides_no_error(tmp_path, monkeypatch):
    def stuck(*_arguments, **_options):
        raise PermissionError("no")

    monkeypatch.setattr(Path, "unlink", stuck)
    with pytest.raises(ValueError, match="first"), replaced(tmp_path / "a.txt"):
        raise ValueError("first")


def test_a_draft_that_was_never_written_is_an_error(tmp_path):
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
    with replaced_folder(folder) as draft:
        (draft / "b.txt").write_text("new")
        assert is_draft(draft.name)
        assert (folder / "a.txt").read_text() == "old"
    assert seen(tmp_path) == [("model/b.txt", "new")]
    assert [place.name for place in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_folder_that_was_interrupted_is_the_old_one(tmp_path, error):
    folder = folder_of(tmp_path, "old")

    def write() -> None:
        with replaced_folder(folder) as draft:
            (draft / "a.txt").write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert seen(tmp_path) == [("model/a.txt", "old")]
    assert [place.name for place in tmp_path.iterdir()] == ["model"]


def test_a_folder_whose_place_cannot_be_taken_is_the_old_one(tmp_path, monkeypatch):
    folder, rename = folder_of(tmp_path, "old"), Path.rename

    def write() -> None:
        with replaced_folder(folder) as draft:
            (draft / "a.txt").write_text("new")
            monkeypatch.setattr(Path, "rename", stuck)

    def stuck(self: Path, target: Path) -> Path:
        if target == folder and (self / "a.txt").read_text() == "new":
            raise PermissionError("no")
        return rename(self, target)

    with pytest.raises(PermissionError):
        write()
    assert seen(tmp_path) == [("model/a.txt", "old")]
    assert [place.name for place in tmp_path.iterdir()] == ["model"]


def test_what_killed_processes_left_is_forgotten_and_nothing_else(tmp_path):
    left = tmp_path / draft_name("model")
    left.mkdir()
    (left / "a.txt").touch()
    (tmp_path / draft_name("a.txt")).touch()
    for name in (".a.part", "a.txt"):
        (tmp_path / name).touch()
    forget_drafts(tmp_path)
    forget_drafts(tmp_path / "nowhere")
    assert sorted(place.name for place in tmp_path.iterdir()) == [".a.part", "a.txt"]


def test_no_two_drafts_are_called_the_same_and_no_file_of_a_user_is_one():
    assert len({draft_name("a.txt") for _ in range(100)}) == 100
    for name in ("a.txt", ".a.part", "a.txt.part", ".download.part", "0a1b2c3d.a.part"):
        assert not is_draft(name)
