"""Files that are complete or not there: a draft is written beside them, and takes their place.

It says nothing of what went wrong: who writes knows what that means and what to do.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["draft_name", "is_draft", "replaced"]


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A draft beside a file: it takes the file's place if all goes well, and else is removed.

    Raises:
        OSError: It cannot be written.
    """
    draft = path.with_name(draft_name(path.name))
    try:
        yield draft
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        with suppress(OSError):  # what went wrong first is what is to be known
            draft.unlink()


def draft_name(name: str) -> str:
    """What a draft of a file is called; no two are called the same."""
    return f".{secrets.token_hex(4)}.{name}.part"


def is_draft(name: str) -> bool:
    """Whether a file is called so: it was left behind by a process that was killed."""
    return re.fullmatch(r"\.[0-9a-f]{8}\..+\.part", name, re.DOTALL) is not None
