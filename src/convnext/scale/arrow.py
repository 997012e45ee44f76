"""What this room needs and not every user has: pyarrow and Ray, imported when they are used.

It knows nothing of what they are used for.
"""

from __future__ import annotations

import os
from typing import Any

from convnext.errors import MissingDependencyError

__all__ = ["pyarrow", "ray"]


def pyarrow() -> Any:
    """pyarrow, with its file systems and Parquet.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.fs  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pyarrow, which Parquet files need,", "parquet") from error
    return pyarrow


def ray() -> Any:
    """Ray, told to send nothing home, to leave GPUs as they are, and what we say ourselves to us.

    Raises:
        MissingDependencyError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker died or was killed")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingDependencyError("Ray", "ray") from error
    return ray
