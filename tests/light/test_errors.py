"""The error classes: their bases, and their messages."""

from __future__ import annotations

import pytest

from convnext import errors


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n != "ConvNeXtError"])
def test_every_error_is_ours_and_a_built_in_one(name):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.ConvNeXtError)
    assert issubclass(kind, ValueError | TypeError | ImportError | OSError | RuntimeError)
    assert name in errors.__doc__


def test_an_unknown_name_gets_a_suggestion_and_the_list():
    error = errors.UnknownNameError("size", "Tinny", ["tiny", "base"])
    assert str(error) == "Unknown size: 'Tinny'. Did you mean 'tiny'? Allowed: tiny, base."
    assert error.suggestion == "tiny"


def test_an_unlike_name_gets_no_suggestion():
    assert "Did you mean" not in str(errors.UnknownNameError("size", "qqq", ["tiny", "base"]))


def test_a_missing_extra_says_how_to_install_it():
    assert "pip install 'convnext[jax]'" in str(errors.MissingDependencyError("Keras", "jax"))
