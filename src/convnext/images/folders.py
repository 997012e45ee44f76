"""Pictures below a folder: which names are pictures', and the one order in which they are found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SUFFIXES", "is_hidden", "is_picture", "walk"]

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".heic")
)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out, with all that is below it."""
    return name.startswith(".") or name == "__MACOSX"


def is_picture(name: str) -> bool:
    """Whether a path in a folder or archive has a picture's suffix and no hidden part."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or f".{suffix.lower()}" not in SUFFIXES or not stem:
        return False
    return not (name.startswith((".", "__MACOSX/")) or "/." in name or "/__MACOSX/" in name)


def walk(
    folder: str | Path,
    *,
    follow_links: bool = False,
    unless: str | None = None,
    above: tuple[str, ...] = (),
) -> Iterator[os.DirEntry[str] | OSError]:
    """Yield every file below a folder that is not hidden, sorted by the parts of its path.

    Args:
        folder: The folder.
        follow_links: Whether to follow links to folders; one to a folder above it is left out.
        unless: Leave out folders that contain a file of this name, with all that is below them.
        above: The real paths of the folders above it, if links are followed.

    Yields:
        Files, and links that are not followed; for a folder that cannot be read, the error, whose
        `filename` is the folder.
    """
    if follow_links:
        real = os.path.realpath(folder)
        if real in above:
            return
        above = (*above, real)
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield error
        return
    if any(entry.name == unless for entry in entries):
        return
    for entry in entries:
        if is_hidden(entry.name):
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if follow_links and entry.is_symlink():
            is_folder = os.path.isdir(entry.path)  # noqa: PTH112 (no error for links in circles)
        if is_folder:
            yield from walk(entry.path, follow_links=follow_links, unless=unless, above=above)
        else:
            yield entry
