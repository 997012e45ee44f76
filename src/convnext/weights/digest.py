"""A checksum that identifies weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["digest"]


def digest(path: Path) -> str:
    """The sha256 of a file; of a folder, that of its files' names and digests."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listing = "".join(
            f"{digest(file)}  {file.relative_to(path).as_posix()}\n" for file in files
        )
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
