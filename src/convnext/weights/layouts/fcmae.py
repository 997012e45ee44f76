"""Names of the authors' FCMAE training files: a sparse encoder and a dense decoder.

The encoder runs on a sparse-tensor engine, which flattens a kernel's height and width into one
axis (columns first), keeps biases as (1, C) and nests norms and linear layers one name deeper. Only
files written by the training script look like this; the published `pt_only/` files are already
dense and belong to `facebook`.
"""

from __future__ import annotations

from convnext.weights.layouts.facebook import block_rows
from convnext.weights.layouts.moves import (
    POINTWISE,
    SPARSE_CONV,
    SPARSE_DEPTHWISE,
    Move,
    vector,
)
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    LayoutRow,
    torch_conv,
    torch_linear,
    torch_norm,
)

__all__ = ["FCMAE"]

ROW_VECTOR = vector(1, -1)


def sparse_conv(foreign: str, canonical: str, move: Move) -> tuple[LayoutRow, LayoutRow]:
    """The two rows of a sparse convolution, whose bias is (1, C)."""
    return (
        LayoutRow(f"{foreign}.kernel", f"{canonical}.kernel", move),
        LayoutRow(f"{foreign}.bias", f"{canonical}.bias", ROW_VECTOR),
    )


BLOCK_FOREIGN = "encoder.stages.{i}.{j}"

FCMAE = Layout(
    "fcmae",
    "the authors' FCMAE training files, V2 only",
    nested_under="model",
    rows=(
        *torch_conv("encoder.downsample_layers.0.0", "stem_conv"),
        *torch_norm("encoder.downsample_layers.0.1", "stem_norm"),
        *torch_norm("encoder.downsample_layers.{i}.0.ln", "downsample_{i}_norm"),
        *sparse_conv("encoder.downsample_layers.{i}.1", "downsample_{i}_conv", SPARSE_CONV),
        *sparse_conv(f"{BLOCK_FOREIGN}.dwconv", f"{BLOCK}.dwconv", SPARSE_DEPTHWISE),
        *torch_norm(f"{BLOCK_FOREIGN}.norm.ln", f"{BLOCK}.norm"),
        *torch_linear(f"{BLOCK_FOREIGN}.pwconv1.linear", f"{BLOCK}.pwconv1"),
        LayoutRow(f"{BLOCK_FOREIGN}.grn.gamma", f"{BLOCK}.grn.gamma", ROW_VECTOR),
        LayoutRow(f"{BLOCK_FOREIGN}.grn.beta", f"{BLOCK}.grn.beta", ROW_VECTOR),
        *torch_linear(f"{BLOCK_FOREIGN}.pwconv2.linear", f"{BLOCK}.pwconv2"),
        *torch_linear("proj", "decoder_proj", POINTWISE),
        LayoutRow("mask_token", "decoder_mask.token", vector(1, -1, 1, 1)),
        *block_rows("decoder.{j}", "decoder_block_{j}"),
        *torch_linear("pred", "decoder_pred", POINTWISE),
    ),
)
