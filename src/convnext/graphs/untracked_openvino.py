"""OpenVINO, imported without its telemetry.

Importing it reports that import to a web service, unasked and from a forked process. Without the
package that does so OpenVINO falls back to a stand-in that does nothing.
"""

from __future__ import annotations

import sys
from typing import Any, cast

__all__ = ["op", "ov"]

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
