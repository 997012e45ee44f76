"""Reduce the names of variables in Keras files to `layer/variable`.

The same variable is `stem/stem_conv/kernel:0`, `stem_conv/stem_conv/kernel:0` or `stem_conv/kernel`
by the version of Keras and by how deeply its model nests. The last two names are always the layer
and the variable, and layer names are unique in the models we read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from convnext.steps import Shape

__all__ = ["short", "tidy"]

VARIABLE_NAMES = {
    "depthwise_kernel": "kernel",  # Keras 2
    "Variable": "gamma",  # a layer scale whose variable its author left unnamed
    "variable": "gamma",
}
COUNTER = re.compile(r"(_\d+)?(:0)?$")


def short(name: str) -> str:
    """The last two names, without counters.

    Example:
        >>> short("stem/stem_conv/kernel:0"), short("block_layer_scale/variable_3")
        ('stem_conv/kernel', 'block_layer_scale/gamma')
    """
    path, _, variable = name.rpartition("/")
    variable = COUNTER.sub("", variable)
    return f"{path.rpartition('/')[2]}/{VARIABLE_NAMES.get(variable, variable)}"


def tidy(shapes: Mapping[str, Shape]) -> list[tuple[str, str]]:
    """Pairs of `layer/variable` and the name in the file."""
    return [(short(name), name) for name in shapes]
