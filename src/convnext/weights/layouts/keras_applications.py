"""keras.applications' names (V1 only), with and without the top.

Every layer name starts with the model's name, which the user may have chosen. Without the top, the
model ends in a norm without a name, so Keras numbers it. Depthwise kernels are those of a
grouped convolution, (7, 7, 1, C), in the published files, and (7, 7, C, 1) in files of ports that
use a depthwise layer; both are read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from convnext.architecture import Architecture
from convnext.steps import Shape
from convnext.weights.layouts import keras_names
from convnext.weights.layouts.moves import GROUPED
from convnext.weights.layouts.table import BLOCK, Layout, LayoutRow, keras_norm, keras_weighted

__all__ = ["KERAS_APPLICATIONS"]

BLOCK_FOREIGN = "{p}stage_{i}_block_{j}_"
UNNAMED_NORM = re.compile(r"layer_normalization(_\d+)?/(gamma|beta)")
STEM = "stem_conv/kernel"


def _prefix(architecture: Architecture, names: Collection[str]) -> str:
    del names
    return f"{architecture.name}_"


def _tidy(shapes: Mapping[str, Shape]) -> list[tuple[str, str]]:
    tidied = keras_names.tidy(shapes)
    models = [name.removesuffix(STEM) for name, _ in tidied if name.endswith(STEM)]
    if len(models) != 1:
        return tidied
    named = rf"{models[0]}head_layernorm/\2"
    return [(UNNAMED_NORM.sub(named, name), original) for name, original in tidied]


KERAS_APPLICATIONS = Layout(
    "keras_applications",
    "keras.applications.ConvNeXt* (.h5), V1 only",
    tidy=_tidy,
    prefix=_prefix,
    short=keras_names.short,
    boundary="_",
    rows=(
        *keras_weighted("{p}stem/{p}stem_conv", "stem_conv"),
        *keras_norm("{p}stem/{p}stem_layernorm", "stem_norm"),
        *keras_norm(
            "{p}downsampling_block_{below}/{p}downsampling_layernorm_{below}",
            "downsample_{i}_norm",
        ),
        *keras_weighted(
            "{p}downsampling_block_{below}/{p}downsampling_conv_{below}", "downsample_{i}_conv"
        ),
        *keras_weighted(f"{BLOCK_FOREIGN}depthwise_conv", f"{BLOCK}.dwconv", GROUPED),
        *keras_norm(f"{BLOCK_FOREIGN}layernorm", f"{BLOCK}.norm"),
        *keras_weighted(f"{BLOCK_FOREIGN}pointwise_conv_1", f"{BLOCK}.pwconv1"),
        *keras_weighted(f"{BLOCK_FOREIGN}pointwise_conv_2", f"{BLOCK}.pwconv2"),
        LayoutRow(f"{BLOCK_FOREIGN}layer_scale/gamma", f"{BLOCK}.layer_scale.gamma"),
        *keras_norm("{p}head_layernorm", "head_norm"),
        *keras_weighted("{p}head_dense", "head"),
    ),
)
