"""Atomic writes of files and folders: written whole or not at all.

Content is written to a temporary file or folder beside the target, flushed to disk, then renamed. A
killed process leaves at most a temporary (`is_temporary`). The system's errors are passed on, which
`disk_errors` turns into errors of this package.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convnext.errors import ConvNeXtError

__all__ = [
    "disk_errors",
    "is_temporary",
    "remove_temporaries",
    "replaced",
    "replaced_folder",
    "replaced_in",
    "temporary_name",
    "write_text",
]


@contextmanager
def disk_errors(
    what: object,
    advice: str = "",
    *,
    done: str = "written",
    kind: type[ConvNeXtError] = ConvNeXtError,
) -> Iterator[None]:
    """Turn errors of the system into errors that say which file or folder failed.

    Args:
        what: The file or folder.
        advice: Further sentences, after a space.
        done: What was to be done with it.
        kind: Class of the error.
    """
    try:
        yield
    except ConvNeXtError:  # some are OSErrors as well
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise kind(f"{what} cannot be {done}: {reason}.{advice}") from error


@contextmanager
def replaced(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` on success, and is removed on an exception.

    Args:
        path: The file to replace.
        durable: Whether to flush to disk first, so that the file survives a loss of power.

    Raises:
        OSError: The file cannot be written.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        if durable:
            _flush(temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # keep the first exception
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically.

    Raises:
        OSError: It cannot be written; the file is unchanged.
    """
    with replaced(path) as temporary:
        temporary.write_text(text, "utf-8")


@contextmanager
def replaced_in(folder: Path, last: str = "") -> Iterator[Path]:
    """Yield a temporary folder whose files move into `folder` on success; removed on an exception.

    Args:
        folder: The target.
        last: Name of the entry to move last. Only this one may replace a folder, which is not
            atomic: for a moment neither the old nor the new folder exists.

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
            target = folder / path.name
            if path.name == last and target.is_dir():
                _replace_folder(path, target)
            else:
                path.replace(target)
        _flush(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` on success, and is removed on an exception.

    Raises:
        OSError: It cannot be written.
    """
    with replaced_in(path.parent, last=path.name) as temporary:
        (temporary / path.name).mkdir()
        yield temporary / path.name


def remove_temporaries(folder: Path, *, folders: bool = True) -> None:
    """Remove temporaries that killed processes left; no other process may be writing there.

    Args:
        folder: The folder to clean.
        folders: Whether to remove temporary folders as well as files.
    """
    with suppress(OSError):  # a remaining temporary does no harm
        for path in filter(lambda path: is_temporary(path.name), folder.iterdir()):
            if not path.is_dir():
                path.unlink(missing_ok=True)
            elif folders:
                shutil.rmtree(path, ignore_errors=True)


def temporary_name(name: str) -> str:
    """A unique name for a temporary file or folder beside `name`."""
    return f".{secrets.token_hex(4)}.{name}.part"


def is_temporary(name: str) -> bool:
    """Whether a name is one of `temporary_name`."""
    return re.fullmatch(r"\.[0-9a-f]{8}\..+\.part", name, re.DOTALL) is not None


def _replace_folder(new: Path, target: Path) -> None:
    old = new.with_name(temporary_name(target.name))
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _flush(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
