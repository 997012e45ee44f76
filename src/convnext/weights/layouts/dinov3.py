"""The names of DINOv3's networks, and EUPE's: a V1 encoder, and the norm that its tokens share.

In transformers all but that norm stands under `model.`; older files have no prefix. The authors'
own files have the names of ConvNeXt's authors and hold the norm twice, as one of four `norms` too.
EUPE's may also hold projectors, which only its training uses.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from convnext.architecture import Architecture
from convnext.weights.layouts.facebook import FACEBOOK
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    LayoutRow,
    torch_conv,
    torch_depthwise,
    torch_linear,
    torch_norm,
)

__all__ = ["DINOV3", "DINOV3_FACEBOOK"]

STAGE_FOREIGN = "{p}stages.{i}"
BLOCK_FOREIGN = f"{STAGE_FOREIGN}.layers.{{j}}"


def _prefix(architecture: Architecture, names: Collection[str]) -> str:
    del architecture, names
    return "model."


DINOV3 = Layout(
    "dinov3",
    "transformers' DINOv3ConvNext (model.safetensors)",
    prefix=_prefix,
    annotations={"format": "pt"},
    rows=(
        *torch_conv("{p}stages.0.downsample_layers.0", "stem_conv"),
        *torch_norm("{p}stages.0.downsample_layers.1", "stem_norm"),
        *torch_norm(f"{STAGE_FOREIGN}.downsample_layers.0", "downsample_{i}_norm"),
        *torch_conv(f"{STAGE_FOREIGN}.downsample_layers.1", "downsample_{i}_conv"),
        *torch_depthwise(f"{BLOCK_FOREIGN}.depthwise_conv", f"{BLOCK}.dwconv"),
        *torch_norm(f"{BLOCK_FOREIGN}.layer_norm", f"{BLOCK}.norm"),
        *torch_linear(f"{BLOCK_FOREIGN}.pointwise_conv1", f"{BLOCK}.pwconv1"),
        *torch_linear(f"{BLOCK_FOREIGN}.pointwise_conv2", f"{BLOCK}.pwconv2"),
        LayoutRow(f"{BLOCK_FOREIGN}.gamma", f"{BLOCK}.layer_scale.gamma"),
        *torch_norm("layer_norm", "head_norm"),
    ),
)

OTHERS = ("feature_", "head.", "segment_", "auxiliary_", f"{BLOCK}.grn.")  # of ConvNeXt's authors
ROWS = tuple(
    replace(row, foreign=row.foreign.removeprefix("{p}"))
    for row in FACEBOOK.rows
    if not row.canonical.startswith(OTHERS)
)
NORM, TWIN = "norm.", "norms.3."


def _rows_in(names: Collection[str]) -> tuple[LayoutRow, ...]:
    """The rows for the names in a file, which may have either name of the norm."""
    if f"{NORM}weight" in names:
        return ROWS
    return tuple(
        replace(row, foreign=TWIN + row.foreign.removeprefix(NORM))
        if row.foreign.startswith(NORM)
        else row
        for row in ROWS
    )


DINOV3_FACEBOOK = Layout(
    "dinov3_facebook",
    "the authors' DINOv3 and EUPE (.pth, .pt)",
    rows=ROWS,
    rows_in=_rows_in,
    mark=f"{TWIN}weight",
    twins={f"{TWIN}{name}": f"{NORM}{name}" for name in ("weight", "bias")},
    extras=re.compile(r"(projectors|norms\.[0-2])\..*"),
)
