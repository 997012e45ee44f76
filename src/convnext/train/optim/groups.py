"""Parameter groups of the papers: layer-wise learning rate, and weight decay or none.

GRN's parameters must not decay, or V2 cannot be fine-tuned.

References: `optim_factory.py` of both official repositories, for the numbers of layers; for
`"stages"` mmsegmentation's decay of type stage_wise, as the authors configure it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from convnext.architecture import Variant
from convnext.errors import ArgumentError

__all__ = ["Group", "Grouping", "is_matrix", "layer_number", "parameter_groups"]

Grouping = Literal["single", "twelve", "stages"]

SIX, TWELVE = 6, 12
DEPTH_OF_TWELVE = 27  # blocks in the third stage of the sizes that twelve groups were made for


@dataclass(frozen=True)
class Group:
    """Optimizer settings of a parameter.

    Attributes:
        scale: Multiplies the learning rate, and with it the decay.
        decays: Whether weight decay applies.
    """

    scale: float
    decays: bool


def parameter_groups(
    names: Iterable[str], variant: Variant, layer_decay: float = 1.0, grouping: Grouping = "single"
) -> dict[str, Group]:
    """Find the group of each parameter.

    Kernels decay; biases, norms, layer scale and GRN do not.

    Args:
        names: Canonical names.
        variant: The architecture.
        layer_decay: Factor of the learning rate from each layer to the one before it.
        grouping: `"single"`: every block is a layer. `"twelve"`: V1's groups, with three blocks of
            the third stage in each. `"stages"`: stem and downsamplings, then each stage, far below
            the head.

    Raises:
        ArgumentError: The variant has no grouping of this kind.

    Example:
        >>> from convnext.architecture import VARIANTS
        >>> groups = parameter_groups(["stem_conv.kernel"], VARIANTS["convnextv2_atto"], 0.9)
        >>> round(groups["stem_conv.kernel"].scale, 4)
        0.2824
    """
    if grouping == "twelve" and layer_decay != 1 and variant.depths[2] != DEPTH_OF_TWELVE:
        raise ArgumentError(
            f"Twelve groups were made for third stages of {DEPTH_OF_TWELVE} blocks, and "
            f'{variant.name} has {variant.depths[2]}. Set optimizer.layer_groups = "single".'
        )
    last = _last(variant, grouping)
    return {
        name: Group(
            scale=layer_decay ** (last - layer_number(name, variant, grouping)),
            decays=name.endswith(".kernel"),
        )
        for name in names
    }


def is_matrix(name: str) -> bool:
    """Whether Muon updates a parameter: a kernel that mixes channels of a block or downsampling.

    Stem and classifier are excluded, as in Muon's reference.

    Example:
        >>> is_matrix("stage_0_block_0.pwconv1.kernel"), is_matrix("stage_0_block_0.dwconv.kernel")
        (True, False)
    """
    return re.search(r"(pwconv\d|downsample_\d_conv)\.kernel$", name) is not None


def layer_number(name: str, variant: Variant, grouping: Grouping) -> int:
    """Number of the layer that a parameter belongs to, counted from the stem to the head.

    Example:
        >>> from convnext.architecture import VARIANTS
        >>> layer_number("stage_2_block_26.dwconv.kernel", VARIANTS["convnext_base"], "twelve")
        11
    """
    last = _last(variant, grouping)
    if name.startswith("stem_"):
        return 1 if grouping == "single" else 0
    found = re.match(r"downsample_(\d)|stage_(\d)_block_(\d+)", name)
    if not found:
        return last
    downsample, stage, block = found.groups()
    if grouping == "stages":
        return 0 if downsample else int(stage) + 1
    if grouping == "single":
        before = sum(variant.depths[: int(downsample or stage)])
        return before + 1 + int(block or 0)
    if downsample:
        return (0, 2, 3, TWELVE)[int(downsample)]
    return (1, 2, 3 + int(block) // 3, TWELVE)[int(stage)]


def _last(variant: Variant, grouping: Grouping) -> int:
    """Number of the head's layer."""
    if grouping == "stages":
        return (TWELVE if variant.depths[2] == DEPTH_OF_TWELVE else SIX) + 1
    return (TWELVE if grouping == "twelve" else variant.num_blocks) + 1
