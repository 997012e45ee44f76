"""open_clip's names of CLIP models with a ConvNeXt of timm's as their image tower.

The tower stands under `visual.trunk.`, with timm's names and no classifier; the projection behind
it under `visual.head.`: one linear layer, or two with a GELU between, of which the first is twice
as wide as the vectors. As published the last of them has no bias; ours is zero then. The text
tower, under `text.` or at the top, is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from convnext.architecture import Architecture
from convnext.weights.layouts.moves import LINEAR, ZEROS
from convnext.weights.layouts.table import Layout, LayoutRow, torch_linear
from convnext.weights.layouts.timm import TIMM, rows_for, rows_in

__all__ = ["OPEN_CLIP"]

TRUNK = "trunk."
TEXT_TOWER = re.compile(
    r"(text|transformer|token_embedding|positional_embedding|ln_final|text_projection|attn_mask|"
    r"logit_scale|logit_bias)(\..*)?"
)


def _trunk(rows: Collection[LayoutRow]) -> list[LayoutRow]:
    return [replace(row, foreign=f"{{p}}{TRUNK}{row.foreign}") for row in rows]


def _projection(foreign: str, *, bias: bool) -> tuple[LayoutRow, LayoutRow]:
    if bias:
        kernel, own = torch_linear(foreign, "head")
        return kernel, own
    weight = f"{foreign}.weight"
    return LayoutRow(weight, "head.kernel", LINEAR), LayoutRow(
        weight, "head.bias", ZEROS, implied=True
    )


def _rows(
    timm: Collection[LayoutRow], *, hidden: bool, bias: bool = False
) -> tuple[LayoutRow, ...]:
    trunk = _trunk([row for row in timm if not row.canonical.startswith("head.")])
    if not hidden:
        return (*trunk, *_projection("{p}head.proj", bias=bias))
    first = torch_linear("{p}head.mlp.fc1", "head_hidden")
    trunk = [row for row in trunk if not row.canonical.startswith("head_hidden.")]
    return (*trunk, *first, *_projection("{p}head.mlp.fc2", bias=bias))


def _rows_in(names: Collection[str]) -> tuple[LayoutRow, ...]:
    timm = rows_in({name.removeprefix(TRUNK) for name in names if name.startswith(TRUNK)})
    for last, hidden in (("head.proj", False), ("head.mlp.fc2", True)):
        if f"{last}.weight" in names:
            return _rows(timm, hidden=hidden, bias=f"{last}.bias" in names)
    return tuple(_trunk(timm))  # the trunk's own classifier projects, or nothing does


def _rows_for(architecture: Architecture) -> tuple[LayoutRow, ...]:
    return _rows(rows_for(architecture), hidden=architecture.head_hidden > 0)


def _prefix(architecture: Architecture, names: Collection[str]) -> str:
    del architecture, names
    return "visual."


def _misfit(ours: Mapping[str, Any]) -> str | None:
    if "head_hidden.kernel" not in ours:
        return None
    hidden = ours["head_hidden.kernel"].shape[1]
    width = ours["head.kernel"].shape[1] if "head.kernel" in ours else 0
    if hidden == 2 * width:
        return None
    return f"open_clip's hidden layer is twice as wide as the vectors: not {hidden} for {width}."


OPEN_CLIP = Layout(
    "open_clip",
    "open_clip's CLIP with a ConvNeXt (open_clip_model.safetensors, open_clip_pytorch_model.bin)",
    rows=_rows(TIMM.rows, hidden=False),
    rows_in=_rows_in,
    rows_for=_rows_for,
    prefix=_prefix,
    arithmetic="stated",
    epsilon=None,
    extras=TEXT_TOWER,
    misfit=_misfit,
    task="clip",
)
