"""Lazy imports of pyarrow and Ray, which are optional."""

from __future__ import annotations

import os
from typing import Any

from convnext.errors import MissingDependencyError

__all__ = ["pyarrow", "ray"]


def pyarrow() -> Any:
    """Import pyarrow, with its file systems and Parquet.

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
    """Import Ray, without telemetry, changes of GPU visibility, or logs that the driver repeats.

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
