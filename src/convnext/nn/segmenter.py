"""Segmentation models in Keras: an encoder of `nn/model.py` and the steps of a head, as layers.

    images -> encode -> stage_0 ... stage_3 -> head.steps -> scores -> segmentation

Layers have the names of the steps; `get_layer("scores")` and so on are the taps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from convnext.architecture import Architecture, Geometry
from convnext.nn.block import kernel_initializer, norm
from convnext.nn.initializers import Normal
from convnext.nn.model import encode, head_dtype, normalize_pixels
from convnext.nn.resizing import BinPooling, Resized
from convnext.segmentation import SegmentationHead
from convnext.steps import (
    Activation,
    AddEnlarged,
    Aside,
    BatchNorm,
    BinPool,
    Conv,
    Enlarge,
    Fuse,
    Linear,
    Norm,
    Step,
    Take,
    Tap,
)

__all__ = ["build_segmenter"]

CLASSIFIERS = ("segment_classify", "auxiliary_classify")
CLASSIFIER_STDDEV = 0.01  # mmsegmentation's
MOMENTUM = 0.9  # PyTorch's 0.1


def build_segmenter(  # noqa: PLR0913
    architecture: Architecture,
    head: SegmentationHead,
    num_classes: int,
    *,
    input_shape: Sequence[int | None] = (512, 512, 3),
    geometry: Geometry | None = None,
    layer_scale_init_value: float | None = 1e-6,
    drop_path_rate: float = 0.0,
    drop_rate: float = 0.0,
    include_preprocessing: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Build a segmentation model; callers check the arguments.

    Args:
        architecture: The encoder.
        head: The head.
        num_classes: Number of classes.
        input_shape: Height, width and channels of the pictures; None for a side that may vary.
        geometry: Strides and dilations; by default as published.
        layer_scale_init_value: See `convnext.nn.model.encode`.
        drop_path_rate: See `convnext.nn.model.encode`.
        drop_rate: Dropout rate before the classifiers.
        include_preprocessing: Whether pictures are pixels in 0..255.
        name: Name of the model; by default the architecture's.

    Returns:
        A model with the output `segmentation`, logits of each class for each pixel, and if the head
        has an auxiliary one, a list of this and the logits of the auxiliary head, at the size of
        the third map.
    """
    inputs = keras.Input(tuple(input_shape), name="images")
    x = normalize_pixels(inputs) if include_preprocessing else inputs
    maps = encode(
        x,
        architecture,
        layer_scale_init_value=layer_scale_init_value,
        geometry=geometry,
        drop_path_rate=drop_path_rate,
    )
    apply = _Steps({f"stage_{stage}": x for stage, x in enumerate(maps)}, inputs, drop_rate)
    apply(maps[-1], head.steps(architecture, num_classes))
    outputs = [apply.named[tap] for tap in ("segmentation", "auxiliary") if tap in apply.named]
    outputs = outputs if len(outputs) > 1 else outputs[0]
    return keras.Model(inputs, outputs, name=name or architecture.name)


class _Steps:
    """Applies steps as Keras layers; a method for each kind of step.

    Attributes:
        named: The values at taps.
    """

    def __init__(self, named: dict[str, Any], pictures: Any, drop_rate: float) -> None:
        self.named = named
        self.pictures = pictures
        self.drop_rate = drop_rate

    def __call__(self, x: Any, steps: Iterable[Step]) -> Any:
        """Apply steps in order; returns the last value."""
        for step in steps:
            x = LAYERS[type(step)](self, x, step)
        return x

    def conv(self, x: Any, step: Conv) -> Any:
        """A dense convolution."""
        return _conv(step.name, step.outputs, step.kernel)(x)

    def fuse(self, x: Any, step: Fuse) -> Any:
        """A convolution over several maps, resized to the first."""
        del x
        first, *others = (self.named[name] for name in step.maps)
        resized = [Resized()([other, first]) for other in others]
        maps = keras.layers.Concatenate()([first, *resized])
        return _conv(step.name, step.outputs, step.kernel)(maps)

    def batch_norm(self, x: Any, step: BatchNorm) -> Any:
        """A batch normalisation."""
        epsilon = step.epsilon
        return keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=epsilon, name=step.name)(
            x
        )

    def norm(self, x: Any, step: Norm) -> Any:
        """A norm over channels."""
        return norm(step.name, step.kind, step.epsilon)(x)

    def linear(self, x: Any, step: Linear) -> Any:
        """A linear layer over channels; the classifiers are in float32."""
        if step.name not in CLASSIFIERS:
            return keras.layers.Dense(
                step.outputs, kernel_initializer=kernel_initializer(), name=step.name
            )(x)
        if self.drop_rate:
            x = keras.layers.SpatialDropout2D(self.drop_rate, data_format="channels_last")(x)
        return keras.layers.Dense(
            step.outputs,
            kernel_initializer=Normal(CLASSIFIER_STDDEV),
            name=step.name,
            dtype=head_dtype(),
        )(x)

    def activation(self, x: Any, step: Activation) -> Any:
        """An activation."""
        return keras.layers.Activation(step.kind)(x)

    def take(self, x: Any, step: Take) -> Any:
        """A value at an earlier tap."""
        del x
        return self.named[step.name]

    def bin_pool(self, x: Any, step: BinPool) -> Any:
        """The means over a grid of bins."""
        return BinPooling(step.bins)(x)

    def add_enlarged(self, x: Any, step: AddEnlarged) -> Any:
        """The sum with an earlier map, resized."""
        return keras.layers.Add()([x, Resized()([self.named[step.name], x])])

    def enlarge(self, x: Any, step: Enlarge) -> Any:
        """A map resized to the pictures."""
        del step
        return Resized(dtype=head_dtype())([x, self.pictures])

    def tap(self, x: Any, step: Tap) -> Any:
        """A named value."""
        self.named[step.name] = keras.layers.Identity(name=step.name, dtype=x.dtype)(x)
        return self.named[step.name]

    def aside(self, x: Any, step: Aside) -> Any:
        """Steps that only an output needs."""
        self(x, step.branch)
        return x


LAYERS: dict[type, Callable[[_Steps, Any, Any], Any]] = {
    Activation: _Steps.activation,
    AddEnlarged: _Steps.add_enlarged,
    Aside: _Steps.aside,
    BatchNorm: _Steps.batch_norm,
    BinPool: _Steps.bin_pool,
    Conv: _Steps.conv,
    Enlarge: _Steps.enlarge,
    Fuse: _Steps.fuse,
    Linear: _Steps.linear,
    Norm: _Steps.norm,
    Take: _Steps.take,
    Tap: _Steps.tap,
}


def _conv(name: str, outputs: int, kernel: int) -> keras.Layer:
    return keras.layers.Conv2D(
        outputs,
        kernel,
        padding="same",
        use_bias=False,
        data_format="channels_last",
        kernel_initializer="he_normal",
        name=name,
    )
