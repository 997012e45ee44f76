"""Files that commands write: complete or not there, and one line where that cannot be."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convnext.errors import ConvNeXtError

__all__ = ["cannot_write", "replaced"]


def cannot_write(path: Path, error: OSError) -> ConvNeXtError:
    """The error to raise when a file cannot be written."""
    reason = os.strerror(error.errno) if error.errno else error
    return ConvNeXtError(f"{path} cannot be written: {reason}.")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside it that takes its place if all goes well, and else is removed."""
    draft = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield draft
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
    except ConvNeXtError:  # some are OSErrors as well
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # what went wrong first is what is to be known
            draft.unlink()
