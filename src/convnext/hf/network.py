"""A transformers configuration as layers of ours, and what transformers calls their parameters.

The network is that of `convnext.nn.model`, the same on every backend: pictures `(batch, height,
width, channels)` in, every map and vector out by its name. The doors turn the axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import keras

from convnext.architecture import DOWNSAMPLE_KERNEL, Variant, checked_strides
from convnext.errors import ArgumentError, UnknownNameError
from convnext.hf.config import ConvNextConfig
from convnext.nn.initializers import undrawn
from convnext.nn.model import encode, head, output_norm
from convnext.weights.canonical import canonical_variables
from convnext.weights.layouts.dinov3 import DINOV3
from convnext.weights.layouts.huggingface import HUGGINGFACE
from convnext.weights.layouts.table import Row, expand

__all__ = ["Checked", "Kind", "build_network", "checked", "named_rows", "precision"]

Kind = Literal["model", "classifier", "backbone"]


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def gelu_tanh(x: Any) -> Any:
    """GELU by the hyperbolic tangent, transformers' `gelu_new`."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def quick_gelu(x: Any) -> Any:
    """GELU by the logistic function, as CLIP has it."""
    return x * keras.ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def leaky_relu(x: Any) -> Any:
    """With PyTorch's slope, which is not that of Keras."""
    return keras.ops.leaky_relu(x, 0.01)


ACTIVATIONS: Mapping[str, Any] = {
    "gelu": "gelu",
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": leaky_relu,
    "selu": "selu",
    "elu": "elu",
    "silu": "silu",
    "swish": "silu",
    "mish": "mish",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "linear": "linear",
}


@dataclass(frozen=True)
class Checked:
    """What of a configuration the architecture needs."""

    variant: Variant
    patch_size: int
    strides: tuple[int, ...]
    activation: Any


def _variant(config: ConvNextConfig) -> Variant:
    """The architecture's size, of any number of stages."""
    counts = {len(config.depths), len(config.hidden_sizes), config.num_stages}
    if len(counts) > 1:
        raise ArgumentError(
            f"num_stages={config.num_stages}, depths={config.depths} and "
            f"hidden_sizes={config.hidden_sizes} contradict each other. Give as many depths and "
            "hidden sizes as there are stages."
        )
    # The published sizes have four stages; the architecture itself does not count them.
    depths = cast("tuple[int, int, int, int]", tuple(config.depths))
    dims = cast("tuple[int, int, int, int]", tuple(config.hidden_sizes))
    family: Any = "v2" if config.model_type == "convnextv2" else "v1"
    return Variant(config.model_type, family, "custom", depths, dims)


def checked(config: ConvNextConfig) -> Checked:
    """What a configuration says of the architecture.

    Raises:
        ArgumentError: It describes none.
    """
    patch = config.patch_size
    if isinstance(patch, list):
        patch = patch[0] if len(set(patch)) == 1 else 0
    if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1:
        raise ArgumentError(
            f"patch_size={config.patch_size!r} is no side of a square patch. Give a whole number "
            "of at least 1."
        )
    activation = config.hidden_act
    if not callable(activation):
        if activation not in ACTIVATIONS:
            raise UnknownNameError("hidden_act", activation, ACTIVATIONS)
        activation = ACTIVATIONS[activation]
    # Not a key of transformers: our training writes it where the strides are not the published.
    strides = getattr(config, "strides", None)
    if strides is None:
        strides = (patch, *[DOWNSAMPLE_KERNEL] * (len(config.depths) - 1))
    else:
        strides = checked_strides(strides)
    return Checked(_variant(config), patch, strides, activation)


@contextmanager
def precision(dtype: str | None) -> Iterator[None]:
    """Layers that are made meanwhile compute in this float type; None for the policy as it is."""
    before = keras.config.dtype_policy()
    if dtype is not None:
        keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_network(config: ConvNextConfig, kind: Kind) -> keras.Model:
    """The layers of a model, with zeros for kernels: whoever calls fills in every parameter.

    Returns:
        A functional model. Its outputs are a dictionary: `stem`, `stage1` and so on, and
        `pooled` and `logits`, or `feature_stage1` and so on for a backbone; for DINOv3 also
        `places`, the last map after the norm of the pooled vector.
    """
    parts = checked(config)
    with undrawn():
        images = keras.Input((None, None, config.num_channels), name="images")
        maps = encode(
            images,
            parts.variant,
            layer_scale_init_value=getattr(config, "layer_scale_init_value", None),
            patch_size=parts.patch_size,
            strides=parts.strides,
            drop_path_rate=config.drop_path_rate,
            activation=parts.activation,
        )
        is_dinov3 = config.model_type == "dinov3_convnext"
        stem = images if is_dinov3 else keras.Model(images, maps[0]).get_layer("stem_norm").output
        outputs = dict(zip(config.stage_names, [stem, *maps], strict=True))
        if kind == "backbone":
            for name in config.out_features:
                norm = _feature_norm(name)
                outputs[f"feature_{name}"] = (
                    outputs[name] if is_dinov3 else output_norm(outputs[name], norm)
                )
        else:
            pooled = head(maps[-1], norm_epsilon=config.layer_norm_eps)
            outputs["pooled"] = pooled
            if is_dinov3:
                head_norm = keras.Model(images, pooled).get_layer("head_norm")
                outputs["places"] = head_norm(maps[-1])
            if kind == "classifier":
                outputs["logits"] = head(
                    pooled, pooling=None, norm=False, num_classes=config.num_labels
                )
    return keras.Model(images, outputs, name=config.model_type)


def _feature_norm(stage: str) -> str:
    number = stage.removeprefix("stage")
    return f"feature_{int(number) - 1}_norm" if number.isdigit() else "feature_stem_norm"


def _prefix(config: ConvNextConfig, kind: Kind) -> str:
    """What stands before the names of the encoder."""
    if config.model_type == "dinov3_convnext":
        return "model."
    return f"{config.model_type}." if kind == "classifier" else ""


def named_rows(network: keras.Model, config: ConvNextConfig, kind: Kind) -> dict[str, Row]:
    """What transformers calls each parameter, by canonical name, in the order data flows."""
    layout = DINOV3 if config.model_type == "dinov3_convnext" else HUGGINGFACE
    rows = expand(layout.rows, config.depths, prefix=_prefix(config, kind))
    spelled = {row.canonical: row for row in rows}
    return {name: spelled[name] for name in canonical_variables(network)}
