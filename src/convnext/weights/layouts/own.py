"""Our own names, as a layout: every row is the identity.

Keras archives of our models have slashes for dots, and older ones repeat the name of each layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from convnext.architecture import ARCHITECTURES
from convnext.segmentation import MOST_BINS, SegmentationHead
from convnext.steps import Shape, parameters
from convnext.weights.canonical import decoder_shapes, feature_norm_shapes
from convnext.weights.layouts.table import Layout, LayoutRow

__all__ = ["OWN"]


HEADS = (
    SegmentationHead("upernet", bins=tuple(range(MOST_BINS)), auxiliary=1),
    SegmentationHead("mlp", auxiliary=1),
)


def _patterns() -> Iterator[str]:
    """Every name of any architecture, with patterns for its numbers."""
    rows = [row for row in ARCHITECTURES.values() if row.size == "test"]
    first = rows[0]
    every = [*rows, *(replace(first, stem=stem) for stem in ("overlap", "overlap_act"))]
    every += [replace(first, head="norm_pool"), replace(first, head_hidden=1)]
    every += [replace(first, projection=1)]
    for row in every:
        for name in (
            *parameters(row.steps()),
            *feature_norm_shapes(row),
            *decoder_shapes(row),
            *(name for head in HEADS for name in parameters(head.steps(row, 1))),
        ):
            name = re.sub(r"^stage_\d_block_\d", "stage_{i}_block_{j}", name)
            name = re.sub(r"^(downsample|feature)_\d", r"\1_{i}", name)
            yield re.sub(r"^decoder_block_\d", "decoder_block_{j}", name)


def _tidy(shapes: Mapping[str, Shape]) -> list[tuple[str, str]]:
    return [(".".join(part for part, _ in groupby(name.split("/"))), name) for name in shapes]


OWN = Layout(
    "convnext",
    "this package's own names (.safetensors, .keras, .weights.h5)",
    tidy=_tidy,
    arithmetic="usual_if_unpublished",
    epsilon=None,
    isotropic=None,
    rows=tuple(LayoutRow(name, name) for name in dict.fromkeys(_patterns())),
)
