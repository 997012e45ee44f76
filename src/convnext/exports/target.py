"""Check the target of an export before any work, and write it atomically."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnext.atomic import disk_errors, replaced_in
from convnext.errors import ArgumentError, ExportError

__all__ = ["check_target", "written"]


def check_target(
    target: Path, *, overwrite: bool, may_be_folder: bool, beside: Path | None = None
) -> None:
    """Refuse a target that cannot be written.

    Args:
        target: The file or folder.
        overwrite: Whether to replace an existing target.
        may_be_folder: Whether the folder of an earlier SavedModel may be replaced.
        beside: A file that is written beside it.

    Raises:
        ArgumentError: The target exists, its folder does not, or the folder is read-only.
    """
    if target.name in ("", ".."):
        raise ArgumentError(f"{target} has no file name. Add one: {target / 'model'}.")
    parent = target.absolute().parent
    if not parent.is_dir():
        raise ArgumentError(f"The folder {parent} does not exist. Create it first.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ArgumentError(f"The folder {parent} is not writable. Choose another folder.")
    if target.is_dir() and not may_be_folder:
        raise ArgumentError(f"{target} is a folder. Name a file to write.")
    if target.is_dir() and any(target.iterdir()) and not (target / "saved_model.pb").is_file():
        raise ArgumentError(f"{target} is a folder of other files. Choose another.")
    if beside is not None and beside.is_dir():
        raise ArgumentError(
            f"{beside}, which is written beside {target.name}, is a folder. Name another target."
        )
    for path in filter(None, (target, beside)):
        if path.exists() and not overwrite:
            raise ArgumentError(
                f"{path} exists already. Allow overwrite=True (--overwrite), or choose another."
            )


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """Yield a temporary path for `target` and files beside it, which then replace it.

    They are moved when the context ends, the target last; after an error they are deleted.

    Raises:
        ExportError: A file cannot be written, for example as the disk is full.
    """
    with (
        disk_errors(target, " Nothing was kept.", kind=ExportError),
        replaced_in(target.parent, last=target.name) as temporary,
    ):
        yield temporary / target.name
