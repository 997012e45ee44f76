"""Names for the tensors of Keras 3 archives (`.weights.h5` and `.keras`).

In such a file a tensor is `layers/conv2d_3/vars/0`: the layer's class, a counter, and the
variable's position. The layer's own name stands beside it as an annotation,
`layers/conv2d_3/vars@name`. With it, names become what Keras calls a variable's path, and every
Keras layout can be read from them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from convnext.steps import Shape

__all__ = ["variable_path"]

VARIABLE = re.compile(r"(layers/.+)/vars/([01])")


def variable_path(name: str, shapes: Mapping[str, Shape], annotations: Mapping[str, str]) -> str:
    """A tensor's name by its layers' names; other tensors, such as the optimizer's, keep theirs.

    Args:
        name: The tensor.
        shapes: Name and shape of every tensor of the archive.
        annotations: The archive's annotations.

    Example:
        >>> variable_path("layers/dense/vars/1", {"layers/dense/vars/0": (8, 2)},
        ...               {"layers/dense/vars@name": "head"})
        'head/bias'
    """
    match = VARIABLE.fullmatch(name)
    if match is None or f"{match[1]}/vars@name" not in annotations:
        return name
    first = f"{match[1]}/vars/0"
    if first not in shapes:  # then the role of the second one is unknown
        return name
    groups = itertools.accumulate(match[1].split("/"), lambda path, group: f"{path}/{group}")
    layers = [annotations.get(f"{group}/vars@name") for group in groups]
    roles = ("kernel", "bias") if len(shapes[first]) > 1 else ("gamma", "beta")
    return "/".join([*filter(None, layers), roles[int(match[2])]])
