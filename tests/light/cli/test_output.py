"""Errors of writing output files."""

from __future__ import annotations

import pytest

from convnext.cli.output import replaced
from convnext.errors import ConvNeXtError


def test_a_file_as_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x"
    words = r"file/x cannot be written: Not a directory\."
    with pytest.raises(ConvNeXtError, match=words), replaced(path) as temporary:
        temporary.touch()


def test_an_error_of_ours_stays_what_it_is(tmp_path):
    error = ConvNeXtError("no")
    with pytest.raises(ConvNeXtError) as caught, replaced(tmp_path / "x"):
        raise error
    assert caught.value is error
