"""Our own names, as a layout like any other: every row is the identity.

Keras archives of our models spell the dots as slashes, and its older files say each layer twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from convnext.weights.canonical import Shape
from convnext.weights.layouts.table import BLOCK, Layout, Row

__all__ = ["OWN"]

NORMS = (
    "stem_norm",
    "downsample_{i}_norm",
    f"{BLOCK}.norm",
    f"{BLOCK}.grn",
    "head_norm",
    "feature_stem_norm",
    "feature_{i}_norm",
    "decoder_block_{j}.norm",
    "decoder_block_{j}.grn",
)
WEIGHTED = (
    "stem_conv",
    "downsample_{i}_conv",
    f"{BLOCK}.dwconv",
    f"{BLOCK}.pwconv1",
    f"{BLOCK}.pwconv2",
    "head",
    "decoder_proj",
    "decoder_block_{j}.dwconv",
    "decoder_block_{j}.pwconv1",
    "decoder_block_{j}.pwconv2",
    "decoder_pred",
)
NAMES = (
    *(f"{name}.{part}" for name in NORMS for part in ("gamma", "beta")),
    *(f"{name}.{part}" for name in WEIGHTED for part in ("kernel", "bias")),
    f"{BLOCK}.layer_scale.gamma",
    "decoder_mask.token",
)


def _tidy(shapes: Mapping[str, Shape]) -> list[tuple[str, str]]:
    return [(".".join(part for part, _ in groupby(name.split("/"))), name) for name in shapes]


OWN = Layout(
    "convnext",
    "this package's own names (.safetensors, .keras, .weights.h5)",
    tidy=_tidy,
    rows=tuple(Row(name, name) for name in NAMES),
)
