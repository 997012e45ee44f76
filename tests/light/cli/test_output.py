"""Files that commands write: complete or not there."""

from __future__ import annotations

import pytest

from convnext.cli.output import replaced
from convnext.errors import ConvNeXtError


def test_a_file_is_there_once_it_is_complete(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with replaced(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_what_failed(tmp_path):
    def failing():
        with replaced(tmp_path / "x") as draft:
            draft.touch()
            raise ConvNeXtError

    with pytest.raises(ConvNeXtError):
        failing()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_said_to_be_none(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x"
    words = r"file/x cannot be written: Not a directory\."
    with pytest.raises(ConvNeXtError, match=words), replaced(path) as draft:
        draft.touch()
