"""OpenVINO, imported without its telemetry, and one core of it for the whole process.

Importing it reports that import to a web service, unasked and from a forked process. Without the
package that does so OpenVINO falls back to a stand-in that does nothing.

Where a processor has AMX, each core sets the stack that signal handlers run on, and gives memory
back that a later core may have remembered as the one before. Ctrl-C then ends in a segmentation
fault (OpenVINO 2026.4). So there is one, and it stays.
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
    """The process's core, which compiles and knows the devices."""
    return ov.Core()
