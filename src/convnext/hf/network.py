"""Build the Keras network of a transformers configuration, and name its parameters as there.

The network is that of `convnext.nn.model`. Its input is `(batch, height, width, channels)`, and it
returns every map and vector by name. The models in `keras_models` put the channels first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import keras

from convnext.architecture import Architecture, Geometry, checked_strides
from convnext.errors import ArgumentError, UnknownNameError
from convnext.hf.config import ConvNextConfig
from convnext.nn.activations import gelu_tanh, leaky_relu, quick_gelu
from convnext.nn.initializers import undrawn
from convnext.nn.model import classify, encode, output_norm, pool
from convnext.weights.canonical import canonical_variables
from convnext.weights.layouts.dinov3 import DINOV3
from convnext.weights.layouts.huggingface import HUGGINGFACE
from convnext.weights.layouts.table import LayoutRow, expand

__all__ = [
    "ACTIVATIONS",
    "Kind",
    "activation_of",
    "architecture_of",
    "build_network",
    "geometry_of",
    "is_dinov3",
    "named_rows",
    "precision",
]

Kind = Literal["model", "classifier", "backbone"]


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


def is_dinov3(config: ConvNextConfig) -> bool:
    """Whether a configuration is that of DINOv3."""
    return config.model_type == "dinov3_convnext"


def architecture_of(config: ConvNextConfig) -> Architecture:
    """The architecture of a configuration, without its activation; see `activation_of`.

    Raises:
        ArgumentError: The configuration is invalid.
    """
    counts = {len(config.depths), len(config.hidden_sizes), config.num_stages}
    if len(counts) > 1:
        raise ArgumentError(
            f"num_stages={config.num_stages}, depths={config.depths} and "
            f"hidden_sizes={config.hidden_sizes} contradict each other. Give as many depths and "
            "hidden sizes as there are stages."
        )
    patch = config.patch_size
    if isinstance(patch, list):
        patch = patch[0] if len(set(patch)) == 1 else 0
    if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1:
        raise ArgumentError(
            f"patch_size={config.patch_size!r} is not supported: patches are square. Give a whole "
            "number of at least 1."
        )
    return Architecture(
        config.model_type,
        "custom",
        tuple(config.depths),
        tuple(config.hidden_sizes),
        grn=config.model_type == "convnextv2",
        layer_scale=bool(getattr(config, "layer_scale_init_value", None)),
        patch=patch,
        epsilon=config.layer_norm_eps if is_dinov3(config) else 1e-6,
        head_epsilon=config.layer_norm_eps,
    )


def geometry_of(config: ConvNextConfig) -> Geometry:
    """Strides and dilations of a configuration.

    Raises:
        ArgumentError: The output stride or the strides are invalid.
    """
    # Not keys of transformers. `convnext train` writes strides that differ from the usual ones.
    if config.output_stride is not None:
        return architecture_of(config).dilated(config.output_stride)
    strides = getattr(config, "strides", None)
    return Geometry(
        architecture_of(config).strides if strides is None else checked_strides(strides)
    )


def activation_of(config: ConvNextConfig) -> Any:
    """The activation inside the blocks, for Keras.

    Raises:
        UnknownNameError: The name is unknown.
    """
    activation = config.hidden_act
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise UnknownNameError("hidden_act", activation, ACTIVATIONS)
    return ACTIVATIONS[activation]


@contextmanager
def precision(dtype: str | None) -> Iterator[None]:
    """Create layers inside the context with this float type; None for the current policy."""
    before = keras.config.dtype_policy()
    if dtype is not None:
        keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_network(config: ConvNextConfig, kind: Kind) -> keras.Model:
    """The Keras network of a model, with zero kernels, for the caller to fill.

    Returns:
        A functional model. Its outputs are a dictionary: `stem`, `stage1` and so on, and
        `pooled` and `logits`, or `feature_stage1` and so on for a backbone; for DINOv3 also
        `normed`, the last map after the norm of the pooled vector.
    """
    architecture = architecture_of(config)
    with undrawn():
        images = keras.Input((None, None, config.num_channels), name="images")
        maps = encode(
            images,
            architecture,
            layer_scale_init_value=getattr(config, "layer_scale_init_value", None),
            geometry=geometry_of(config),
            drop_path_rate=config.drop_path_rate,
            activation=activation_of(config),
        )
        stem = (
            images
            if is_dinov3(config)
            else keras.Model(images, maps[0]).get_layer("stem_norm").output
        )
        outputs = dict(zip(config.stage_names, [stem, *maps], strict=True))
        if kind == "backbone":
            for name in config.out_features:
                norm = _feature_norm(name)
                outputs[f"feature_{name}"] = (
                    outputs[name] if is_dinov3(config) else output_norm(outputs[name], norm)
                )
        else:
            pooled = outputs["pooled"] = pool(maps[-1], architecture)
            if is_dinov3(config):
                head_norm = keras.Model(images, pooled).get_layer("head_norm")
                outputs["normed"] = head_norm(maps[-1])
            if kind == "classifier":
                outputs["logits"] = pooled
                if config.num_labels:
                    outputs["logits"] = classify(pooled, architecture, config.num_labels)
    return keras.Model(images, outputs, name=config.model_type)


def _feature_norm(stage: str) -> str:
    number = stage.removeprefix("stage")
    return f"feature_{int(number) - 1}_norm" if number.isdigit() else "feature_stem_norm"


def _prefix(config: ConvNextConfig, kind: Kind) -> str:
    if is_dinov3(config):
        return "model."
    return f"{config.model_type}." if kind == "classifier" else ""


def named_rows(network: keras.Model, config: ConvNextConfig, kind: Kind) -> dict[str, LayoutRow]:
    """Names and axes in transformers of each parameter, by canonical name, in network order."""
    layout = DINOV3 if is_dinov3(config) else HUGGINGFACE
    rows = expand(layout.rows, config.depths, prefix=_prefix(config, kind))
    spelled = {row.canonical: row for row in rows}
    return {name: spelled[name] for name in canonical_variables(network)}
