"""The same weights in our model and in a model that somebody else wrote.

Weights are random for every parameter and of ordinary size, layer scale and GRN included: their
initial values (1e-6 and 0) would hide a broken block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
from numpy.typing import NDArray

from convnext.architecture import VARIANTS, Variant
from convnext.nn.model import build_model
from convnext.weights.canonical import canonical_variables, parameter_shapes
from convnext.weights.layouts import to_foreign

Weights = dict[str, NDArray[np.float32]]
FULL_DEPTH = [
    *(f"convnext_{size}" for size in ("atto", "femto", "pico", "nano", "tiny", "small", "base")),
    *(f"convnextv2_{size}" for size in ("atto", "femto", "pico", "nano", "tiny", "small", "base")),
]
FULL_WIDTH = ["convnext_large", "convnext_xlarge", "convnextv2_large", "convnextv2_huge"]


def under_test(name: str) -> Variant:
    """The variant as it is, or with one block a stage where it is too large for a test."""
    variant = VARIANTS[name]
    return variant if name in FULL_DEPTH else replace(variant, depths=(1, 1, 1, 1))


def random_weights(variant: Variant, num_classes: int = 1000, seed: int = 0, **traits) -> Weights:
    """A value for every parameter, by canonical name."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(replace(variant, **traits), num_classes)
    return {name: _random(rng, name, shape) for name, shape in shapes.items()}


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = rng.standard_normal(shape, dtype=np.float32)
    if name.endswith("dwconv.kernel"):
        return values / 7
    if name.endswith("kernel"):
        return values / math.sqrt(math.prod(shape[:-1]))
    if name.endswith("norm.gamma"):
        return 1 + values / 4
    if "layer_scale" in name or "grn" in name:
        return values / 2
    return values / 4


def published_model(variant: Variant, **options) -> keras.Model:
    """Our model with the family's own layer scale, ending in logits."""
    return build_model(variant, **{"classifier_activation": None} | options)


def fill(model: keras.Model, weights: Mapping[str, NDArray[np.float32]]) -> None:
    variables = canonical_variables(model)
    assert variables.keys() == weights.keys()
    for name, variable in variables.items():
        variable.assign(weights[name])


def pictures(*shape: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def relative_error(ours: object, theirs: object) -> float:
    """Largest difference over the largest value."""
    ours, theirs = as_numpy(ours), as_numpy(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def as_numpy(array: object) -> NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(array), dtype=np.float32)


def state_dict(weights: Weights, layout: str, variant: Variant):
    import torch

    foreign = to_foreign(weights, layout, variant)
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in foreign.items()}


def build_timm(variant: Variant, num_classes: int):
    """timm's model; like every peer's, without classes it ends in pooled, normalised features."""
    from timm.models.convnext import ConvNeXt

    from convnext.weights.layouts.timm import CONV_MLP_SIZES

    return ConvNeXt(
        num_classes=num_classes,
        depths=variant.depths,
        dims=variant.dims,
        use_grn=variant.has_grn,
        ls_init_value=variant.layer_scale_init_value,
        conv_mlp=variant.size in CONV_MLP_SIZES,
    ).eval()


def build_transformers(variant: Variant, num_classes: int, kind: str | None = None):
    """transformers' model, or its `"Backbone"`."""
    import transformers

    v2 = "V2" if variant.has_grn else ""
    config = getattr(transformers, f"ConvNext{v2}Config")(
        hidden_sizes=list(variant.dims),
        depths=list(variant.depths),
        num_labels=num_classes or 2,
        layer_norm_eps=1e-6,
    )
    kind = kind or ("ForImageClassification" if num_classes else "Model")
    return getattr(transformers, f"ConvNext{v2}{kind}")(config).eval()


def build_torchvision(variant: Variant, num_classes: int):
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = map(CNBlockConfig, variant.dims, [*variant.dims[1:], None], variant.depths)
    model = ConvNeXt(list(stages), num_classes=num_classes or 2)
    if not num_classes:
        model.classifier = model.classifier[:2]
    return model.eval()


def build_keras_applications(variant: Variant, num_classes: int, side: int = 64) -> keras.Model:
    from keras.src.applications.convnext import ConvNeXt

    # JAX compiles a program for each shape it draws: 10 s for values that nobody keeps.
    with patch.object(keras.initializers.VarianceScaling, "__call__", _zeros):
        return ConvNeXt(
            list(variant.depths),
            list(variant.dims),
            name=variant.name,
            weights_name=variant.name,
            weights=None,
            include_preprocessing=False,
            include_top=num_classes > 0,
            pooling="avg",
            classes=num_classes or 2,
            classifier_activation=None,
            input_shape=(side, side, 3),
        )


def _zeros(_initializer, shape, dtype=None):
    return keras.ops.zeros(shape, dtype)


def randomise(model):
    """A peer's model with a value of ordinary size for every parameter, whatever it is called."""
    rng = np.random.default_rng(3)
    if isinstance(model, keras.Model):
        for variable in model.weights:
            fan_in = math.prod(variable.shape[:-1])
            variable.assign(_ordinary(rng, variable.shape, fan_in, "gamma" in variable.path))
        return model
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = _ordinary(
                rng, parameter.shape, math.prod(parameter.shape[1:]), name.endswith("weight")
            )
            parameter.copy_(torch.as_tensor(values))
    return model


