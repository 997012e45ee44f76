"""Import OpenVINO without its telemetry, with one core for the whole process.

Importing OpenVINO reports to a web service from a forked process, unless the package
`openvino_telemetry` is missing, so that is hidden during the import.

On a processor with AMX, each core replaces the stack of signal handlers, and a deleted core frees
the stack that a later one restores, so that Ctrl-C ends in a segmentation fault (OpenVINO 2026.4).
Therefore there is only one core, which is never deleted.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, cast

__all__ = ["core", "op", "ov"]

_TELEMETRY = "openvino_telemetry"
_block = _TELEMETRY not in sys.modules
if _block:
    cast("dict[str, Any]", sys.modules)[_TELEMETRY] = None
try:
    import openvino as ov
    from openvino import opset13 as op
finally:
    if _block:
        del sys.modules[_TELEMETRY]


@functools.cache
def core() -> ov.Core:
    """The process's OpenVINO core, which compiles graphs and lists devices."""
    return ov.Core()
