"""Atomic writes of commands' output files, with errors as `ConvNeXtError`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnext import atomic
from convnext.errors import ConvNeXtError

__all__ = ["cannot_write", "replaced"]


def cannot_write(path: Path, error: OSError) -> ConvNeXtError:
    """The error to raise when a file cannot be written."""
    reason = os.strerror(error.errno) if error.errno else error
    return ConvNeXtError(f"{path} cannot be written: {reason}.")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` on success, and is removed on an exception."""
    try:
        with atomic.replaced(path) as temporary:
            yield temporary
    except ConvNeXtError:  # some are OSErrors as well
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