def _ordinary(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, is_scale: bool):
    values = rng.standard_normal(tuple(shape), dtype=np.float32)
    if len(shape) > 1:
        return values / np.float32(math.sqrt(fan_in))
    return values / 4 + np.float32(is_scale)


def answers(model, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a model of ours or of a peer ends in: logits, features or a feature map."""
    if isinstance(model, keras.Model):
        return as_numpy(model(images, training=False))
    import torch

    with torch.inference_mode():
        out = model(torch.from_numpy(images).permute(0, 3, 1, 2))
    if hasattr(out, "logits"):
        return out.logits.numpy()
    return getattr(out, "pooler_output", out).numpy()


def timm_model(variant: Variant, weights: Weights, num_classes: int = 1000):
    """timm's model with these weights, loaded strictly."""
    return _filled(lambda: build_timm(variant, num_classes), state_dict(weights, "timm", variant))


def _filled(build: Callable[[], Any], state: dict[str, Any]) -> Any:
    """A peer's model with nothing drawn for it: large ones take seconds to initialise."""
    import torch

    with torch.device("meta"):
        model = build()
    model.load_state_dict(state, strict=True, assign=True)
    return model


def timm_outputs(model, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Logits, pooled features and the four feature maps, channels last."""
    import torch

    maps: dict[str, NDArray[np.float32]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module, _args, output) -> None:
            maps[name] = output.permute(0, 2, 3, 1).numpy()

        return hook

    hooks = [
        stage.register_forward_hook(keep(f"stage_{i}")) for i, stage in enumerate(model.stages)
    ]
    with torch.inference_mode():
        last = model.forward_features(torch.from_numpy(images).permute(0, 3, 1, 2))
        outputs = {
            "head_norm": model.forward_head(last, pre_logits=True).numpy(),
            "head": model.forward_head(last).numpy(),
        }
    for hook in hooks:
        hook.remove()
    return maps | outputs


def transformers_outputs(
    variant: Variant, weights: Weights, images: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """The same from transformers."""
    import torch

    state = state_dict(weights, "huggingface", variant)
    model = _filled(lambda: build_transformers(variant, len(weights["head.bias"])), state)
    with torch.inference_mode():
        nchw = torch.from_numpy(images).permute(0, 3, 1, 2)
        out = model.base_model(nchw, output_hidden_states=True)
        maps = {
            f"stage_{i}": hidden.permute(0, 2, 3, 1).numpy()
            for i, hidden in enumerate(out.hidden_states[1:])
        }
        logits = model.classifier(out.pooler_output)
    return maps | {"head_norm": out.pooler_output.numpy(), "head": logits.numpy()}


def our_outputs(model: keras.Model, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Everything a peer is compared in, by layer name, from a model that ends in logits."""
    names = ["stage_0", "stage_1", "stage_2", "stage_3", "head_norm", "head"]
    taps = keras.Model(model.input, [model.get_layer(name).output for name in names])
    return dict(zip(names, taps.predict_on_batch(images), strict=True))


def gradients(
    model: keras.Model,
    images: NDArray[np.float32],
    towards: NDArray[np.float32],
    training: bool = False,
) -> Weights:
    """Gradient of `sum(model(images) * towards)` for every parameter, by canonical name."""
    variables = canonical_variables(model)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=training) * towards)
        found = tape.gradient(loss, [variable.value for variable in variables.values()])
    elif backend == "torch":
        import torch

        model.zero_grad()
        outputs = model(torch.from_numpy(images), training=training)
        (outputs * torch.from_numpy(towards)).sum().backward()
        found = [variable.value.grad for variable in variables.values()]
    else:
        import jax

        def loss_of(trainable):
            state = [v.value for v in model.non_trainable_variables]
            outputs, _ = model.stateless_call(trainable, state, images, training=training)
            return (outputs * towards).sum()

        by_id = {
            id(variable): gradient
            for variable, gradient in zip(
                model.trainable_variables,
                jax.jit(jax.grad(loss_of))([v.value for v in model.trainable_variables]),
                strict=True,
            )
        }
        found = [by_id[id(variable)] for variable in variables.values()]
    return {name: as_numpy(gradient) for name, gradient in zip(variables, found, strict=True)}


def backward(
    layer: keras.Layer, x: NDArray[np.float32], towards: NDArray[np.float32], **call: object
) -> list:
    """Gradients of `sum(layer(x, **call) * towards)` for the input and then for each weight."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, **call) * towards)
        return tape.gradient(loss, [x, *(weight.value for weight in layer.weights)])
    if backend == "torch":
        import torch

        x = torch.from_numpy(x).requires_grad_()
        (layer(x, **call) * torch.from_numpy(towards)).sum().backward()
        return [x.grad, *(weight.value.grad for weight in layer.weights)]
    import jax

    def loss_of(x, weights):
        return (layer.stateless_call(weights, [], x, **call)[0] * towards).sum()

    of_x, of_weights = jax.grad(loss_of, (0, 1))(x, [weight.value for weight in layer.weights])
    return [of_x, *of_weights]
