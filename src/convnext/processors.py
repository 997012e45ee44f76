"""The number, name and features of the processors this process may use.

A container's quota may allow fewer than the machine has; with more threads than that, all are
throttled. So the number of threads is taken from here.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["available_processors", "processor_flags", "processor_name"]


def available_processors(root: Path = Path("/")) -> int:
    """The number of processors by CPU affinity and cgroup quota, at least 1.

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
    """The processor's model name."""
    return _cpuinfo(root).get("model name") or platform.processor() or platform.machine()


def processor_flags(root: Path = Path("/")) -> frozenset[str]:
    """The processor's features as Linux names them, such as `"avx2"`; empty on other systems."""
    facts = _cpuinfo(root)
    return frozenset(f"{facts.get('flags', '')} {facts.get('Features', '')}".split())


def _cpuinfo(root: Path) -> dict[str, str]:
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = [line.partition(":") for line in text.split("\n\n")[0].splitlines()]
    return {key.strip(): value.strip() for key, _, value in lines}


def _quotas(root: Path) -> Iterator[float]:
    """The quotas that apply, in processors; from cgroups of version 1 and 2."""
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
    """The folders of this process's cgroups that may limit processors, and of their parents."""
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
        # In a container the path may be the host's, while the mount is the container's cgroup.
        for folder in (own, *own.parents):
            if not folder.is_relative_to(mount):
                break
            yield folder
