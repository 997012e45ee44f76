"""Where a result goes: refused before any work if it could not be written, and written atomically.

It knows nothing of formats.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convnext.atomic import replaced_in
from convnext.errors import ArgumentError, ConvNeXtError, ExportError

__all__ = ["check_place", "written"]


def check_place(
    target: Path, *, overwrite: bool, may_be_folder: bool, beside: Path | None = None
) -> None:
    """Refuse a target that could not be written, before any work is done.

    Args:
        target: Where to.
        overwrite: Whether to replace what is there.
        may_be_folder: Whether a folder of an earlier result may be replaced.
        beside: A file that is written with it.

    Raises:
        ArgumentError: It is there already, its folder is not, or nothing may be written into it.
    """
    if target.name in ("", ".."):
        raise ArgumentError(f"{target} gives what is written no name. Name it: {target / 'model'}.")
    parent = target.absolute().parent
    if not parent.is_dir():
        raise ArgumentError(f"The folder {parent} is not there. Create it first.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ArgumentError(f"Nothing may be written into {parent}. Name another folder.")
    if target.is_dir() and not may_be_folder:
        raise ArgumentError(f"{target} is a folder. Name a file to write.")
    if target.is_dir() and any(target.iterdir()) and not (target / "saved_model.pb").is_file():
        raise ArgumentError(f"{target} is a folder of something else. Name another.")
    if beside is not None and beside.is_dir():
        raise ArgumentError(
            f"{beside}, which is written beside {target.name}, is a folder. Name another target."
        )
    for path in filter(None, (target, beside)):
        if path.exists() and not overwrite:
            raise ArgumentError(
                f"{path} is there already. Allow overwrite=True (--overwrite), or name another."
            )


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """Where to write what is to become `target`, and files beside it that begin with its stem.

    When the block ends well they all take their places, the target last; otherwise nothing is left.

    Raises:
        ExportError: The disk is full, or does not take it.
    """
    try:
        with replaced_in(target.parent, last=target.name) as temporary:
            yield temporary / target.name
    except ConvNeXtError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ExportError(
            f"{target} cannot be written: {reason}. Nothing was left behind."
        ) from error
