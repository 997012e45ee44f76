"""timm's names. The same weights come as linear layers or as 1x1 convolutions, by size."""

from __future__ import annotations

from convnext.architecture import Variant
from convnext.weights.layouts.moves import LINEAR, POINTWISE, Move
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    Row,
    torch_conv,
    torch_depthwise,
    torch_linear,
    torch_norm,
)

__all__ = ["TIMM"]

CONV_MLP_SIZES = ("atto", "femto", "pico", "nano")  # `conv_mlp=True` in timm, V1 and V2
BLOCK_FOREIGN = "stages.{i}.blocks.{j}"


def _rows(mlp: Move) -> tuple[Row, ...]:
    return (
        *torch_conv("stem.0", "stem_conv"),
        *torch_norm("stem.1", "stem_norm"),
        *torch_norm("stages.{i}.downsample.0", "downsample_{i}_norm"),
        *torch_conv("stages.{i}.downsample.1", "downsample_{i}_conv"),
        *torch_depthwise(f"{BLOCK_FOREIGN}.conv_dw", f"{BLOCK}.dwconv"),
        *torch_norm(f"{BLOCK_FOREIGN}.norm", f"{BLOCK}.norm"),
        *torch_linear(f"{BLOCK_FOREIGN}.mlp.fc1", f"{BLOCK}.pwconv1", mlp),
        *torch_norm(f"{BLOCK_FOREIGN}.mlp.grn", f"{BLOCK}.grn"),
        *torch_linear(f"{BLOCK_FOREIGN}.mlp.fc2", f"{BLOCK}.pwconv2", mlp),
        Row(f"{BLOCK_FOREIGN}.gamma", f"{BLOCK}.layer_scale.gamma"),
        *torch_norm("head.norm", "head_norm"),
        *torch_linear("head.fc", "head"),
    )


LINEAR_ROWS = _rows(LINEAR)
CONV_ROWS = _rows(POINTWISE)


def _rows_for(variant: Variant) -> tuple[Row, ...]:
    return CONV_ROWS if variant.size in CONV_MLP_SIZES else LINEAR_ROWS


TIMM = Layout("timm", "timm's convnext and convnextv2", rows=LINEAR_ROWS, rows_for=_rows_for)
