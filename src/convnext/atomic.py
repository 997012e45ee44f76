"""Atomic writes: a file or a folder is complete, or as it was. Nothing else renames into place.

What is written goes into a temporary file or folder beside the target, on the same disk, which is
flushed to the disk and then renamed. A process that is killed leaves at most something that
`is_temporary`. Errors are the system's: who writes knows what they mean and what to do.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "is_temporary",
    "remove_temporaries",
    "replaced",
    "replaced_folder",
    "replaced_in",
    "temporary_name",
    "write_text",
]


@contextmanager
def replaced(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary file: it takes the file's place if all goes well, and else is removed.

    Args:
        path: The file.
        durable: Whether it has to survive a loss of power, which costs a flush of the disk.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        if durable:
            _flush(temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # what went wrong first is what is to be known
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Replace a file's content in one step, in UTF-8.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    with replaced(path) as temporary:
        temporary.write_text(text, "utf-8")


@contextmanager
def replaced_in(folder: Path, last: str = "") -> Iterator[Path]:
    """A temporary folder: what is in it moves into `folder` if all goes well, and else is removed.

    Args:
        folder: Where to.
        last: Name of what moves after the others. It alone may replace a folder, for which there is
            no single step: for a moment the old one has gone and the new one has not come.

    Raises:
        OSError: Something cannot be written.
    """
    temporary = folder / temporary_name(last or "files")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _flush(path)
        for path in sorted(temporary.iterdir(), key=lambda path: (path.name == last, path.name)):
            place = folder / path.name
            if path.name == last and place.is_dir():
                _replace_folder(path, place)
            else:
                path.replace(place)
        _flush(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A temporary folder: it takes the folder's place if all goes well, and else is removed.

    Raises:
        OSError: It cannot be written.
    """
    with replaced_in(path.parent, last=path.name) as temporary:
        (temporary / path.name).mkdir()
        yield temporary / path.name


def remove_temporaries(folder: Path, *, folders: bool = True) -> None:
    """Remove what killed processes left half-written, where no other process writes.

    Args:
        folder: Where they wrote.
        folders: Whether they wrote folders there, and not files alone.
    """
    with suppress(OSError):  # what cannot be removed is in nobody's way
        for path in filter(lambda path: is_temporary(path.name), folder.iterdir()):
            if not path.is_dir():
                path.unlink(missing_ok=True)
            elif folders:
                shutil.rmtree(path, ignore_errors=True)


def temporary_name(name: str) -> str:
    """What a temporary file or folder beside `name` is called; no two are called the same."""
    return f".{secrets.token_hex(4)}.{name}.part"


def is_temporary(name: str) -> bool:
    """Whether something is called so: it was left behind by a process that was killed."""
    return re.fullmatch(r"\.[0-9a-f]{8}\..+\.part", name, re.DOTALL) is not None


def _replace_folder(new: Path, place: Path) -> None:
    old = new.with_name(temporary_name(place.name))
    place.rename(old)
    try:
        new.rename(place)
    except OSError:
        old.rename(place)
        raise


def _flush(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # which opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
