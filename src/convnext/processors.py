"""How many processors this process may use, and what they are.

In a container they may be fewer than there are: a thread more than the quota allows makes all of
them wait for a part of every period, so whoever starts threads asks here. It knows nothing of who
that is.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["available_processors", "processor_flags", "processor_name"]


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


def processor_name(root: Path = Path("/")) -> str:
    """What the processor is called.

    Args:
        root: Where `/proc` is.
    """
    return _cpuinfo(root).get("model name") or platform.processor() or platform.machine()


def processor_flags(root: Path = Path("/")) -> frozenset[str]:
    """What the processor can do, in Linux' words such as `"avx2"`; elsewhere nothing is known.

    Args:
        root: Where `/proc` is.
    """
    facts = _cpuinfo(root)
    return frozenset(f"{facts.get('flags', '')} {facts.get('Features', '')}".split())


def _cpuinfo(root: Path) -> dict[str, str]:
    """What Linux says about the first processor."""
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = [line.partition(":") for line in text.split("\n\n")[0].splitlines()]
    return {key.strip(): value.strip() for key, _, value in lines}


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
