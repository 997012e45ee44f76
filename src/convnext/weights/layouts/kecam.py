"""keras_cv_attention_models' names, V1 and V2; it counts stages and blocks from one."""

from __future__ import annotations

from convnext.weights.layouts import keras_names
from convnext.weights.layouts.table import BLOCK, Layout, LayoutRow, keras_norm, keras_weighted

__all__ = ["KECAM"]

BLOCK_FOREIGN = "stack{i1}_block{j1}_"

KECAM = Layout(
    "kecam",
    "keras_cv_attention_models' ConvNeXt and ConvNeXtV2 (.h5)",
    tidy=keras_names.tidy,
    short=keras_names.short,
    rows=(
        *keras_weighted("stem_conv", "stem_conv"),
        *keras_norm("stem_ln", "stem_norm"),
        *keras_norm("stack{i1}_downsample_ln", "downsample_{i}_norm"),
        *keras_weighted("stack{i1}_downsample_conv", "downsample_{i}_conv"),
        *keras_weighted(f"{BLOCK_FOREIGN}dw_conv", f"{BLOCK}.dwconv"),
        *keras_norm(f"{BLOCK_FOREIGN}ln", f"{BLOCK}.norm"),
        *keras_weighted(f"{BLOCK_FOREIGN}up_dense", f"{BLOCK}.pwconv1"),
        LayoutRow(f"{BLOCK_FOREIGN}grn_gamma/weight", f"{BLOCK}.grn.gamma"),
        LayoutRow(f"{BLOCK_FOREIGN}grn_gamma/bias", f"{BLOCK}.grn.beta"),
        *keras_weighted(f"{BLOCK_FOREIGN}down_dense", f"{BLOCK}.pwconv2"),
        LayoutRow(f"{BLOCK_FOREIGN}gamma/weight", f"{BLOCK}.layer_scale.gamma"),
        *keras_norm("head_ln", "head_norm"),
        *keras_weighted("predictions", "head"),
    ),
)
