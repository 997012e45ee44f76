"""Canonical names and shapes of parameters: every foreign layout converts to and from these.

A canonical name is the Keras path of the variable with dots, `stage_0_block_1.dwconv.kernel`, and a
canonical array has the shape of the Keras variable. So canonical weights fill our model without any
table, `convnext.graphs` reads them directly, and N layouts need N tables, not N squared.

    stem_conv.{kernel,bias}  [stem_conv_2.{kernel,bias}]  stem_norm.{gamma,beta}
    downsample_{1,2,3}_norm.{gamma,beta}  downsample_{1,2,3}_conv.{kernel,bias}
    stage_{i}_block_{j}.dwconv.{kernel,bias}   .norm.{gamma,beta}   .pwconv1.{kernel,bias}
                       .grn.{gamma,beta}       .pwconv2.{kernel,bias}   .layer_scale.gamma
    head_norm.{gamma,beta} or map_norm.{gamma,beta}  [head_hidden.{kernel,bias}]
    [head_projection.{kernel,bias}]  head.{kernel,bias}

RMS and simple norms have no beta.

A dense-prediction backbone has a norm after some of its outputs, a segmentation model a head in
place of the classifier (see `convnext.segmentation`), and FCMAE pretraining a decoder:

    feature_stem_norm.{gamma,beta}  feature_{i}_norm.{gamma,beta}
    segment_*_conv.kernel  segment_*_norm.{gamma,beta,moving_mean,moving_variance}
    segment_classify.{kernel,bias}  auxiliary_{conv,norm,classify}.*
    decoder_proj.{kernel,bias}  decoder_mask.token  decoder_block_{j}.*  decoder_pred.{kernel,bias}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from convnext.architecture import Architecture, Arithmetic, block_steps
from convnext.errors import ArgumentTypeError
from convnext.segmentation import SegmentationHead
from convnext.steps import Linear, Norm, Shape, parameters

__all__ = [
    "FEATURES",
    "activation_of",
    "arithmetic_of",
    "bins_of",
    "canonical_variables",
    "decoder_shapes",
    "feature_norm_shapes",
    "parameter_shapes",
]

FEATURES = ("stem", "0", "1", "2", "3")
"""The outputs that a dense-prediction backbone may normalise: the stem's and each stage's."""


def parameter_shapes(
    architecture: Architecture,
    num_classes: int = 1000,
    channels: int = 3,
    *,
    segmentation: SegmentationHead | None = None,
) -> dict[str, Shape]:
    """The canonical name and shape of every parameter, in the order data flows through them.

    Args:
        architecture: The architecture.
        num_classes: Width of the classifier; 0 for none.
        channels: Channels of the input pictures.
        segmentation: A head for segmentation instead of the classifier.

    Example:
        >>> from convnext.architecture import ARCHITECTURES
        >>> parameter_shapes(ARCHITECTURES["convnext_tiny"])["stem_conv.kernel"]
        (4, 4, 3, 96)
    """
    if segmentation is None:
        return parameters(architecture.steps(num_classes, channels))
    return parameters(segmentation.network_steps(architecture, num_classes, channels))


def feature_norm_shapes(
    architecture: Architecture, features: Iterable[str] = FEATURES
) -> dict[str, Shape]:
    """Names and shapes of the norms that a dense-prediction backbone has on its outputs.

    Args:
        architecture: The architecture.
        features: The outputs that have a norm, of `FEATURES`.
    """
    return parameters(
        Norm(
            f"feature_{feature}_norm",
            architecture.dims[0 if feature == "stem" else int(feature)],
            architecture.norm,
            architecture.epsilon,
        )
        for feature in features
    )


def decoder_shapes(
    architecture: Architecture, outputs: int = 3072, *, width: int = 512, depth: int = 1
) -> dict[str, Shape]:
    """Names and shapes of the decoder of FCMAE pretraining, in network order.

    Args:
        architecture: The encoder.
        outputs: Values predicted for each patch: its side squared times the channels.
        width: Channels of the decoder.
        depth: Blocks of the decoder, which are V2's.
    """
    v2 = replace(architecture, grn=True, layer_scale=False, kernels=())
    blocks = [block_steps(v2, f"decoder_block_{block}", width) for block in range(depth)]
    return {
        **parameters([Linear("decoder_proj", architecture.dims[-1], width)]),
        "decoder_mask.token": (width,),
        **parameters([*blocks, Linear("decoder_pred", width, outputs)]),
    }


def canonical_variables(model: Any) -> dict[str, Any]:
    """Every weight of a Keras model of ours by its canonical name, without importing Keras.

    The name is the path of the variable from its layer on, so it is the same for a model on its own
    and inside another model.

    Args:
        model: Anything with layers that have a name and weights that have a path.

    Raises:
        ArgumentTypeError: The model has no layers.
    """
    layers = getattr(model, "layers", None)
    if layers is None:
        raise ArgumentTypeError(f"Give a Keras model of ours, not {type(model).__name__}.")
    named = {}
    for layer in layers:
        for variable in layer.weights:
            path = variable.path.split("/")
            named[".".join(path[path.index(layer.name) :])] = variable
    return named


def bins_of(model: Any) -> tuple[int, ...] | None:
    """Grids of the pooled context of a Keras segmentation model; None if it has none."""
    layers = getattr(model, "layers", ())
    return tuple(layer.bins for layer in layers if hasattr(layer, "bins")) or None


def activation_of(model: Any) -> str | None:
    """Name of the activation of a Keras model's classifier, such as softmax; None without one."""
    layers = {layer.name: layer for layer in getattr(model, "layers", ())}
    activation = getattr(layers.get("head"), "activation", None)
    return None if activation is None else getattr(activation, "__name__", str(activation))


def arithmetic_of(model: Any) -> Arithmetic | None:
    """Epsilons, norms and activation of a Keras model of ours; None if its layers lack them."""
    layers = {layer.name: layer for layer in getattr(model, "layers", ())}
    found: Arithmetic | None = getattr(layers.get("stage_0_block_0"), "arithmetic", None)
    if found is None:
        return None
    norm = layers.get("head_norm") or layers.get("map_norm")
    other = norm is not None and norm.epsilon != found.epsilon
    return found._replace(head_epsilon=norm.epsilon) if norm and other else found
