"""Atomic writes of commands' output files, with errors as `ConvNeXtError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnext import atomic

__all__ = ["replaced"]


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` on success, and is removed on an exception."""
    with atomic.disk_errors(path), atomic.replaced(path) as temporary:
        yield temporary
