"""The TF-Hub collection of ConvNeXt V1: Keras 2 SavedModels, classifiers and feature extractors.

Most variables of such a checkpoint have no name but a position, `variables/17/.ATTRIBUTES/...`, in
the order data flows, which is the canonical order; the final norm and the head, being direct layers
of the model, are `layer_with_weights-8` and `-9`. So the kernels' shapes show where stages begin,
and our names follow by counting. These files are never written, as a SavedModel holds a graph too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from convnext.architecture import Architecture
from convnext.steps import Shape
from convnext.weights.canonical import parameter_shapes
from convnext.weights.layouts.moves import GROUPED, SAME
from convnext.weights.layouts.own import OWN
from convnext.weights.layouts.table import Layout, LayoutRow

__all__ = ["TF_HUB"]

POSITION = re.compile(r"variables/(\d+)")
OUTER = re.compile(r"layer_with_weights-\d+/(gamma|beta|kernel|bias)")
OUTER_LAYER = {"gamma": "head_norm", "beta": "head_norm", "kernel": "head", "bias": "head"}
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def _depths(shapes: list[Shape]) -> list[int]:
    """Blocks in each stage, from the shapes of all variables in order."""
    depths = [0]
    for shape in shapes:
        if len(shape) == 4 and shape[:2] == (7, 7):
            depths[-1] += 1
        elif len(shape) == 4 and shape[:2] == (2, 2):
            depths.append(0)
    return depths


def _tidy(shapes: Mapping[str, Shape]) -> list[tuple[str, str]]:
    tidied: list[tuple[str, str]] = []
    positions: dict[int, str] = {}
    for name in shapes:
        path = name.removesuffix(SUFFIX)
        if match := POSITION.fullmatch(path):
            positions[int(match[1])] = name
        elif match := OUTER.fullmatch(path):
            tidied.append((f"hub/{OUTER_LAYER[match[1]]}.{match[1]}", name))
        else:
            tidied.append((path, name))
    in_order = [positions[position] for position in sorted(positions)]
    depths = _depths([shapes[name] for name in in_order])
    if len(depths) == 4:
        ours = parameter_shapes(Architecture("", "", tuple(depths), (1, 1, 1, 1)), 1)
        tidied += [(f"hub/{one}", name) for one, name in zip(ours, in_order, strict=False)]
    return tidied


TF_HUB = Layout(
    "tf_hub",
    "TF-Hub's ConvNeXt collection (SavedModel), V1 only, read only",
    tidy=_tidy,
    writable=False,
    rows=tuple(
        LayoutRow(
            f"hub/{row.foreign}",
            row.canonical,
            GROUPED if row.canonical.endswith("dwconv.kernel") else SAME,
        )
        for row in OWN.rows
    ),
)
