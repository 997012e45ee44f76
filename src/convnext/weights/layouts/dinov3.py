"""The names of transformers' `DINOv3ConvNext*`: a V1 encoder, and the norm that its tokens share.

All but that norm stands under `model.`; older files have no prefix.
"""

from __future__ import annotations

from collections.abc import Collection

from convnext.architecture import Architecture
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    Row,
    torch_conv,
    torch_depthwise,
    torch_linear,
    torch_norm,
)

__all__ = ["DINOV3"]

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
        Row(f"{BLOCK_FOREIGN}.gamma", f"{BLOCK}.layer_scale.gamma"),
        *torch_norm("layer_norm", "head_norm"),
    ),
)
