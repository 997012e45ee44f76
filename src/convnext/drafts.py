"""Files and folders, complete or not there: a draft is written beside one, and takes its place.

It says nothing of what went wrong: who writes knows what that means and what to do.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["draft_name", "forget_drafts", "is_draft", "replaced", "replaced_folder"]


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A draft beside a file: it takes the file's place if all goes well, and else is removed.

    Raises:
        OSError: It cannot be written.
    """
    draft = path.with_name(draft_name(path.name))
    try:
        yield draft
        _sync(draft)
        draft.replace(path)
    finally:
        with suppress(OSError):  # what went wrong first is what is to be known
            draft.unlink()


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A draft of a folder of files: it takes its place if all goes well, and else is removed.

    Nothing replaces a folder in one step: for a moment the old one has gone and the new one has not
    come.

    Raises:
        OSError: It cannot be written.
    """
    draft, old = (path.with_name(draft_name(path.name)) for _ in range(2))
    try:
        draft.mkdir(parents=True)
        yield draft
        for place in (*draft.iterdir(), draft):
            _sync(place)
        if path.exists():
            path.rename(old)
        try:
            draft.rename(path)
        except OSError:
            with suppress(FileNotFoundError):
                old.rename(path)
            raise
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def forget_drafts(folder: Path) -> None:
    """Remove what killed processes left half-written, where no other process writes."""
    with suppress(OSError):  # what cannot be removed is in nobody's way
        for place in filter(lambda place: is_draft(place.name), folder.iterdir()):
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink()


def draft_name(name: str) -> str:
    """What a draft of a file or a folder is called; no two are called the same."""
    return f".{secrets.token_hex(4)}.{name}.part"


def is_draft(name: str) -> bool:
    """Whether something is called so: it was left behind by a process that was killed."""
    return re.fullmatch(r"\.[0-9a-f]{8}\..+\.part", name, re.DOTALL) is not None


def _sync(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # which opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
