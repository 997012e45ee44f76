"""The authors' own names, as in ConvNeXt's and ConvNeXt-V2's `models/convnext*.py`.

They cover the published V1 and V2 checkpoints (`model` inside a pickle), the FCMAE encoders of V2
(`pt_only/`, no head and no final norm; their GRN may be (1, 4C)), and the dense-prediction
backbones, which have no head but a norm after each stage. Their UPerNets have mmsegmentation's
names of the head, the encoder under `backbone.`, and all in `state_dict`.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from convnext.architecture import Architecture
from convnext.weights.layouts.moves import vector
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

__all__ = ["FACEBOOK", "block_rows"]

GRN_VECTOR = vector(1, 1, 1, -1)


def block_rows(foreign: str, canonical: str) -> tuple[LayoutRow, ...]:
    """The rows of a dense block, in the encoder or the FCMAE decoder."""
    return (
        *torch_depthwise(f"{foreign}.dwconv", f"{canonical}.dwconv"),
        *torch_norm(f"{foreign}.norm", f"{canonical}.norm"),
        *torch_linear(f"{foreign}.pwconv1", f"{canonical}.pwconv1"),
        LayoutRow(f"{foreign}.grn.gamma", f"{canonical}.grn.gamma", GRN_VECTOR),
        LayoutRow(f"{foreign}.grn.beta", f"{canonical}.grn.beta", GRN_VECTOR),
        *torch_linear(f"{foreign}.pwconv2", f"{canonical}.pwconv2"),
    )


def _prefix(architecture: Architecture, names: Collection[str]) -> str:
    del architecture
    return PREFIX if "segment_classify.kernel" in names else ""


FACEBOOK = Layout(
    "facebook",
    "the authors' checkpoints (.pth, .pt), V1 and V2",
    nested_under="model",
    segmenters_under="state_dict",
    prefix=_prefix,
    extras=re.compile(r"projectors\..*"),  # EUPE's, where a file has dropped its second norm
    rows=(
        *torch_conv("{p}downsample_layers.0.0", "stem_conv"),
        *torch_norm("{p}downsample_layers.0.1", "stem_norm"),
        *torch_norm("{p}downsample_layers.{i}.0", "downsample_{i}_norm"),
        *torch_conv("{p}downsample_layers.{i}.1", "downsample_{i}_conv"),
        *block_rows("{p}stages.{i}.{j}", BLOCK),
        LayoutRow("{p}stages.{i}.{j}.gamma", f"{BLOCK}.layer_scale.gamma"),
        *torch_norm("{p}norm{i}", "feature_{i}_norm"),
        *torch_norm("{p}norm", "head_norm"),
        *torch_linear("{p}head", "head"),
        *MM_UPERNET,
    ),
)
