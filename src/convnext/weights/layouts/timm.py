"""timm's names. The linear layers of some sizes are stored as 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Collection

from convnext.architecture import Architecture, StemKind
from convnext.weights.layouts.moves import LINEAR, POINTWISE, Move
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    LayoutRow,
    torch_conv,
    torch_depthwise,
    torch_linear,
    torch_norm,
)

__all__ = ["TIMM", "rows_for", "rows_in"]

CONV_MLP_SIZES = ("zepto", "atto", "femto", "pico", "nano")  # `conv_mlp=True`, V1 and V2
BLOCK_FOREIGN = "stages.{i}.blocks.{j}"

STEMS: dict[StemKind, tuple[LayoutRow, ...]] = {
    "patch": (*torch_conv("stem.0", "stem_conv"), *torch_norm("stem.1", "stem_norm")),
    "overlap": (
        *torch_conv("stem.0", "stem_conv"),
        *torch_conv("stem.1", "stem_conv_2"),
        *torch_norm("stem.2", "stem_norm"),
    ),
    "overlap_act": (
        *torch_conv("stem.0", "stem_conv"),
        *torch_conv("stem.2", "stem_act_conv"),
        *torch_norm("stem.3", "stem_norm"),
    ),
}
STEMS["overlap_tiered"] = STEMS["overlap"]


def _rows(mlp: Move, stem: StemKind = "patch") -> tuple[LayoutRow, ...]:
    return (
        *STEMS[stem],
        *torch_norm("stages.{i}.downsample.0", "downsample_{i}_norm"),
        *torch_conv("stages.{i}.downsample.1", "downsample_{i}_conv"),
        *torch_depthwise(f"{BLOCK_FOREIGN}.conv_dw", f"{BLOCK}.dwconv"),
        *torch_norm(f"{BLOCK_FOREIGN}.norm", f"{BLOCK}.norm"),
        *torch_linear(f"{BLOCK_FOREIGN}.mlp.fc1", f"{BLOCK}.pwconv1", mlp),
        *torch_norm(f"{BLOCK_FOREIGN}.mlp.grn", f"{BLOCK}.grn"),
        *torch_linear(f"{BLOCK_FOREIGN}.mlp.fc2", f"{BLOCK}.pwconv2", mlp),
        LayoutRow(f"{BLOCK_FOREIGN}.gamma", f"{BLOCK}.layer_scale.gamma"),
        *torch_norm("norm_pre", "map_norm"),
        *torch_norm("head.norm", "head_norm"),
        *torch_linear("head.pre_logits.fc", "head_hidden"),
        *torch_linear("head.fc", "head"),
    )


def rows_in(names: Collection[str]) -> tuple[LayoutRow, ...]:
    """The table to read with, from the names in a file."""
    last = max((i for i in range(4) if f"stem.{i}.weight" in names), default=1)
    stem: dict[int, StemKind] = {2: "overlap", 3: "overlap_act"}
    return _rows(LINEAR, stem.get(last, "patch"))


def rows_for(architecture: Architecture) -> tuple[LayoutRow, ...]:
    """The table to write an architecture with."""
    size = architecture.size.partition("_")[0]
    convolves = size in CONV_MLP_SIZES or architecture.head == "norm_pool"
    return _rows(POINTWISE if convolves else LINEAR, architecture.stem)


TIMM = Layout(
    "timm",
    "timm's convnext and convnextv2",
    rows=_rows(LINEAR),
    rows_in=rows_in,
    rows_for=rows_for,
    arithmetic="stated",
    epsilon=None,
)
