"""The authors' names of isotropic models, as in ConvNeXt's `models/convnext_isotropic.py`.

There is one stage, whose blocks have the names of `facebook`, and no norm after the stem.
"""

from __future__ import annotations

from convnext.weights.layouts.facebook import block_rows
from convnext.weights.layouts.table import (
    BLOCK,
    Layout,
    LayoutRow,
    torch_conv,
    torch_linear,
    torch_norm,
)

__all__ = ["ISOTROPIC"]

ISOTROPIC = Layout(
    "isotropic",
    "the authors' isotropic checkpoints (.pth), V1 only",
    nested_under="model",
    isotropic=True,
    rows=(
        *torch_conv("stem", "stem_conv"),
        *block_rows("blocks.{j}", BLOCK),
        LayoutRow("blocks.{j}.gamma", f"{BLOCK}.layer_scale.gamma"),
        *torch_norm("norm", "head_norm"),
        *torch_linear("head", "head"),
    ),
)
