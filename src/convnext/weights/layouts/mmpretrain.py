"""mmpretrain's names, V1 and V2, which mmsegmentation, mmdetection and mmpose have as well.

A classifier's norm is called `norm3`, after the last stage. A backbone for dense prediction has
such norms on several maps, and the last of them is another one: no pooling comes before it.
"""

from __future__ import annotations

from collections.abc import Collection

from convnext.architecture import Architecture
from convnext.weights.layouts.segmenters import MM_UPERNET, PREFIX
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    LayoutRow,
    torch_conv,
    torch_depthwise,
    torch_linear,
    torch_norm,
)

__all__ = ["MMPRETRAIN"]

BLOCK_FOREIGN = "{p}stages.{i}.{j}"
ENCODER = (
    *torch_conv("{p}downsample_layers.0.0", "stem_conv"),
    *torch_norm("{p}downsample_layers.0.1", "stem_norm"),
    *torch_norm("{p}downsample_layers.{i}.0", "downsample_{i}_norm"),
    *torch_conv("{p}downsample_layers.{i}.1", "downsample_{i}_conv"),
    *torch_depthwise(f"{BLOCK_FOREIGN}.depthwise_conv", f"{BLOCK}.dwconv"),
    *torch_norm(f"{BLOCK_FOREIGN}.norm", f"{BLOCK}.norm"),
    *torch_linear(f"{BLOCK_FOREIGN}.pointwise_conv1", f"{BLOCK}.pwconv1"),
    LayoutRow(f"{BLOCK_FOREIGN}.grn.gamma", f"{BLOCK}.grn.gamma"),
    LayoutRow(f"{BLOCK_FOREIGN}.grn.beta", f"{BLOCK}.grn.beta"),
    *torch_linear(f"{BLOCK_FOREIGN}.pointwise_conv2", f"{BLOCK}.pwconv2"),
    LayoutRow(f"{BLOCK_FOREIGN}.gamma", f"{BLOCK}.layer_scale.gamma"),
)
CLASSIFIER = (*torch_norm("{p}norm3", "head_norm"), *torch_linear("head.fc", "head"))
MAPS = torch_norm("{p}norm{i}", "feature_{i}_norm")


def _rows_in(names: Collection[str]) -> tuple[LayoutRow, ...]:
    dense = any(f"norm{stage}.weight" in names for stage in range(3))
    return (*ENCODER, *(MAPS if dense else CLASSIFIER), *MM_UPERNET)


def _prefix(architecture: Architecture, names: Collection[str]) -> str:
    del architecture, names
    return PREFIX


MMPRETRAIN = Layout(
    "mmpretrain",
    "mmpretrain's ConvNeXt and OpenMMLab 2's backbones (.pth)",
    nested_under="state_dict",
    prefix=_prefix,
    rows=(*ENCODER, *MAPS, *CLASSIFIER, *MM_UPERNET),
    rows_in=_rows_in,
)
