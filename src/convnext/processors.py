"""How many processors this process may use: fewer than there are, in a container.

A thread more than the quota allows makes all of them wait for a part of every period, so whoever
starts threads asks here. It knows nothing of who that is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["available_processors"]


def available_processors(root: Path = Path("/")) -> int:
    """Processors this process is bound to, or the whole ones of its cgroups' quota if fewer.

    Args:
        root: Where `/proc` and `/sys` are.

    Example:
        >>> available_processors() >= 1
        True
    """
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    else:
        bound = os.cpu_count() or 1
    return max(1, int(min([bound, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Each limit that applies, in processors; cgroups of version 2 and of version 1."""
    for folder in _folders(root):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            limit = int((folder / "cpu.cfs_quota_us").read_text())
            if limit > 0:  # -1 for none
                yield limit / int((folder / "cpu.cfs_period_us").read_text())


def _folders(root: Path) -> Iterator[Path]:
    """This process's cgroups that may limit processors, each with those it lies in."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        own = mount / path.strip("/")
        # Inside a container the path may be the host's, and the mount the container's own cgroup.
        for folder in (own, *own.parents):
            if not folder.is_relative_to(mount):
                break
            yield folder
