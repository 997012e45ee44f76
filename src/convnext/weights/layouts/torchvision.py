"""torchvision's names (V1 only): one numbered list holds stem, stages and downsamplings."""

from __future__ import annotations

from convnext.weights.layouts.moves import vector
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    LayoutRow,
    torch_conv,
    torch_depthwise,
    torch_linear,
    torch_norm,
)

__all__ = ["TORCHVISION"]

BLOCK_FOREIGN = "features.{odd}.{j}"

TORCHVISION = Layout(
    "torchvision",
    "torchvision.models.convnext_*, V1 only",
    rows=(
        *torch_conv("features.0.0", "stem_conv"),
        *torch_norm("features.0.1", "stem_norm"),
        *torch_norm("features.{even}.0", "downsample_{i}_norm"),
        *torch_conv("features.{even}.1", "downsample_{i}_conv"),
        *torch_depthwise(f"{BLOCK_FOREIGN}.block.0", f"{BLOCK}.dwconv"),
        *torch_norm(f"{BLOCK_FOREIGN}.block.2", f"{BLOCK}.norm"),
        *torch_linear(f"{BLOCK_FOREIGN}.block.3", f"{BLOCK}.pwconv1"),
        *torch_linear(f"{BLOCK_FOREIGN}.block.5", f"{BLOCK}.pwconv2"),
        LayoutRow(f"{BLOCK_FOREIGN}.layer_scale", f"{BLOCK}.layer_scale.gamma", vector(-1, 1, 1)),
        *torch_norm("classifier.0", "head_norm"),
        *torch_linear("classifier.2", "head"),
    ),
)
