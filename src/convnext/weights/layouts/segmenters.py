"""Names of UPerNet's parts: transformers' and mmsegmentation's, which the authors have as well.

The two differ in the names of the batch norms and of the classifiers. The encoder before them has
the names of the library's layout, under `backbone.`.
"""

from __future__ import annotations

from convnext.segmentation import MOST_BINS
from convnext.weights.layouts.moves import CONV, POINTWISE
from convnext.weights.layouts.table import LayoutRow, torch_linear

__all__ = ["HUGGINGFACE_UPERNET", "MM_UPERNET", "PREFIX"]

PREFIX = "backbone."
STAGES = 4


def _unit(foreign: str, norm: str, canonical: str) -> tuple[LayoutRow, ...]:
    """The rows of a convolution with a batch norm."""
    numbers = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    }
    return (
        LayoutRow(f"{foreign}.conv.weight", f"{canonical}_conv.kernel", CONV),
        *(
            LayoutRow(f"{foreign}.{norm}.{theirs}", f"{canonical}_norm.{ours}")
            for theirs, ours in numbers.items()
        ),
    )


def _upernet(norm: str, classifier: str) -> tuple[LayoutRow, ...]:
    head, auxiliary = "decode_head", "auxiliary_head"
    units = {
        **{f"{head}.psp_modules.{n}.1": f"segment_pool_{n}" for n in range(MOST_BINS)},
        f"{head}.bottleneck": "segment_context",
        **{f"{head}.lateral_convs.{n}": f"segment_lateral_{n}" for n in range(STAGES - 1)},
        **{f"{head}.fpn_convs.{n}": f"segment_smooth_{n}" for n in range(STAGES - 1)},
        f"{head}.fpn_bottleneck": "segment_fuse",
        f"{auxiliary}.convs.0": "auxiliary",
    }
    return (
        *(row for theirs, ours in units.items() for row in _unit(theirs, norm, ours)),
        *torch_linear(f"{head}.{classifier}", "segment_classify", POINTWISE),
        *torch_linear(f"{auxiliary}.{classifier}", "auxiliary_classify", POINTWISE),
    )


HUGGINGFACE_UPERNET = _upernet("batch_norm", "classifier")
MM_UPERNET = _upernet("bn", "conv_seg")
