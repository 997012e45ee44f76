"""Complete or not there, whatever goes wrong meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from convnext.drafts import draft_name, is_draft, replaced


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


def test_no_two_drafts_are_called_the_same_and_no_file_of_a_user_is_one():
    assert len({draft_name("a.txt") for _ in range(100)}) == 100
    for name in ("a.txt", ".a.part", "a.txt.part", ".download.part", "0a1b2c3d.a.part"):
        assert not is_draft(name)
