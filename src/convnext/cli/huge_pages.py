"""Starts a training process again, with its memory kept and in pages of 2 MiB instead of 4 KiB.

A step of training passes over tensors of many MiB that exist for a moment. With glibc's defaults
each goes back to Linux and is taken afresh, in small pages that processors keep losing track of,
most of all in virtual machines. The settings that change this must be there when a process starts.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["TUNABLES", "restart_in_huge_pages", "worthwhile"]

VARIABLE = "GLIBC_TUNABLES"
KEPT = 2**32  # bytes: larger tensors, and more free memory than this, still go back
TUNABLES = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in (("hugetlb", 1), ("mmap_threshold", KEPT), ("trim_threshold", KEPT))
)
FIRST_GLIBC = (2, 35)  # with these tunables
PAGES = "sys/kernel/mm/transparent_hugepage/enabled"


def restart_in_huge_pages() -> None:
    """Start this process again with the settings, unless it has them or they gain nothing.

    `GLIBC_TUNABLES` in the environment, even if empty, is left as it is.
    """
    if os.environ.get(VARIABLE) == TUNABLES:
        del os.environ[VARIABLE]  # not for the processes that read pictures
    elif sys.executable and worthwhile(os.environ):  # there is none where Python is embedded
        sys.stdout.flush()
        with suppress(OSError):  # training goes on as it is
            environ = {**os.environ, VARIABLE: TUNABLES}
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)


def worthwhile(environ: Mapping[str, str], root: Path = Path("/")) -> bool:
    """Whether the system has huge pages on request, and nobody has chosen other settings."""
    library, version = platform.libc_ver()
    if VARIABLE in environ or library != "glibc":
        return False
    if tuple(int(part) for part in version.split(".")[:2]) < FIRST_GLIBC:
        return False
    try:
        return "[madvise]" in (root / PAGES).read_text()
    except OSError:
        return False
