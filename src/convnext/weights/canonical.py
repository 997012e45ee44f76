"""The one naming of parameters in the middle: every foreign layout converts to and from it.

A canonical name is the Keras path of the variable with dots, `stage_0_block_1.dwconv.kernel`, and a
canonical array has the shape that the Keras variable has. So canonical weights fill our model
without any table, the graphs room reads them directly, and N layouts need N tables, not N squared.

    stem_conv.{kernel,bias}  stem_norm.{gamma,beta}
    downsample_{1,2,3}_norm.{gamma,beta}  downsample_{1,2,3}_conv.{kernel,bias}
    stage_{i}_block_{j}.dwconv.{kernel,bias}   .norm.{gamma,beta}   .pwconv1.{kernel,bias}
                       .grn.{gamma,beta}       .pwconv2.{kernel,bias}   .layer_scale.gamma
    head_norm.{gamma,beta}  head.{kernel,bias}

A dense-prediction backbone has a norm after some of its outputs, and FCMAE pretraining a decoder:

    feature_stem_norm.{gamma,beta}  feature_{i}_norm.{gamma,beta}
    decoder_proj.{kernel,bias}  decoder_mask.token  decoder_block_{j}.*  decoder_pred.{kernel,bias}

It knows the architecture's shapes and nothing of files, foreign names or frameworks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from convnext.architecture import BLOCK_KERNEL, DOWNSAMPLE_KERNEL, EXPANSION, STEM_KERNEL, Variant
from convnext.errors import ArgumentTypeError

__all__ = [
    "FEATURES",
    "Shape",
    "canonical_variables",
    "decoder_shapes",
    "feature_norm_shapes",
    "parameter_shapes",
]

Shape = tuple[int, ...]

FEATURES = ("stem", "0", "1", "2", "3")
"""The outputs that a dense-prediction backbone may normalise: the stem's and each stage's."""


def parameter_shapes(
    variant: Variant,
    num_classes: int = 1000,
    channels: int = 3,
    *,
    layer_scale: bool | None = None,
    head_norm: bool = True,
) -> dict[str, Shape]:
    """The canonical name and shape of every parameter, in the order data flows through them.

    Args:
        variant: The size and family.
        num_classes: Width of the classifier; 0 for none.
        channels: Channels of the input pictures.
        layer_scale: Whether blocks hold a layer scale; by default as published (V1 yes, V2 no).
        head_norm: Whether the norm after pooling is there.

    Example:
        >>> from convnext.architecture import VARIANTS
        >>> parameter_shapes(VARIANTS["convnext_tiny"])["stem_conv.kernel"]
        (4, 4, 3, 96)
    """
    if layer_scale is None:
        layer_scale = not variant.has_grn
    shapes: dict[str, Shape] = {}
    width = channels
    for stage, (depth, dim) in enumerate(zip(variant.depths, variant.dims, strict=True)):
        if stage == 0:
            shapes |= _linear("stem_conv", STEM_KERNEL, STEM_KERNEL, channels, dim)
            shapes |= _norm("stem_norm", dim)
        else:
            kernel = (DOWNSAMPLE_KERNEL, DOWNSAMPLE_KERNEL, width, dim)
            shapes |= _norm(f"downsample_{stage}_norm", width)
            shapes |= _linear(f"downsample_{stage}_conv", *kernel)
        for block in range(depth):
            name = f"stage_{stage}_block_{block}"
            shapes |= _block(name, dim, grn=variant.has_grn, layer_scale=layer_scale)
        width = dim
    if head_norm:
        shapes |= _norm("head_norm", width)
    if num_classes:
        shapes |= _linear("head", width, num_classes)
    return shapes


def feature_norm_shapes(variant: Variant, features: Iterable[str] = FEATURES) -> dict[str, Shape]:
    """The norms that a dense-prediction backbone puts on its outputs.

    Args:
        variant: The size and family.
        features: Which outputs have one: any of `FEATURES`.
    """
    shapes: dict[str, Shape] = {}
    for feature in features:
        width = variant.dims[0 if feature == "stem" else int(feature)]
        shapes |= _norm(f"feature_{feature}_norm", width)
    return shapes


def decoder_shapes(
    variant: Variant, outputs: int = 3072, *, width: int = 512, depth: int = 1
) -> dict[str, Shape]:
    """The decoder of FCMAE pretraining, in the order data flows through it.

    Args:
        variant: The encoder's size and family.
        outputs: Numbers predicted for each patch: its side squared times the channels.
        width: Channels of the decoder.
        depth: Blocks of the decoder, which are V2's.
    """
    shapes = _linear("decoder_proj", variant.dims[-1], width)
    shapes["decoder_mask.token"] = (width,)
    for block in range(depth):
        shapes |= _block(f"decoder_block_{block}", width, grn=True, layer_scale=False)
    return shapes | _linear("decoder_pred", width, outputs)


def canonical_variables(model: Any) -> dict[str, Any]:
    """Every weight of a Keras model of ours by its canonical name, without importing Keras.

    The name is the path of the variable from its layer on, so it is the same however the model was
    made: by a door, from a config, or inside another model.

    Args:
        model: Anything with layers that have a name and weights that have a path.

    Raises:
        ArgumentTypeError: It has no layers.
    """
    layers = getattr(model, "layers", None)
    if layers is None:
        raise ArgumentTypeError(f"Wanted a Keras model of ours, not {type(model).__name__}.")
    named = {}
    for layer in layers:
        for variable in layer.weights:
            path = variable.path.split("/")
            named[".".join(path[path.index(layer.name) :])] = variable
    return named


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.gamma": (width,), f"{name}.beta": (width,)}


def _linear(name: str, *kernel: int) -> dict[str, Shape]:
    return {f"{name}.kernel": kernel, f"{name}.bias": (kernel[-1],)}


def _block(name: str, dim: int, *, grn: bool, layer_scale: bool) -> dict[str, Shape]:
    hidden = EXPANSION * dim
    shapes: dict[str, Shape] = {f"{name}.dwconv.kernel": (BLOCK_KERNEL, BLOCK_KERNEL, dim, 1)}
    shapes[f"{name}.dwconv.bias"] = (dim,)
    shapes |= _norm(f"{name}.norm", dim)
    shapes |= _linear(f"{name}.pwconv1", dim, hidden)
    if grn:
        shapes |= _norm(f"{name}.grn", hidden)
    shapes |= _linear(f"{name}.pwconv2", hidden, dim)
    if layer_scale:
        shapes[f"{name}.layer_scale.gamma"] = (dim,)
    return shapes
