"""Hugging Face transformers' names: `ConvNext*` and `ConvNextV2*`, classifier, model and backbone.

A classifier keeps its encoder under `convnext.` or `convnextv2.`, UPerNet under `backbone.`; the
bare model and the backbone have no prefix. `hidden_states_norms` belongs to backbones alone.
"""

from __future__ import annotations

from collections.abc import Collection

from convnext.architecture import Architecture
from convnext.weights.layouts.moves import vector
from convnext.weights.layouts.segmenters import HUGGINGFACE_UPERNET, PREFIX
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    LayoutRow,
    torch_conv,
    torch_depthwise,
    torch_linear,
    torch_norm,
)

__all__ = ["HUGGINGFACE"]

BLOCK_FOREIGN = "{p}encoder.stages.{i}.layers.{j}"


def _prefix(architecture: Architecture, names: Collection[str]) -> str:
    if "segment_classify.kernel" in names:
        return PREFIX
    if "head.kernel" not in names:
        return ""
    return "convnextv2." if architecture.grn else "convnext."


HUGGINGFACE = Layout(
    "huggingface",
    "transformers' ConvNext and ConvNextV2 (model.safetensors, pytorch_model.bin)",
    prefix=_prefix,
    annotations={"format": "pt"},
    arithmetic="stated",
    rows=(
        *torch_conv("{p}embeddings.patch_embeddings", "stem_conv"),
        *torch_norm("{p}embeddings.layernorm", "stem_norm"),
        *torch_norm("{p}encoder.stages.{i}.downsampling_layer.0", "downsample_{i}_norm"),
        *torch_conv("{p}encoder.stages.{i}.downsampling_layer.1", "downsample_{i}_conv"),
        *torch_depthwise(f"{BLOCK_FOREIGN}.dwconv", f"{BLOCK}.dwconv"),
        *torch_norm(f"{BLOCK_FOREIGN}.layernorm", f"{BLOCK}.norm"),
        *torch_linear(f"{BLOCK_FOREIGN}.pwconv1", f"{BLOCK}.pwconv1"),
        *torch_norm(f"{BLOCK_FOREIGN}.grn", f"{BLOCK}.grn", vector(1, 1, 1, -1)),
        *torch_linear(f"{BLOCK_FOREIGN}.pwconv2", f"{BLOCK}.pwconv2"),
        LayoutRow(f"{BLOCK_FOREIGN}.layer_scale_parameter", f"{BLOCK}.layer_scale.gamma"),
        *torch_norm("{p}hidden_states_norms.stem", "feature_stem_norm"),
        *torch_norm("{p}hidden_states_norms.stage{i1}", "feature_{i}_norm"),
        *torch_norm("{p}layernorm", "head_norm"),
        *torch_linear("classifier", "head"),
        *HUGGINGFACE_UPERNET,
    ),
)
